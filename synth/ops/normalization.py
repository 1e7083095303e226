"""Normalizations. Their inner functions are named calls, so that an interpreter can read each as the one step it is."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from synth.op import ModalOp, Op, ShapeMismatch, Value, Weight, choice


@functools.partial(jax.jit, static_argnames="epsilon")
def layer_norm(x: jax.Array, *, epsilon: float) -> jax.Array:
    """Zero mean and unit variance over the feature axis."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + epsilon)


@functools.partial(jax.jit, static_argnames=("groups", "epsilon"))
def group_norm(x: jax.Array, *, groups: int, epsilon: float) -> jax.Array:
    """Zero mean and unit variance over each group of features and all spatial axes."""
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = grouped.mean((1, 3), keepdims=True)
    variance = jnp.square(grouped - mean).mean((1, 3), keepdims=True)
    return ((grouped - mean) * jax.lax.rsqrt(variance + epsilon)).reshape(x.shape)


@functools.partial(jax.jit, static_argnames="epsilon")
def rms_norm(x: jax.Array, *, epsilon: float) -> jax.Array:
    """Unit mean square over the feature axis."""
    return x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)


@dataclass(frozen=True, kw_only=True)
class BatchNorm(ModalOp):
    """Normalization by the batch's statistics in training, by their running mean in inference (Ioffe and Szegedy, 2015)."""

    normalizes = True

    momentum: float = 0.9
    epsilon: float = 1e-5

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return _affine(inputs[0])

    def state(self, *inputs: Value) -> dict[str, Weight]:
        (x,) = inputs
        return {"mean": Weight((x.channels,), "zeros"), "var": Weight((x.channels,), "ones")}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        factor = jax.lax.rsqrt(weights["var"] + self.epsilon) * weights["scale"]
        return (x - weights["mean"]) * factor + weights["bias"]

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        (x,) = inputs
        axes = tuple(range(x.ndim - 1))
        mean, square = x.mean(axes), jnp.square(x).mean(axes)
        statistics = {"mean": mean, "var": jnp.maximum(square - jnp.square(mean), 0.0)}
        running = {
            name: self.momentum * weights[name] + (1 - self.momentum) * jax.lax.stop_gradient(value)
            for name, value in statistics.items()
        }
        return self.apply({**weights, **statistics}, x), running


@dataclass(frozen=True, kw_only=True)
class LayerNorm(Op):
    """Normalization of every position over its features (Ba et al., 2016), with scale and bias."""

    taste = 0.3
    normalizes = True

    epsilon: float = 1e-6

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return _affine(inputs[0])

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return layer_norm(inputs[0], epsilon=self.epsilon) * weights["scale"] + weights["bias"]


@dataclass(frozen=True, kw_only=True)
class RmsNorm(Op):
    """Division of every position by the root mean square of its features (Zhang and Sennrich, 2019), with scale."""

    taste = 0.2
    normalizes = True

    epsilon: float = 1e-6

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {"scale": _affine(inputs[0])["scale"]}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return rms_norm(inputs[0], epsilon=self.epsilon) * weights["scale"]


@dataclass(frozen=True, kw_only=True)
class GroupNorm(Op):
    """Normalization over groups of features and all positions (Wu and He, 2018), with scale and bias."""

    taste = 0.2
    normalizes = True

    groups: int = choice(4, among=(1, 4, 8))
    epsilon: float = 1e-6

    def check(self, *inputs: Value) -> None:
        (x,) = inputs
        if x.channels % self.groups:
            raise ShapeMismatch(f"{self} has {self.groups} groups, which must divide its {x.channels} features")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return _affine(inputs[0])

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return group_norm(inputs[0], groups=self.groups, epsilon=self.epsilon) * weights["scale"] + weights["bias"]


def _affine(x: Value) -> dict[str, Weight]:
    return {"scale": Weight((x.channels,), "ones"), "bias": Weight((x.channels,), "zeros")}
