"""A stage's numbers as a filter that only turns away: it never ranks what goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alphanas.scoring.ranking import combined

ENOUGH = 5
"""Fewer scores than this to compare with reject nothing."""


@dataclass(frozen=True)
class ScoreFilter:
    """Rejects a candidate whose score is lower than that of most models no larger than it.

    Scores grow with size, and smaller models are what is looked for: a candidate is therefore compared with models of its size and
    below, and falls if its score is under the `share` quantile of theirs. `seen` is (parameters, scores) of those scored; several
    scores are ranked together.

    As the rungs of successive halving this is the rule of Li et al. (2020), which waits for nobody, with the rungs as the finished
    generations left them: it hangs neither on the number of workers nor on who comes first.
    """

    seen: Sequence[tuple[int, Sequence[float]]]
    share: float

    def rejects(self, scores: Sequence[float] | None, params: int) -> bool:
        """Whether the scores turn a model of this size away; undefined ones (None) always do."""
        if scores is None:
            return True
        smaller = [known for size, known in self.seen if size <= params]
        if len(smaller) < ENOUGH:
            return False
        *theirs, own = combined([*smaller, scores]) if len(scores) > 1 else [known for (known, *_) in [*smaller, scores]]
        return bool(own < np.quantile(theirs, self.share))
