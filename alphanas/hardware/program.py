"""A straight-line program of steps with one output each, which is what lowering works on; `flattening` makes it of a function."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

PLACEHOLDER = 0.7
"""Stands for a number that is not known; nothing can be made of it."""
Result = TypeVar("Result")


class NotLowerable(Exception):
    """A step that has no lowering. `primitive` names it, `source` the node and line it came from; the text says why as well."""

    def __init__(self, primitive: str, because: str, source: str = "") -> None:
        self.primitive = primitive
        self.because = because
        self.source = source
        super().__init__(f"cannot lower {primitive}: {because}{f' ({source})' if source else ''}")


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
    source: str = ""
    """The line that it comes from."""


def place(origin: str, source: str) -> str:
    """The node and the line that something comes from, as far as they are known."""
    return ", ".join(part for part in (f"node {origin}" if origin else "", source) if part)


def located(step: Step, action: Callable[[], Result]) -> Result:
    """What `action` returns; a NotLowerable of it says where the step came from."""
    try:
        return action()
    except NotLowerable as error:
        if error.source:
            raise
        raise NotLowerable(error.primitive, error.because, place(step.origin, step.source)) from None


@dataclass(frozen=True, eq=False)
class Flat:
    """A straight-line program over slots. Steps are in order of execution; every slot has a type."""

    types: Mapping[int, Type]
    constants: Mapping[int, np.ndarray]
    inputs: tuple[int, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    @functools.cached_property
    def readers(self) -> Mapping[int, list[Step]]:
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
        """The named scope that the next steps come from."""
        self.source = ""
        """The line that the next steps come from."""

    def slot(self, shape: Sequence[int], dtype: str) -> int:
        """A new slot of this type."""
        self.types[len(self.types)] = Type(tuple(int(size) for size in shape), str(dtype))
        return len(self.types) - 1

    def constant(self, value: Any) -> int:
        """A new slot that holds a constant."""
        array = np.asarray(value)
        slot = self.slot(array.shape, _named(array.dtype))
        self.constants[slot] = array
        return slot

    def knows(self, slots: Iterable[int]) -> bool:
        """Whether the values of all these slots are known constants."""
        return all(slot in self.constants and slot not in self.unknown for slot in slots)

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
        self.steps.append(Step(primitive, tuple(inputs), slot, params or {}, self.origin, self.source))
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


@functools.cache
def _named(dtype: np.dtype) -> str:
    """NumPy takes ten times longer to tell."""
    return str(dtype)


@functools.lru_cache(maxsize=4096)
def _placeholder(kind: Type) -> np.ndarray:
    return np.broadcast_to(np.array(PLACEHOLDER).astype(kind.dtype), kind.shape)
