"""The one walker over programs: it knows control flow and calls, and no property.

An `Analysis` gives each value an abstract value; the walker carries them through the program. A conditional joins its branches,
a loop is iterated to a fixed point, a call is walked unless the analysis understands the called function by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np

from properties.facts import FARTHEST, Band, band
from properties.jaxpr import LARGEST_CONSTANT, Equation, Program
from properties.shape import Shape

V = TypeVar("V")

PATIENCE = 6
"""Loop iterations after which an analysis is asked to say where the loop will settle."""


@dataclass(eq=False)
class Frame:
    """A program being walked, and what is known of its constants."""

    program: Program
    outer: Callable[[int], np.ndarray | None]
    outer_band: Callable[[int, int], Band | None] = lambda slot, steps: None
    _known: dict[int, np.ndarray | None] = field(default_factory=dict)
    _bands: dict[int, Band | None] = field(default_factory=dict)

    def constant(self, slot: int) -> np.ndarray | None:
        """The value of a slot if it depends on no input of the whole program and is not too large, else None."""
        if slot not in self._known:
            self._known[slot] = None  # a value being asked for while it is computed is not a constant
            self._known[slot] = self._compute(slot)
        return self._known[slot]

    def _compute(self, slot: int) -> np.ndarray | None:
        program = self.program
        if slot < program.input_count:
            return self.outer(slot)
        if program.types[slot].size > LARGEST_CONSTANT:
            return None
        if slot in program.constants:
            return _typed(program.constants[slot], program.types[slot])
        equation, position = program.producers[slot]
        if equation.primitive in ("scan", "while", "cond") or equation.primitive.startswith("random"):
            return None
        operands: list[np.ndarray] = []
        for slot in equation.inputs:
            operand = self.constant(slot)
            if operand is None:
                return None
            operands.append(operand)
        return equation.evaluate(operands)[position]

    def band(self, slot: int, steps: int = 0) -> Band | None:
        """The band outside of which a slot's value vanishes, if one is known."""
        if slot not in self._bands:
            self._bands[slot] = None
            self._bands[slot] = self._find_band(slot, steps + 1)
        return self._bands[slot]

    def _find_band(self, slot: int, steps: int) -> Band | None:
        program = self.program
        if slot < program.input_count:
            return self.outer_band(slot, steps)
        if slot in program.constants or len(program.types[slot].shape) < 2 or steps > FARTHEST:
            return None
        equation, position = program.producers[slot]
        inputs = equation.inputs
        if equation.programs:
            called = None if equation.primitive in ("cond", "scan", "while") else equation.programs[0]
            return None if called is None else _enter(equation, self, called).band(called.outputs[position], steps)
        return band(equation, lambda k: self.band(inputs[k], steps), lambda k: self.constant(inputs[k]))


def _typed(value: Any, type_: Shape) -> np.ndarray | None:
    """A constant as an array of its declared type; None for what NumPy has no type for, such as random keys."""
    if type_.dtype.startswith("key"):
        return None
    found = np.asarray(value)
    return found if str(found.dtype) == type_.dtype else found.astype(type_.dtype)


@dataclass(eq=False, slots=True)
class Context:
    """What a rule may ask about the equation it is applied to."""

    equation: Equation
    frame: Frame
    data: tuple[bool, ...]
    asked: bool = False
    bands: tuple[Band | None, ...] = ()

    def find_bands(self) -> tuple[Band | None, ...]:
        """For every operand the band outside of which it vanishes; rules then read them from `bands`."""
        self.bands = tuple([self.frame.band(slot) for slot in self.equation.inputs])
        return self.bands

    def constant(self, operand: int) -> np.ndarray | None:
        """The value of an operand if it is known before any input is, else None."""
        self.asked = True
        return self.frame.constant(self.equation.inputs[operand])


class Analysis(Protocol[V]):
    """An abstract domain that the walker can carry through a program."""

    def constant(self) -> V:
        """The value of what depends on no input."""

    def transfer(self, context: Context, operands: Sequence[V]) -> Sequence[V]:
        """The results of an equation that calls nothing."""

    def shortcut(self, context: Context, operands: Sequence[V]) -> Sequence[V] | None:
        """The results of a call or loop that is understood as a whole, a call by its name; else None."""

    def depends(self, value: V) -> bool:
        """Whether the value depends on any input."""

    def join(self, first: V, second: V) -> V:
        """What holds if either value may be the one."""

    def decide(self, value: V, decision: Shape, result: Shape) -> V:
        """What a result owes to a value that decided which branch was taken or when a loop ended."""

    def unstack(self, value: V, stacked: Shape) -> V:
        """Any one of the slices along the leading axis."""

    def stack(self, value: V, stacked: Shape) -> V:
        """Values like this one, stacked along a new leading axis."""

    def settle(self, before: V, after: V, left: int | None, type_: Shape) -> V:
        """A value that a loop's carry, of the given type, will not exceed in `left` further iterations (None: in any number)."""


def interpret(program: Program, analysis: Analysis[V], inputs: Sequence[V]) -> list[V]:
    """The abstract outputs of `program` for the abstract `inputs`."""
    return walk(Frame(program, lambda slot: None), analysis, inputs)


def walk(frame: Frame, analysis: Analysis[V], inputs: Sequence[V]) -> list[V]:
    """The abstract outputs of a frame's program."""
    program = frame.program
    depends, constant, rest = analysis.depends, analysis.constant(), len(program.types) - program.input_count
    values = [*inputs, *[constant] * rest]
    data = [*[depends(value) for value in inputs], *[depends(constant)] * rest]
    for equation in program.equations:
        slots = equation.inputs
        flags = tuple([data[slot] for slot in slots])
        if True not in flags:
            continue
        operands = [values[slot] for slot in slots]
        results = _apply(Context(equation, frame, flags), analysis, operands)
        for slot, result in zip(equation.outputs, results, strict=True):
            values[slot] = result
            data[slot] = depends(result)
    return [values[slot] for slot in program.outputs]


def _apply(context: Context, analysis: Analysis[V], operands: Sequence[V]) -> Sequence[V]:
    equation = context.equation
    if not equation.programs:
        return analysis.transfer(context, operands)
    known = analysis.shortcut(context, operands)
    if known is not None:
        return known
    if equation.primitive == "cond":
        return _branches(context, analysis, operands)
    if equation.primitive == "scan":
        return _scan(context, analysis, operands)
    if equation.primitive == "while":
        return _while(context, analysis, operands)
    return walk(_enter(equation, context.frame, equation.programs[0]), analysis, operands)


def _enter(equation: Equation, outer: Frame, program: Program, first: int = 0) -> Frame:
    """The frame of a called program whose inputs are the operands from `first` on."""
    inputs = equation.inputs
    return Frame(
        program,
        lambda slot: outer.constant(inputs[first + slot]),
        lambda slot, steps: outer.band(inputs[first + slot], steps),
    )


def opaque(program: Program) -> Frame:
    """The frame of a loop's body, whose inputs change and so are no constants."""
    return Frame(program, lambda slot: None)


def _branches(context: Context, analysis: Analysis[V], operands: Sequence[V]) -> list[V]:
    equation = context.equation
    results: list[V] = []
    for branch in equation.programs:
        found = walk(_enter(equation, context.frame, branch, 1), analysis, operands[1:])
        results = [analysis.join(a, b) for a, b in zip(results, found, strict=True)] if results else found
    if not context.data[0]:
        return results
    decision = equation.input_types[0]
    return [
        analysis.join(result, analysis.decide(operands[0], decision, type_))
        for result, type_ in zip(results, equation.output_types, strict=True)
    ]


def _scan(context: Context, analysis: Analysis[V], operands: Sequence[V]) -> list[V]:
    equation, params = context.equation, context.equation.params
    consts, carried = params["num_consts"], params["num_carry"]
    fixed, carry = list(operands[:consts]), list(operands[consts : consts + carried])
    slices = [
        analysis.unstack(value, type_)
        for value, type_ in zip(operands[consts + carried :], equation.input_types[consts + carried :], strict=True)
    ]
    frame = opaque(equation.programs[0])

    def step(state: list[V]) -> list[V]:
        return walk(frame, analysis, [*fixed, *state, *slices])

    trips = params["length"]
    if trips == 0:
        return [*carry, *([analysis.constant()] * (len(equation.outputs) - carried))]
    results = iterate(analysis, carry, step, trips, equation.output_types)
    stacked = [
        analysis.stack(value, type_) for value, type_ in zip(results[carried:], equation.output_types[carried:], strict=True)
    ]
    return [*results[:carried], *stacked]


def _while(context: Context, analysis: Analysis[V], operands: Sequence[V]) -> list[V]:
    equation, params = context.equation, context.equation.params
    tested, bodied = params["cond_nconsts"], params["body_nconsts"]
    test_consts, body_consts = list(operands[:tested]), list(operands[tested : tested + bodied])
    carry = list(operands[tested + bodied :])
    test, body = (opaque(program) for program in equation.programs)
    types = equation.output_types

    def step(state: list[V]) -> list[V]:
        results = walk(body, analysis, [*body_consts, *state])
        return [analysis.join(a, b) for a, b in zip(state, results, strict=True)]

    results = iterate(analysis, carry, step, None, types)
    decision = walk(test, analysis, [*test_consts, *results])[0]
    if not analysis.depends(decision):
        return results
    decided = test.program.types[test.program.outputs[0]]
    return [analysis.join(value, analysis.decide(decision, decided, type_)) for value, type_ in zip(results, types, strict=True)]


def iterate(
    analysis: Analysis[V], carry: list[V], step: Callable[[list[V]], list[V]], trips: int | None, types: Sequence[Shape]
) -> list[V]:
    """The results of a loop's last step: its carry iterated until it settles, or for the number of trips if that is sooner."""
    count = len(carry)
    done = 0
    while True:
        results = step(carry)
        done += 1
        after = [analysis.join(a, b) for a, b in zip(carry, results[:count], strict=True)]
        if after == carry or done == trips:
            return results
        if done >= PATIENCE:
            left = None if trips is None else trips - done - 1  # the last one follows
            settled = [analysis.settle(a, b, left, types[k]) for k, (a, b) in enumerate(zip(carry, after, strict=True))]
            return step(settled)
        carry = after
