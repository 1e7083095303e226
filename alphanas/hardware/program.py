"""The inference trace of a function as a flat list of steps: calls inlined, constants folded, dead steps gone.

Shapes are static here: the batch is fixed when a model is lowered. Steps have one output each; `split` becomes slices.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from properties import jaxpr

GROWING = frozenset({"broadcast_in_dim", "iota", "tile"})
"""Primitives that make large arrays of small ones; they are computed where they are read and never folded into a constant."""
PLACEHOLDER = 0.7
"""Stands for a number that is not known; nothing can be made of it."""


class NotLowerable(Exception):
    """A step that has no lowering. `primitive` names it; the text says what was seen and why."""

    def __init__(self, primitive: str, because: str) -> None:
        self.primitive = primitive
        self.because = because
        super().__init__(f"cannot lower {primitive}: {because}")


@dataclass(frozen=True)
class Type:
    """Shape and dtype of a value."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Storage:
    """How a value lies in memory: the shape that its kernel computes, and that shape filled up."""

    shape: tuple[int, ...]
    filled: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Step:
    """One primitive applied to values, named by their slots."""

    primitive: str
    inputs: tuple[int, ...]
    output: int
    params: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    """The named scope that it comes from: of a graph, the node."""


@dataclass(frozen=True, eq=False)
class Flat:
    """A straight-line program over slots. Steps are in order of execution; every slot has a type."""

    types: Mapping[int, Type]
    constants: Mapping[int, np.ndarray]
    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def readers(self) -> dict[int, list[Step]]:
        """The steps that read each slot."""
        readers: dict[int, list[Step]] = {slot: [] for slot in self.types}
        for step in self.steps:
            for slot in dict.fromkeys(step.inputs):
                readers[slot].append(step)
        return readers


class Writer:
    """Grows a flat program step by step; steps of constants alone are computed at once."""

    def __init__(self) -> None:
        self.types: dict[int, Type] = {}
        self.constants: dict[int, np.ndarray] = {}
        self.steps: list[Step] = []
        self.unknown: set[int] = set()
        """Constants of which shape and dtype alone are known."""
        self.origin = ""
        """What the next steps come from."""

    def slot(self, shape: Sequence[int], dtype: str) -> int:
        """A new slot of this type."""
        self.types[len(self.types)] = Type(tuple(int(size) for size in shape), str(dtype))
        return len(self.types) - 1

    def constant(self, value: Any) -> int:
        """A new slot that holds a constant."""
        array = np.asarray(value)
        slot = self.slot(array.shape, str(array.dtype))
        self.constants[slot] = array
        return slot

    def placeholder(self, shape: Sequence[int], dtype: str) -> int:
        """A new slot that stands for a constant whose values are not known; it takes no memory."""
        slot = self.slot(shape, dtype)
        self.constants[slot] = _placeholder(self.types[slot])
        self.unknown.add(slot)
        return slot

    def step(
        self, primitive: str, inputs: Iterable[int], shape: Sequence[int], dtype: str, params: Mapping[str, Any] | None = None
    ) -> int:
        """Appends a step and returns the slot of its result."""
        slot = self.slot(shape, dtype)
        self.steps.append(Step(primitive, tuple(inputs), slot, params or {}, self.origin))
        return slot

    def flat(self, inputs: Sequence[int], outputs: Sequence[int]) -> Flat:
        """The program so far, without the steps that no output needs."""
        needed = set(outputs)
        kept: list[Step] = []
        for step in reversed(self.steps):
            if step.output in needed:
                needed.update(step.inputs)
                kept.append(step)
        constants = {slot: value for slot, value in self.constants.items() if slot in needed}
        return Flat(self.types, constants, tuple(inputs), tuple(reversed(kept)), tuple(outputs))


@functools.lru_cache(maxsize=4096)
def _placeholder(kind: Type) -> np.ndarray:
    return np.broadcast_to(np.array(PLACEHOLDER).astype(kind.dtype), kind.shape)


def flatten(function: Callable[..., Any], *inputs: Any) -> Flat:
    """The flat program of `function` on inputs of these shapes (arrays or `ShapeDtypeStruct`s).

    Weights that the function closes over become constants. Raises NotLowerable for control flow and for steps of several results.
    """
    closed, _ = jaxpr.trace(function, *inputs)
    traced = jaxpr.program(closed)
    writer = Writer()
    arguments = [writer.slot(traced.types[slot].shape, traced.types[slot].dtype) for slot in traced.inputs]
    return writer.flat(arguments, inline(writer, traced, arguments))


def inline(writer: Writer, program: jaxpr.Program, arguments: Sequence[int]) -> list[int]:
    """Writes a program's steps on these slots; returns the slots of its outputs."""
    slots: dict[int, int] = dict(zip(program.inputs, arguments, strict=True))
    for slot, value in program.constants.items():
        slots[slot] = writer.constant(np.asarray(value).astype(program.types[slot].dtype))
    around = writer.origin
    for equation in program.equations:
        operands = [slots[slot] for slot in equation.inputs]
        # Inside of a called function, the scope of the call says more than that of its body.
        writer.origin = around or equation.scope
        results = _results(writer, equation, operands)
        writer.origin = around
        slots.update(zip(equation.outputs, results, strict=True))
    return [slots[slot] for slot in program.outputs]


def _results(writer: Writer, equation: jaxpr.Equation, operands: list[int]) -> list[int]:
    if equation.primitive in ("cond", "scan", "while"):
        raise NotLowerable(equation.primitive, f"control flow has no lowering{_at(equation)}")
    if equation.programs:
        (called,) = equation.programs
        return inline(writer, called, operands[len(operands) - called.input_count :])
    constants = [writer.constants.get(slot) for slot in operands]
    known = [value for value in constants if value is not None]
    size = sum(math.prod(result.shape) for result in equation.output_types)
    grows = equation.primitive in GROWING and size > max([1, *(value.size for value in known)])
    if len(known) == len(operands) and not grows:
        if not writer.unknown.isdisjoint(operands):
            return [writer.placeholder(result.shape, result.dtype) for result in equation.output_types]
        return [writer.constant(value) for value in equation.evaluate(known)]
    if equation.primitive == "split":
        return _slices(writer, equation, operands[0])
    if len(equation.outputs) != 1:
        raise NotLowerable(equation.primitive, f"it has {len(equation.outputs)} results{_at(equation)}")
    (result,) = equation.output_types
    return [writer.step(equation.primitive, operands, result.shape, result.dtype, equation.params)]


def _slices(writer: Writer, equation: jaxpr.Equation, operand: int) -> list[int]:
    axis, start, results = equation.params["axis"], 0, []
    shape = writer.types[operand].shape
    for result in equation.output_types:
        begin = [0] * len(shape)
        begin[axis] = start
        start += result.shape[axis]
        end = [low + size for low, size in zip(begin, result.shape, strict=True)]
        bounds = {"start_indices": begin, "limit_indices": end, "strides": None}
        results.append(writer.step("slice", [operand], result.shape, result.dtype, bounds))
    return results


def _at(equation: jaxpr.Equation) -> str:
    return f", at {equation.source}" if equation.source else ""
