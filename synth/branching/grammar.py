"""A grammar of series-parallel programs over abstract states, with exact probabilities, sampled level by level.

A program is drawn from the story (`synth.branching.story`) given that it is accepted, by backward weights, so that nothing is
drawn in vain.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from synth import taste
from synth.branching.frame import Frame
from synth.branching.states import NONE, States
from synth.branching.story import BODY_LENGTHS, FACTORS, FOLLOWING, LONGEST_BODY, NESTING, START, Story, mixed
from synth.branching.term import Block, Body, Join, Step, Term
from synth.clock import Clock
from synth.memo import Memo

Tables = Sequence[np.ndarray]

_ROUNDING = 1e-12


class Grammar:
    """The programs of a story that are accepted; `lengths[k]` is how likely a trunk of k steps is.

    Between one input and one output the trunk has a block: what has none is no program with branches.
    """

    def __init__(self, story: Story, lengths: np.ndarray) -> None:
        self.story, self.lengths = story, lengths
        self.frame: Frame = story.frame
        self.states: States = story.states
        self._odds: Memo[tuple[int, int, int, int, int], np.ndarray] = Memo(4096)

    def prepare(self, clock: Clock) -> None:
        """Works everything out; TimeIsUp when the clock's limit is reached. It takes the same steps where all is known."""
        self.story.prepare(clock)
        for part in (lambda: self._outputs, lambda: self._trunk, lambda: self._wanting, lambda: self._joinings):
            part()
            clock.check()

    # Drawing

    def body(
        self, rng: np.random.Generator, level: int, start: int, tables: Tables, lengths: np.ndarray, *, wanting: Tables = ()
    ) -> tuple[Body, int]:
        """A body drawn by backward weights, and the state in which it ends; `wanting` are those of bodies that want a block yet."""
        ahead = wanting or tables
        left = _draw(rng, np.array([weight * table[start, START] for weight, table in zip(lengths, ahead, strict=False)]))
        state, tail = start, START
        steps: list[Step] = []
        while left:
            step, state, tail = self._step(rng, level, state, tail, tables[left - 1], ahead[left - 1])
            ahead = tables if isinstance(step, Block) else ahead
            steps.append(step)
            left -= 1
        return tuple(steps), state

    def _step(
        self, rng: np.random.Generator, level: int, state: int, tail: int, after: np.ndarray, after_move: np.ndarray
    ) -> tuple[Step, int, int]:
        kind = self.states.kinds[state]
        # The tables stay as long as the grammar does, so that what is drawn by them can be told by which they are.
        key = level, state, tail, id(after), id(after_move)
        known = self._odds.get(key)
        total = known if known is not None else self._odds.put(key, np.cumsum(self._chances(level, state, tail, after, after_move)))
        drawn = int(min(np.searchsorted(total, rng.random() * total[-1], side="right"), len(total) - 1))
        moves = self.frame.moves[kind]
        if drawn < len(moves):
            after_drawn = self.states.steps[kind][state, self.states.letters[kind][drawn]]
            return moves[drawn][0], int(after_drawn), int(FOLLOWING[tail, self.story.roles[kind][drawn]])
        blocks = self.story.blocks(level - 1)
        assert blocks is not None, "only blocks are beyond the moves"
        way = drawn - len(moves)
        end = _draw(rng, blocks.weights[way][state] * after[:, self.story.tails[way]])
        return self._block(rng, level - 1, way, state, end), end, self.story.tails[way]

    def _chances(self, level: int, state: int, tail: int, after: np.ndarray, after_move: np.ndarray) -> np.ndarray:
        """How likely each move is to come next, and then each way to merge, given the weights ahead."""
        kind = self.states.kinds[state]
        nexts = self.states.steps[kind][state, self.states.letters[kind]]
        roles = self.story.roles[kind]
        ahead = np.where(nexts == NONE, 0.0, after_move[nexts, FOLLOWING[tail, roles]])
        odds = self.story.likely[kind] * FACTORS[tail, roles] * ahead / self.story.norms[state, tail]
        blocks = self.story.blocks(level - 1)
        if blocks is None:
            return odds
        share = blocks.share[state]
        merged = blocks.factors[:, state] * np.einsum("ws,sw->w", blocks.weights[:, state], after[:, self.story.tails])
        return np.concatenate([(1 - share) * odds, share * merged])

    def _block(self, rng: np.random.Generator, level: int, number: int, state: int, end: int) -> Block:
        way = self.frame.ways[number]
        row = self.story.bodies(level)[state]
        ends, prefixes = self.story.operands(level, number, state)
        while True:
            branches, wanted = [], end
            for place in reversed(range(len(way.operands))):
                wanted, mine = self._parted(rng, prefixes[place - 1] if place else None, ends[place], wanted)
                at = np.flatnonzero(self.states.operands[number][place] == mine)
                last = int(at[_draw(rng, row[at])])
                branches.append(self.body(rng, level, state, self.story.towards(level, last), BODY_LENGTHS)[0])
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
        return [self.story.backward(NESTING, each, LONGEST_BODY) for each in accepts] if len(accepts) > 1 else []

    @functools.cached_property
    def _trunk(self) -> list[np.ndarray]:
        """The backward weights of the trunk, from the last input's joining on."""
        ends = [mixed(tables, BODY_LENGTHS) for tables in self._outputs]
        accepted = np.prod(ends, axis=0) if ends else self.states.accepts[0].astype(float)
        return self.story.backward(NESTING, accepted, len(self.lengths) - 1)

    @functools.cached_property
    def _wanting(self) -> list[np.ndarray]:
        """The same of trunks that want a block; nothing where they may be without."""
        if len(self.states.starts) > 1 or len(self.states.accepts) > 1:
            return []
        accepted = self.states.accepts[0].astype(float)
        plain = self.story.backward(NESTING, accepted, len(self.lengths) - 1, block=False)
        return [np.where(a - b > _ROUNDING * a, a - b, 0.0) for a, b in zip(self._trunk, plain, strict=True)]

    @functools.cached_property
    def _joinings(self) -> list[list[tuple[int, bool, np.ndarray]]]:
        """For every further input its ways to join: (way, whether the trunk is its second operand, weight of the trunk's end)."""
        found: list[list[tuple[int, bool, np.ndarray]]] = []
        ahead = mixed(self._trunk, self.lengths)
        for start in reversed(self.states.starts[1:]):
            ways = []
            for number, way in enumerate(self.frame.ways):
                for turned in (False, True) if way.merge.commutative and len(way.operands) == 2 else (False,):
                    if len(way.operands) == 2:
                        side = self.story.ends(self.story.bodies(NESTING - 1)[[start]], number, 1 - turned if turned else 1)[0]
                        weight = taste.weight(way.merge, 1) * self._ahead(number, int(turned), side, ahead)
                        ways.append((number, turned, weight))
            found.append(ways)
            ahead = self.story.bodies(NESTING - 1) @ np.sum([weight for _, _, weight in ways], axis=0)
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
            return float(mixed(self._wanting or self._trunk, self.lengths)[self.states.starts[0]])
        ahead = np.sum([weight for _, _, weight in self._joinings[0]], axis=0)
        return float(self.story.bodies(NESTING - 1)[self.states.starts[0]] @ ahead)

    def sample(self, rng: np.random.Generator) -> Term:
        """A program drawn from the story given that it is accepted; `total` must be positive."""
        state, joins = self.states.starts[0], []
        ahead = mixed(self._trunk, self.lengths)
        onward = [ahead]
        for ways in self._joinings[:0:-1]:
            onward.append(self.story.bodies(NESTING - 1) @ np.sum([weight for _, _, weight in ways], axis=0))
        for place, start in enumerate(self.states.starts[1:]):
            join, state = self._join(rng, self._joinings[place], state, start, onward[len(self._joinings) - 1 - place])
            joins.append(join)
        trunk, state = self.body(rng, NESTING, state, self._trunk, self.lengths, wanting=self._wanting)
        bodies = [self.body(rng, NESTING, state, tables, BODY_LENGTHS)[0] for tables in self._outputs]
        return Term(tuple(joins), trunk, tuple(bodies) or ((),))

    def _join(
        self, rng: np.random.Generator, ways: Sequence[tuple[int, bool, np.ndarray]], state: int, start: int, ahead: np.ndarray
    ) -> tuple[Join, int]:
        level = NESTING - 1
        row = self.story.bodies(level)[state]
        number, turned, weight = ways[_draw(rng, np.array([row @ weight for _, _, weight in ways]))]
        place = int(turned)
        here = _draw(rng, row * weight)
        mine = self.states.operands[number][place][here]
        other = self.states.operands[number][1 - place]
        joined = np.where(other == NONE, NONE, self.states.joins[mine, other])
        odds = np.where(joined == NONE, 0.0, self.story.bodies(level)[start] * ahead[joined])
        there = _draw(rng, odds)
        trunk = self.body(rng, level, state, self.story.towards(level, here), BODY_LENGTHS)[0]
        side = self.body(rng, level, start, self.story.towards(level, there), BODY_LENGTHS)[0]
        return Join(self.frame.ways[number].merge, trunk, side), int(joined[there])


def _draw(rng: np.random.Generator, odds: np.ndarray) -> int:
    return int(min(np.searchsorted(np.cumsum(odds), rng.random() * odds.sum(), side="right"), len(odds) - 1))
