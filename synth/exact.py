"""Exact synthesis of sequences: reachability, cheapest, k cheapest and random programs over abstract states.

Complete and optimal for the problem's alphabet: if a sequence of at most `max_length` ops meets the requirements, one is found, and
without `rng` the first one is the cheapest. With `widths` a drawn sequence is sized anew, so a budget that no drawn sequence can
keep within the time limit ends in GaveUp, unless it is proven that none can.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from properties import PROPERTIES
from synth import sizes
from synth.analysis import macs, verify
from synth.budget import Interval
from synth.effect import macs as count_macs
from synth.effect import params as count_params
from synth.graph import Graph, chain
from synth.op import Op, Value
from synth.problem import Cost, Problem
from synth.product import Path, Product, product
from synth.questions import questions, shape_goal
from synth.result import Found, GaveUp, Infeasible, Proof, Result
from synth.sized import open_sizes
from synth.space import Alphabet, Frame, Question, frame
from synth.target import describe

PATIENCE = 40
"""Draws in a row that may miss the budget, or repeat a program, before random synthesis stops drawing."""


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
    space = solution_space(problem, prior=problem.prior and rng is not None)
    if isinstance(space, Infeasible):
        return replace(space, seconds=time.monotonic() - started)
    paths = _random(problem, space, rng, deadline) if rng is not None else _cheapest(problem, space, cost, deadline)
    graphs: dict[str, Graph] = {}
    proofs: list[Proof] = []
    repeated = 0
    for path in paths:
        graph = chain(problem.value, path)
        repeated = repeated + 1 if graph.hash in graphs else 0
        if graph.hash not in graphs and (proof := prove(problem, graph)).distance == 0:
            graphs[graph.hash] = graph
            proofs.append(proof)
        if len(graphs) == count or repeated > PATIENCE or time.monotonic() > deadline:
            break
    seconds = time.monotonic() - started
    if graphs:
        return Found(tuple(graphs.values()), tuple(proofs), seconds, optimal=rng is None)
    if time.monotonic() > deadline:
        return GaveUp(f"the time was up before a program was found within {problem.target.budget}", seconds)
    return Infeasible((*map(describe, problem.target.requirements), str(problem.target.budget)), seconds)


def solution_space(problem: Problem, *, prior: bool = False) -> Product | Infeasible:
    """The product whose accepted paths are the sequences that meet the requirements (the budget aside)."""
    goal = shape_goal(problem)
    if isinstance(goal, Infeasible):
        return goal
    here = frame(Alphabet.of(problem.vocabulary, problem.sizes), problem.value, goal, problem.max_length)
    asked = questions(problem, goal)
    found = product(here, asked, prior=prior)
    if found.feasible:
        return found
    shape = f"an output of {goal} from {problem.value} in at most {problem.max_length} ops"
    if not here.reachable:
        return Infeasible((shape,))
    return Infeasible((shape, *(question.label for question in _core(here, asked))))


def _core(here: Frame, asked: Sequence[Question]) -> list[Question]:
    """A smallest set of questions, as far as dropping one at a time finds it, that no sequence answers together."""
    kept = list(asked)
    for question in list(kept):
        rest = [other for other in kept if other is not question]
        if not product(here, rest, prior=False).feasible:
            kept = rest
    return kept


def prove(problem: Problem, graph: Graph) -> Proof:
    """What interpreting the program's whole jaxpr says about it."""
    found = verify(graph, tuple(dict.fromkeys((*PROPERTIES, *problem.properties))))
    params, work = graph.params, macs(graph)
    return Proof(found, problem.target.distance_of(found, params, work), params, work)


def _cheapest(problem: Problem, space: Product, cost: Cost, deadline: float) -> Iterator[Path]:
    """The programs within the budget, in order of cost."""
    opened = _opened(problem, space)
    for _, path in opened.cheapest(opened.costs(cost), _limits(problem, opened), deadline=deadline):
        yield path


def _opened(problem: Problem, space: Product) -> Product:
    goal = shape_goal(problem)
    return open_sizes(space, goal, problem.widths) if problem.widths and isinstance(goal, Value) else space


def _limits(problem: Problem, space: Product) -> list[tuple[np.ndarray, float, float]]:
    budget = problem.target.budget
    counted = ((params_of, budget.params), (macs_of, budget.macs))
    return [(space.costs(each), interval.low, interval.high) for each, interval in counted if interval != Interval()]


def _random(problem: Problem, space: Product, rng: np.random.Generator, deadline: float) -> Iterator[Path]:
    """Random programs within the budget: drawn kinds, then drawn sizes.

    Where that keeps missing the budget, exact search with random costs, which ends if there is no program.
    """
    lengths = [0.0, *([1.0] * problem.max_length)] if problem.prior else None
    if lengths is not None and not any(table[0] > 0 for table in space.counts(True)[1:]):
        lengths = None
    misses = 0
    while misses < PATIENCE and time.monotonic() < deadline:
        path = _sized(problem, space.sample(rng, weighted=problem.prior, lengths=lengths), rng)
        misses = misses + 1 if path is None else 0
        if path is not None:
            yield path
    if time.monotonic() >= deadline:
        return
    plain = solution_space(problem)
    assert isinstance(plain, Product), "what has programs with the prior has programs without it"
    opened = _opened(problem, plain)
    for _, path in opened.cheapest(rng.exponential(size=len(opened.next)), _limits(problem, opened), deadline=deadline):
        yield path


def _sized(problem: Problem, path: Path, rng: np.random.Generator) -> Path | None:
    """The path with sizes that keep the budget, or None if it has none."""
    goal, budget = shape_goal(problem), problem.target.budget
    if not problem.widths:
        graph = chain(problem.value, path)
        return path if budget.distance(graph.params, macs(graph)) == 0 else None
    assert isinstance(goal, Value), "a path leads to a goal"
    found = sizes.solve(problem.value, path, goal, widths=problem.widths, budget=budget, rng=rng, time_limit=0.2)
    return found[0] if isinstance(found, tuple) else None
