"""A product with its sizes left open: every size of every op over a set of widths, so that costs can be minimised and kept exactly.

How a sequence of ops mixes and how deep it is does not depend on its widths as long as they are divisible as the ops demand, so the
states are pairs of a state of the product and an actual type. What comes out of it is verified like everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.budget import Budget
from synth.clock import Clock, TimeIsUp
from synth.effect import effects, prepare_effects
from synth.op import Op, Value
from synth.problem import macs_of, params_of
from synth.product import Path, Product, draw, empty, singles, trimmed

A_TYPE = 10
"""Steps that finding all sizes of the ops on one type takes."""

Tables = tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Opened:
    """The product of all sized sequences; `nominal` is for each of its edges the place of the op that it is a size of."""

    product: Product
    nominal: np.ndarray

    @functools.cached_property
    def _ahead(self) -> tuple[tuple[Tables, Tables], tuple[Tables, Tables]]:
        """For parameters and for MACs the least and the most that k = 0 … length further ops cost, by state."""
        costs = [self.product.costs(cost) for cost in (params_of, macs_of)]
        least, most = ([self._exactly(each, largest) for each in costs] for largest in (False, True))
        return (least[0], most[0]), (least[1], most[1])

    def _exactly(self, costs: np.ndarray, largest: bool) -> Tables:
        never, best = (-np.inf, np.maximum) if largest else (np.inf, np.minimum)
        whole = self.product
        tables = [np.where(whole.accepts, 0.0, never)]
        rows = np.flatnonzero(np.diff(whole.starts))
        for _ in range(whole.length):
            table = np.full(len(whole.accepts), never)
            if len(rows):
                table[rows] = best.reduceat(costs + tables[-1][whole.next], whole.starts[rows])
            tables.append(table)
        return tuple(tables)

    def lengths(self, budget: Budget) -> np.ndarray:
        """For k = 0 … length whether sequences of k ops may keep each interval of the budget, as far as that is seen at once."""
        return np.array(
            [self._may_hold(budget, 0.0, 0.0, k, np.zeros(1, dtype=np.int64))[0] for k in range(self.product.length + 1)]
        )

    def _may_hold(self, budget: Budget, params: object, macs: object, left: int, states: np.ndarray) -> np.ndarray:
        held = np.ones(len(states), dtype=bool)
        for spent, interval, (least, most) in zip((params, macs), (budget.params, budget.macs), self._ahead, strict=True):
            held &= (spent + least[left][states] <= interval.high) & (spent + most[left][states] >= interval.low)
        return held

    def sample(
        self, space: Product, rng: np.random.Generator, budget: Budget, lengths: np.ndarray, *, weighted: bool
    ) -> Path | None:
        """A random program within the budget, or None where what was drawn led nowhere.

        Kinds are drawn from `space`, the product with nominal sizes, the length by weights; of each kind a size among those from
        which each interval of the budget can still be kept.
        """
        whole, (params, macs) = self.product, (self.product.costs(cost) for cost in (params_of, macs_of))
        left = draw(rng, lengths)
        tables = space.counts(weighted)
        state, here, path, spent = 0, 0, [], np.zeros(2)
        while left:
            chances = _Chances.at(space, state, tables[left - 1], weighted)
            found = None
            while found is None and chances.any:
                edge, op = chances.draw(rng)
                first, last = (
                    np.searchsorted(self.nominal[whole.starts[here] : whole.starts[here + 1]], [op, op + 1]) + whole.starts[here]
                )
                may = self._may_hold(
                    budget, spent[0] + params[first:last], spent[1] + macs[first:last], left - 1, whole.next[first:last]
                )
                fits = first + np.flatnonzero(may)
                found = (edge, int(fits[rng.integers(len(fits))])) if len(fits) else None
            if found is None:
                return None
            edge, sized = found
            path.append(whole.op(here, sized))
            spent += np.array([params[sized], macs[sized]])
            state, here, left = int(space.next[edge]), int(whole.next[sized]), left - 1
        return tuple(path)


@dataclass(eq=False)
class _Chances:
    """The ops that may come next, each drawn at most once."""

    edges: np.ndarray
    ops: np.ndarray
    odds: np.ndarray

    @staticmethod
    def at(space: Product, state: int, ahead: np.ndarray, weighted: bool) -> _Chances:
        value = space.values[state]
        first, last = space.starts[state], space.starts[state + 1]
        members = [space.members[value][letter] for letter in space.letter[first:last]]
        edges = np.repeat(np.arange(first, last), list(map(len, members)))
        ops = np.concatenate(members)
        odds = ahead[space.next[edges]]
        if weighted:
            share = space.weight[first:last] / np.array([space.likely[value][each].sum() for each in members])
            odds = odds * share[edges - first] * space.likely[value][ops]
        return _Chances(edges, ops, odds)

    @property
    def any(self) -> bool:
        return bool((self.odds > 0).any())

    def draw(self, rng: np.random.Generator) -> tuple[int, int]:
        drawn = draw(rng, self.odds)
        self.odds[drawn] = 0.0
        return int(self.edges[drawn]), int(self.ops[drawn])


def open_sizes(base: Product, goal: Value, widths: Sequence[int], clock: Clock) -> Opened | None:
    """The product of the same sequences with every size from `widths`, or as it was, from the same type to `goal`.

    None if the time was up before it was made; memoised with the product.
    """
    key = goal, tuple(widths)
    try:
        found: Opened = clock.remembered(base.opened, key, lambda: _open(base, goal, tuple(widths), clock))
    except TimeIsUp:
        return None
    return found


def _open(base: Product, goal: Value, widths: tuple[int, ...], clock: Clock) -> Opened:
    none = np.zeros(0, dtype=np.int64)
    if not len(base.values):
        return Opened(base, none)
    variants = _Variants(base, widths)
    variants.find(clock)
    count = np.array([len(each) for each in variants.types])
    starts = np.concatenate([[0], np.cumsum(count[base.values])])
    number = np.concatenate([[0], np.cumsum(count)])
    following, nominal, letters, degrees, costs = [], [], [], [], []
    for state, value in enumerate(base.values.tolist()):
        after = np.full(len(base.members[value]), -1)
        edges = slice(base.starts[state], base.starts[state + 1])
        after[base.letter[edges]] = starts[base.next[edges]]
        for row in variants.rows[value]:
            target = after[variants.letters[value][row.nominal]]
            kept = target >= 0
            following.append(target[kept] + row.after[kept])
            nominal.append(row.nominal[kept])
            letters.append(np.flatnonzero(kept))
            costs.append(row.costs[kept])
            degrees.append(int(kept.sum()))
    kinds = np.concatenate([np.arange(number[value], number[value + 1]) for value in base.values])
    at_goal = np.array([kind == goal for types in variants.types for kind in types])
    joined = [np.concatenate([none, *each]) for each in (following, nominal, letters)]
    cost = np.concatenate([np.zeros((0, 2)), *costs])
    ops = tuple(row.ops for rows in variants.rows for row in rows)
    whole = Product(
        base.length,
        tuple(kind for types in variants.types for kind in types),
        ops,
        singles(ops),
        tuple(np.ones(len(each)) for each in ops),
        kinds,
        np.repeat(base.accepts, count[base.values]) & at_goal[kinds],
        np.concatenate([[0], np.cumsum(degrees)]),
        joined[0],
        joined[2],
        np.arange(len(joined[0]), dtype=float),
    )
    kept = trimmed(whole, _layers(whole))
    places = kept.weight.astype(np.int64)
    if not len(kept.values):
        return Opened(empty(base.length), none)
    kept.given.update({params_of: cost[places, 0], macs_of: cost[places, 1]})
    return Opened(kept, joined[1][places])


def _layers(whole: Product) -> np.ndarray:
    """For every state the least number of edges that lead to it; more than any path has where none does."""
    layers = np.full(len(whole.values), 2 * whole.length + 2)
    layers[0] = 0
    for layer in range(1, whole.length + 1):
        ahead = np.unique(whole.next[(layers == layer - 1)[whole.sources]])
        ahead = ahead[layers[ahead] > layer]
        layers[ahead] = layer
    return layers


@dataclass(frozen=True, eq=False)
class _Row:
    """All ops of all sizes that fit one actual type: of which nominal op each is, to which type it leads, and what it costs."""

    ops: tuple[Op, ...]
    nominal: np.ndarray
    after: np.ndarray
    costs: np.ndarray


class _Variants:
    """The actual types at each nominal one, and the ops of all sizes between them."""

    def __init__(self, base: Product, widths: tuple[int, ...]):
        self._base, self._widths = base, widths
        self.letters = [_letter_of(len(ops), members) for ops, members in zip(base.ops, base.members, strict=True)]
        self._next = _following(base)
        self.types: list[list[Value]] = [[] for _ in base.types]
        self.rows: list[list[_Row]] = [[] for _ in base.types]
        self._place: list[dict[Value, int]] = [{} for _ in base.types]
        self._waiting: list[tuple[int, Value]] = []
        self._number(int(base.values[0]), base.types[base.values[0]])

    def find(self, clock: Clock) -> None:
        """Finds them all; TimeIsUp when the clock's limit is reached."""
        for value in np.unique(self._base.values).tolist():
            clock.check(A_TYPE)
            prepare_effects(self._base.ops[value], self._base.types[value])
        for value, kind in self._waiting:
            clock.check(A_TYPE)
            self.rows[value].append(self._row(value, kind))

    def _number(self, value: int, kind: Value) -> int:
        place = self._place[value]
        found = place.get(kind)
        if found is None:
            found = place[kind] = len(place)
            self.types[value].append(kind)
            self._waiting.append((value, kind))
        return found

    def _row(self, value: int, kind: Value) -> _Row:
        ops: list[Op] = []
        after: list[int] = []
        nominal, costs = [], []
        for index, op in enumerate(self._base.ops[value]):
            target = self._next[value].get(int(self.letters[value][index]))
            if target is None:
                continue
            found = effects(op, kind, self._widths)
            ops += found.ops
            nominal.append(np.full(len(found.ops), index))
            after += [self._number(target, result) for result in found.values]
            costs.append(found.costs)
        none = np.zeros(0, dtype=np.int64)
        places, table = np.concatenate([none, *nominal]), np.concatenate([np.zeros((0, 2)), *costs])
        return _Row(tuple(ops), places, np.array(after, dtype=np.int64), table)


def _letter_of(count: int, members: Sequence[np.ndarray]) -> np.ndarray:
    letters = np.full(count, -1)
    for letter, places in enumerate(members):
        letters[places] = letter
    return letters


def _following(base: Product) -> list[dict[int, int]]:
    """For every nominal type to which one each letter leads, as far as some state has it."""
    found: list[dict[int, int]] = [{} for _ in base.types]
    here, after = base.values[base.sources].tolist(), base.values[base.next].tolist()
    for value, letter, target in zip(here, base.letter.tolist(), after, strict=True):
        found[value][letter] = target
    return found
