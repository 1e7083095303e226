"""What limits mean for moves: a child that breaks them is sized to keep them, and one that leaves room may grow into it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from alphanas.limits import Limit
from alphanas.search.proposal import New
from alphanas.search.regions import Options
from alphanas.search.resizing import LIMITS, resized
from alphanas.search.widths import leaning, width_groups
from synth import Budget, Graph, Interval, macs
from synth.target import Change

WIDEST = 4.0
"""How many times wider or narrower a width may be made to fill the limits."""

HALVINGS = 6
"""Of a range, until what is looked for in it is taken to be found."""

LEANING = 0.25
"""How often a network need not fill both limits, but has its first or last widths made to grow more than the others by chance."""

LEAN = 1.0
"""The deviation of the logarithm of how much more the first width grows than the last then."""

STEEPEST = 2.0
"""The largest such logarithm with which both limits are filled."""


def sized_within(child: Graph, rng: np.random.Generator, options: Options, seed: Graph) -> tuple[Graph, tuple[Change, ...]]:
    """(the child, with all widths and residual blocks sized anew if it breaks limits on parameters or MACs; what that changed)

    So a move may add to a network that has all it may have: the rest gives way, by what that is worth. A child that cannot be sized
    so stays as it is. Where costing less gains nothing (`Options.fill`), one that keeps the limits is widened as far as they allow.
    """
    within = budget_of(options.limits, seed)
    if within is None:
        return child, ()
    if within.distance(child.params, macs(child)) == 0:
        return filled(child, rng, within) if options.fill else (child, ())
    for keep_rank in (None, 0.0):
        _, changes, answer = resized(child, rng, options, within=within, keep_rank=keep_rank)
        if isinstance(answer, New):
            made, more = filled(answer.graph, rng, within) if options.fill else (answer.graph, ())
            return made, (*changes, *more)
    return child, ()


def filled(child: Graph, rng: np.random.Generator, within: Budget) -> tuple[Graph, tuple[Change, ...]]:
    """(the child, with all widths scaled to a drawn share of what it may have, of both numbers if it can; what that changed)

    Early layers cost multiply-adds and late ones parameters: the first widths grow more than the last, or less, so that neither
    number is left over.
    """
    share = math.exp(rng.uniform(math.log(LIMITS[0]), math.log(LIMITS[1])))
    most = (share * within.params.high, share * within.macs.high)
    if rng.random() < LEANING or math.inf in most:
        lean = rng.normal(0.0, LEAN)
        made = _widest(child, lean, most)
    else:
        low, high = -STEEPEST, STEEPEST
        for _ in range(HALVINGS):
            lean = (low + high) / 2
            made = _widest(child, lean, most)
            if made is None or macs(made) / most[1] > made.params / most[0]:
                high = lean
            else:
                low = lean
    if made is None or made == child:
        return child, ()
    return made, (Change("widths, first against last", "1", f"{math.exp(lean):.2f}"),)


def _widest(child: Graph, lean: float, most: tuple[float, float]) -> Graph | None:
    """The widest network of those whose first widths grew so much more than the last that has at most so much."""
    groups = width_groups(child)
    places = np.linspace(0.5, -0.5, len(groups)) if len(groups) > 1 else np.zeros(len(groups))
    low, high, found = 1 / WIDEST, WIDEST, None
    for _ in range(HALVINGS):
        factor = math.sqrt(low * high)
        made = leaning(child, {group: factor * math.exp(lean * place) for group, place in zip(groups, places, strict=True)})
        if made is not None and (made.params > most[0] or macs(made) > most[1]):
            high = factor
        else:
            low, found = factor, made or found
    return found


def budget_of(limits: Iterable[Limit], seed: Graph) -> Budget | None:
    """The upper limits on parameters and MACs, shares of the seed's in numbers; None where there are none."""
    numbers = {"params": seed.params, "macs": macs(seed)}
    most = {
        limit.name: Interval(0, max(1, math.floor(high)))
        for limit in limits
        if limit.name in numbers and limit.most is not None and (high := limit.most.at(numbers[limit.name])) is not None
    }
    return Budget(**most) if most else None
