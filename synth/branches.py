"""Programs that are not chains: sequences in which some steps are blocks of branches that meet in a merge.

A library of blocks is drawn for the types that the problem has: for every merge of the vocabulary and every way to give it operands
whose result is of the wanted type, branches are drawn by the prior from all sequences between the types, the empty one (identity)
among them, and blocks drawn first may stand inside later ones. So a residual, a projected residual, a squeeze-and-excite gate, a
gated unit and parallel branches are each a merge with its operands' types, and none is listed by name. Exact synthesis then runs
over ops and blocks together: a block's summary is derived like any op's, the assembled program is verified as a whole.

Complete relative to the library only: what needs a block that was not drawn is GaveUp, never Infeasible.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from synth import exact
from synth.block import Block, Body, opened
from synth.graph import Graph
from synth.op import Op, ShapeMismatch, Value, output_value
from synth.ops import Vocabulary
from synth.problem import Problem
from synth.product import Product, product
from synth.proving import Clock, answer
from synth.questions import shape_goal
from synth.result import Found, GaveUp, Infeasible, Result
from synth.space import Alphabet, frame

LIBRARIES = 4
"""Different libraries for one problem; each is drawn once and remembered."""

BLOCKS = 2
"""Blocks that are drawn of each way to merge."""

LONGEST_BODY = 5

LARGEST = 20
"""Nodes that a program may have once its blocks are taken apart."""


def synthesize(
    problem: Problem, *, rng: np.random.Generator | None = None, count: int = 1, time_limit: float | None = None
) -> Result:
    """`count` programs that meet the target and have at least one block; without `rng` the cheapest over the first library."""
    clock = Clock.of(time_limit)
    goal = shape_goal(problem)
    if isinstance(goal, Infeasible):
        return goal

    def candidates() -> Iterator[Graph]:
        for attempt in itertools.count():
            if clock.is_up or attempt == (1 if rng is None else 4 * count):
                return
            number = 0 if rng is None else int(rng.integers(LIBRARIES))
            asked = replace(problem, further=library(problem, goal, number))
            left = max(0.01, clock.deadline - clock.started - clock.seconds)
            found = exact.synthesize(asked, rng=rng, count=count if rng is None else 3, time_limit=left)
            yield from (graph for graph in found.graphs if _branches(graph)) if isinstance(found, Found) else ()

    reason = "no program with blocks of the drawn libraries met the target"
    return answer(problem, candidates(), count, clock, diverse=rng is not None, otherwise=lambda: GaveUp(reason, clock.seconds))


def library(problem: Problem, goal: Value, number: int) -> tuple[Op, ...]:
    """The blocks of one library, the same for the same problem's types, vocabulary and sizes."""
    return _library(tuple(problem.vocabulary.values()), problem.sizes, problem.value, goal, number)


@functools.lru_cache(maxsize=256)
def _library(op_types: tuple[type[Op], ...], sizes: tuple[int, ...], source: Value, goal: Value, number: int) -> tuple[Op, ...]:
    rng = np.random.default_rng([number, len(op_types)])
    vocabulary = {op_type.kind(): op_type for op_type in op_types}
    found: list[Op] = []
    for level in range(2):
        inside = tuple(found) if level else ()
        for before, after in dict.fromkeys(((source, source), (goal, goal), (source, goal))):
            found += _drawn(vocabulary, sizes, before, after, inside, rng)
    return tuple(dict.fromkeys(found))


def _drawn(
    vocabulary: Vocabulary, sizes: tuple[int, ...], before: Value, after: Value, inside: tuple[Op, ...], rng: np.random.Generator
) -> Iterator[Op]:
    """Blocks from one type to another, some for every merge and every choice of its operands' types."""
    for merge, ends in _merges(vocabulary, after):
        made = 0
        for _ in range(4 * BLOCKS):
            bodies = [_body(vocabulary, sizes, before, end, inside, rng) for end in ends]
            if before == ends[0] and rng.random() < 0.7:
                bodies[0] = ()
            if made == BLOCKS or any(body is None for body in bodies):
                break
            chosen = tuple(body for body in bodies if body is not None)
            if len(set(chosen)) == len(chosen) and any(chosen):
                made += 1
                yield Block(merge=merge, branches=tuple(map(opened, chosen)), inner=before.channels)


@functools.lru_cache(maxsize=4096)
def _ways(merge: Op, after: Value) -> tuple[tuple[Value, ...], ...]:
    """Pairs of operand types whose merge is of the wanted type: equal ones, one squeezed to broadcast, half the features each."""
    squeezed = replace(after, shape=(after.shape[0], *[1] * (len(after.shape) - 2), after.shape[-1]))
    half = replace(after, shape=(*after.shape[:-1], max(1, after.channels // 2)))
    found = []
    for ends in dict.fromkeys(((after, after), (after, squeezed), (half, half))):
        try:
            if output_value(merge, ends) == after:
                found.append(ends)
        except ShapeMismatch:
            continue
    return tuple(found)


def _merges(vocabulary: Vocabulary, after: Value) -> Iterator[tuple[Op, tuple[Value, ...]]]:
    for op_type in vocabulary.values():
        if op_type.arity is None and op_type.taste > 0:
            for ends in _ways(op_type(), after):
                yield op_type(), ends


def _body(
    vocabulary: Vocabulary, sizes: tuple[int, ...], before: Value, end: Value, inside: tuple[Op, ...], rng: np.random.Generator
) -> Body | None:
    """A sequence between two types, drawn by the prior with every length equally likely; None if there is none."""
    space = _sequences(tuple(vocabulary.values()), tuple(sorted({*sizes, end.channels})), before, end, inside)
    lengths = [float(length > 0 and table[0] > 0) for length, table in enumerate(space.counts(True))] if len(space.values) else []
    return space.sample(rng, weighted=True, lengths=lengths) if any(lengths) else None


@functools.lru_cache(maxsize=256)
def _sequences(
    op_types: tuple[type[Op], ...], sizes: tuple[int, ...], before: Value, end: Value, inside: tuple[Op, ...]
) -> Product:
    alphabet = replace(Alphabet.of({op_type.kind(): op_type for op_type in op_types}, sizes), further=inside)
    return product(frame(alphabet, before, end, LONGEST_BODY), (), prior=True)


def _branches(graph: Graph) -> bool:
    return len(graph.nodes) <= LARGEST and any(len(set(node.inputs)) > 1 for node in graph.nodes)
