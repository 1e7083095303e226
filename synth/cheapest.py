"""Best-first search over a product: its programs in order of cost, within limits, each once."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from synth.clock import Clock

Table = tuple[np.ndarray, ...]
Way = tuple["Way", int] | None
"""The edges of a path, the last one first."""


class Edges(Protocol):
    """What is searched: states with edges, some of which accept; paths have at most `length` edges and start in state 0."""

    @property
    def length(self) -> int: ...
    @property
    def accepts(self) -> np.ndarray: ...
    @property
    def starts(self) -> np.ndarray: ...
    @property
    def next(self) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Limit:
    """A further cost of every edge, the least and the most of it that is still to come, and between what it must end up."""

    costs: np.ndarray
    least: Table
    most: Table
    low: float
    high: float

    def may_hold(self, totals: np.ndarray, left: int, states: np.ndarray) -> np.ndarray:
        """Whether programs that have cost so much can still end up within the limit."""
        return (totals + self.least[left][states] <= self.high) & (totals + self.most[left][states] >= self.low)


@dataclass(frozen=True, eq=False, slots=True)
class _Row:
    """The steps from one prefix, cheapest bound first; the next one is taken when the one before it is."""

    bounds: np.ndarray
    edges: np.ndarray
    costs: np.ndarray
    others: np.ndarray
    way: Way
    length: int


def best_first(
    space: Edges, costs: np.ndarray, ahead: Table, limits: Sequence[Limit], clock: Clock
) -> Iterator[tuple[float, list[int]]]:
    """(cost, edges) of the accepted programs in order of cost and length, until the clock's limit is reached.

    `ahead` is the least cost that is still to come, by the number of edges that are left and by state.
    """
    if not len(space.accepts) or ahead[-1][0] == np.inf:
        return
    tie = itertools.count()
    queue: list[tuple[float, int, int, _Row | None, int, Way]] = []

    def done(state: int, cost: float, others: np.ndarray, way: Way, length: int) -> None:
        if space.accepts[state] and all(limit.low <= total <= limit.high for limit, total in zip(limits, others, strict=True)):
            heapq.heappush(queue, (cost, length, next(tie), None, 0, way))

    def grow(state: int, cost: float, others: np.ndarray, way: Way, length: int) -> None:
        left = space.length - length - 1
        first, last = space.starts[state], space.starts[state + 1]
        if left < 0 or first == last:
            return
        after = space.next[first:last]
        spent = cost + costs[first:last]
        bounds = spent + ahead[left][after]
        totals = np.empty((len(limits), last - first))
        open_ = bounds < np.inf
        for index, limit in enumerate(limits):
            totals[index] = others[index] + limit.costs[first:last]
            open_ &= limit.may_hold(totals[index], left, after)
        place = np.flatnonzero(open_)
        if not len(place):
            return
        place = place[np.argsort(bounds[place], kind="stable")]
        row = _Row(bounds[place], first + place, spent[place], totals[:, place], way, length + 1)
        heapq.heappush(queue, (float(row.bounds[0]), length + 1, next(tie), row, 0, way))

    nothing = np.zeros(len(limits))
    done(0, 0.0, nothing, None, 0)
    grow(0, 0.0, nothing, None, 0)
    while queue and clock.take():
        cost, length, _, row, place, way = heapq.heappop(queue)
        if row is None:
            yield cost, _edges(way)
            continue
        if place + 1 < len(row.bounds):
            heapq.heappush(queue, (float(row.bounds[place + 1]), length, next(tie), row, place + 1, None))
        edge = int(row.edges[place])
        state, longer = int(space.next[edge]), (row.way, edge)
        spent, others = float(row.costs[place]), row.others[:, place]
        done(state, spent, others, longer, length)
        grow(state, spent, others, longer, length)


def _edges(way: Way) -> list[int]:
    found = []
    while way is not None:
        way, edge = way
        found.append(edge)
    return found[::-1]
