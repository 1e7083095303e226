"""Ops that move elements and change none. The batch axis stays first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from synth.op import Op, ShapeMismatch, Value


@dataclass(frozen=True, kw_only=True)
class Flatten(Op):
    """All axes but the batch as one."""

    taste = 0.3
    keeps_nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        return x.reshape(x.shape[0], -1)


@dataclass(frozen=True, kw_only=True)
class Reshape(Op):
    """Another shape for the axes after the batch; one size may be -1."""

    taste = 0.0
    keeps_nonnegative = True

    shape: tuple[int, ...] = (-1,)

    def check(self, *inputs: Value) -> None:
        elements = math.prod(size for size in inputs[0].shape[1:] if size is not None)
        known = math.prod(size for size in self.shape if size != -1)
        fits = elements % known == 0 if -1 in self.shape else elements == known
        if self.shape.count(-1) > 1 or not fits:
            raise ShapeMismatch(f"{self} does not hold the {elements} elements of {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0].reshape(inputs[0].shape[0], *self.shape)


@dataclass(frozen=True, kw_only=True)
class Transpose(Op):
    """The axes after the batch in another order: `order` permutes 1, 2, …"""

    taste = 0.05
    keeps_nonnegative = True

    order: tuple[int, ...] = (2, 1)

    def check(self, *inputs: Value) -> None:
        if sorted(self.order) != list(range(1, len(inputs[0].shape))):
            raise ShapeMismatch(f"{self} must permute the axes 1 to {len(inputs[0].shape) - 1} of {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jnp.transpose(inputs[0], (0, *self.order))


@dataclass(frozen=True, kw_only=True)
class Select(Op):
    """One position along an axis, which is dropped: the class token of a transformer, or the last state of a sequence."""

    taste = 0.0
    keeps_nonnegative = True

    index: int = 0
    axis: int = 1

    def check(self, *inputs: Value) -> None:
        (x,) = inputs
        if not 1 <= self.axis < len(x.shape) - 1:
            raise ShapeMismatch(f"{self} wants an axis between the batch and the features of {x}")
        size = x.shape[self.axis] or 0
        if not -size <= self.index < size:
            raise ShapeMismatch(f"{self} has no position {self.index} among the {size} of axis {self.axis} of {x}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        return jax.lax.index_in_dim(x, self.index % x.shape[self.axis], self.axis, keepdims=False)


@dataclass(frozen=True, kw_only=True)
class Zero(Op):
    """Zeros of its input's type: the missing edge of a cell (Dong and Yang, 2020). Nothing of the input comes through."""

    taste = 0.0
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jnp.zeros_like(inputs[0])


@dataclass(frozen=True, kw_only=True)
class Slice(Op):
    """The features from `start` to `stop`."""

    taste = 0.0
    keeps_nonnegative = True

    start: int = 0
    stop: int = 1

    def check(self, *inputs: Value) -> None:
        if not 0 <= self.start < self.stop <= inputs[0].channels:
            raise ShapeMismatch(f"{self} wants a part of the {inputs[0].channels} features of {inputs[0]}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0][..., self.start : self.stop]
