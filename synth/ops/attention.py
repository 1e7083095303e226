"""Attention over tokens: batch, positions, features."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from synth import native
from synth.op import ModalOp, Op, ShapeMismatch, Value, Weight, choice
from synth.ops.formulations import AttentionQuestion, Formulated, planned


@dataclass(frozen=True, kw_only=True)
class MultiHeadAttention(ModalOp, Formulated):
    """Scaled dot-product self-attention in `heads` heads that share the features (Vaswani et al., 2017)."""

    alike = True

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
        return self._by(_attended, weights, *inputs)

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same function, in the formulation that is fast."""
        return self._by(_planned, weights, *inputs), {}

    def question(self, *inputs: tuple[int, ...], dtype: str) -> AttentionQuestion:
        """What is to be planned for an input of this shape."""
        ((batch, positions, channels),) = inputs
        each = channels // self.heads
        return AttentionQuestion(batch, positions, positions, self.heads, each, each, self.causal, dtype)

    def _by(self, attended: Attended, weights: Mapping[str, jax.Array], x: jax.Array) -> jax.Array:
        query, key, value = (
            jnp.einsum("btc,chd->bthd", x, weights[f"{name}_kernel"]) + weights[f"{name}_bias"]
            for name in ("query", "key", "value")
        )
        mixed = attended(query, key, value, self.causal)
        return jnp.einsum("bqhd,hdc->bqc", mixed, weights["out_kernel"]) + weights["out_bias"]


@dataclass(frozen=True, kw_only=True)
class Attention(ModalOp, Formulated):
    """Scaled dot-product attention of queries, keys and values that are given, in `heads` heads that share the features.

    Without weights: a projection, and what stands after it, is a node of its own (So et al., 2021, put a convolution there).
    """

    alike = True
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
        return self._by(_attended, *inputs)

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same function, in the formulation that is fast."""
        return self._by(_planned, *inputs), {}

    def question(self, *inputs: tuple[int, ...], dtype: str) -> AttentionQuestion:
        """What is to be planned for inputs of these shapes."""
        (batch, queries, features), (_, keys, _), (_, _, outputs) = inputs
        return AttentionQuestion(
            batch, queries, keys, self.heads, features // self.heads, outputs // self.heads, self.causal, dtype
        )

    def _by(self, attended: Attended, *inputs: jax.Array) -> jax.Array:
        query, key, value = (x.reshape(*x.shape[:2], self.heads, x.shape[2] // self.heads) for x in inputs)
        mixed = attended(query, key, value, self.causal)
        return mixed.reshape(*inputs[0].shape[:2], inputs[2].shape[2])


Attended = Callable[[jax.Array, jax.Array, jax.Array, bool], jax.Array]
"""The mean of the values (batch, positions, heads, features) by the softmax of the scaled products, of queries and keys; causal."""


def _attended(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    # Scaling the query and not the scores keeps one linear step before the product and none after it.
    scores = jnp.einsum("bqhd,bkhd->bhqk", query / float(np.sqrt(query.shape[-1])), key)
    if causal:
        scores = jnp.where(np.tri(query.shape[1], dtype=bool), scores, -1e30)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)


def _direct(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    return _streamed(causal, query / float(np.sqrt(query.shape[-1])), key, value)


FORMULATIONS: Mapping[str, Attended] = {"native": _attended, "direct": _direct}


def _planned(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    if jax.default_backend() != "cpu":
        return _attended(query, key, value, causal)
    (batch, queries, heads, features), (_, keys, _, outputs) = query.shape, value.shape
    question = AttentionQuestion(batch, queries, keys, heads, features, outputs, causal, str(query.dtype))
    return FORMULATIONS[planned(question).forward](query, key, value, causal)


def _sizes(query: jax.Array, value: jax.Array, causal: bool) -> np.ndarray:
    (batch, queries, heads, features), (_, keys, _, outputs) = query.shape, value.shape
    return np.array([batch, queries, keys, heads, features, outputs, causal], np.int64)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _streamed(causal: bool, query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
    return _forward(causal, query, key, value)[0]


def _forward(causal: bool, query: jax.Array, key: jax.Array, value: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    out, logarithms = native.attention(_sizes(query, value, causal), query, key, value)
    return out, (query, key, value, out, logarithms)


def _backward(causal: bool, saved: tuple[jax.Array, ...], slope: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    return native.attention_slopes(_sizes(saved[0], saved[2], causal), *saved, slope)


_streamed.defvjp(_forward, _backward)


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
