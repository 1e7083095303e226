"""The probability with which a grammar draws a given program."""

from __future__ import annotations

import functools
import itertools

import numpy as np

from synth.branching.grammar import Grammar
from synth.branching.states import NONE
from synth.branching.story import BODY_LENGTHS, FACTORS, FOLLOWING, NESTING, START, sizeless
from synth.branching.term import Block, Body, Term
from synth.op import Op


def probability(grammar: Grammar, term: Term) -> float:
    """The probability that `Grammar.sample` draws a program's ops, whatever their sizes; programs of one input and one output."""
    branches = any(isinstance(step, Block) for step in term.trunk)
    if term.joins or term.outputs != ((),) or not branches or not grammar.total:
        return 0.0
    ends = _Reading(grammar).mass(term.trunk, NESTING, grammar.states.starts[0], grammar.lengths)
    return float(ends @ grammar.states.accepts[0]) / grammar.total


class _Reading:
    """The weights with which a story tells bodies."""

    def __init__(self, grammar: Grammar) -> None:
        self.story, self.states, self.frame = grammar.story, grammar.states, grammar.frame

    def mass(self, body: Body, level: int, start: int, lengths: np.ndarray) -> np.ndarray:
        """The weight with which a body leads from a state to each state."""
        found = np.zeros(len(self.states))
        if len(body) >= len(lengths):
            return found
        here = {(start, START): float(lengths[len(body)])}
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
        blocks = self.story.blocks(level - 1)
        share = blocks.share[state] if blocks is not None else 0.0
        found: dict[tuple[int, int], float] = {}
        for move in self._alike[kind].get(sizeless(op), ()):
            role = self.story.roles[kind][move]
            after = int(self.states.steps[kind][state, self.states.letters[kind][move]])
            weight = (1 - share) * self.story.likely[kind][move] * FACTORS[tail, role] / self.story.norms[state, tail]
            if after != NONE and weight > 0:
                key = after, int(FOLLOWING[tail, role])
                found[key] = found.get(key, 0.0) + float(weight)
        return found

    def _merged(self, block: Block, level: int, state: int) -> dict[tuple[int, int], float]:
        blocks = self.story.blocks(level - 1)
        found: dict[tuple[int, int], float] = {}
        if blocks is None or not any(block.branches):
            return found
        masses = {branch: self.mass(branch, level - 1, state, BODY_LENGTHS) for branch in set(block.branches)}
        orders = set(itertools.permutations(block.branches)) if block.merge.commutative else {block.branches}
        for number, way in enumerate(self.frame.ways):
            if way.merge != block.merge or len(way.operands) != len(block.branches):
                continue
            for order in orders:
                ends = [self.story.ends(masses[branch][None], number, place) for place, branch in enumerate(order)]
                row = functools.reduce(self.story.joined, ends)[0] * blocks.factors[number][state] * blocks.share[state]
                for after in np.flatnonzero(row):
                    key = int(after), self.story.tails[number]
                    found[key] = found.get(key, 0.0) + float(row[after])
        return found
