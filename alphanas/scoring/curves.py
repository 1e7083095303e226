"""Learning curves: whether a training will end among the best, told while it runs, from how the seed model's went.

Under one schedule, errors fall at like shares of a training by like factors, most of it at the end, where the learning rate is low.
So a curve is drawn out by the factor by which the seed's fell from the same share of its training on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Watch:
    """What a training is watched for: errors on the validation part, each within 0..1.

    `seed` is the seed model's curve, an error an epoch; `bar` the least error among candidates that are no worse in all else, None
    where there is none; `margin` by how much a training may seem to end above it.
    """

    margin: float
    bar: float | None = None
    seed: tuple[float, ...] = ()
    errors: list[float] = field(default_factory=list)

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Watch:
        """As a task's payload says it, with a curve of its own."""
        return Watch(told["margin"], told["bar"], tuple(told["seed"]))

    def hopeless(self, error: float, epochs: int) -> bool:
        """Takes in the error after one more of so many epochs; whether the training may as well end here."""
        self.errors.append(error)
        if self.bar is None or len(self.errors) >= epochs:
            return False
        expected = drawn_out(self.errors, epochs=epochs, seed=self.seed)
        return expected is not None and expected > self.bar + self.margin


def drawn_out(errors: Sequence[float], *, epochs: int, seed: Sequence[float]) -> float | None:
    """The error that a training of so many epochs is expected to end with; None before the first epoch of the seed's curve."""
    share = len(errors) / epochs
    if not seed or share * len(seed) < 1:
        return None
    then = float(np.interp(share, np.arange(1, len(seed) + 1) / len(seed), seed))
    return errors[-1] * seed[-1] / then if then > 0 else errors[-1]
