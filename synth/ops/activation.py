"""Activations: functions of one element, and softmax over the features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from synth.op import ModalOp, Op, Value, Weight, choice, start


@jax.jit
def squared_relu(x: jax.Array) -> jax.Array:
    """The square of the positive part (So et al., 2021, Primer)."""
    return jnp.square(jax.nn.relu(x))


@dataclass(frozen=True, kw_only=True)
class Relu(Op):
    """The positive part."""

    idempotent = True
    nonnegative = True
    fixes_nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.relu(inputs[0])


@dataclass(frozen=True, kw_only=True)
class Relu6(Op):
    """The positive part, capped at 6 (Howard et al., 2017, MobileNet)."""

    taste = 0.1
    idempotent = True
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.relu6(inputs[0])


@dataclass(frozen=True, kw_only=True)
class Gelu(Op):
    """The Gaussian error linear unit, exact or in its tanh approximation (Hendrycks and Gimpel, 2016)."""

    taste = 0.7
    keeps_nonnegative = True

    approximate: bool = False

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.gelu(inputs[0], approximate=self.approximate)


@dataclass(frozen=True, kw_only=True)
class Silu(Op):
    """x times its sigmoid, also called swish."""

    taste = 0.7
    keeps_nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.silu(inputs[0])


@dataclass(frozen=True, kw_only=True)
class HardSilu(Op):
    """x times its hard sigmoid, also called hard swish (Howard et al., 2019, MobileNetV3)."""

    taste = 0.1
    keeps_nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.hard_silu(inputs[0])


@dataclass(frozen=True, kw_only=True)
class Sigmoid(Op):
    """The logistic function."""

    taste = 0.02
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(inputs[0])


@dataclass(frozen=True, kw_only=True)
class HardSigmoid(Op):
    """The logistic function in three straight pieces: relu6(x + 3) / 6."""

    taste = 0.01
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.hard_sigmoid(inputs[0])


@dataclass(frozen=True, kw_only=True)
class SquaredRelu(Op):
    """The square of the positive part (So et al., 2021, Primer)."""

    taste = 0.3
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return squared_relu(inputs[0])


@dataclass(frozen=True, kw_only=True)
class Softmax(Op):
    """Softmax over the feature axis."""

    taste = 0.01
    nonnegative = True

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jax.nn.softmax(inputs[0], axis=-1)


@dataclass(frozen=True, kw_only=True)
class Scale(Op):
    """Multiplication of every feature by a learned number, `initial` at the start: LayerScale (Touvron et al., 2021)."""

    taste = 0.05

    initial: float = start(1.0)

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {"scale": Weight((inputs[0].channels,), "ones", gain=self.initial)}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0] * weights["scale"]


@dataclass(frozen=True, kw_only=True)
class Dropout(ModalOp):
    """Zeroes elements at a rate in training and rescales the rest (Srivastava et al., 2014); the identity in inference."""

    taste = 0.02
    keeps_nonnegative = True

    rate: float = choice(0.1, among=(0.1, 0.2))

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0]

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        (x,) = inputs
        keep = jax.random.bernoulli(key, 1.0 - self.rate, x.shape)
        return jnp.where(keep, x / (1.0 - self.rate), 0.0), {}


@dataclass(frozen=True, kw_only=True)
class StochasticDepth(ModalOp):
    """Zeroes whole examples at a rate in training and rescales the rest (Huang et al., 2016); the identity in inference."""

    taste = 0.0
    keeps_nonnegative = True

    rate: float = 0.1

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return inputs[0]

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        (x,) = inputs
        keep = jax.random.bernoulli(key, 1.0 - self.rate, (x.shape[0], *(1,) * (x.ndim - 1)))
        return jnp.where(keep, x / (1.0 - self.rate), 0.0), {}
