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
        out, mean, var = _normalized(self.epsilon, x, weights["scale"], weights["bias"])
        statistics = {"mean": mean, "var": var}
        running = {
            name: self.momentum * weights[name] + (1 - self.momentum) * jax.lax.stop_gradient(value)
            for name, value in statistics.items()
        }
        return out, running


Statistics = tuple[jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalized(epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array) -> Statistics:
    """(the normalized batch, its mean, its variance); the statistics themselves have no slope."""
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    var = jnp.maximum(jnp.square(x).mean(axes) - jnp.square(mean), 0.0)
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias, mean, var


def _normalized_forward(
    epsilon: float, x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[Statistics, tuple[jax.Array, jax.Array, jax.Array, jax.Array]]:
    out, mean, var = _normalized(epsilon, x, scale, bias)
    return (out, mean, var), (x, scale, mean, var)


def _normalized_backward(
    epsilon: float, saved: tuple[jax.Array, jax.Array, jax.Array, jax.Array], slopes: Statistics
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The slopes in closed form: two sums, then one pass that is linear in slope and input, with numbers for each channel."""
    x, scale, mean, var = saved
    slope, axes = slopes[0], tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    inverse = jax.lax.rsqrt(var + epsilon)
    total = slope.sum(axes)
    along = (slope * x).sum(axes) - mean * total
    factor = inverse * scale
    bent = factor * jnp.square(inverse) * along / count
    return factor * slope - bent * x + (bent * mean - factor * total / count), along * inverse, total


_normalized.defvjp(_normalized_forward, _normalized_backward)


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
