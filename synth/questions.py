"""From requirements to the questions that sequences are asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import properties
from properties import CapacityRequirement, DepthRequirement, MixingRequirement, Requirement, Shape, ShapeRequirement
from properties.mixing import Mixing
from synth.op import Value
from synth.problem import Problem
from synth.result import Infeasible
from synth.space import Question
from synth.target import LEVELS, describe


def shape_goal(problem: Problem) -> Value | Infeasible:
    """The type that the target wants."""
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
        for question in _of(requirement):
            found[question.relation, question.part, question.key] = question
    return tuple(found.values())


def _of(requirement: Requirement) -> Iterator[Question]:
    if isinstance(requirement, DepthRequirement):
        yield from _depth(requirement)
    elif isinstance(requirement, MixingRequirement):
        yield from _mixing(requirement)
    elif not isinstance(requirement, ShapeRequirement | CapacityRequirement):
        raise TypeError(f"sequences cannot be asked for {requirement.kind!r} yet")


def _depth(requirement: DepthRequirement) -> Iterator[Question]:
    least = requirement.minimum
    if least > 0:
        start = _identity("depth")
        yield Question("depth", 0, start, lambda steps: steps is not None and steps.depth >= least, least, describe(requirement))


def _mixing(requirement: MixingRequirement) -> Iterator[Question]:
    for axis, row in enumerate(requirement.minimum):
        if any(row):
            wanted = " ".join(LEVELS[level] for level in row)
            label = f"mixing of input axis {axis} at least ({wanted})"
            yield Question("mixing", axis, _row_start(axis), _row_holds(row), row, label)


def _row_start(axis: int) -> Any:
    """One row of the identity's mixing: rows compose independently of one another, so each is an automaton of its own."""

    def start(value: Value) -> Mixing | None:
        whole = Mixing.identity(value.aval().shape)
        if axis >= len(whole.input):
            return None
        return Mixing.of((whole.input[axis],), whole.output, (whole.axes[axis],))

    return start


def _row_holds(row: tuple[int, ...]) -> Any:
    def holds(part: Mixing | None) -> bool:
        if part is None or len(part.output) != len(row):
            return False
        return all(found >= asked for found, asked in zip(part.matrix[0].tolist(), row, strict=True))

    return holds


def _identity(name: str) -> Any:
    relational = next(each for each in properties.PROPERTIES if each.name == name)

    def start(value: Value) -> Any:
        aval = value.aval()
        return relational.identity(Shape(tuple(aval.shape), value.dtype))

    return start
