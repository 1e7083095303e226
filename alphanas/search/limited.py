"""What limits mean for moves: a child that breaks them is sized to keep them, and one that leaves room may grow into it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from alphanas.limits import Limit
from alphanas.search.proposal import New
from alphanas.search.regions import Options
from alphanas.search.resizing import LIMITS, resized
from alphanas.search.widths import scaled, width_groups
from synth import Budget, Graph, Interval, macs
from synth.target import Change

WIDEST = 3.0
"""How many times wider a child may be made that leaves room."""

HALVINGS = 6
"""Of the range of factors, until the widest network that keeps the limits is taken to be found."""

EVENLY = 0.5
"""How often all widths are scaled alike, and not about half of them."""


def sized_within(child: Graph, rng: np.random.Generator, options: Options, seed: Graph) -> tuple[Graph, tuple[Change, ...]]:
    """(the child, with all widths and residual blocks sized anew if it breaks limits on parameters or MACs; what that changed)

    So a move may add to a network that has all it may have: the rest gives way, by what that is worth. A child that cannot be sized
    so stays as it is. Where costing less gains nothing (`Options.fill`), one that keeps the limits is widened as far as they allow.
    """
    within = budget_of(options.limits, seed)
    if within is None:
        return child, ()
    if within.distance(child.params, macs(child)) == 0:
        return widened(child, rng, within) if options.fill else (child, ())
    for keep_rank in (None, 0.0):
        _, changes, answer = resized(child, rng, options, within=within, keep_rank=keep_rank)
        if isinstance(answer, New):
            return answer.graph, changes
    return child, ()


def widened(child: Graph, rng: np.random.Generator, within: Budget) -> tuple[Graph, tuple[Change, ...]]:
    """(the child, with the widths of all or of some groups scaled up to a drawn share of the limits; what that changed)"""
    groups = width_groups(child)
    some = tuple(group for group in groups if rng.random() < 0.5) or groups
    chosen = groups if rng.random() < EVENLY else some
    share = math.exp(rng.uniform(math.log(LIMITS[0]), math.log(LIMITS[1])))
    low, high, best = 1.0, WIDEST, child
    for _ in range(HALVINGS):
        factor = math.sqrt(low * high)
        wider = scaled(child, factor, chosen)
        if wider is not None and (wider.params > share * within.params.high or macs(wider) > share * within.macs.high):
            high = factor
        else:
            low, best = factor, wider or best
    if best.params <= child.params:
        return child, ()
    return best, (Change(f"widths of {len(chosen)} of {len(groups)} groups", "1", f"{low:.2f}"),)


def budget_of(limits: Iterable[Limit], seed: Graph) -> Budget | None:
    """The upper limits on parameters and MACs, shares of the seed's in numbers; None where there are none."""
    numbers = {"params": seed.params, "macs": macs(seed)}
    most = {
        limit.name: Interval(0, max(1, math.floor(high)))
        for limit in limits
        if limit.name in numbers and limit.most is not None and (high := limit.most.at(numbers[limit.name])) is not None
    }
    return Budget(**most) if most else None
