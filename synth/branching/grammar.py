"""A grammar of series-parallel programs over abstract states, with exact probabilities, sampled level by level.

The story: a body is a Markov chain on (state, the prior's memory). At each step, with a probability of `BLOCK`, a block is made: a
way to merge is drawn by taste, and its branches are bodies of the level below, each from the same state, given that they end in
the way's operand types. The weight of all bodies between two states is a matrix, and so is that of all blocks; a program is drawn
from the story given that it is accepted, by backward weights, so that nothing is drawn in vain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from synth import taste
from synth.branching.frame import Bare, Frame, Way, bare
from synth.branching.states import NONE, States
from synth.branching.term import Block, Body, Join, Step, Term
from synth.effect import size_fields, summary, with_size
from synth.op import Op, Value

NESTING = 2
"""Blocks inside one another, at most."""

LONGEST_BODY = 9

BLOCK = (0.1, 0.3)
"""How often a step is a block, where one can be made: inside a branch, and in the trunk."""

IDENTITY = 0.3
"""How often a branch is the value itself, where that can be."""

SHORTENING = 0.75
"""How much rarer a body is than one with a step less."""

_NOTHING = 1e-14

BODY_LENGTHS = np.array(
    [IDENTITY, *((1 - IDENTITY) * SHORTENING**k * (1 - SHORTENING) / (1 - SHORTENING**LONGEST_BODY) for k in range(LONGEST_BODY))]
)
"""The probability of each length of a branch."""


@dataclass(frozen=True, eq=False)
class _Blocks:
    """The blocks of one level: for each way the weight from every state to every state, and the factor of one choice of ends."""

    weights: tuple[np.ndarray, ...]
    factors: tuple[np.ndarray, ...]
    by_tail: dict[int, np.ndarray]
    """The matrices of all ways that leave the same memory."""

    share: np.ndarray
    """For every state how often a step is a block."""


@dataclass(frozen=True, eq=False)
class Grammar:
    """The programs of a frame's types under the questions of its states; `lengths[k]` is how likely a trunk of k steps is."""

    frame: Frame
    states: States
    lengths: np.ndarray
    _targets: dict[tuple[int, int], list[np.ndarray]] = field(default_factory=dict, repr=False)

    # The prior

    @functools.cached_property
    def _roles(self) -> tuple[np.ndarray, ...]:
        known: dict[tuple[Op, Bare], int] = {}

        def role(op: Op, value: Value) -> int:
            # What a step is does not depend on the channels, and finding out takes a while.
            key = sizeless(op), bare(value)
            if key not in known:
                known[key] = taste.role(op, value)
            return known[key]

        pairs = zip(self.frame.values, self.frame.moves, strict=True)
        return tuple(np.array([role(op, value) for op, _ in moves], dtype=np.int64) for value, moves in pairs)

    @functools.cached_property
    def _likely(self) -> tuple[np.ndarray, ...]:
        counts = len({value.channels for value in self.frame.values})
        return tuple(np.array([taste.weight(op, counts) for op, _ in moves], dtype=float) for moves in self.frame.moves)

    @functools.cached_property
    def _by_role(self) -> np.ndarray:
        """For every role the weight of all moves from one state to another."""
        found = np.zeros((len(taste.Role), len(self.states), len(self.states)))
        for state, kind in enumerate(self.states.kinds):
            after = self.states.steps[kind][state, self.states.letters[kind]]
            kept = after != NONE
            np.add.at(found, (self._roles[kind][kept], state, after[kept]), self._likely[kind][kept])
        return found

    @functools.cached_property
    def _norms(self) -> np.ndarray:
        """The weight of all moves of a state's type, by what came before."""
        by_kind = np.zeros((len(self.frame.values), len(taste.Role)))
        for kind, (roles, likely) in enumerate(zip(self._roles, self._likely, strict=True)):
            np.add.at(by_kind[kind], roles, likely)
        total = by_kind @ taste.FACTORS.T
        return np.where(total > 0, total, 1.0)[self.states.kinds]

    @functools.cached_property
    def _tails(self) -> tuple[int, ...]:
        """The memory that each way's merge leaves."""
        return tuple(_tail(self.frame, way) for way in self.frame.ways)

    # Bodies and blocks, level by level

    def _before(self, level: int, after: np.ndarray) -> np.ndarray:
        """The weight (state, memory, …) before one step of a body, given that after it."""
        made = np.zeros_like(after)
        for role in range(len(taste.Role)):
            if not self._by_role[role].any():
                continue
            for tail in np.unique(taste.FOLLOWING[:, role]):
                moved = np.tensordot(self._by_role[role], after[:, tail], 1)
                for earlier in np.flatnonzero(taste.FOLLOWING[:, role] == tail):
                    made[:, earlier] += taste.FACTORS[earlier, role] * moved
        extra = (1,) * (after.ndim - 2)
        made /= self._norms.reshape(*self._norms.shape, *extra)
        blocks = self.blocks(level - 1)
        if blocks is None:
            return made
        share = blocks.share.reshape(-1, 1, *extra)
        merged = sum((np.tensordot(matrix, after[:, tail], 1) for tail, matrix in blocks.by_tail.items()), np.zeros(1))
        return (1 - share) * made + share * merged[:, None]

    @functools.cached_property
    def _cache(self) -> dict[int, _Blocks]:
        return {}

    @functools.cached_property
    def _bodies(self) -> dict[int, np.ndarray]:
        return {}

    def bodies(self, level: int) -> np.ndarray:
        """The weight of all branches of a level from one state to another."""
        if level not in self._bodies:
            count = len(self.states)
            here = np.repeat(np.eye(count)[:, None], len(taste.TAILS), axis=1)
            total = BODY_LENGTHS[0] * np.eye(count)
            for weight in BODY_LENGTHS[1:]:
                here = self._before(level, here)
                total = total + weight * here[:, taste.START]
            self._bodies[level] = total
        return self._bodies[level]

    def blocks(self, level: int) -> _Blocks | None:
        """The blocks whose branches are bodies of a level; None below the lowest."""
        if level < 0 or not self.frame.ways:
            return None
        if level not in self._cache:
            self._cache[level] = self._blocks(level)
        return self._cache[level]

    def _blocks(self, level: int) -> _Blocks:
        count = len(self.states)
        bodies = self.bodies(level)
        weights, factors, tastes = [], [], []
        for number, way in enumerate(self.frame.ways):
            ends = [self._ends(bodies, number, place) for place in range(len(way.operands))]
            folded = functools.reduce(self._joined, ends)
            own = self.states.kinds
            alone = np.flatnonzero([all(kind == operand for operand in way.operands) for kind in own])
            for state in alone:
                unit = [self._one(number, place, int(state)) for place in range(len(way.operands))]
                folded[state] -= BODY_LENGTHS[0] ** len(unit) * functools.reduce(self._joined, unit)[0]
            folded[folded < _NOTHING] = 0.0
            total = folded.sum(axis=1)
            weights.append(folded)
            factors.append(np.where(total > 0, taste.weight(way.merge, 1) / np.where(total > 0, total, 1.0), 0.0))
            tastes.append(np.where(total > 0, taste.weight(way.merge, 1), 0.0))
        together = np.sum(tastes, axis=0)
        known = np.where(together > 0, together, 1.0)
        factors = [factor / known for factor in factors]
        by_tail = {tail: np.zeros((count, count)) for tail in self._tails}
        for tail, matrix, factor in zip(self._tails, weights, factors, strict=True):
            by_tail[tail] += factor[:, None] * matrix
        return _Blocks(tuple(weights), tuple(factors), by_tail, np.where(together > 0, BLOCK[level == NESTING - 1], 0.0))

    def _ends(self, bodies: np.ndarray, way: int, place: int) -> np.ndarray:
        """For every row the weight of what an operand becomes."""
        after = self.states.operands[way][place]
        found = np.zeros_like(bodies)
        kept = np.flatnonzero(after != NONE)
        np.add.at(found.T, after[kept], bodies[:, kept].T)
        return found

    def _one(self, way: int, place: int, state: int) -> np.ndarray:
        found = np.zeros((1, len(self.states)))
        after = self.states.operands[way][place][state]
        if after != NONE:
            found[0, after] = 1.0
        return found

    def _joined(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Rows of weights of two operands, joined."""
        left, right = np.flatnonzero(first.any(axis=0)), np.flatnonzero(second.any(axis=0))
        found = np.zeros((max(len(first), len(second)), len(self.states)))
        for a in left:
            after = self.states.joins[a, right]
            kept = after != NONE
            np.add.at(found.T, after[kept], (first[:, [a]] * second[:, right[kept]]).T)
        return found

    # Drawing

    def backward(self, level: int, accepted: np.ndarray, longest: int) -> list[np.ndarray]:
        """For k = 0 … longest the weight (state, memory) of k more steps that end accepted."""
        tables = [np.repeat(accepted[:, None].astype(float), len(taste.TAILS), axis=1)]
        for _ in range(longest):
            tables.append(self._before(level, tables[-1]))
        return tables

    def _to(self, level: int, state: int) -> list[np.ndarray]:
        """The backward weights of branches to one state, memoised."""
        if (level, state) not in self._targets:
            accepted = np.zeros(len(self.states))
            accepted[state] = 1.0
            self._targets[level, state] = self.backward(level, accepted, LONGEST_BODY)
        return self._targets[level, state]

    def body(
        self, rng: np.random.Generator, level: int, start: int, tables: list[np.ndarray], lengths: np.ndarray
    ) -> tuple[Body, int]:
        """A body drawn by backward weights, and the state in which it ends."""
        odds = np.array([weight * table[start, taste.START] for weight, table in zip(lengths, tables, strict=False)])
        left = _draw(rng, odds)
        state, tail = start, taste.START
        steps: list[Step] = []
        while left:
            step, state, tail = self._step(rng, level, state, tail, tables[left - 1])
            steps.append(step)
            left -= 1
        return tuple(steps), state

    def _step(self, rng: np.random.Generator, level: int, state: int, tail: int, after: np.ndarray) -> tuple[Step, int, int]:
        kind = self.states.kinds[state]
        nexts = self.states.steps[kind][state, self.states.letters[kind]]
        roles = self._roles[kind]
        ahead = np.where(nexts == NONE, 0.0, after[nexts, taste.FOLLOWING[tail, roles]])
        odds = self._likely[kind] * taste.FACTORS[tail, roles] * ahead / self._norms[state, tail]
        blocks = self.blocks(level - 1)
        if blocks is not None:
            share = blocks.share[state]
            merged = [factor[state] * (matrix[state] @ after[:, own]) for matrix, factor, own in self._rows(blocks)]
            odds = np.concatenate([(1 - share) * odds, share * np.array(merged)])
        drawn = _draw(rng, odds)
        if drawn < len(nexts):
            return self.frame.moves[kind][drawn][0], int(nexts[drawn]), int(taste.FOLLOWING[tail, roles[drawn]])
        assert blocks is not None, "only blocks are beyond the moves"
        way = drawn - len(nexts)
        end = _draw(rng, blocks.weights[way][state] * after[:, self._tails[way]])
        return self._block(rng, level - 1, way, state, end), end, self._tails[way]

    def _rows(self, blocks: _Blocks) -> zip[tuple[np.ndarray, np.ndarray, int]]:
        return zip(blocks.weights, blocks.factors, self._tails, strict=True)

    def _block(self, rng: np.random.Generator, level: int, number: int, state: int, end: int) -> Block:
        way = self.frame.ways[number]
        row = self.bodies(level)[[state]]
        ends = [self._ends(row, number, place)[0] for place in range(len(way.operands))]
        prefixes = [ends[0]]
        for own in ends[1:]:
            prefixes.append(self._joined(prefixes[-1][None], own[None])[0])
        while True:
            branches, wanted = [], end
            for place in reversed(range(len(way.operands))):
                wanted, mine = self._parted(rng, prefixes[place - 1] if place else None, ends[place], wanted)
                at = np.flatnonzero(self.states.operands[number][place] == mine)
                last = int(at[_draw(rng, row[0, at])])
                branches.append(self.body(rng, level, state, self._to(level, last), BODY_LENGTHS)[0])
            if any(branches):
                return Block(way.merge, tuple(reversed(branches)))

    def _parted(self, rng: np.random.Generator, prefix: np.ndarray | None, own: np.ndarray, wanted: int) -> tuple[int, int]:
        """What the operands before an operand joined to, and what it became itself, given what all joined to."""
        if prefix is None:
            return NONE, wanted
        pairs = np.argwhere((self.states.joins == wanted) & (prefix[:, None] > 0) & (own[None] > 0))
        before, mine = pairs[_draw(rng, prefix[pairs[:, 0]] * own[pairs[:, 1]])]
        return int(before), int(mine)

    # Programs

    @functools.cached_property
    def _outputs(self) -> list[list[np.ndarray]]:
        """The backward weights of the body to each output, where there are several."""
        accepts = self.states.accepts
        return [self.backward(NESTING, each, LONGEST_BODY) for each in accepts] if len(accepts) > 1 else []

    @functools.cached_property
    def _trunk(self) -> list[np.ndarray]:
        """The backward weights of the trunk, from the last input's joining on."""
        ends = [_mixed(tables, BODY_LENGTHS) for tables in self._outputs]
        accepted = np.prod(ends, axis=0) if ends else self.states.accepts[0].astype(float)
        return self.backward(NESTING, accepted, len(self.lengths) - 1)

    @functools.cached_property
    def _joinings(self) -> list[list[tuple[int, bool, np.ndarray]]]:
        """For every further input its ways to join: (way, whether the trunk is its second operand, weight of the trunk's end)."""
        found: list[list[tuple[int, bool, np.ndarray]]] = []
        ahead = _mixed(self._trunk, self.lengths)
        for start in reversed(self.states.starts[1:]):
            ways = []
            for number, way in enumerate(self.frame.ways):
                for turned in (False, True) if way.merge.commutative and len(way.operands) == 2 else (False,):
                    if len(way.operands) == 2:
                        side = self._ends(self.bodies(NESTING - 1)[[start]], number, 1 - turned if turned else 1)[0]
                        weight = taste.weight(way.merge, 1) * self._ahead(number, int(turned), side, ahead)
                        ways.append((number, turned, weight))
            found.append(ways)
            ahead = self.bodies(NESTING - 1) @ np.sum([weight for _, _, weight in ways], axis=0)
        return found[::-1]

    def _ahead(self, way: int, place: int, side: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """For every state as operand `place` the weight ahead once it has joined the other operand."""
        joins = self.states.joins
        onward = np.where(joins == NONE, 0.0, ahead[joins]) @ side
        after = self.states.operands[way][place]
        return np.where(after == NONE, 0.0, onward[after])

    @functools.cached_property
    def total(self) -> float:
        """The probability that a program of the story is accepted (its weight, where inputs join)."""
        if not self.frame.reachable or len(self.states.starts) < 1:
            return 0.0
        if not self._joinings:
            return float(_mixed(self._trunk, self.lengths)[self.states.starts[0]])
        ahead = np.sum([weight for _, _, weight in self._joinings[0]], axis=0)
        return float(self.bodies(NESTING - 1)[self.states.starts[0]] @ ahead)

    def sample(self, rng: np.random.Generator) -> Term:
        """A program drawn from the story given that it is accepted; `total` must be positive."""
        state, joins = self.states.starts[0], []
        ahead = _mixed(self._trunk, self.lengths)
        onward = [ahead]
        for ways in self._joinings[:0:-1]:
            onward.append(self.bodies(NESTING - 1) @ np.sum([weight for _, _, weight in ways], axis=0))
        for place, start in enumerate(self.states.starts[1:]):
            join, state = self._join(rng, self._joinings[place], state, start, onward[len(self._joinings) - 1 - place])
            joins.append(join)
        trunk, state = self.body(rng, NESTING, state, self._trunk, self.lengths)
        bodies = [self.body(rng, NESTING, state, tables, BODY_LENGTHS)[0] for tables in self._outputs]
        return Term(tuple(joins), trunk, tuple(bodies) or ((),))

    def _join(
        self, rng: np.random.Generator, ways: Sequence[tuple[int, bool, np.ndarray]], state: int, start: int, ahead: np.ndarray
    ) -> tuple[Join, int]:
        level = NESTING - 1
        row = self.bodies(level)[state]
        number, turned, weight = ways[_draw(rng, np.array([row @ weight for _, _, weight in ways]))]
        place = int(turned)
        here = _draw(rng, row * weight)
        mine = self.states.operands[number][place][here]
        other = self.states.operands[number][1 - place]
        joined = np.where(other == NONE, NONE, self.states.joins[mine, other])
        odds = np.where(joined == NONE, 0.0, self.bodies(level)[start] * ahead[joined])
        there = _draw(rng, odds)
        trunk = self.body(rng, level, state, self._to(level, here), BODY_LENGTHS)[0]
        side = self.body(rng, level, start, self._to(level, there), BODY_LENGTHS)[0]
        return Join(self.frame.ways[number].merge, trunk, side), int(joined[there])

    # Membership

    def probability(self, term: Term) -> float:
        """The probability that `sample` draws a program's ops, whatever their sizes; programs of one input and one output."""
        if term.joins or term.outputs != ((),) or not self.total:
            return 0.0
        ends = self._mass(term.trunk, NESTING, self.states.starts[0], self.lengths)
        return float(ends @ self.states.accepts[0]) / self.total

    def _mass(self, body: Body, level: int, start: int, lengths: np.ndarray) -> np.ndarray:
        """The weight with which a body leads from a state to each state."""
        found = np.zeros(len(self.states))
        if len(body) >= len(lengths):
            return found
        here = {(start, taste.START): float(lengths[len(body)])}
        for step in body:
            after: dict[tuple[int, int], float] = {}
            for (state, tail), weight in here.items():
                nexts = self._merged(step, level, state) if isinstance(step, Block) else self._moved(step, level, state, tail)
                for key, own in nexts.items():
                    after[key] = after.get(key, 0.0) + weight * own
            here = after
        for (state, _), weight in here.items():
            found[state] += weight
        return found

    @functools.cached_property
    def _alike(self) -> tuple[dict[Op, list[int]], ...]:
        """For every type the moves by their op, sizes aside."""
        tables = []
        for moves in self.frame.moves:
            table: dict[Op, list[int]] = {}
            for number, (op, _) in enumerate(moves):
                table.setdefault(sizeless(op), []).append(number)
            tables.append(table)
        return tuple(tables)

    def _moved(self, op: Op, level: int, state: int, tail: int) -> dict[tuple[int, int], float]:
        kind = self.states.kinds[state]
        blocks = self.blocks(level - 1)
        share = blocks.share[state] if blocks is not None else 0.0
        found: dict[tuple[int, int], float] = {}
        for move in self._alike[kind].get(sizeless(op), ()):
            role = self._roles[kind][move]
            after = int(self.states.steps[kind][state, self.states.letters[kind][move]])
            weight = (1 - share) * self._likely[kind][move] * taste.FACTORS[tail, role] / self._norms[state, tail]
            if after != NONE and weight > 0:
                key = after, int(taste.FOLLOWING[tail, role])
                found[key] = found.get(key, 0.0) + float(weight)
        return found

    def _merged(self, block: Block, level: int, state: int) -> dict[tuple[int, int], float]:
        blocks = self.blocks(level - 1)
        found: dict[tuple[int, int], float] = {}
        if blocks is None or not any(block.branches):
            return found
        masses = {branch: self._mass(branch, level - 1, state, BODY_LENGTHS) for branch in set(block.branches)}
        orders = set(itertools.permutations(block.branches)) if block.merge.commutative else {block.branches}
        for number, way in enumerate(self.frame.ways):
            if way.merge != block.merge or len(way.operands) != len(block.branches):
                continue
            for order in orders:
                ends = [self._ends(masses[branch][None], number, place) for place, branch in enumerate(order)]
                row = functools.reduce(self._joined, ends)[0] * blocks.factors[number][state] * blocks.share[state]
                for after in np.flatnonzero(row):
                    key = int(after), self._tails[number]
                    found[key] = found.get(key, 0.0) + float(row[after])
        return found


def sizeless(op: Op) -> Op:
    """An op with every size set to one: ops that differ in sizes only are equal."""
    return with_size(op, 1) if size_fields(type(op)) else op


def _mixed(tables: Sequence[np.ndarray], lengths: np.ndarray) -> np.ndarray:
    """The weight ahead of every state, over all lengths."""
    return np.sum([weight * table[:, taste.START] for weight, table in zip(lengths, tables, strict=True)], axis=0)


def _tail(frame: Frame, way: Way) -> int:
    steps = summary(way.merge, tuple(frame.values[operand] for operand in way.operands)).relation("depth", 0, 0)
    nonlinear = steps is not None and steps.from_nonlinear[0] < 0
    return int(taste.FOLLOWING[taste.START, taste.Role.ACTIVATION if nonlinear else taste.Role.NEUTRAL])


def _draw(rng: np.random.Generator, odds: np.ndarray) -> int:
    return int(min(np.searchsorted(np.cumsum(odds), rng.random() * odds.sum(), side="right"), len(odds) - 1))
