"""Pooling over the spatial axes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from synth.op import Op, ShapeMismatch, Value, choice


@dataclass(frozen=True, kw_only=True)
class _Pool(Op):
    """A window of equal sides slid over all spatial axes."""

    window: int = choice(2, among=(2, 3))
    stride: int = choice(2, among=(1, 2))
    padding: str = "SAME"

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) < 3:
            raise ShapeMismatch(f"{self} wants batch, spatial axes and features; got {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        rank = x.ndim - 2
        return self._reduce(x, (1, *(self.window,) * rank, 1), (1, *(self.stride,) * rank, 1))

    @abstractmethod
    def _reduce(self, x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
        """The pooled value of every window."""


@dataclass(frozen=True, kw_only=True)
class AvgPool(_Pool):
    """The mean of every window; padding counts as zeros, as Flax's `avg_pool` does, or with `count_padding=False` not at all."""

    taste = 0.3
    keeps_nonnegative = True

    count_padding: bool = True

    def _reduce(self, x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
        total = jax.lax.reduce_window(x, np.zeros((), x.dtype)[()], jax.lax.add, window, strides, self.padding)
        if self.count_padding or self.padding == "VALID":
            return total / float(np.prod(window))
        return total / _inside(x.shape, window, strides, self.padding).astype(x.dtype)


def _inside(shape: tuple[int, ...], window: tuple[int, ...], strides: tuple[int, ...], padding: str) -> np.ndarray:
    """How many of the positions of each window lie on the input; sizes of one for batch and features."""
    counts = np.ones((1,) * len(shape))
    pads = jax.lax.padtype_to_pads(shape, window, strides, padding)
    for axis in range(1, len(shape) - 1):
        first = np.arange(-pads[axis][0], shape[axis] + pads[axis][1] - window[axis] + 1, strides[axis])
        along = np.minimum(first + window[axis], shape[axis]) - np.maximum(first, 0)
        counts = counts * along.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    return counts


@dataclass(frozen=True, kw_only=True)
class MaxPool(_Pool):
    """The largest element of every window."""

    taste = 0.3
    keeps_nonnegative = True

    def _reduce(self, x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
        return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype)[()], jax.lax.max, window, strides, self.padding)


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Op):
    """The mean over all spatial axes, which are dropped, or kept with size one."""

    taste = 0.5
    keeps_nonnegative = True

    keep_axes: bool = choice(False, among=(False, True))

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) < 3:
            raise ShapeMismatch(f"{self} wants batch, spatial axes and features; got {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        return jnp.mean(x, tuple(range(1, x.ndim - 1)), keepdims=self.keep_axes)
