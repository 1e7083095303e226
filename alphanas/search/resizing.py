"""A move: all widths of a network, and if there are any its residual blocks, sized at once for a budget drawn below the present."""

from __future__ import annotations

import math

import numpy as np

from alphanas.search.proposal import Answer, Failure, New
from alphanas.search.regions import Options
from alphanas.search.widths import width_groups
from synth import Budget, Found, GaveUp, Graph, Infeasible, Interval, macs, resize
from synth.target import Change

TOLERANCE = 0.01
"""The gap at which a mutation is good enough."""

BUDGETS = (0.3, 0.9)
"""Shares that are drawn of what the network has."""
LIMITS = (0.75, 1.0)
"""Shares that are drawn of what it may have, where it has more."""


def resized(
    graph: Graph,
    rng: np.random.Generator,
    options: Options,
    *,
    within: Budget | None = None,
    keep_rank: float | None = None,
) -> tuple[tuple[str, ...], tuple[Change, ...], Answer]:
    """(nodes whose sizes were free, what changed, the graph or the reason that there is none).

    The share of the parameters or of the MACs that may stay is drawn log-uniformly, or that of all the limits `within`.
    So are the multiple of the widths, and whether stages keep their rank bound (unless that is told) and blocks may be left out.
    """
    names = tuple(name for group in width_groups(graph) for name in group.nodes)
    if not names:
        return (), (), Failure("nothing_to_change", "every width is tied to the inputs or outputs")
    found = resize(
        graph,
        _budget(graph, rng, within),
        multiple=int(rng.choice([2, 4, 8])),
        keep_rank=float(rng.choice([0.0, 0.5, 1.0])) if keep_rank is None else keep_rank,
        free=("widths", "depths") if rng.random() < 0.5 else ("widths",),
        tolerance=TOLERANCE,
        time_limit=options.time_limit,
        steps=options.steps,
    )
    match found:
        case Found(graph=child):
            changes = (
                Change("parameters", str(graph.params), str(child.params)),
                Change("MACs", str(macs(graph)), str(found.proofs[0].macs)),
            )
            return names, changes, New(child)
        case Infeasible():
            return names, (), Failure("infeasible", str(found))
        case GaveUp():
            return names, (), Failure("gave_up", str(found))


def _budget(graph: Graph, rng: np.random.Generator, within: Budget | None) -> Budget:
    low, high = BUDGETS if within is None else LIMITS
    share = math.exp(rng.uniform(math.log(low), math.log(high)))
    if within is not None:
        return Budget(params=_share(within.params, share), macs=_share(within.macs, share))
    of_params = bool(rng.random() < 0.5)
    return (
        Budget(params=_share(Interval(0, graph.params), share))
        if of_params
        else Budget(macs=_share(Interval(0, macs(graph)), share))
    )


def _share(limit: Interval, share: float) -> Interval:
    return limit if math.isinf(limit.high) else Interval(0, max(1, math.floor(share * limit.high)))
