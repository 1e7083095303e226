"""Dense layers over the feature axis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from synth.op import Op, Value, Weight, size


@dataclass(frozen=True, kw_only=True)
class Dense(Op):
    """An affine map of the feature axis to `features` features; every other axis is carried along."""

    taste = 1.5

    features: int = size()
    use_bias: bool = True

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        (x,) = inputs
        kernel = Weight((x.channels, self.features), "lecun_normal", x.channels)
        return {"kernel": kernel, "bias": Weight((self.features,), "zeros")} if self.use_bias else {"kernel": kernel}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        out = jnp.dot(x, weights["kernel"])
        return out + weights["bias"] if self.use_bias else out
