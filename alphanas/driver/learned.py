"""What a search learned from its finished generations, kept up with a growing study: each graph is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from alphanas.search.archive import Archive, Member, Origin, Proposed
from alphanas.study import Candidate, Study


@dataclass
class Learned:
    """Archives of a study for some objectives. All of it is derived from the study's rows, and made anew after any interruption."""

    objectives: Sequence[str]
    _mark: int = 0
    _proposed: dict[int, Proposed] = field(default_factory=dict)
    _members: dict[int, Member] = field(default_factory=dict)

    def archive(self, study: Study, *, before: int) -> Archive:
        """What was judged, and everything that was proposed, before candidate `before`."""
        self._follow(study)
        members = (self._members[one] for one in sorted(self._members) if one < before)
        proposed = (self._proposed[one] for one in sorted(self._proposed) if one < before)
        return Archive(tuple(self.objectives), tuple(members), tuple(proposed), noise_of(study.seed()))

    def proposed(self, candidate: Candidate) -> Proposed:
        """A candidate's graph, with what it is recognised by."""
        if candidate.id not in self._proposed:
            self._proposed[candidate.id] = Proposed(candidate.id, candidate.graph())
        return self._proposed[candidate.id]

    def _follow(self, study: Study) -> None:
        self._mark, changed = study.news(self._mark)
        for one in changed:
            if one.graph_hash is None:
                continue
            graph = self.proposed(one).graph
            values = [one.objective(name) for name in self.objectives]
            points = tuple(float(value) for value in values if value is not None and np.isfinite(value))
            if one.error is not None and len(points) == len(values):
                self._members[one.id] = Member(one.id, graph, points, one.parent, Origin.from_json(one.proposal), one.excess)


def noise_of(seed: Candidate) -> float:
    """The standard error of the error of a model like the seed on the validation part; 0 while that is not known.

    By the rule of Agresti and Coull (1998), two pictures more wrong and two more right: a seed that had luck is not that certain.
    """
    pictures = seed.values("short").get("validation_pictures")
    if not pictures or seed.error is None:
        return 0.0
    error = (seed.error * pictures + 2) / (pictures + 4)
    return float((error * (1 - error) / pictures) ** 0.5)
