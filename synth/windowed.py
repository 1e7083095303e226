"""Windows over arrays, by NumPy: convolutions as products for BLAS, sums and extremes one axis after the other."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from properties.jaxpr import Equation

Array = np.ndarray[Any, Any]

ELEMENTS = 1 << 18
"""Columns of so many elements are laid out at once: 1 MiB, which a core's own cache holds."""


def windows(combine: Callable[..., Any], empty: float) -> Callable[[Equation, Sequence[Array]], Array]:
    """A step that combines the elements of each window; `empty` is what stands beyond the edges."""

    def step(equation: Equation, operands: Sequence[Array]) -> Array:
        params, x = equation.params, operands[0]
        x = np.pad(x, params["padding"], constant_values=empty)
        for axis, (side, stride) in enumerate(zip(params["window_dimensions"], params["window_strides"], strict=True)):
            count = (x.shape[axis] - side) // stride + 1
            x = functools.reduce(combine, [x[(slice(None),) * axis + (_every(first, count, stride),)] for first in range(side)])
        return x

    return step


def is_plain_window(equation: Equation) -> bool:
    """No gaps in the input or the window, and not so large that its elements are better not gone through one by one."""
    params = equation.params
    return {*params["base_dilation"], *params["window_dilation"]} <= {1} and sum(params["window_dimensions"]) <= 64


def is_plain_convolution(equation: Equation) -> bool:
    """Features last, no gaps in the input, nothing cut off at the edges, in float32."""
    params, last = equation.params, len(equation.input_types[0].shape) - 1
    spatial = tuple(range(1, last))
    numbers = params["dimension_numbers"]
    return (
        last > 1
        and (numbers.lhs_spec, numbers.out_spec) == ((0, last, *spatial),) * 2
        and numbers.rhs_spec == (last, last - 1, *range(last - 1))
        and set(params["lhs_dilation"]) <= {1}
        and params["batch_group_count"] == 1
        and min((edge for pair in params["padding"] for edge in pair), default=0) >= 0
        and equation.output_types[0].dtype == "float32"
    )


def convolved(equation: Equation, operands: Sequence[Array]) -> Array:
    """A plain convolution.

    The window along the last axis is laid out as columns of a matrix; products of these are summed over its places along the other
    axes, so that little is copied. A few pictures at a time: what is laid out stays in a cache.
    """
    params, (x, kernel) = equation.params, operands
    groups, shape = params["feature_group_count"], equation.output_types[0].shape
    axes = [
        Axis(*each) for each in zip(params["padding"], params["rhs_dilation"], params["window_strides"], shape[1:-1], strict=True)
    ]
    if kernel.shape[-2] == 1 and groups == x.shape[-1]:
        return _depthwise(np.pad(x, ((0, 0), *params["padding"], (0, 0))), kernel, axes, shape)
    places = list(itertools.product(*map(range, kernel.shape[:-3])))
    factors = [kernel[place].reshape(-1, groups, shape[-1] // groups).transpose(1, 0, 2) for place in places]
    taps = [(slice(None), slice(None), *map(Axis.places, axes, place)) for place in places]
    found = np.empty(shape, np.float32)
    once = max(1, ELEMENTS // (kernel.shape[-3] * x[0].size))
    for part in (slice(first, first + once) for first in range(0, len(x), once)):
        rows = _columns(x[part], kernel.shape[-3], groups, axes)
        found[part] = _summed([rows[tap] for tap in taps], factors).reshape(found[part].shape)
    return found


@dataclass(frozen=True)
class Axis:
    """One axis of a convolution: its padding, and where windows of it lie."""

    padding: tuple[int, int]
    dilation: int
    stride: int
    count: int

    def places(self, tap: int) -> slice:
        """Where one place of every window lies, in what is padded."""
        return _every(tap * self.dilation, self.count, self.stride)

    def within(self, tap: int, side: int) -> tuple[slice, slice]:
        """The windows whose place lies in what is not padded, of this side; and where it lies there."""
        start = tap * self.dilation - self.padding[0]
        first = max(0, -(start // self.stride))
        last = max(first, min(self.count, (side - 1 - start) // self.stride + 1))
        return slice(first, last), _every(start + first * self.stride, last - first, self.stride)


def _every(first: int, count: int, stride: int) -> slice:
    return slice(first, first + (count - 1) * stride + 1, stride) if count > 0 else slice(0, 0)


def _columns(x: Array, window: int, groups: int, axes: Sequence[Axis]) -> Array:
    """(pictures, groups, …padded axes but the last, windows along it, window · channels / groups)."""
    *others, last = axes
    parted = np.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 1)
    if window == 1 and last.stride == 1 and not any(any(axis.padding) for axis in axes):
        return parted
    sides = [side + sum(axis.padding) for side, axis in zip(x.shape[1:-2], others, strict=True)]
    columns = np.zeros((len(x), groups, *sides, last.count, window, parted.shape[-1]), np.float32)
    inside = [slice(axis.padding[0], axis.padding[0] + side) for side, axis in zip(x.shape[1:-2], others, strict=True)]
    for tap in range(window):
        windows, places = last.within(tap, x.shape[-2])
        where: list[slice | int] = [slice(None), slice(None), *inside, windows, tap]
        columns[tuple(where)] = parted[..., places, :]
    return columns.reshape(*columns.shape[:-2], -1)


def _summed(rows: Sequence[Array], factors: Sequence[Array]) -> Array:
    """The sum of products of (pictures, groups, …places, columns) with (groups, columns, features).

    It is (pictures, places, groups, features).
    """
    flat = [each.reshape(*each.shape[:2], -1, each.shape[-1]) for each in rows]
    total = flat[0] @ factors[0]
    product = np.empty_like(total)
    for each, factor in zip(flat[1:], factors[1:], strict=True):
        np.matmul(each, factor, out=product)
        total += product
    return total.transpose(0, 2, 1, 3)


def _depthwise(x: Array, kernel: Array, axes: Sequence[Axis], shape: tuple[int, ...]) -> Array:
    """Every channel by itself: a multiple of the picture for each place of the window."""
    channels = x.shape[-1]
    found = np.zeros((*shape[:-1], channels, shape[-1] // channels), np.float32)
    for place in itertools.product(*map(range, kernel.shape[:-2])):
        # As long as rows are, so that NumPy goes through a row at once.
        factor = np.broadcast_to(kernel[place].reshape(channels, -1), found.shape[-3:]).copy()
        found += x[(slice(None), *map(Axis.places, axes, place))][..., None] * factor
    return found.reshape(shape)
