"""Where a search stands, kept up with a growing study: each question looks only at what is new."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from alphanas.study import Candidate, Study

SEED = 0
"""The id of the seed model."""


@dataclass
class Standing:
    """Candidates by status, and the smallest in short training within `tolerance` of the seed; within limits, if any is."""

    tolerance: float
    counts: Counter[str] = field(default_factory=Counter)
    seed: Candidate | None = None
    best: Candidate | None = None
    _mark: int = 0
    _statuses: dict[int, str] = field(default_factory=dict)
    _trained: dict[int, tuple[bool, int, float]] = field(default_factory=dict)

    def follow(self, study: Study) -> Standing:
        """Takes in what the study learned."""
        before = self._trained.get(SEED)
        self._mark, changed = study.news(self._mark)
        for one in changed:
            if one.id not in self._statuses:
                self._statuses[one.id] = one.status
                self.counts[one.status] += 1
            if one.params is not None and one.error is not None:
                self._trained[one.id] = (one.excess > 0, one.params, one.error)
            if one.id == SEED:
                self.seed = one
        ids = {one.id for one in changed} & self._trained.keys()
        if self._trained.get(SEED) != before or (self.best is not None and self.best.id in ids):
            ids = set(self._trained)
        elif self.best is not None:
            ids.add(self.best.id)
        if ids and SEED in self._trained:
            bar = self._trained[SEED][-1] + self.tolerance + 1e-9
            self.best = study.candidate(min((*self._trained[one], one) for one in ids if self._trained[one][-1] <= bar)[-1])
        return self
