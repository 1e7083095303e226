"""What limits mean for moves: what breaks them is first of all sized to keep them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from alphanas.limits import Limit
from alphanas.search.archive import Member
from alphanas.search.regions import Options
from synth import Budget, Graph, Interval, macs

RESIZE = "resize"


def led(options: Options, shares: Mapping[str, float], parent: Member, seed: Graph) -> tuple[Options, Mapping[str, float]]:
    """Options and shares of moves for a parent: one beyond the limits is sized to keep them half of the time, if it can be."""
    within = budget_of(options.limits, seed)
    if RESIZE not in shares or within is None or within.distance(parent.graph.params, macs(parent.graph)) == 0:
        return options, shares
    others = sum(share for name, share in shares.items() if name != RESIZE)
    return replace(options, within=within), {**shares, RESIZE: others or 1.0}


def budget_of(limits: Iterable[Limit], seed: Graph) -> Budget | None:
    """The upper limits on parameters and MACs, shares of the seed's in numbers; None where there are none."""
    numbers = {"params": seed.params, "macs": macs(seed)}
    most = {
        limit.name: Interval(0, max(1, math.floor(high)))
        for limit in limits
        if limit.name in numbers and limit.most is not None and (high := limit.most.at(numbers[limit.name])) is not None
    }
    return Budget(**most) if most else None
