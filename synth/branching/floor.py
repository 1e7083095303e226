"""What a budget says of a frame: the moves that no program within it has, and which of the others cost little.

Both count an op at the smallest channels that it may come to have, so that no program within the budget is lost.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from synth.branching.frame import NOWHERE, Frame, trimmed
from synth.budget import Budget, Interval
from synth.effect import exact_effect, prepare, size_fields, with_size
from synth.op import Op, ShapeMismatch, Value

STEEPEST = 20.0
"""How many times its budget's whole an op's cost counts at most, where cheap ops are favoured."""

Costs = tuple[np.ndarray, ...]
"""For every type (parameters, MACs) of each of its moves."""


@functools.lru_cache(maxsize=256)
def within(frame: Frame, narrowest: int | None, budget: Budget) -> Frame:
    """The frame without the moves and merges that alone, with the least that must come before and after them, exceed the budget.

    `narrowest` is the least width that sizes may be set to, None if they stay.
    """
    if not frame.reachable:
        return frame
    costs = least_costs(frame, narrowest)
    tops = np.array([budget.params.high, budget.macs.high])
    reached = _ways_from(frame, costs, frame.sources, forwards=True)
    ahead = _ways_from(frame, costs, frame.goals, forwards=False)
    if (ahead[list(frame.sources)] > tops).any() or (reached[list(frame.goals)] > tops).any():
        return NOWHERE
    moves = []
    for kind, (steps, own) in enumerate(zip(frame.moves, costs, strict=True)):
        after = np.array([target for _, target in steps], dtype=np.int64)
        kept = (reached[kind] + own + ahead[after] <= tops).all(axis=1)
        moves.append(tuple(itertools.compress(steps, kept.tolist())))
    ways = tuple(way for way in frame.ways if all((reached[each] + ahead[way.after] <= tops).all() for each in way.operands))
    if sum(map(len, moves)) == sum(map(len, frame.moves)) and len(ways) == len(frame.ways):
        return frame
    return _same(trimmed(replace(frame, moves=tuple(moves), ways=ways)))


def _same(frame: Frame) -> Frame:
    """One object for equal frames: what is known of a frame is known of its equals."""
    return _SAME.setdefault((frame.values, frame.moves, frame.ways, frame.sources, frame.goals), frame)


_SAME: dict[object, Frame] = {}


def _ways_from(frame: Frame, costs: Costs, ends: Sequence[int], *, forwards: bool) -> np.ndarray:
    """For every type the least (parameters, MACs), each by itself, of a way between it and an end; merges cost nothing."""
    edges = [
        (kind, after, *own) for kind, steps in enumerate(frame.moves) for (_, after), own in zip(steps, costs[kind], strict=True)
    ]
    edges += [(operand, way.after, 0.0, 0.0) for way in frame.ways for operand in way.operands]
    table = np.array(edges).reshape(-1, 4)
    first, last = table[:, 0].astype(int), table[:, 1].astype(int)
    if not forwards:
        first, last = last, first
    found = np.full((len(frame.values), 2), np.inf)
    found[list(ends)] = 0.0
    while True:
        nearer = found.copy()
        np.minimum.at(nearer, last, found[first] + table[:, 2:])
        if np.array_equal(nearer, found):
            return found
        found = nearer


@functools.lru_cache(maxsize=256)
def least_costs(frame: Frame, narrowest: int | None) -> Costs:
    """The least (parameters, MACs) of every move, whatever the widths."""
    found = []
    for value, moves in zip(frame.values, frame.moves, strict=True):
        here = value if narrowest is None else replace(value, shape=(*value.shape[:-1], min(narrowest, value.channels)))
        ops = [_narrowed(op, narrowest) for op, _ in moves]
        prepare(list(dict.fromkeys(ops)), here, summaries=True)
        found.append(np.array([_cost(op, here) for op in ops]).reshape(-1, 2))
    return tuple(found)


@functools.lru_cache(maxsize=256)
def fitting_costs(frame: Frame, narrowest: int | None) -> Costs:
    """As `least_costs`, but for moves that do not fit the least width: they cost what they do at twice that, or more."""
    found = []
    for value, moves, least in zip(frame.values, frame.moves, least_costs(frame, narrowest), strict=True):
        costs = least.copy()
        for row, (op, _) in enumerate(moves):
            width = narrowest
            while width is not None and not costs[row].any() and width < value.channels:
                width *= 2
                costs[row] = _cost(_narrowed(op, width), replace(value, shape=(*value.shape[:-1], min(width, value.channels))))
        found.append(costs)
    return tuple(found)


def _narrowed(op: Op, narrowest: int | None) -> Op:
    sizes = [getattr(op, name) for name in size_fields(type(op))]
    return with_size(op, min(narrowest, *sizes)) if sizes and narrowest is not None else op


def _cost(op: Op, value: Value) -> tuple[int, int]:
    try:
        found = exact_effect(op, (value,))
    except ShapeMismatch:
        return 0, 0
    return found.params, found.macs


def favour(frame: Frame, narrowest: int | None, budget: Budget, tilt: float) -> tuple[np.ndarray, ...] | None:
    """Factors of the prior by which ops are rarer the more of the budget they take (more frequent, with a tilt below 0)."""
    if not tilt:
        return None
    ends = np.array([_end(interval, tilt) for interval in (budget.params, budget.macs)])
    shares = (np.minimum(costs / ends, STEEPEST).max(axis=1, initial=0.0) for costs in fitting_costs(frame, narrowest))
    return tuple(np.exp(-tilt * each) for each in shares)


def _end(interval: Interval, tilt: float) -> float:
    return max(1.0, interval.high if tilt > 0 else interval.low)
