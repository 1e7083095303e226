"""From requirements to the questions that sequences are asked.

A requirement that is not known here is asked of all relations together, by its own `met`: exact, with more states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from properties import (
    PROPERTIES,
    Capacity,
    CapacityRequirement,
    DepthRequirement,
    Inference,
    Mixing,
    MixingRequirement,
    RelationalProperty,
    Requirement,
    ShapeRequirement,
)
from synth.analysis import type_of
from synth.op import Value
from synth.problem import Problem, left_to_proof
from synth.requirements import RankRequirement, ReceptiveFieldRequirement
from synth.result import Infeasible
from synth.space import Joint, Question
from synth.target import LEVELS, describe

DEPTH, MIXING, RANK = (next(each for each in PROPERTIES if each.name == name) for name in ("depth", "mixing", "rank"))


def shape_goal(problem: Problem) -> Value | Infeasible:
    """The type that the target wants; ValueError if it leaves the shape open."""
    goal = problem.target.output(problem.value.dtype)
    if goal is None:
        raise ValueError("the target must require the output's shape, in every size but the batch's")
    wanted = {each for each in problem.target.requirements if isinstance(each, ShapeRequirement)}
    if len(wanted) > 1:
        return Infeasible(tuple(sorted(map(describe, wanted))))
    return goal


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
                yield Question((DEPTH,), 0, _identity(DEPTH), _has("depth", least), least, describe(requirement))
        case RankRequirement(minimum=least):
            yield Question((RANK,), 0, _identity(RANK), _has("bound", least), least, describe(requirement))
        case MixingRequirement(minimum=rows):
            for axis, row in enumerate(rows):
                if any(row):
                    label = f"mixing of input axis {axis} at least ({' '.join(LEVELS[level] for level in row)})"
                    yield Question((MIXING,), axis, _row_start(axis), _row_holds(row), row, label)
        case ReceptiveFieldRequirement(positions=positions):
            for axis, least in enumerate(positions):
                if least > 0:
                    label = f"a receptive field of at least {least} on axis {axis}"
                    yield Question((MIXING,), axis, _row_start(axis), _row_sees(least), ("sees", least), label)
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


def _row_holds(row: tuple[int, ...]) -> Callable[[Mixing | None], bool]:
    def holds(part: Mixing | None) -> bool:
        if part is None or len(part.output) != len(row):
            return False
        return all(found >= asked for found, asked in zip(part.matrix[0].tolist(), row, strict=True))

    return holds


def _row_sees(least: int) -> Callable[[Mixing | None], bool]:
    return lambda part: part is not None and part.positions(0) >= least


def _identity(relational: RelationalProperty) -> Callable[[Value], Any]:
    return lambda value: relational.identity(type_of(value))
