"""From requirements to the questions that sequences are asked.

A requirement that is not known here is asked of all relations together, by its own `met`: exact, with more states.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from properties import (
    PROPERTIES,
    Capacity,
    CapacityRequirement,
    DepthRequirement,
    Inference,
    Mixing,
    MixingRequirement,
    RankRequirement,
    RelationalProperty,
    Requirement,
    ShapeRequirement,
)
from properties.depth import IDENTITY as NO_STEP
from properties.depth import Steps
from properties.mixing.affine import Term, extent, whole
from properties.mixing.lattice import mixing
from properties.rank import Rank
from synth.analysis import type_of
from synth.graph import GraphError
from synth.op import Value
from synth.problem import Problem, left_to_proof
from synth.requirements import ReceptiveFieldRequirement
from synth.result import Infeasible
from synth.space import Joint, Question
from synth.target import LEVELS, describe

WIDEST_STRIDE = 4
"""Strides that are told from mixing everything, where branches join."""

DEPTH, MIXING, RANK = (next(each for each in PROPERTIES if each.name == name) for name in ("depth", "mixing", "rank"))


def shape_goal(problem: Problem) -> Value | Infeasible:
    """The type that the target wants of a sequence.

    ValueError if it leaves the shape open, GraphError if there are several inputs or outputs.
    """
    refuse_several_ends(problem)
    goal = problem.target.output(problem.value.dtype)
    if goal is None:
        raise ValueError("the target must require the output's shape, in every size but the batch's")
    wanted = {each for each in problem.target.requirements if isinstance(each, ShapeRequirement)}
    if len(wanted) > 1:
        return Infeasible(tuple(sorted(map(describe, wanted))))
    return goal


def refuse_several_ends(problem: Problem) -> None:
    """GraphError if a problem is none of a sequence."""
    if problem.others or problem.outputs > 1:
        raise GraphError(
            f"a sequence has exactly one input and one output; this piece has {len(problem.values)} and {problem.outputs}. "
            "Choose the method branches, or a piece that one value goes into and one comes out of"
        )


def questions(problem: Problem, goal: Value) -> tuple[Question, ...]:
    """What the target's requirements ask of a sequence from the problem's input to `goal`."""
    found: dict[Any, Question] = {}
    for requirement in problem.target.requirements:
        for question in _of(requirement, problem, goal):
            found[question.reads, question.part, question.key] = question
    return tuple(found.values())


def _of(requirement: Requirement, problem: Problem, goal: Value) -> Iterator[Question]:
    match requirement:
        case ShapeRequirement() | CapacityRequirement():
            # The goal and the budget stand for these; the proof checks them.
            return
        case DepthRequirement(minimum=least):
            if least > 0:
                yield Question(
                    (DEPTH,), 0, _from_the_input, _has("depth", least), least, describe(requirement), (_steps_up_to(least),)
                )
        case RankRequirement(minimum=least):
            widened = (_bound_up_to(least),)
            yield Question((RANK,), 0, _identity(RANK), _has("bound", least), least, describe(requirement), widened)
        case MixingRequirement(minimum=rows):
            for axis, row in enumerate(rows):
                if any(row):
                    label = f"mixing of input axis {axis} at least ({' '.join(LEVELS[level] for level in row)})"
                    yield Question((MIXING,), axis, _row_start(axis), _row_holds(row), row, label, SIMPLER, RowsAlike())
        case ReceptiveFieldRequirement(positions=positions):
            for axis, least in enumerate(positions):
                if least > 0:
                    label = f"a receptive field of at least {least} on axis {axis}"
                    yield Question(
                        (MIXING,), axis, _row_start(axis), _row_sees(least), ("sees", least), label, SIMPLER, RowsAlike()
                    )
        case _ if left_to_proof(requirement):
            return
        case _:
            yield _whole(requirement, problem, goal)


def _whole(requirement: Requirement, problem: Problem, goal: Value) -> Question:
    reads = problem.composed
    source, result = type_of(problem.value), type_of(goal)

    def start(value: Value) -> Joint:
        return Joint(tuple(each.identity(type_of(value)) for each in reads))

    def holds(part: Joint | None) -> bool:
        relations = {} if part is None else {each.name: {(0, 0): found} for each, found in zip(reads, part.relations, strict=True)}
        return requirement.met(Inference.of([source], [result], relations, Capacity()))

    return Question(reads, 0, start, holds, str(requirement.to_json()), describe(requirement))


def _has(figure: str, least: int) -> Callable[[Any | None], bool]:
    return lambda relation: relation is not None and getattr(relation, figure) >= least


def _row_start(axis: int) -> Callable[[Value], Mixing | None]:
    """One row of the identity's mixing: rows compose independently of one another, so each is an automaton of its own."""

    def start(value: Value) -> Mixing | None:
        whole = Mixing.identity(value.aval().shape)
        if axis >= len(whole.input):
            return None
        return Mixing.of((whole.input[axis],), whole.output, (whole.axes[axis],))

    return start


class RowsAlike:
    """Of a step matters what it does along the axes on which the row depends."""

    def key(self, part: Mixing) -> tuple[int, ...]:
        return part.reads

    def view(self, key: tuple[int, ...], step: Mixing) -> Hashable:
        return step.seen_along(key)


def _row_holds(row: tuple[int, ...]) -> Callable[[Mixing | None], bool]:
    def holds(part: Mixing | None) -> bool:
        if part is None or len(part.output) != len(row):
            return False
        return all(found >= asked for found, asked in zip(part.matrix[0].tolist(), row, strict=True))

    return holds


def _row_sees(least: int) -> Callable[[Mixing | None], bool]:
    return lambda part: part is not None and part.positions(0) >= least


def _from_the_input(value: Value) -> Steps:
    """No step, and only the row for what the input counts as, non-linear: rows of steps compose independently of one another."""
    return replace(NO_STEP, from_linear=(-1, -1))


def _identity(relational: RelationalProperty) -> Callable[[Value], Any]:
    return lambda value: relational.identity(type_of(value))


def _steps_up_to(least: int) -> Callable[[Steps], Steps]:
    """Depth never falls, so that more than is asked for is as good."""

    def widened(part: Steps) -> Steps:
        linear, nonlinear = part.from_nonlinear
        return replace(part, from_nonlinear=(min(linear, least), min(nonlinear, least)))

    return widened


def _bound_up_to(least: int) -> Callable[[Rank], Rank]:
    return lambda part: replace(part, bound=min(part.bound, least))


def _simpler(part: Mixing) -> Mixing:
    """Windows around a position of one axis stay what they are; anything else, as groups and concatenations make, is all of it."""
    axes = tuple(_window_or_all(terms, size) for terms, size in zip(part.axes, part.input, strict=True))
    return part if axes == part.axes else mixing(part.input, part.output, axes) or part


def _simplest(part: Mixing) -> Mixing:
    """A position of one axis stays what it is, anything else is the whole axis."""
    rows = zip(_simpler(part).axes, part.input, strict=True)
    axes = tuple((whole(size),) if any(term.windows for term in terms) else terms for terms, size in rows)
    return mixing(part.input, part.output, axes) or part


def _window_or_all(terms: tuple[Term, ...], size: int) -> tuple[Term, ...]:
    free = tuple(dict.fromkeys(term._replace(guards=()) for term in terms))
    if len(free) != 1 or not free[0].factors:
        return (whole(size),)
    (term,) = free
    (factor, *rest) = term.factors
    slides = not rest and factor.divisor == 1 and not factor.modulus and 0 < factor.coefficient <= WIDEST_STRIDE
    around = term.offset <= 0 <= term.offset + extent(term.windows)
    return free if slides and around else (whole(size),)


SIMPLER = (_simpler, _simplest)
