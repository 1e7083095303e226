"""A product with its sizes left open: every size of every op over a set of widths, so that costs can be minimised and kept exactly.

How a sequence of ops mixes and how deep it is does not depend on its widths as long as they are divisible as the ops demand, so the
states are pairs of a state of the product and an actual type. What comes out of it is verified like everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synth.automaton import DEAD
from synth.budget import Budget
from synth.clock import Clock, TimeIsUp
from synth.op import Value
from synth.problem import macs_of, params_of
from synth.product import Path, Product, draw, empty, singles, trimmed
from synth.variants import Variants

Tables = tuple[np.ndarray, ...]

AT_ONCE = 1 << 17
"""Sums of a step and what lies ahead of it that are compared at once: 1 MiB, which a cache holds."""


@dataclass(frozen=True, eq=False)
class Opened:
    """All sized sequences of a product that end in `goal`. Its states are (state of the product, number of the actual type there).

    Bounds of costs, which draws ask for, need no list of its edges; the product of all of them is made when it is asked for.
    """

    base: Product
    goal: Value
    variants: Variants | None
    """None where there are no sequences."""
    _bounds: dict[tuple[int, bool], Tables] = field(default_factory=dict, repr=False)

    @functools.cached_property
    def product(self) -> Product:
        """Every op of every size as an edge of its own."""
        return _spelled(self.base, self.goal, self.variants) if self.variants is not None else empty(self.base.length)

    def lengths(self, budget: Budget) -> np.ndarray:
        """For k = 0 … length whether sequences of k ops may keep each interval of the budget, as far as that is seen at once."""
        if self.variants is None:
            return np.zeros(self.base.length + 1, dtype=bool)
        first, nothing = np.zeros(1, dtype=np.int64), np.zeros((1, 2))
        return np.array([self._may_hold(budget, nothing, k, 0, first)[0] for k in range(self.base.length + 1)])

    def _may_hold(self, budget: Budget, spent: np.ndarray, left: int, state: int, kinds: np.ndarray) -> np.ndarray:
        """At which actual types of a state exactly so many more ops may keep the budget, after (parameters, MACs) were spent."""
        held = np.ones(len(kinds), dtype=bool)
        for cost, interval in enumerate((budget.params, budget.macs)):
            least = self._bound(cost, largest=False)[left][state, kinds]
            held &= (least < np.inf) & (spent[:, cost] + least <= interval.high)
            if interval.low > 0:
                held &= spent[:, cost] + self._bound(cost, largest=True)[left][state, kinds] >= interval.low
        return held

    def _bound(self, cost: int, *, largest: bool) -> Tables:
        """For k = 0 … length the least (or most) that exactly k further ops cost, by state and actual type.

        Infinite where there are none, or where so many would be more than the product's length.
        """
        if (cost, largest) not in self._bounds:
            # The most is the least of what is negative.
            tables = self._least(cost, -1.0 if largest else 1.0)
            self._bounds[cost, largest] = tuple([-table for table in tables]) if largest else tables
        return self._bounds[cost, largest]

    def _least(self, cost: int, sign: float) -> Tables:
        variants, base, moves = self.variants, self.base, self._moves
        assert variants is not None, "bounds are asked for where there are sequences"
        steps = moves.steps(variants, cost, sign)
        done = np.full((len(base.values), len(steps)), np.inf)
        for value, types in enumerate(variants.types):
            if self.goal in types:
                done[(base.values == value) & base.accepts, types.index(self.goal)] = 0.0
        tables = [done]
        for k in range(1, base.length + 1):
            tables.append(moves.before(steps, tables[-1], base.length - k))
        return tuple(tables)

    @functools.cached_property
    def _moves(self) -> _Moves:
        return _Moves.of(self.base)

    @functools.cached_property
    def _after(self) -> np.ndarray:
        """The state that each letter leads to from each state, or DEAD."""
        base = self.base
        after = np.full((len(base.values), 1 + int(base.letter.max(initial=0))), DEAD)
        after[base.sources, base.letter] = base.next
        return after

    def sample(
        self, space: Product, rng: np.random.Generator, budget: Budget, lengths: np.ndarray, *, weighted: bool
    ) -> Path | None:
        """A random program within the budget, or None where what was drawn led nowhere.

        Kinds are drawn from `space`, the product with nominal sizes, the length by weights; of each kind a size among those from
        which each interval of the budget can still be kept.
        """
        assert self.variants is not None, "only what has sequences is sampled"
        left = draw(rng, lengths)
        tables = space.counts(weighted)
        state, here, actual, path, spent = 0, 0, 0, [], np.zeros(2)
        while left:
            chances = _Chances.at(space, state, tables[left - 1], weighted)
            value = int(self.base.values[here])
            row, letters = self.variants.rows[value][actual], self.variants.letters[value]
            found = None
            while found is None and chances.any:
                edge, op = chances.draw(rng)
                after = int(self._after[here, letters[op]])
                first, last = np.searchsorted(row.nominal, [op, op + 1]) if after != DEAD else (0, 0)
                may = self._may_hold(budget, spent + row.costs[first:last], left - 1, after, row.after[first:last])
                fits = first + np.flatnonzero(may)
                found = (edge, after, int(fits[rng.integers(len(fits))])) if len(fits) else None
            if found is None:
                return None
            edge, here, sized = found
            path.append(row.op(sized))
            spent = spent + row.costs[sized]
            state, actual, left = int(space.next[edge]), int(row.after[sized]), left - 1
        return tuple(path)


@dataclass(frozen=True, eq=False)
class _Moves:
    """The edges of a product, its letters numbered over all types; of each also the least number of ops that lead to its state."""

    states: int
    first: np.ndarray
    """The number of the first letter of each type."""
    sources: np.ndarray
    letters: np.ndarray
    targets: np.ndarray
    layers: np.ndarray
    known: dict[int, _Near] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(base: Product) -> _Moves:
        first = np.concatenate([[0], np.cumsum([len(members) for members in base.members])])
        letters = first[base.values[base.sources]] + base.letter
        return _Moves(len(base.values), first, base.sources, letters, base.next, _layers(base)[base.sources])

    def steps(self, variants: Variants, cost: int, sign: float) -> np.ndarray:
        """What a letter costs at least from one actual type to another, times `sign`: by (type after, letter, type before)."""
        kinds = max(map(len, variants.types))
        found = np.full((kinds, self.first[-1], kinds), np.inf)
        places = [
            (row.after * self.first[-1] + self.first[value] + variants.letters[value][row.nominal]) * kinds + kind
            for value, rows in enumerate(variants.rows)
            for kind, row in enumerate(rows)
        ]
        costs = [row.costs[:, cost] for rows in variants.rows for row in rows]
        np.minimum.at(found.reshape(-1), np.concatenate(places), sign * np.concatenate(costs))
        return found

    def before(self, steps: np.ndarray, ahead: np.ndarray, layer: int) -> np.ndarray:
        """The least of a step and what lies ahead of it, by state and actual type, for states to which at most `layer` ops lead."""
        found = np.full(ahead.shape, np.inf)
        near = self._near(layer)
        each, count = np.empty((len(near.letters), len(steps))), max(1, AT_ONCE // len(steps) ** 2)
        for part in (slice(start, start + count) for start in range(0, len(each), count)):
            each[part] = (steps[:, near.letters[part]] + ahead[near.targets[part]].T[:, :, None]).min(axis=0)
        if len(near.states):
            found[near.states] = np.minimum.reduceat(each[near.edges], near.starts, axis=0)
        return found

    def _near(self, layer: int) -> _Near:
        if layer not in self.known:
            self.known[layer] = self._found_near(layer)
        return self.known[layer]

    def _found_near(self, layer: int) -> _Near:
        chosen = self.layers <= layer
        sources = self.sources[chosen]
        pairs, edges = np.unique(self.letters[chosen] * self.states + self.targets[chosen], return_inverse=True)
        starts = np.flatnonzero(np.diff(sources, prepend=-1))
        return _Near(sources[starts], starts, edges.reshape(-1), *np.divmod(pairs, self.states))


@dataclass(frozen=True, eq=False)
class _Near:
    """The edges at some states. Many states share what lies ahead, since it hangs on the letter and on where that leads alone.

    `edges` is for each edge the place of its letter and target, `starts` the first edge of each state.
    """

    states: np.ndarray
    starts: np.ndarray
    edges: np.ndarray
    letters: np.ndarray
    targets: np.ndarray


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
    return Opened(base, goal, Variants.found(base, widths, clock) if len(base.values) else None)


def _spelled(base: Product, goal: Value, variants: Variants) -> Product:
    none = np.zeros(0, dtype=np.int64)
    count = np.array([len(each) for each in variants.types])
    starts = np.concatenate([[0], np.cumsum(count[base.values])])
    number = np.concatenate([[0], np.cumsum(count)])
    following, letters, degrees, costs = [], [], [], []
    for state, value in enumerate(base.values.tolist()):
        after = np.full(len(base.members[value]), DEAD)
        edges = slice(base.starts[state], base.starts[state + 1])
        after[base.letter[edges]] = starts[base.next[edges]]
        for row in variants.rows[value]:
            target = after[variants.letters[value][row.nominal]]
            kept = target != DEAD
            following.append(target[kept] + row.after[kept])
            letters.append(np.flatnonzero(kept))
            costs.append(row.costs[kept])
            degrees.append(int(kept.sum()))
    kinds = np.concatenate([np.arange(number[value], number[value + 1]) for value in base.values])
    at_goal = np.array([kind == goal for types in variants.types for kind in types])
    joined = [np.concatenate([none, *each]) for each in (following, letters)]
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
        joined[1],
        np.arange(len(joined[0]), dtype=float),
    )
    kept = trimmed(whole, _layers(whole))
    if not len(kept.values):
        return empty(base.length)
    places = kept.weight.astype(np.int64)
    kept.given.update({params_of: cost[places, 0], macs_of: cost[places, 1]})
    return kept


def _layers(whole: Product) -> np.ndarray:
    """For every state the least number of edges that lead to it; more than any path has where none does."""
    layers = np.full(len(whole.values), 2 * whole.length + 2)
    layers[0] = 0
    for layer in range(1, whole.length + 1):
        ahead = np.unique(whole.next[(layers == layer - 1)[whole.sources]])
        ahead = ahead[layers[ahead] > layer]
        layers[ahead] = layer
    return layers
