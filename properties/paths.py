"""The path that attains the depth: which steps alternate between an input and an output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from properties.depth import DEPTH, Steps
from properties.inference import data_place, traced
from properties.interpreter import Context, interpret
from properties.shape import Shape


@dataclass(frozen=True, slots=True)
class Step:
    """A run of steps of one class: the name of its first primitive or call, and the line that it comes from."""

    name: str
    linear: bool
    source: str

    def __str__(self) -> str:
        return f"{'linear' if self.linear else 'non-linear'}: {self.name}" + (f" at {self.source}" if self.source else "")


@dataclass(frozen=True, slots=True)
class Trail:
    """The longest path to a value that ends in one class: its number of alternations, its last run, and the trail before it."""

    depth: int
    step: Step | None = field(default=None, compare=False)
    before: Trail | None = field(default=None, compare=False)


Trails = tuple[Trail | None, Trail | None]
"""The longest paths that end linear and non-linear."""

NOWHERE: Trails = (None, None)


def longest_path(
    function: Callable[..., Any], *arguments: Any, input: int = 0, output: int = 0, params: Any = None
) -> tuple[Step, ...]:
    """The alternating runs along a deepest path from an input to an output, as many as the depth says; empty if there is none.

    A run that continues the input's class, non-linear, is not counted in the depth and not listed.
    """
    program, held = traced(function, *arguments, params=params)
    values: list[Trails] = [NOWHERE] * program.input_count
    values[data_place(program, held, input)] = (None, Trail(0))
    if not 0 <= output < len(program.outputs):
        raise IndexError(f"output {output} asked for, but there are {len(program.outputs)} outputs")
    trails = [trail for trail in interpret(program, TrailAnalysis(), values)[output] if trail is not None]
    if not trails:
        return ()
    steps: list[Step] = []
    trail: Trail | None = max(trails, key=lambda each: each.depth)
    while trail is not None:
        if trail.step is not None:
            steps.append(trail.step)
        trail = trail.before
    return tuple(reversed(steps))


@dataclass(frozen=True)
class TrailAnalysis:
    """The walker's view of the deepest paths from one input; loops are followed for a few iterations only."""

    def constant(self) -> Trails:
        return NOWHERE

    def depends(self, value: Trails) -> bool:
        return value != NOWHERE

    def transfer(self, context: Context, operands: Sequence[Trails]) -> list[Trails]:
        return [self._follow(context, operands, row) for row in DEPTH.local(context, set())]

    def shortcut(self, context: Context, operands: Sequence[Trails]) -> list[Trails] | None:
        rows = DEPTH.called(context)
        return None if rows is None else [self._follow(context, operands, row) for row in rows]

    def _follow(self, context: Context, operands: Sequence[Trails], row: tuple[Steps | None, ...]) -> Trails:
        result = NOWHERE
        for value, local in zip(operands, row, strict=True):
            if local is not None:
                result = self.join(result, _extended(value, local, context))
        return result

    def join(self, first: Trails, second: Trails) -> Trails:
        return _longer(first[0], second[0]), _longer(first[1], second[1])

    def decide(self, value: Trails, decision: Shape, result: Shape) -> Trails:
        return value

    def unstack(self, value: Trails, stacked: Shape) -> Trails:
        return value

    def stack(self, value: Trails, stacked: Shape) -> Trails:
        return value

    def settle(self, before: Trails, after: Trails, left: int | None, type_: Shape) -> Trails:
        return after


def _longer(a: Trail | None, b: Trail | None) -> Trail | None:
    if a is None or b is None:
        return a or b
    return b if b.depth > a.depth else a


def _extended(value: Trails, local: Steps, context: Context) -> Trails:
    """The trails after a step: a new run where the class changes."""
    result: list[Trail | None] = [None, None]
    for ends_in, trail in enumerate(value):
        row = (local.from_linear, local.from_nonlinear)[ends_in]
        for goes_to in (0, 1):
            if trail is None or row[goes_to] < 0:
                continue
            longer = trail
            if row[goes_to]:
                step = Step(context.equation.name, goes_to == 0, context.equation.source)
                longer = Trail(trail.depth + row[goes_to], step, trail)
            result[goes_to] = _longer(result[goes_to], longer)
    return result[0], result[1]
