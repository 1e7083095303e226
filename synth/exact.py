"""Exact synthesis of sequences: reachability, cheapest, k cheapest and random programs over abstract states.

Complete and optimal for the problem's alphabet: if a sequence of at most `max_length` ops meets the requirements, one is found, and
without `rng` the first one is the cheapest. With `widths` a drawn sequence is sized anew, so a budget that no drawn sequence can
keep within the time limit ends in GaveUp, unless it is proven that none can.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from synth import sizes, taste
from synth.budget import ANY, UNLIMITED, Interval
from synth.clock import ENDLESS, Clock, TimeIsUp
from synth.core import smallest_core
from synth.graph import chain
from synth.memory import bytes_of, peak_bytes
from synth.op import Value
from synth.problem import Cost, Problem, cost_of, macs_of, ops_of, params_of
from synth.product import Path, Product, product
from synth.proving import answer
from synth.questions import questions, shape_goal
from synth.result import GaveUp, Infeasible, Result
from synth.settings import A_SIZING, overflows
from synth.shelf import SOME, shelf
from synth.sized import open_sizes
from synth.space import Alphabet, Frame, Question, frame
from synth.tracing import traced_path

MISSES = 100
"""Draws in a row that may miss the budget before random programs are searched for instead."""

LATE_MISSES = 20
"""Draws in a row that may miss it when the time is up, as it may be once the space is made."""

NONE = Interval(0, 0.5)
"""Of whole numbers, none."""

CORE_STEPS = 10_000
"""How much each step of finding out what excludes what may take; one that takes more leaves the answer larger than need be."""

A_DRAW = 5
"""Steps that one draw takes."""


def synthesize(
    problem: Problem,
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    steps: float | None = None,
) -> Result:
    """`count` programs that meet the problem's target: random ones with `rng`, without it the cheapest by the problem's cost."""
    clock = Clock.of(time_limit, steps)
    try:
        space = solution_space(problem, prior=problem.prior and rng is not None, clock=clock)
    except TimeIsUp:
        return GaveUp(f"{clock.reason} before it was known what ops do", clock.seconds)
    if isinstance(space, Infeasible):
        return replace(space, seconds=clock.seconds)
    paths = _random(problem, space, rng, clock) if rng is not None else _cheapest(problem, space, clock)
    graphs = (chain(problem.value, traced_path(problem.value, path)) for path in paths)
    return answer(
        problem,
        graphs,
        count,
        clock,
        optimal=rng is None,
        diverse=rng is not None,
        otherwise=lambda: _without_budget(problem, clock),
    )


def _without_budget(problem: Problem, clock: Clock) -> Infeasible | GaveUp:
    """Which of the requirements and limits exclude each other, where the requirements alone do not."""
    goal, budget = _goal(problem), problem.target.budget
    if bytes_of(problem.value) > budget.peak_bytes.high:
        held = f"an input of {problem.value}, which takes {bytes_of(problem.value):,} bytes"
        return Infeasible((held, f"{budget.peak_bytes} bytes alive at once"), clock.seconds)
    counted: tuple[tuple[str, Cost, Interval], ...] = (("parameters", params_of, budget.params), ("MACs", macs_of, budget.macs))
    limits = {f"{interval} {name}": (cost, interval) for name, cost, interval in counted if interval != ANY}
    if budget.limits_memory:
        limits[f"{budget.peak_bytes} bytes alive at once"] = (overflows(budget.peak_bytes.high), NONE)
    here = _frame(problem, goal)

    def possible(kept: list[Question | str]) -> bool:
        bounds = [limits[each] for each in kept if isinstance(each, str)]
        within = [(cost, interval.low, interval.high) for cost, interval in bounds]
        part = clock.part(steps=CORE_STEPS)
        try:
            space = product(here, [each for each in kept if isinstance(each, Question)], prior=False, clock=part)
        except TimeIsUp:
            return True
        opened = _opened(problem, space, part)
        return opened is None or next(opened.cheapest(ops_of, within, clock=part), None) is not None or part.is_up

    parts: list[Question | str] = [*questions(problem, goal), *limits]
    kept = smallest_core(parts, lambda some: not possible(some), is_late=lambda: clock.is_up)
    lines = (part.label if isinstance(part, Question) else part for part in kept)
    return Infeasible((f"an output of {goal} from {problem.value} in at most {problem.max_length} ops", *lines), clock.seconds)


def solution_space(problem: Problem, *, prior: bool = False, clock: Clock = ENDLESS) -> Product | Infeasible:
    """The product whose accepted paths are the sequences that meet the requirements (the budget aside).

    TimeIsUp if the clock's limit is reached.
    """
    goal = shape_goal(problem)
    if isinstance(goal, Infeasible):
        return goal
    here = _frame(problem, goal, clock)
    asked = questions(problem, goal)
    found = product(here, asked, prior=prior, clock=clock)
    shelf().keep(least=SOME)
    if found.feasible:
        return found
    if not here.reachable:
        return Infeasible(_unreached(problem, here))
    shape = f"an output of {goal} from {problem.value} in at most {problem.max_length} ops"
    return Infeasible((shape, *(question.label for question in _core(here, asked, clock))))


def _frame(problem: Problem, goal: Value, clock: Clock = ENDLESS) -> Frame:
    alphabet = Alphabet.of(problem.vocabulary, problem.sizes)
    return frame(alphabet, problem.value, goal, problem.max_length, clock=clock)


def _unreached(problem: Problem, here: Frame) -> tuple[str, ...]:
    """Why no sequence has the output's type: the length aside, if the ops change nothing at all."""
    shape = f"an output of {here.goal} from {problem.value} in at most {problem.max_length} ops"
    if problem.max_length == 0 or any(after != problem.value for _, after in here.alphabet.moves(problem.value)):
        return (shape,)
    kinds = ", ".join(sorted(problem.vocabulary))
    return f"an output of {here.goal} from {problem.value}", f"a vocabulary ({kinds}) of which no op changes that type"


def _core(here: Frame, asked: Sequence[Question], clock: Clock) -> list[Question]:
    """A smallest set of questions, as far as the time allows, that no sequence answers together."""

    def excluded(kept: list[Question]) -> bool:
        try:
            return not product(here, kept, prior=False, clock=clock).feasible
        except TimeIsUp:
            return False

    return smallest_core(asked, excluded, is_late=lambda: clock.is_up)


def _cheapest(problem: Problem, space: Product, clock: Clock) -> Iterator[Path]:
    """The programs within the budget, in order of cost."""
    opened = _opened(problem, space, clock)
    if opened is not None:
        for _, path in opened.cheapest(cost_of(problem), _limits(problem), clock=clock):
            yield path


def _opened(problem: Problem, space: Product, clock: Clock) -> Product | None:
    """The space with its sizes open, if the problem has widths; None if the time was up."""
    if not problem.widths:
        return space
    found = open_sizes(space, _goal(problem), problem.widths, clock)
    return found.product if found is not None else None


def _goal(problem: Problem) -> Value:
    goal = shape_goal(problem)
    assert isinstance(goal, Value), "what has programs has a goal"
    return goal


def _limits(problem: Problem) -> list[tuple[Cost, float, float]]:
    budget = problem.target.budget
    counted: tuple[tuple[Cost, Interval], ...] = ((params_of, budget.params), (macs_of, budget.macs))
    limits = [(cost, interval.low, interval.high) for cost, interval in counted if interval != ANY]
    return [*limits, (overflows(budget.peak_bytes.high), 0.0, NONE.high)] if budget.limits_memory else limits


def _random(problem: Problem, space: Product, rng: np.random.Generator, clock: Clock) -> Iterator[Path]:
    """Random programs within the budget, kinds and sizes drawn together.

    Where that keeps missing the budget, exact search with random costs, which ends if there is no program.
    """
    if problem.temperature is not None:
        space = space.favouring(cost_of(problem), problem.temperature)
    weighted = problem.prior or problem.temperature is not None
    lengths = np.array([table[0] for table in space.counts(weighted)])
    if problem.prior:
        lengths = taste.lengths(lengths)
    draws = _free(space, lengths, rng, weighted) if _is_free(problem) else _within(problem, space, lengths, rng, clock, weighted)
    misses = 0
    for drawn in draws:
        clock.take(A_DRAW)
        path = drawn if drawn is not None and _fits_memory(problem, drawn) else None
        misses = misses + 1 if path is None else 0
        if path is not None:
            yield _roomy(problem, path, rng)
        if misses == MISSES or (clock.is_up and misses >= LATE_MISSES):
            break
    plain = _plain(problem, clock)
    opened = _opened(problem, plain, clock) if isinstance(plain, Product) and not clock.is_up else None
    if opened is not None:
        costs = rng.exponential(size=len(opened.spelled.next))
        for _, path in opened.cheapest(costs, _limits(problem), clock=clock):
            yield path


def _plain(problem: Problem, clock: Clock) -> Product | Infeasible | None:
    """The space without the prior's memory; None if the time was up."""
    try:
        return solution_space(problem, clock=clock)
    except TimeIsUp:
        return None


def _roomy(problem: Problem, path: Path, rng: np.random.Generator) -> Path:
    """The roomiest of a drawn program and of some others of the same kinds, where taste is to decide and sizes are free."""
    if not problem.prior or not problem.widths:
        return path
    goal, budget, count = _goal(problem), problem.target.budget, taste.SIZINGS
    found = sizes.solve(
        problem.value,
        path,
        goal,
        widths=problem.widths,
        budget=budget,
        rng=rng,
        count=count,
        time_limit=math.inf,
        steps=A_SIZING,
    )
    return taste.roomiest(problem.value, (path, *found)) if isinstance(found, tuple) else path


def _fits_memory(problem: Problem, path: Path) -> bool:
    interval = problem.target.budget.peak_bytes
    return interval == ANY or interval.holds(peak_bytes(chain(problem.value, path)))


def _is_free(problem: Problem) -> bool:
    """Whether nothing but the kinds is to be decided."""
    return not problem.widths and problem.target.budget == UNLIMITED


def _free(space: Product, lengths: np.ndarray, rng: np.random.Generator, weighted: bool) -> Iterator[Path | None]:
    while True:
        yield space.sample(rng, weighted=weighted, lengths=lengths)


def _within(
    problem: Problem, space: Product, lengths: np.ndarray, rng: np.random.Generator, clock: Clock, weighted: bool
) -> Iterator[Path | None]:
    plain = _plain(problem, clock)
    opened = open_sizes(plain, _goal(problem), problem.widths, clock) if isinstance(plain, Product) else None
    if opened is None:
        return
    budget = problem.target.budget
    lengths = lengths * opened.lengths(budget)
    while lengths.any():
        yield opened.sample(space, rng, budget, lengths, weighted=weighted)
