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
    """The mean of every window; padding counts as zeros, as Flax's `avg_pool` does."""

    taste = 0.3

    def _reduce(self, x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
        total = jax.lax.reduce_window(x, np.zeros((), x.dtype)[()], jax.lax.add, window, strides, self.padding)
        return total / float(np.prod(window))


@dataclass(frozen=True, kw_only=True)
class MaxPool(_Pool):
    """The largest element of every window."""

    taste = 0.3

    def _reduce(self, x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...]) -> jax.Array:
        return jax.lax.reduce_window(x, np.array(-np.inf, x.dtype)[()], jax.lax.max, window, strides, self.padding)


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Op):
    """The mean over all spatial axes, which are dropped, or kept with size one."""

    taste = 0.5

    keep_axes: bool = choice(False, among=(False, True))

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) < 3:
            raise ShapeMismatch(f"{self} wants batch, spatial axes and features; got {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        return jnp.mean(x, tuple(range(1, x.ndim - 1)), keepdims=self.keep_axes)
