"""The weights of bodies and blocks between abstract states, level by level: what a grammar of branching programs draws by.

A body is a Markov chain on (state, the prior's memory). At each step, with a probability of `BLOCK`, a block is made: a way to
merge is drawn by taste, and its branches are bodies of the level below, each from the same state, given that they end in the way's
operand types. The weight of all bodies between two states is a matrix, and so is that of all blocks.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]

from synth import taste
from synth.branching.frame import Bare, Frame, Way, bare
from synth.branching.states import NONE, States
from synth.clock import ENDLESS, Clock
from synth.effect import size_fields, summary, with_size
from synth.memo import Memo
from synth.op import Op, Value

NESTING = 2
"""Blocks inside one another, at most."""

LONGEST_BODY = 9

BLOCK = (0.1, 0.2)
"""How often a step is a block, where one can be made: inside a branch, and in the trunk."""

IDENTITY = 0.3
"""How often a branch is the value itself, where that can be."""

SHORTENING = 0.65
"""How much rarer a body is than one with a step less."""

_NOTHING = 1e-14

BODY_LENGTHS = np.array(
    [IDENTITY, *((1 - IDENTITY) * SHORTENING**k * (1 - SHORTENING) / (1 - SHORTENING**LONGEST_BODY) for k in range(LONGEST_BODY))]
)
"""The probability of each length of a branch."""


def _memories() -> tuple[np.ndarray, np.ndarray]:
    """The prior's factors and successors over as few memories as tell all futures apart, by (memory, role); the start is 0."""
    reached = [taste.START]
    for tail in reached:
        reached += [each for each in dict.fromkeys(taste.FOLLOWING[tail, 1:].tolist()) if each not in reached]
    factors, following = taste.FACTORS[reached], np.vectorize(reached.index, otypes=[np.int64])
    after = following(np.where(np.isin(taste.FOLLOWING[reached], reached), taste.FOLLOWING[reached], taste.START))
    classes = np.unique(factors, axis=0, return_inverse=True)[1].reshape(-1)
    while True:
        finer = np.unique(np.column_stack([classes, classes[after]]), axis=0, return_inverse=True)[1].reshape(-1)
        if finer.max() == classes.max():
            break
        classes = finer
    order = list(dict.fromkeys(classes.tolist()))
    first = [int(np.flatnonzero(classes == each)[0]) for each in order]
    return factors[first], np.array([[order.index(classes[each]) for each in row] for row in after[first]])


FACTORS, FOLLOWING = _memories()
START = 0


@dataclass(frozen=True, eq=False)
class Blocks:
    """The blocks of one level: by way, the weight from every state to every state, and the factor of one choice of ends."""

    weights: np.ndarray
    factors: np.ndarray
    by_tail: dict[int, np.ndarray]
    """The matrices of all ways that leave the same memory."""

    share: np.ndarray
    """For every state how often a step is a block."""


class Story:
    """The prior over the programs of a frame's types, on the states of some questions; everything is worked out when asked for.

    `favour` multiplies the weight of every move, by type and number.
    """

    def __init__(
        self, frame: Frame, states: States, favour: tuple[np.ndarray, ...] | None = None, *, clock: Clock = ENDLESS
    ) -> None:
        self.frame, self.states = frame, states
        self.roles = clock.remembered(_ROLES, frame, lambda: _roles(frame, clock))
        counts = len({value.channels for value in frame.values})
        likely = tuple(np.array([taste.weight(op, counts) for op, _ in moves], dtype=float) for moves in frame.moves)
        self.likely = likely if favour is None else tuple(a * b for a, b in zip(likely, favour, strict=True))
        self.tails = tuple(_tail(frame, way) for way in frame.ways)
        """The memory that each way's merge leaves."""
        self._bodies: dict[int, np.ndarray] = {}
        self._blocks: dict[int, Blocks] = {}
        self._operands: dict[tuple[int, int, int], tuple[list[np.ndarray], list[np.ndarray]]] = {}
        self._targets: dict[tuple[int, int], list[np.ndarray]] = {}

    def prepare(self, clock: Clock) -> None:
        """Works out all levels; TimeIsUp when the clock's limit is reached. It takes the same steps where all is known."""
        for level in range(NESTING):
            clock.check()
            self.bodies(level)
            clock.check()
            self.blocks(level)
        clock.check()

    # Steps

    @functools.cached_property
    def norms(self) -> np.ndarray:
        """The weight of all moves of a state's type, by (state, memory)."""
        by_kind = np.zeros((len(self.frame.values), len(taste.Role)))
        for kind, (roles, likely) in enumerate(zip(self.roles, self.likely, strict=True)):
            np.add.at(by_kind[kind], roles, likely)
        total = by_kind @ FACTORS.T
        return np.where(total > 0, total, 1.0)[self.states.kinds]

    @functools.cached_property
    def _moves(self) -> sparse.csr_array:
        """The probability of every move, from (state, memory) to (state, memory)."""
        count, tails = len(self.states), len(FACTORS)
        rows, columns, values = [], [], []
        for kind, (roles, likely) in enumerate(zip(self.roles, self.likely, strict=True)):
            members = np.flatnonzero(self.states.kinds == kind)
            after = self.states.steps[kind][members][:, self.states.letters[kind]]
            state, move = np.nonzero(after != NONE)
            role = roles[move]
            weight = likely[move][:, None] * FACTORS[:, role].T / self.norms[members[state]]
            rows.append((members[state] * tails)[:, None] + np.arange(tails))
            columns.append((after[state, move] * tails)[:, None] + FOLLOWING[:, role].T)
            values.append(weight)
        joined = [np.concatenate([np.zeros(0), *(part.reshape(-1) for part in parts)]) for parts in (values, rows, columns)]
        whole = sparse.coo_array((joined[0], (joined[1].astype(int), joined[2].astype(int))), shape=(count * tails, count * tails))
        return whole.tocsr()

    def before(self, level: int, after: np.ndarray, *, block: bool = True) -> np.ndarray:
        """The weight (state, memory, …) before one step of a body of a level, given that after it; or if it is no block."""
        shape = after.shape
        made = (self._moves @ after.reshape(shape[0] * shape[1], -1)).reshape(*shape[:2], -1)
        blocks = self.blocks(level - 1)
        if blocks is None:
            return made.reshape(shape)
        if not block:
            return ((1 - blocks.share).reshape(-1, 1, 1) * made).reshape(shape)
        flat = after.reshape(*shape[:2], -1)
        merged = sum((matrix @ flat[:, tail] for tail, matrix in blocks.by_tail.items()), np.zeros((shape[0], flat.shape[2])))
        share = blocks.share.reshape(-1, 1, 1)
        return ((1 - share) * made + share * merged[:, None]).reshape(shape)

    # Bodies and blocks, level by level

    def bodies(self, level: int) -> np.ndarray:
        """The weight of all branches of a level from one state to another."""
        if level not in self._bodies:
            here = np.repeat(np.eye(len(self.states))[:, None], len(FACTORS), axis=1)
            total = BODY_LENGTHS[0] * np.eye(len(self.states))
            for weight in BODY_LENGTHS[1:]:
                here = self.before(level, here)
                total = total + weight * here[:, START]
            self._bodies[level] = total
        return self._bodies[level]

    def blocks(self, level: int) -> Blocks | None:
        """The blocks whose branches are bodies of a level; None below the lowest."""
        if level < 0 or not self.frame.ways:
            return None
        if level not in self._blocks:
            self._blocks[level] = self._made(level)
        return self._blocks[level]

    def _made(self, level: int) -> Blocks:
        count = len(self.states)
        bodies = self.bodies(level)
        weights, factors, tastes = [], [], []
        for number, way in enumerate(self.frame.ways):
            places = range(len(way.operands))
            folded = functools.reduce(self.joined, [self.ends(bodies, number, place) for place in places])
            for state, joined in self._all_empty(number):
                folded[state, joined] -= BODY_LENGTHS[0] ** len(places)
            folded[folded < _NOTHING] = 0.0
            total = folded.sum(axis=1)
            weights.append(folded)
            factors.append(np.where(total > 0, taste.weight(way.merge, 1) / np.where(total > 0, total, 1.0), 0.0))
            tastes.append(np.where(total > 0, taste.weight(way.merge, 1), 0.0))
        together = np.sum(tastes, axis=0)
        known = np.where(together > 0, together, 1.0)
        factors = [factor / known for factor in factors]
        by_tail = {tail: np.zeros((count, count)) for tail in self.tails}
        for tail, matrix, factor in zip(self.tails, weights, factors, strict=True):
            by_tail[tail] += factor[:, None] * matrix
        return Blocks(np.array(weights), np.array(factors), by_tail, np.where(together > 0, BLOCK[level == NESTING - 1], 0.0))

    def _all_empty(self, number: int) -> list[tuple[int, int]]:
        """The states that a way's operands may all have as they are, and what they join to: no block, but a sum of one value."""
        way, found = self.frame.ways[number], []
        if len(set(way.operands)) > 1:
            return []
        for state in np.flatnonzero(self.states.kinds == way.operands[0]).tolist():
            joined, *others = (int(after[state]) for after in self.states.operands[number])
            for other in others:
                joined = int(self.states.joins[joined, other]) if NONE not in (joined, other) else NONE
            if joined != NONE:
                found.append((state, joined))
        return found

    def ends(self, bodies: np.ndarray, way: int, place: int) -> np.ndarray:
        """For every row the weight of what an operand becomes."""
        after = self.states.operands[way][place]
        found = np.zeros_like(bodies)
        kept = np.flatnonzero(after != NONE)
        np.add.at(found.T, after[kept], bodies[:, kept].T)
        return found

    def joined(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Rows of weights of two operands, joined."""
        left, right = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=0))
        after = self.states.joins[np.ix_(left, right)]
        a, b = np.nonzero(after != NONE)
        pairs = first[:, left[a]] * second[:, right[b]]
        onto = sparse.csr_array((np.ones(len(a)), (np.arange(len(a)), after[a, b])), shape=(len(a), len(self.states)))
        found: np.ndarray = pairs @ onto if len(a) else np.zeros((len(pairs), len(self.states)))
        return found

    def operands(self, level: int, way: int, state: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """For the bodies of a level from a state, the weights of what each operand of a way becomes, and of what those before it
        and it join to; memoised.
        """
        if (level, way, state) not in self._operands:
            row = self.bodies(level)[[state]]
            ends = [self.ends(row, way, place) for place in range(len(self.frame.ways[way].operands))]
            joined = list(itertools.accumulate(ends, self.joined))
            self._operands[level, way, state] = [each[0] for each in ends], [each[0] for each in joined]
        return self._operands[level, way, state]

    # Ahead

    def backward(self, level: int, accepted: np.ndarray, longest: int, *, block: bool = True) -> list[np.ndarray]:
        """For k = 0 … longest the weight (state, memory) of k more steps that end accepted; or of those that have no block."""
        tables = [np.repeat(accepted[:, None].astype(float), len(FACTORS), axis=1)]
        for _ in range(longest):
            tables.append(self.before(level, tables[-1], block=block))
        return tables

    def towards(self, level: int, state: int) -> list[np.ndarray]:
        """The backward weights of branches to one state, memoised."""
        if (level, state) not in self._targets:
            accepted = np.zeros(len(self.states))
            accepted[state] = 1.0
            self._targets[level, state] = self.backward(level, accepted, LONGEST_BODY)
        return self._targets[level, state]


def sizeless(op: Op) -> Op:
    """An op with every size set to one: ops that differ in sizes only are equal."""
    return with_size(op, 1) if size_fields(type(op)) else op


def mixed(tables: Sequence[np.ndarray], lengths: np.ndarray) -> np.ndarray:
    """The weight ahead of every state, over all lengths."""
    return np.sum([weight * table[:, START] for weight, table in zip(lengths, tables, strict=True)], axis=0)


_ROLES: Memo[Frame, tuple[tuple[np.ndarray, ...], int]] = Memo(256)


def _roles(frame: Frame, clock: Clock) -> tuple[np.ndarray, ...]:
    """The role of every move, for every type."""
    known: dict[tuple[Op, Bare], int] = {}

    def role(op: Op, value: Value) -> int:
        # What a step is does not depend on the channels, and finding out takes a while.
        key = sizeless(op), bare(value)
        if key not in known:
            clock.check()
            known[key] = taste.role(op, value)
        return known[key]

    pairs = zip(frame.values, frame.moves, strict=True)
    return tuple(np.array([role(op, value) for op, _ in moves], dtype=np.int64) for value, moves in pairs)


def _tail(frame: Frame, way: Way) -> int:
    steps = summary(way.merge, tuple(frame.values[operand] for operand in way.operands)).relation("depth", 0, 0)
    nonlinear = steps is not None and steps.from_nonlinear[0] < 0
    return int(FOLLOWING[START, taste.Role.ACTIVATION if nonlinear else taste.Role.NEUTRAL])
