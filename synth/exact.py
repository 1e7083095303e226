"""Exact synthesis of sequences: reachability, cheapest, k cheapest and random programs over abstract states.

Complete and optimal for the problem's alphabet: if a sequence of at most `max_length` ops meets the requirements, one is found, and
without `rng` the first one is the cheapest. With `widths` a drawn sequence is sized anew, so a budget that no drawn sequence can
keep within the time limit ends in GaveUp, unless it is proven that none can.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence

import numpy as np

from synth import sizes
from synth.analysis import macs, verify
from synth.budget import UNLIMITED
from synth.effect import macs as count_macs
from synth.effect import params as count_params
from synth.graph import Graph, chain
from synth.op import Op, Value
from synth.problem import Cost, Problem
from synth.product import Path, Product, product
from synth.questions import questions, shape_goal
from synth.result import Found, GaveUp, Infeasible, Proof, Result
from synth.space import Alphabet, Question, frame
from synth.target import describe

SHORT = 0.0
"""Weight of the empty program where lengths are drawn."""


def params_of(op: Op, value: Value) -> float:
    """The cost of an op in parameters."""
    return count_params(op, (value,))


def macs_of(op: Op, value: Value) -> float:
    """The cost of an op in multiply-adds."""
    return count_macs(op, (value,))


def ops_of(op: Op, value: Value) -> float:
    """The cost of an op as one."""
    return 1.0


def synthesize(
    problem: Problem,
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    cost: Cost = params_of,
) -> Result:
    """`count` programs that meet the problem's target: random ones with `rng`, without it the cheapest by `cost`."""
    started = time.monotonic()
    deadline = started + (time_limit if time_limit is not None else 3600.0)
    space = solution_space(problem)
    if isinstance(space, Infeasible):
        return Infeasible(space.core, time.monotonic() - started)
    paths = _random(problem, space, rng, deadline) if rng is not None else _cheapest(problem, space, cost)
    graphs: list[Graph] = []
    proofs: list[Proof] = []
    tried = 0
    for path in paths:
        if time.monotonic() > deadline:
            break
        tried += 1
        graph = chain(problem.value, path) if path is not None else None
        if graph is None or any(graph.hash == other.hash for other in graphs):
            continue
        proof = prove(problem, graph)
        if proof.distance == 0:
            graphs.append(graph)
            proofs.append(proof)
        if len(graphs) == count:
            break
    seconds = time.monotonic() - started
    if graphs:
        return Found(tuple(graphs), tuple(proofs), seconds, optimal=rng is None)
    if time.monotonic() <= deadline and rng is None:
        return Infeasible((*map(describe, problem.target.requirements), str(problem.target.budget)), seconds)
    return GaveUp(f"none of {tried} sequences that meet the requirements kept the budget: {problem.target.budget}", seconds)


def solution_space(problem: Problem) -> Product | Infeasible:
    """The product whose accepted paths are the sequences that meet the requirements (the budget aside)."""
    goal = shape_goal(problem)
    if isinstance(goal, Infeasible):
        return goal
    here = frame(Alphabet.of(problem.vocabulary, problem.sizes), problem.value, goal, problem.max_length)
    asked = questions(problem, goal)
    found = product(here, asked)
    if found.feasible:
        return found
    shape = f"an output of {goal} from {problem.value} in at most {problem.max_length} ops"
    if not here.reachable:
        return Infeasible((shape,))
    return Infeasible((shape, *(question.label for question in _core(here, asked))))


def _core(here: object, asked: Sequence[Question]) -> list[Question]:
    """A smallest set of questions, as far as dropping one at a time finds it, that no sequence answers together."""
    from synth.space import Frame

    assert isinstance(here, Frame)
    kept = list(asked)
    for question in list(kept):
        rest = [other for other in kept if other is not question]
        if not product(here, rest).feasible:
            kept = rest
    return kept


def prove(problem: Problem, graph: Graph) -> Proof:
    """What interpreting the program's whole jaxpr says about it."""
    found = verify(graph)
    params, work = graph.params, macs(graph)
    return Proof(found, problem.target.distance_of(found, params, work), params, work)


def _cheapest(problem: Problem, space: Product, cost: Cost) -> Iterator[Path]:
    budget = problem.target.budget
    limits = [
        (space.costs(counted), interval.low, interval.high)
        for counted, interval in ((params_of, budget.params), (macs_of, budget.macs))
        if budget != UNLIMITED
    ]
    for _, path in space.cheapest(space.costs(cost), limits):
        yield path


def _random(problem: Problem, space: Product, rng: np.random.Generator, deadline: float) -> Iterator[Path | None]:
    """Random sequences, sized to the budget; None for one that cannot keep it."""
    goal = space.frame.goal
    lengths = [SHORT, *([1.0] * problem.max_length)] if problem.prior else None
    if lengths is not None and not any(table[0] > 0 for table in space.counts(True)[1:]):
        lengths = None
    for _ in itertools.count():
        path = space.sample(rng, weighted=problem.prior, lengths=lengths)
        if not problem.widths:
            yield path
            continue
        left = max(0.05, deadline - time.monotonic())
        sized = sizes.solve(
            problem.value, path, goal, widths=problem.widths, budget=problem.target.budget, rng=rng, time_limit=min(0.5, left)
        )
        yield sized[0] if isinstance(sized, tuple) else None
