"""What limits mean for moves: a child that breaks them is sized to keep them, whatever move has made it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from alphanas.limits import Limit
from alphanas.search.proposal import New
from alphanas.search.regions import Options
from alphanas.search.resizing import resized
from synth import Budget, Graph, Interval, macs
from synth.target import Change


def sized_within(child: Graph, rng: np.random.Generator, options: Options, seed: Graph) -> tuple[Graph, tuple[Change, ...]]:
    """(the child, with all widths and residual blocks sized anew if it breaks limits on parameters or MACs; what that changed)

    So a move may add to a network that has all it may have: the rest gives way, by what that is worth. A child that cannot be sized
    so stays as it is.
    """
    within = budget_of(options.limits, seed)
    if within is None or within.distance(child.params, macs(child)) == 0:
        return child, ()
    for keep_rank in (None, 0.0):
        _, changes, answer = resized(child, rng, options, within=within, keep_rank=keep_rank)
        if isinstance(answer, New):
            return answer.graph, changes
    return child, ()


def budget_of(limits: Iterable[Limit], seed: Graph) -> Budget | None:
    """The upper limits on parameters and MACs, shares of the seed's in numbers; None where there are none."""
    numbers = {"params": seed.params, "macs": macs(seed)}
    most = {
        limit.name: Interval(0, max(1, math.floor(high)))
        for limit in limits
        if limit.name in numbers and limit.most is not None and (high := limit.most.at(numbers[limit.name])) is not None
    }
    return Budget(**most) if most else None
