"""The zero-cost score as a filter that only turns away: it never ranks what goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ENOUGH = 5
"""Fewer scores than this to compare with reject nothing."""


@dataclass(frozen=True)
class ScoreFilter:
    """Rejects a candidate whose score is lower than that of most models no larger than it.

    Zero-cost scores grow with size, and smaller models are what is looked for: a candidate is therefore compared with models of its
    size and below, and falls if its score is under the `share` quantile of theirs. `seen` is (parameters, score) of those scored.
    """

    seen: Sequence[tuple[int, float]]
    share: float

    def rejects(self, score: float | None, params: int) -> bool:
        """Whether the score turns a model of this size away; an undefined score always does."""
        if score is None:
            return True
        smaller = [known for size, known in self.seen if size <= params]
        return len(smaller) >= ENOUGH and score < float(np.quantile(smaller, self.share))
