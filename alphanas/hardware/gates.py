"""A factor for every channel, as of squeeze-excite, goes into the weights of the 1×1 convolution that reads the product.

There are as many weights as channels times features, and as many values as channels times places: where features are fewer than
places, this saves the pass that would write the product down.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from alphanas.hardware.canonical import Rewriter, reopened
from alphanas.hardware.fusing import is_pointwise
from alphanas.hardware.kernels import epilogues
from alphanas.hardware.program import Flat, Step


def scaled(flat: Flat) -> Flat:
    """The canonical program with such factors moved; the program itself where there are none."""
    producers, readers = {step.output: step for step in flat.steps}, flat.readers
    gated = {step: found for step in flat.steps if (found := _gated(flat, producers, readers, step)) is not None}
    stored = {*flat.inputs, *epilogues(flat, readers)} if gated else set()
    gated = {step: pair for step, pair in gated.items() if pair[0] in stored and step.inputs[0] not in stored}
    if not gated:
        return flat
    writer = reopened(flat)
    moved: dict[int, int] = {}
    for step in flat.steps:
        if step in gated:
            value, factor = (moved.get(slot, slot) for slot in gated[step])
            moved[step.output] = _product(writer, step, value, factor)
            continue
        inputs = tuple([moved.get(slot, slot) for slot in step.inputs])
        writer.steps.append(step if inputs == step.inputs else dataclasses.replace(step, inputs=inputs))
    return writer.flat(flat.inputs, [moved.get(slot, slot) for slot in flat.outputs])


def _gated(flat: Flat, producers: Mapping[int, Step], readers: Mapping[int, Sequence[Step]], step: Step) -> tuple[int, int] | None:
    """(value, factor) whose product a 1×1 convolution alone reads, if the factor is cheaper in the weights."""
    product = producers.get(step.inputs[0]) if step.primitive == "convolve" and is_pointwise(flat, step) else None
    if product is None or product.primitive != "mul" or product.output in flat.outputs or len(readers[product.output]) > 1:
        return None
    batch, *outer, features = flat.types[step.output].shape
    for value, factor in (product.inputs, product.inputs[::-1]):
        images = _images(flat.types[factor].shape)
        whole = flat.types[value].shape == flat.types[product.output].shape
        if whole and images is not None and features < math.prod(outer) * batch // images:
            return value, factor
    return None


def _images(shape: Sequence[int]) -> int | None:
    """For how many images a factor has values of its own; None where it differs from place to place."""
    return shape[0] if len(shape) > 2 and set(shape[1:-1]) == {1} else None


def _product(writer: Rewriter, step: Step, value: int, factor: int) -> int:
    """The convolution as a product with scaled weights, of every image where they differ."""
    writer.origin, writer.source = step.origin, step.source
    _, weight = step.inputs
    shape, dtype = writer.type(step.output).shape, writer.type(step.output).dtype
    channels, features = writer.type(weight).shape[-2:]
    images = writer.type(factor).shape[0]
    front = (images,) if images > 1 else ()
    plain = writer.reshape(weight, (*(1 for _ in front), channels, features))
    scaled = writer.step("mul", [plain, writer.reshape(factor, (*front, channels, 1))], (*front, channels, features), dtype)
    places = math.prod(shape[:-1]) // images
    values = writer.reshape(value, (*front, places, channels))
    params = {"batch": len(front), "rows": 1, "depths": (channels,)}
    result = writer.step("contract", [values, scaled], (*front, places, features), dtype, params)
    return writer.reshape(result, shape)
