"""Attention over tokens: batch, positions, features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from synth.op import Op, ShapeMismatch, Value, Weight, choice


@dataclass(frozen=True, kw_only=True)
class MultiHeadAttention(Op):
    """Scaled dot-product self-attention in `heads` heads that share the features (Vaswani et al., 2017)."""

    heads: int = choice(2, among=(1, 2, 4))
    causal: bool = False

    def check(self, *inputs: Value) -> None:
        (x,) = inputs
        if len(x.shape) != 3:
            raise ShapeMismatch(f"{self} wants batch, positions and features; got {x}")
        if x.channels % self.heads:
            raise ShapeMismatch(f"{self} has {self.heads} heads, which must divide its {x.channels} features")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        (x,) = inputs
        inner = (self.heads, x.channels // self.heads)
        owned = {}
        for name in ("query", "key", "value"):
            owned[f"{name}_kernel"] = Weight((x.channels, *inner), "lecun_normal", x.channels)
            owned[f"{name}_bias"] = Weight(inner, "zeros")
        owned["out_kernel"] = Weight((*inner, x.channels), "lecun_normal", x.channels)
        owned["out_bias"] = Weight((x.channels,), "zeros")
        return owned

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        query, key, value = (
            jnp.einsum("btc,chd->bthd", x, weights[f"{name}_kernel"]) + weights[f"{name}_bias"]
            for name in ("query", "key", "value")
        )
        mixed = _attended(query, key, value, causal=self.causal)
        return jnp.einsum("bqhd,hdc->bqc", mixed, weights["out_kernel"]) + weights["out_bias"]


@dataclass(frozen=True, kw_only=True)
class Attention(Op):
    """Scaled dot-product attention of queries, keys and values that are given, in `heads` heads that share the features.

    Without weights: a projection, and what stands after it, is a node of its own (So et al., 2021, put a convolution there).
    """

    arity = 3
    taste = 0.5

    heads: int = choice(2, among=(1, 2, 4))
    causal: bool = False

    def check(self, *inputs: Value) -> None:
        query, key, value = inputs
        if any(len(x.shape) != 3 for x in inputs):
            raise ShapeMismatch(f"{self} wants batch, positions and features; got {', '.join(map(str, inputs))}")
        if query.channels != key.channels or key.shape[1] != value.shape[1]:
            raise ShapeMismatch(f"{self} wants queries like keys and as many keys as values; got {', '.join(map(str, inputs))}")
        if query.channels % self.heads or value.channels % self.heads:
            raise ShapeMismatch(f"{self} has {self.heads} heads, which must divide the features; got {', '.join(map(str, inputs))}")
        if self.causal and query.shape[1] != key.shape[1]:
            raise ShapeMismatch(f"{self} is causal and wants as many queries as keys; got {query} and {key}")

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        query, key, value = (x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads) for x in inputs)
        mixed = _attended(query, key, value, causal=self.causal)
        return mixed.reshape(*inputs[0].shape[:2], inputs[2].shape[2])


def _attended(query: jax.Array, key: jax.Array, value: jax.Array, *, causal: bool) -> jax.Array:
    """The mean of the values (batch, positions, heads, features) by the softmax of the scaled products."""
    # Scaling the query and not the scores keeps one linear step before the product and none after it.
    scores = jnp.einsum("bqhd,bkhd->bhqk", query / float(np.sqrt(query.shape[-1])), key)
    if causal:
        scores = jnp.where(np.tri(query.shape[1], dtype=bool), scores, -1e30)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)


@dataclass(frozen=True, kw_only=True)
class PositionEmbedding(Op):
    """A learned vector for every position, added to its features."""

    taste = 0.02

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) < 3:
            raise ShapeMismatch(f"{self} wants batch, positions and features; got {inputs[0]}")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        shape = tuple(size for size in inputs[0].shape[1:] if size is not None)
        return {"embedding": Weight(shape, "normal_0.02")}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0] + weights["embedding"]


@dataclass(frozen=True, kw_only=True)
class ClassToken(Op):
    """Learned vectors in front of the positions, zeros at the start (Dosovitskiy et al., 2021); several serve as registers."""

    taste = 0.0

    tokens: int = 1

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) != 3:
            raise ShapeMismatch(f"{self} wants batch, positions and features; got {inputs[0]}")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {"token": Weight((self.tokens, inputs[0].channels), "zeros")}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        return jnp.concatenate([jnp.broadcast_to(weights["token"], (x.shape[0], *weights["token"].shape)), x], axis=1)
