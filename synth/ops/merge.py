"""Ops of several inputs: sum, product, concatenation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add, mul

import jax
import jax.numpy as jnp

from synth.op import Op, ShapeMismatch, Value


def _check_broadcast(op: Op, inputs: tuple[Value, ...]) -> None:
    """Said before JAX would say it: much is tried, and JAX's own errors are slow to make."""
    if len({len(value.shape) for value in inputs}) > 1:
        raise ShapeMismatch(f"{op} wants inputs of one rank; got {', '.join(map(str, inputs))}")
    for sizes in zip(*(value.shape for value in inputs), strict=True):
        if len({size for size in sizes if size != 1}) > 1:
            raise ShapeMismatch(f"{op} wants sizes that are equal or 1; got {', '.join(map(str, inputs))}")


@dataclass(frozen=True, kw_only=True)
class Add(Op):
    """The sum of its inputs; axes of size one are repeated."""

    arity = None
    commutative = True
    keeps_nonnegative = True

    def check(self, *inputs: Value) -> None:
        _check_broadcast(self, inputs)

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return reduce(add, inputs)


@dataclass(frozen=True, kw_only=True)
class Multiply(Op):
    """The product of its inputs, as a gate computes it; axes of size one are repeated."""

    arity = None
    commutative = True
    keeps_nonnegative = True
    taste = 0.4

    def check(self, *inputs: Value) -> None:
        _check_broadcast(self, inputs)

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return reduce(mul, inputs)


@dataclass(frozen=True, kw_only=True)
class Concatenate(Op):
    """The inputs one after the other along the feature axis."""

    arity = None
    keeps_nonnegative = True
    taste = 0.4

    def check(self, *inputs: Value) -> None:
        if len({value.shape[:-1] for value in inputs}) > 1:
            raise ShapeMismatch(f"{self} wants inputs that differ in their features only; got {', '.join(map(str, inputs))}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jnp.concatenate(inputs, axis=-1)
