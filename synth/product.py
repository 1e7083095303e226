"""The product of the automata that a target needs, and exact queries of it by dynamic programming over states and lengths."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from synth import taste
from synth.automaton import DEAD, Automaton, Pairs, pairs
from synth.cheapest import Limit, best_first
from synth.clock import ENDLESS, Clock
from synth.op import Op, Value
from synth.space import Frame, Question

Cost = Callable[[Op, Value], float]
Path = tuple[Op, ...]
Members = tuple[tuple[np.ndarray, ...], ...]


@dataclass(frozen=True, eq=False)
class Product:
    """States of all automata together, numbered from the start (0); the edges of state s are starts[s] … starts[s + 1] - 1.

    Accepted are the sequences of at most `length` ops that lead to a state that accepts. `values` numbers each state's type among
    `types`. An edge's `letter` stands for all ops that lead from its state to the same one: `members[v][k]` are the places among
    `ops[v]` of letter k at type v. `weight` is the prior of all ops of an edge together, `likely[v]` that of each op at type v.
    """

    length: int
    types: tuple[Value, ...]
    ops: tuple[tuple[Op, ...], ...]
    members: Members
    likely: tuple[np.ndarray, ...]
    values: np.ndarray
    accepts: np.ndarray
    starts: np.ndarray
    next: np.ndarray
    letter: np.ndarray
    weight: np.ndarray
    given: dict[Cost, np.ndarray] = field(default_factory=dict, repr=False)
    """The costs of the edges that are known already."""
    opened: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """The same with open sizes, memoised (see `synth.sized`)."""

    def edges(self, state: int) -> range:
        return range(self.starts[state], self.starts[state + 1])

    def op(self, state: int, edge: int) -> Op:
        """The first op of an edge."""
        value = self.values[state]
        return self.ops[value][self.members[value][self.letter[edge]][0]]

    @functools.cached_property
    def sources(self) -> np.ndarray:
        """The state that each edge leaves."""
        return np.repeat(np.arange(len(self.values)), np.diff(self.starts))

    @functools.cached_property
    def alike(self) -> np.ndarray:
        """The number of ops of each edge."""
        counts = [np.array([len(each) for each in members], dtype=np.int64) for members in self.members]
        first = np.concatenate([[0], np.cumsum([len(each) for each in counts])])
        return np.concatenate([*counts, np.zeros(0, dtype=np.int64)])[first[self.values[self.sources]] + self.letter]

    @functools.cached_property
    def spelled(self) -> Product:
        """The same with an edge for every single op."""
        if len(self.alike) == self.alike.sum():
            return self
        edge = np.repeat(np.arange(len(self.next)), self.alike)
        within = np.arange(len(edge)) - np.repeat(np.cumsum(self.alike) - self.alike, self.alike)
        sources = self.sources[edge]
        table = [[each.tolist() for each in members] for members in self.members]
        values, letters = self.values[sources].tolist(), self.letter[edge].tolist()
        op = np.array([table[v][k][n] for v, k, n in zip(values, letters, within.tolist(), strict=True)], dtype=np.int64)
        degree = np.bincount(sources, minlength=len(self.values))
        likely = np.array([self.likely[v][place] for v, place in zip(values, op.tolist(), strict=True)], dtype=float)
        together = np.bincount(edge, weights=likely, minlength=len(self.next))
        return replace(
            self,
            members=singles(self.ops),
            starts=np.concatenate([[0], np.cumsum(degree)]),
            next=self.next[edge],
            letter=op,
            weight=self.weight[edge] * likely / together[edge],
            given={},
            opened={},
        )

    def counts(self, weighted: bool) -> tuple[np.ndarray, ...]:
        """For k = 0 … length and every state, how many accepted programs of k more ops there are (or their weights together)."""
        return self._weighted_counts if weighted else self._plain_counts

    @functools.cached_property
    def _plain_counts(self) -> tuple[np.ndarray, ...]:
        return self._counted(self.alike)

    @functools.cached_property
    def _weighted_counts(self) -> tuple[np.ndarray, ...]:
        return self._counted(self.weight)

    def _counted(self, weight: np.ndarray) -> tuple[np.ndarray, ...]:
        tables = [self.accepts.astype(float)]
        for _ in range(self.length):
            tables.append(np.bincount(self.sources, weights=weight * tables[-1][self.next], minlength=len(self.values)))
        return tuple(tables)

    @property
    def feasible(self) -> bool:
        """Whether any program is accepted."""
        return len(self.values) > 0

    def sample(self, rng: np.random.Generator, *, weighted: bool, lengths: Sequence[float] | np.ndarray | None = None) -> Path:
        """A random accepted program.

        Uniform over all of them, or by the prior's weights; `lengths`, a weight for each length from 0 on, draws the length first.
        """
        tables, weight = self.counts(weighted), self.weight if weighted else self.alike
        totals = np.array([table[0] for table in tables])
        if lengths is not None:
            totals = np.where(totals > 0, np.array(lengths, dtype=float)[: len(totals)], 0.0)
        left = int(rng.choice(len(totals), p=totals / totals.sum()))
        state, ops = 0, []
        while left:
            first, last = self.starts[state], self.starts[state + 1]
            edge = first + draw(rng, tables[left - 1][self.next[first:last]] * weight[first:last])
            value = self.values[state]
            members = self.members[value][self.letter[edge]]
            drawn = draw(rng, self.likely[value][members]) if weighted else rng.integers(len(members))
            ops.append(self.ops[value][members[drawn]])
            state, left = int(self.next[edge]), left - 1
        return tuple(ops)

    def favouring(self, cost: Cost, temperature: float) -> Product:
        """The same with the prior's weight of every program times exp(-cost / temperature)."""
        whole = self.spelled
        if (cost, temperature) not in whole.opened:
            weight = whole.weight * np.exp(-whole.costs(cost) / temperature)
            plain = tuple(np.ones(len(ops)) for ops in whole.ops)
            whole.opened[cost, temperature] = replace(whole, weight=weight, likely=plain, given={}, opened={})
        found: Product = whole.opened[cost, temperature]
        return found

    def costs(self, cost: Cost) -> np.ndarray:
        """The cost of every edge's first op: of every edge, where all ops are spelled out."""
        if cost not in self.given:
            self.given[cost] = self._costs(cost)
        return self.given[cost]

    def _costs(self, cost: Cost) -> np.ndarray:
        flat = [np.array([cost(ops[each[0]], here) for each in members]) for ops, here, members in self._flat]
        first = np.concatenate([[0], np.cumsum([len(each) for each in flat])])
        return np.concatenate([*flat, np.zeros(0)])[first[self.values[self.sources]] + self.letter]

    @property
    def _flat(self) -> Iterator[tuple[tuple[Op, ...], Value, tuple[np.ndarray, ...]]]:
        return zip(self.ops, self.types, self.members, strict=True)

    def bounds(self, costs: np.ndarray, *, largest: bool = False) -> tuple[np.ndarray, ...]:
        """For r = 0 … length and every state the least (or largest) cost of an accepted program of at most r more ops."""
        never = -np.inf if largest else np.inf
        best = np.maximum if largest else np.minimum
        done = np.where(self.accepts, 0.0, never)
        tables = [done]
        rows = np.flatnonzero(np.diff(self.starts))
        for _ in range(self.length):
            table = done.copy()
            if len(rows):
                table[rows] = best(table[rows], best.reduceat(costs + tables[-1][self.next], self.starts[rows]))
            tables.append(table)
        return tuple(tables)

    def cheapest(
        self, cost: Cost | np.ndarray, limits: Sequence[tuple[Cost, float, float]] = (), *, clock: Clock = ENDLESS
    ) -> Iterator[tuple[float, Path]]:
        """Accepted programs in order of cost, each once, lazily; equal costs in order of length.

        `cost` is that of an op, or an array for the edges of `spelled`. `limits` holds (cost, low, high) of further costs that must
        end up within bounds; branches that cannot are cut. Ends without further programs when the clock's limit is reached.
        """
        whole = self.spelled
        costs = cost if isinstance(cost, np.ndarray) else whole.costs(cost)
        within = []
        for each, low, high in limits:
            own = whole.costs(each)
            within.append(Limit(own, whole.bounds(own), whole.bounds(own, largest=True), low, high))
        for total, edges in best_first(whole, costs, whole.bounds(costs), within, clock):
            yield total, tuple(whole.op(int(whole.sources[edge]), edge) for edge in edges)


def singles(ops: Sequence[Sequence[Op]]) -> Members:
    """The members of letters that are one op each."""
    return tuple(tuple(np.array([index]) for index in range(len(each))) for each in ops)


def draw(rng: np.random.Generator, odds: np.ndarray) -> int:
    """A random place with these odds, which need not add up to 1."""
    return int(min(np.searchsorted(np.cumsum(odds), rng.random() * odds.sum(), side="right"), len(odds) - 1))


def product(frame: Frame, questions: Sequence[Question], *, prior: bool, clock: Clock = ENDLESS) -> Product:
    """The product of the types and of one automaton for each question, with or without the prior's memory.

    It has only states on the way to acceptance.
    """
    key = prior, tuple((question.reads, question.part, question.key) for question in questions)

    def made() -> Product:
        structure = frame.automaton(questions, clock=clock)
        clock.check()
        return _weighted(frame, structure) if prior else _plain(frame, structure)

    found: Product = clock.remembered(frame.products, key, made)
    return found


def empty(length: int) -> Product:
    """The product that accepts nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Product(length, (), (), (), (), none, none.astype(bool), np.zeros(1, dtype=np.int64), none, none, none.astype(float))


def _plain(frame: Frame, structure: Automaton) -> Product:
    likely = tuple(np.ones(len(moves)) for moves in frame.moves)
    return _made(frame, structure, likely, np.ones(len(structure.next)))


def _weighted(frame: Frame, structure: Automaton) -> Product:
    """The product with the prior's memory, which is one more automaton: it accepts everything, and each step has its weight."""
    if not len(structure.values):
        return empty(frame.length)
    memory = _memory(frame)
    both = pairs(structure, memory.automaton)
    tails = both.states[1] % len(taste.TAILS)
    return _made(frame, both.automaton, memory.likely, _factors(both, memory.roles, tails))


@dataclass(frozen=True, eq=False)
class _Memory:
    """What the prior remembers, for every type; and of every move what it is, and how likely."""

    automaton: Automaton
    roles: tuple[np.ndarray, ...]
    likely: tuple[np.ndarray, ...]


@functools.lru_cache(maxsize=512)
def _memory(frame: Frame) -> _Memory:
    tails, sizes = len(taste.TAILS), len(frame.alphabet.sizes)
    at = list(zip(frame.values, frame.moves, strict=True))
    roles = tuple(np.array([taste.role(op, value) for op, _ in moves], dtype=np.int64) for value, moves in at)
    likely = tuple(np.array([taste.weight(op, sizes) for op, _ in moves], dtype=float) for _, moves in at)
    letters, rows = [], []
    for own, moves in zip(roles, frame.moves, strict=True):
        steps = {(int(role), after): None for role, (_, after) in zip(own, moves, strict=True)}
        place = {step: index for index, step in enumerate(steps)}
        letters.append(np.array([place[int(role), after] for role, (_, after) in zip(own, moves, strict=True)], dtype=np.int64))
        rows += [after * tails + taste.FOLLOWING[tail, role] for tail in range(tails) for role, after in steps]
    values = np.repeat(np.arange(len(frame.values)), tails)
    assert taste.START == 0, "the automaton starts in state 0"
    layers = np.zeros(len(values), dtype=np.int64)
    whole = Automaton.of(frame.length, letters, values, layers, np.array(rows, dtype=np.int64), np.ones(len(values), dtype=bool))
    return _Memory(whole, roles, likely)


def _factors(both: Pairs, roles: Sequence[np.ndarray], tails: np.ndarray) -> np.ndarray:
    """How well the step of every edge goes with what came before it."""
    whole = both.automaton
    found = np.ones(len(whole.next))
    for states in whole.by_value(np.arange(len(whole.values))):
        value = int(whole.values[states[0]])
        _, first = np.unique(whole.letters[value], return_index=True)
        columns = np.arange(whole.starts[states[0] + 1] - whole.starts[states[0]])
        found[whole.starts[states][:, None] + columns] = taste.FACTORS[tails[states][:, None], roles[value][first]]
    return found


def _made(frame: Frame, automaton: Automaton, likely: tuple[np.ndarray, ...], factors: np.ndarray) -> Product:
    """The product of a finished automaton, without what is too long."""
    if not len(automaton.values):
        return empty(frame.length)
    members = tuple(
        tuple(np.flatnonzero(letters == letter) for letter in range(int(letters.max(initial=-1)) + 1))
        for letters in automaton.letters
    )
    sums = [np.array([own[each].sum() for each in here]) for own, here in zip(likely, members, strict=True)]
    first = np.concatenate([[0], np.cumsum([len(each) for each in sums])])
    sources = np.repeat(np.arange(len(automaton.values)), np.diff(automaton.starts))
    letter = np.arange(len(automaton.next)) - automaton.starts[sources]
    weight = factors * np.concatenate([*sums, np.zeros(0)])[first[automaton.values[sources]] + letter]
    kept = automaton.next != DEAD
    degree = np.bincount(sources[kept], minlength=len(automaton.values))
    whole = Product(
        frame.length,
        frame.values,
        frame.ops,
        members,
        likely,
        automaton.values,
        automaton.accepts,
        np.concatenate([[0], np.cumsum(degree)]),
        automaton.next[kept],
        letter[kept],
        weight[kept],
    )
    return trimmed(whole, automaton.layers)


def trimmed(whole: Product, layers: np.ndarray) -> Product:
    """The product without states and edges that no accepted program of its length has, given every state's least length."""
    never = 2 * whole.length + 2
    left = np.where(whole.accepts, 0, never)
    for _ in range(whole.length):
        nearest = left.copy()
        np.minimum.at(nearest, whole.sources, left[whole.next] + 1)
        left = nearest
    alive = layers + left <= whole.length
    if not alive[0]:
        return empty(whole.length)
    number = np.cumsum(alive) - 1
    kept = alive[whole.sources] & alive[whole.next] & (layers[whole.sources] + 1 + left[whole.next] <= whole.length)
    degree = np.bincount(whole.sources[kept], minlength=len(alive))[alive]
    return replace(
        whole,
        values=whole.values[alive],
        accepts=whole.accepts[alive],
        starts=np.concatenate([[0], np.cumsum(degree)]),
        next=number[whole.next[kept]],
        letter=whole.letter[kept],
        weight=whole.weight[kept],
        given={},
        opened={},
    )
