"""Small products that read one value and go on alike become one, weights side by side, of which readers read their columns.

So Q, K and V of small attention are one product, and so are 1×1 convolutions of one input: the value is read once, one loop is
shared among threads instead of several, and nothing is copied, since a slice is index arithmetic for whoever reads it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphanas.hardware.canonical import Rewriter, reopened
from alphanas.hardware.fusing import is_depthwise, is_pointwise
from alphanas.hardware.kernels import ANCHORS, epilogues
from alphanas.hardware.program import Flat, Step

NEUTRAL: Mapping[str, float] = {"mul": 1.0, "add": 0.0, "sub": 0.0}
"""Steps with a constant that a product may lack which its siblings have: it takes them with this number, which changes nothing."""

NEAR_BYTES = 3 << 17
"""Weights that take more leave the second cache, where those of each product alone may have stayed: such products stay apart."""


def joined(flat: Flat) -> Flat:
    """The canonical program with such products joined; the program itself where there are none."""
    alike: dict[Any, list[Step]] = {}
    for step in flat.steps:
        if _is_product(flat, step):
            alike.setdefault((step.inputs[0], step.primitive, step.params.get("depths")), []).append(step)
    several = [products for products in alike.values() if len(products) > 1]
    if not several:
        return flat
    producers, readers = {step.output: step for step in flat.steps}, flat.readers
    outputs = {anchor.output: output for output, anchor in epilogues(flat, readers).items()}
    first: dict[Step, list[Product]] = {}
    for products in several:
        families: dict[Any, list[Product]] = {}
        for step in products:
            product = Product(step, outputs[step.output], flat.types[step.output].shape[-1])
            kind = _kind(flat, producers, readers, product)
            if kind is not None:
                families.setdefault(kind, []).append(product)
        first |= {
            family[0].anchor: family for family in families.values() if len(family) > 1 and _bytes(flat, family) <= NEAR_BYTES
        }
    return _rewritten(flat, producers, first) if first else flat


def _rewritten(flat: Flat, producers: Mapping[int, Step], first: Mapping[Step, Sequence[Product]]) -> Flat:
    """The program with families of products joined, each where its first one is."""
    writer = reopened(flat)
    moved: dict[int, int] = {}
    for step in flat.steps:
        inputs = tuple([moved.get(slot, slot) for slot in step.inputs])
        if step in first:
            writer.origin, writer.source = step.origin, step.source
            moved |= _Family(writer, flat, producers, first[step], inputs[0]).parts()
        writer.steps.append(step if inputs == step.inputs else dataclasses.replace(step, inputs=inputs))
    return writer.flat(flat.inputs, flat.outputs)


@dataclass(frozen=True)
class Product:
    """A product with constant weights, what its kernel leaves behind, and its number of columns."""

    anchor: Step
    output: int
    columns: int


def _bytes(flat: Flat, products: Sequence[Product]) -> int:
    return sum(flat.constants[product.anchor.inputs[1]].nbytes for product in products)


def _is_product(flat: Flat, step: Step) -> bool:
    """Whether a step is a product of data with constant weights of several columns."""
    if step.primitive not in ("contract", "convolve") or step.params.get("batch"):
        return False
    if step.inputs[0] in flat.constants or step.inputs[1] not in flat.constants or flat.types[step.output].shape[-1] == 1:
        return False
    return step.primitive == "contract" or is_pointwise(flat, step)


def _kind(flat: Flat, producers: Mapping[int, Step], readers: Mapping[int, Sequence[Step]], product: Product) -> Any:
    """Equal for products of one value whose kernels leave the same behind, but for numbers; None where one had better stay alone.

    So it had where it is asked for in one piece, where the epilogue reads other values, and where a depthwise convolution takes
    it in (see `fusing`).
    """
    kind = flat.types[product.output]
    slots = [product.output, *(step.output for step in readers[product.output] if step.primitive == "reshape")]
    axis, *others = [_axis(flat.types[slot].shape, product.columns) for slot in slots]
    filtered = any(step.primitive == "convolve" and is_depthwise(flat, step) for step in readers[product.output])
    names = _names(flat, producers, product)
    if product.output in flat.outputs or filtered or names is None or axis is None or None in others:
        return None
    return kind.dtype, kind.shape[:axis], kind.shape[axis + 1 :], names


def _axis(shape: Sequence[int], columns: int) -> int | None:
    """The first of a value's axes that hold its columns; None where an axis holds columns and places."""
    return next((axis for axis in reversed(range(len(shape))) if math.prod(shape[axis:]) == columns), None)


def _names(flat: Flat, producers: Mapping[int, Step], product: Product) -> tuple[str, ...] | None:
    """The steps of an epilogue that no product may lack; None if it reads a value that is neither constant nor of the product."""
    names, waiting, seen = [], [product.output], {product.anchor.output}
    while waiting:
        slot = waiting.pop()
        if slot in seen or slot in flat.constants:
            continue
        seen.add(slot)
        if slot not in producers or producers[slot].primitive in ANCHORS:
            return None
        names.append(producers[slot].primitive)
        waiting += producers[slot].inputs
    return tuple(sorted(name for name in names if name not in NEUTRAL and name not in ("reshape", "broadcast_in_dim")))


class _Family:
    """Products that are to be one. Its values are one of each product, at the same point of their epilogues."""

    def __init__(self, writer: Rewriter, flat: Flat, producers: Mapping[int, Step], products: Sequence[Product], x: int) -> None:
        self._writer = writer
        self._flat = flat
        self._producers = producers
        self._outputs = tuple([product.output for product in products])
        self._anchors = [product.anchor for product in products]
        self._columns = [product.columns for product in products]
        self._x = x
        self._known: dict[tuple[int, ...], int | None] = {}

    def parts(self) -> dict[int, int]:
        """Writes the one product; by the output of each its columns of it. Nothing if the epilogues are not alike after all."""
        whole = self._value(self._outputs)
        if whole is None:
            return {}
        kind, found, start = self._writer.type(whole), {}, 0
        for slot, columns in zip(self._outputs, self._columns, strict=True):
            own = self._flat.types[slot].shape
            axis = _axis(own, columns) or 0
            lows, highs = [0] * len(own), list(own)
            lows[axis], highs[axis] = start, start + own[axis]
            params = {"start_indices": tuple(lows), "limit_indices": tuple(highs), "strides": None}
            found[slot] = self._writer.step("slice", [whole], own, kind.dtype, params)
            start = highs[axis]
        return found

    def _value(self, slots: tuple[int, ...]) -> int | None:
        """The one value in place of these; None where they are not computed alike."""
        if slots not in self._known:
            self._known[slots] = self._written(slots)
        return self._known[slots]

    def _written(self, slots: tuple[int, ...]) -> int | None:
        shape, dtype = self._shape(slots), self._flat.types[slots[0]].dtype
        if shape is None:
            return None
        if slots == tuple([anchor.output for anchor in self._anchors]):
            first = self._anchors[0]
            weights = [self._flat.constants[anchor.inputs[1]] for anchor in self._anchors]
            operands = [self._x, self._writer.constant(_side_by_side(weights, -1))]
            return self._writer.step(first.primitive, operands, shape, dtype, first.params)
        split = self._split(slots)
        if split is not None:
            primitive, inner, numbers = split
            below = self._value(inner)
            return None if below is None else self._writer.step(primitive, [below, self._beside(numbers, slots)], shape, dtype)
        steps = [self._producers.get(slot) for slot in slots]
        first_step = steps[0]
        return None if first_step is None else self._alike(first_step, steps, slots, shape)

    def _alike(self, first: Step, steps: Sequence[Step | None], slots: tuple[int, ...], shape: Sequence[int]) -> int | None:
        """The one value of steps of one kind."""
        if any(step is None or (step.primitive, step.params) != (first.primitive, first.params) for step in steps):
            return None
        operands = []
        for group in zip(*(step.inputs for step in steps if step is not None), strict=True):
            numbers = [self._constant(slot) for slot in group]
            known = [number for number in numbers if number is not None]
            operands.append(self._beside(known, slots) if len(known) == len(group) else None if known else self._value(group))
        found = [slot for slot in operands if slot is not None]
        dtype = self._flat.types[slots[0]].dtype
        return self._writer.step(first.primitive, found, shape, dtype, first.params) if len(found) == len(operands) else None

    def _split(self, slots: tuple[int, ...]) -> tuple[str, tuple[int, ...], list[np.ndarray]] | None:
        """(primitive, what is below, numbers) of the last of the steps that may be neutral; the longest epilogues go first."""
        halves = [self._half(slot) for slot in slots]
        longest = max((self._length(slot) for slot, half in zip(slots, halves, strict=True) if half is not None), default=0)
        own = [
            half if half is not None and self._length(slot) == longest else None for slot, half in zip(slots, halves, strict=True)
        ]
        names = [half[0] for half in own if half is not None]
        if not names:
            return None
        taken = [half if half is not None and half[0] == names[0] else None for half in own]
        inner = tuple([slot if half is None else half[1] for slot, half in zip(slots, taken, strict=True)])
        neutral = np.asarray(NEUTRAL[names[0]], self._flat.types[slots[0]].dtype)
        return names[0], inner, [neutral if half is None else half[2] for half in taken]

    def _half(self, slot: int) -> tuple[str, int, np.ndarray] | None:
        """(primitive, what is below, the number) of a step that may be neutral."""
        step = self._producers.get(slot)
        if step is None or step.primitive not in NEUTRAL:
            return None
        x, y = step.inputs
        number = self._constant(y)
        if number is not None:
            return step.primitive, x, number
        number = self._constant(x)
        return None if number is None or step.primitive == "sub" else (step.primitive, y, number)

    def _length(self, slot: int) -> int:
        """How many steps there are from a product to a value of its epilogue."""
        if any(slot == anchor.output for anchor in self._anchors):
            return 0
        return 1 + max(self._length(source) for source in self._producers[slot].inputs if self._constant(source) is None)

    def _constant(self, slot: int) -> np.ndarray | None:
        """The number, or an array of as many axes as what is made with it, if a value is constant."""
        if slot in self._flat.constants:
            return self._flat.constants[slot]
        step = self._producers.get(slot)
        if step is None or step.primitive != "broadcast_in_dim" or step.inputs[0] not in self._flat.constants:
            return None
        few = self._flat.constants[step.inputs[0]]
        shape = [1] * len(self._flat.types[slot].shape)
        for size, axis in zip(few.shape, step.params["dimensions"], strict=True):
            shape[axis] = size
        return few.reshape(shape)

    def _shape(self, slots: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of the one value; None where the columns of these do not lie in axes that can be joined."""
        shapes = [self._flat.types[slot].shape for slot in slots]
        axes = [_axis(shape, columns) for shape, columns in zip(shapes, self._columns, strict=True)]
        axis = axes[0]
        if axis is None or set(axes) != {axis} or len({(*shape[:axis], 0, *shape[axis + 1 :]) for shape in shapes}) > 1:
            return None
        return (*shapes[0][:axis], sum(shape[axis] for shape in shapes), *shapes[0][axis + 1 :])

    def _beside(self, numbers: Sequence[np.ndarray], slots: tuple[int, ...]) -> int:
        """Constants that are read beside these values, as the one that is read beside the one value."""
        if all(number.size == 1 and number.reshape(()) == numbers[0].reshape(()) for number in numbers):
            return self._writer.constant(numbers[0].reshape(()))
        shapes = [self._flat.types[slot].shape for slot in slots]
        axis = _axis(shapes[0], self._columns[0]) or 0
        arrays = [number.reshape((1,) * len(shapes[0])) if number.ndim == 0 else number for number in numbers]
        front = np.broadcast_shapes(*(array.shape[:axis] for array in arrays))
        whole = [np.broadcast_to(array, (*front, *shape[axis:])) for array, shape in zip(arrays, shapes, strict=True)]
        return self._writer.constant(_side_by_side(whole, axis))


def _side_by_side(arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
    """The arrays joined along an axis. One number everywhere, as where weights are not known, takes no memory then either."""
    numbers = {array[(0,) * array.ndim].item() for array in arrays if not any(array.strides)}
    if len(numbers) != 1 or any(any(array.strides) for array in arrays):
        return np.concatenate(arrays, axis)
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    return np.broadcast_to(np.asarray(numbers.pop(), arrays[0].dtype), shape)
