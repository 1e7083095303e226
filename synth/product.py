"""The product of the automata that a target needs, and exact queries of it by dynamic programming over states and lengths."""

from __future__ import annotations

import functools
import heapq
import itertools
import math
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from synth import taste
from synth.op import Op, Value
from synth.space import DEAD, Automaton, Frame, Question, reduce

Cost = Callable[[Op, Value], float]
Path = tuple[Op, ...]


@dataclass(frozen=True, eq=False)
class Product:
    """States of all automata together, numbered from the start (0); the edges of state s are starts[s] … starts[s + 1] - 1.

    Accepted are the sequences of at most `length` ops that lead to a state that accepts. `values` numbers each state's type among
    `types`, `move` each edge's op among the `ops` of its state's type; `weight` is the prior.
    """

    length: int
    types: tuple[Value, ...]
    ops: tuple[tuple[Op, ...], ...]
    values: np.ndarray
    accepts: np.ndarray
    starts: np.ndarray
    next: np.ndarray
    move: np.ndarray
    weight: np.ndarray
    opened: dict[Hashable, Product] = field(default_factory=dict, repr=False)
    """The same with open sizes, memoised (see `synth.sized`)."""

    def edges(self, state: int) -> range:
        return range(self.starts[state], self.starts[state + 1])

    def op(self, state: int, edge: int) -> Op:
        """The op of an edge."""
        return self.ops[self.values[state]][self.move[edge]]

    @functools.cached_property
    def sources(self) -> np.ndarray:
        """The state that each edge leaves."""
        return np.repeat(np.arange(len(self.values)), np.diff(self.starts))

    def counts(self, weighted: bool) -> tuple[np.ndarray, ...]:
        """For k = 0 … length and every state, how many accepted programs of k more ops there are (or their weights together)."""
        return self._weighted_counts if weighted else self._plain_counts

    @functools.cached_property
    def _plain_counts(self) -> tuple[np.ndarray, ...]:
        return self._counted(np.ones(len(self.next)))

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
        return len(self.values) > 0 and any(table[0] > 0 for table in self.counts(False))

    def sample(self, rng: np.random.Generator, *, weighted: bool, lengths: Sequence[float] | None = None) -> Path:
        """A random accepted program.

        Uniform over all of them, or by the prior's weights; `lengths`, a weight for each length from 0 on, draws the length first.
        """
        tables = self.counts(weighted)
        totals = np.array([table[0] for table in tables])
        if lengths is not None:
            totals = np.where(totals > 0, np.array(lengths, dtype=float)[: len(totals)], 0.0)
        left = int(rng.choice(len(totals), p=totals / totals.sum()))
        state, ops = 0, []
        while left:
            first, last = self.starts[state], self.starts[state + 1]
            odds = tables[left - 1][self.next[first:last]]
            odds = odds * self.weight[first:last] if weighted else odds
            edge = first + _draw(rng, odds)
            ops.append(self.op(state, edge))
            state, left = int(self.next[edge]), left - 1
        return tuple(ops)

    def costs(self, cost: Cost) -> np.ndarray:
        """The cost of every edge."""
        table: dict[tuple[int, int], float] = {}
        found = np.zeros(len(self.next))
        for edge, (state, move) in enumerate(zip(self.sources.tolist(), self.move.tolist(), strict=True)):
            key = (int(self.values[state]), move)
            if key not in table:
                table[key] = cost(self.ops[key[0]][move], self.types[key[0]])
            found[edge] = table[key]
        return found

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
        self, costs: np.ndarray, limits: Sequence[tuple[np.ndarray, float, float]] = (), *, deadline: float = math.inf
    ) -> Iterator[tuple[float, Path]]:
        """Accepted programs in order of cost, each once, lazily; equal costs in order of length.

        `limits` holds (costs, low, high) of further costs that must end up within bounds; branches that cannot are cut. Ends
        without further programs when `time.monotonic()` reaches the deadline.
        """
        ahead = self.bounds(costs)
        ranges = [(own, self.bounds(own), self.bounds(own, largest=True), low, high) for own, low, high in limits]
        tie = itertools.count()
        queue: list[tuple[float, int, int, float, int, tuple[float, ...], tuple[int, ...], bool]] = []

        def push(spent: float, state: int, others: tuple[float, ...], path: tuple[int, ...]) -> None:
            left = self.length - len(path)
            bound = spent + ahead[left][state]
            if bound == np.inf:
                return
            for total, (_, least, most, low, high) in zip(others, ranges, strict=True):
                if total + least[left][state] > high or total + most[left][state] < low:
                    return
            heapq.heappush(queue, (bound, len(path), next(tie), spent, state, others, path, False))

        push(0.0, 0, (0.0,) * len(ranges), ())
        while queue and time.monotonic() < deadline:
            _, _, _, spent, state, others, path, finished = heapq.heappop(queue)
            if finished:
                yield spent, self._ops(path)
                continue
            within = all(low <= total <= high for total, (_, _, _, low, high) in zip(others, ranges, strict=True))
            if self.accepts[state] and within:
                heapq.heappush(queue, (spent, len(path), next(tie), spent, state, others, path, True))
            if len(path) == self.length:
                continue
            for edge in self.edges(state):
                totals = tuple(total + own[edge] for total, (own, *_) in zip(others, ranges, strict=True))
                push(spent + costs[edge], int(self.next[edge]), totals, (*path, edge))

    def _ops(self, path: Sequence[int]) -> Path:
        return tuple(self.op(int(self.sources[edge]), edge) for edge in path)


def _draw(rng: np.random.Generator, odds: np.ndarray) -> int:
    return int(min(np.searchsorted(np.cumsum(odds), rng.random() * odds.sum(), side="right"), len(odds) - 1))


def product(frame: Frame, questions: Sequence[Question], *, prior: bool) -> Product:
    """The product of the types and of one automaton for each question, with or without the prior's memory.

    It has only states on the way to acceptance.
    """
    key = prior, frozenset((question.reads, question.part, question.key) for question in questions)
    if key not in frame._products:
        frame._products[key] = _build(frame, questions, prior)
    found: Product = frame._products[key]
    return found


def _types(frame: Frame) -> Automaton:
    """The automaton that reads types only and accepts at the goal."""
    rows = [[after for _, after in moves] for moves in frame.moves]
    accepts = np.array([value == frame.goal for value in frame.values])
    following = np.array([after for row in rows for after in row], dtype=np.int64)
    plain = Automaton(np.arange(len(rows)), np.cumsum([0, *map(len, rows)]), following, accepts, 0)
    return reduce(plain, accepts)


def empty(length: int) -> Product:
    """The product that accepts nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Product(length, (), (), none, none.astype(bool), np.zeros(1, dtype=np.int64), none, none, none.astype(float))


def _build(frame: Frame, questions: Sequence[Question], prior: bool) -> Product:
    if not frame.reachable:
        return empty(frame.length)
    parts = [_types(frame), *(frame.automaton(question) for question in questions)]
    if any(part.start == DEAD for part in parts):
        return empty(frame.length)
    roles, priors = _prior(frame) if prior else (None, None)
    first_move = np.cumsum([0, *map(len, frame.moves)])
    layer = np.array([[part.start for part in parts] + [taste.START]])
    sizes = [len(part.values) for part in parts] + [len(taste.TAILS)]
    known = {_keys(layer, sizes)[0]: 0}
    states, values, accepts, rows, following, moves, weights = [layer], [], [], [], [], [], []
    for depth in range(frame.length + 1):
        here = parts[0].values[layer[:, 0]]
        values.append(here)
        accepts.append(np.logical_and.reduce([part.accepts[layer[:, j]] for j, part in enumerate(parts)]))
        if depth == frame.length:
            rows.append(np.zeros(len(layer), dtype=np.int64))
            break
        degree = np.diff(first_move)[here]
        source = np.repeat(np.arange(len(layer)), degree)
        move = np.arange(len(source)) - np.repeat(np.cumsum(degree) - degree, degree)
        columns = [_step(part, layer[source, j], move) for j, part in enumerate(parts)]
        alive = np.logical_and.reduce([column != DEAD for column in columns])
        source, move, columns = source[alive], move[alive], [column[alive] for column in columns]
        tail = layer[source, -1]
        if roles is not None and priors is not None:
            role = roles[first_move[here[source]] + move]
            weights.append(priors[first_move[here[source]] + move] * taste.FACTORS[tail, role])
            tail = taste.FOLLOWING[tail, role]
        after = np.stack([*columns, tail], axis=1)
        keys = _keys(after, sizes)
        fresh, numbers = [], np.empty(len(keys), dtype=np.int64)
        for index, key in enumerate(keys):
            number = known.get(key)
            if number is None:
                number = known[key] = len(known)
                fresh.append(index)
            numbers[index] = number
        rows.append(np.bincount(source, minlength=len(layer)))
        following.append(numbers)
        moves.append(move)
        layer = after[fresh]
        states.append(layer)
        if not len(fresh):
            break
    return trimmed(
        Product(
            frame.length,
            frame.values,
            tuple(tuple(op for op, _ in moves) for moves in frame.moves),
            np.concatenate(values),
            np.concatenate(accepts),
            np.cumsum([0, *np.concatenate(rows)]),
            np.concatenate(following) if following else np.zeros(0, dtype=np.int64),
            np.concatenate(moves) if moves else np.zeros(0, dtype=np.int64),
            np.concatenate(weights) if weights else np.ones(sum(map(len, moves))),
        )
    )


def _step(part: Automaton, states: np.ndarray, move: np.ndarray) -> np.ndarray:
    """The next states of one automaton; DEAD where a state was not expanded because no sequence is long enough to leave it."""
    first, last = part.starts[states], part.starts[states + 1]
    index = first + move
    if not len(part.next):
        return np.full(len(states), DEAD)
    return np.where(index < last, part.next[np.minimum(index, len(part.next) - 1)], DEAD)


def _keys(states: np.ndarray, sizes: Sequence[int]) -> list[int]:
    keys = np.zeros(len(states), dtype=np.int64)
    for column, size in enumerate(sizes):
        keys = keys * size + states[:, column]
    return keys.tolist()


def _prior(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """For every move of every value its role and how likely it is to be drawn, whatever came before."""
    moves = [(op, value) for value, moves in zip(frame.values, frame.moves, strict=True) for op, _ in moves]
    sizes = len(frame.alphabet.sizes)
    return np.array([taste.role(*move) for move in moves], dtype=np.int64), np.array([taste.weight(op, sizes) for op, _ in moves])


def trimmed(whole: Product) -> Product:
    """The product without states from which nothing is accepted."""
    alive = whole.accepts.copy()
    while True:
        reaches = alive | (np.bincount(whole.sources, weights=alive[whole.next], minlength=len(alive)) > 0)
        if (reaches == alive).all():
            break
        alive = reaches
    if not alive[0]:
        return empty(whole.length)
    number = np.cumsum(alive) - 1
    kept = alive[whole.sources] & alive[whole.next]
    degree = np.bincount(whole.sources[kept], minlength=len(alive))[alive]
    return replace(
        whole,
        values=whole.values[alive],
        accepts=whole.accepts[alive],
        starts=np.cumsum([0, *degree]),
        next=number[whole.next[kept]],
        move=whole.move[kept],
        weight=whole.weight[kept],
        opened={},
    )
