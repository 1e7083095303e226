"""A 1×1 convolution and the depthwise one that reads it as one kernel: what is between them, the widest value of a mobile network,
stays in a core's own cache, a block of channels and a strip of rows at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from alphanas.hardware.kernels import Kernel, Plan
from alphanas.hardware.program import Flat, Step

PLANE = 4
"""Axes of a batch of images."""


def fused(planned: Plan) -> Plan:
    """The plan with such pairs joined: the depthwise kernel lists in `before` the one that it runs first."""
    flat = planned.flat
    readers = flat.readers
    by_output = {kernel.output: kernel for kernel in planned.kernels}
    joined: dict[int, Kernel] = {}
    hidden: set[int] = set()
    for kernel in planned.kernels:
        first = by_output.get(kernel.anchor.inputs[0]) if kernel.anchor is not None and kernel.anchor.inputs else None
        if first is not None and _is_pair(planned, first, kernel, readers[first.output]):
            joined[kernel.output] = dataclasses.replace(kernel, before=(first,))
            hidden.add(first.output)
    kernels = tuple(joined.get(kernel.output, kernel) for kernel in planned.kernels if kernel.output not in hidden)
    return dataclasses.replace(planned, kernels=kernels)


def _is_pair(planned: Plan, first: Kernel, kernel: Kernel, readers: Sequence[Step]) -> bool:
    flat = planned.flat
    expands, filters = first.anchor, kernel.anchor
    if expands is None or filters is None or expands.primitive != "convolve" or filters.primitive != "convolve":
        return False
    alone = first.output not in flat.outputs and all(step is filters for step in readers)
    same = flat.types[first.output].shape == flat.types[expands.output].shape
    known = expands.inputs[0] in planned.stored and expands.inputs[0] not in flat.constants
    return alone and same and known and is_pointwise(flat, expands) and is_depthwise(flat, filters)


def is_pointwise(flat: Flat, step: Step) -> bool:
    """Whether a convolution is a product of the features of every place."""
    params = step.params
    still = all(set(params[name]) == {1} for name in ("strides", "dilation", "input_dilation"))
    whole = all(pair == (0, 0) for pair in params["pads"])
    return still and whole and params["groups"] == 1 and set(flat.types[step.inputs[1]].shape[:-2]) == {1}


def is_depthwise(flat: Flat, step: Step) -> bool:
    """Whether a convolution of a plane is one of every channel by itself."""
    *window, inner, features = flat.types[step.inputs[1]].shape
    still = set(step.params["input_dilation"]) == {1} and min(min(pair) for pair in step.params["pads"]) >= 0
    return len(window) + 2 == PLANE and inner == 1 and step.params["groups"] == features > 1 and still
