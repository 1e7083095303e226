"""Tables of learned vectors: looked up by token, and compared with features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from synth.op import Op, ShapeMismatch, Value, Weight, size


@dataclass(frozen=True, kw_only=True)
class Embed(Op):
    """The row of a learned table for every integer of its input; its features are a new last axis."""

    taste = 0.0

    entries: int = 2
    features: int = size()

    def check(self, *inputs: Value) -> None:
        if not np.issubdtype(np.dtype(inputs[0].dtype), np.integer):
            raise ShapeMismatch(f"{self} wants integers; got {inputs[0].dtype}")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {"embedding": Weight((self.entries, self.features), "normal_0.02")}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jnp.take(weights["embedding"], inputs[0], axis=0)


@dataclass(frozen=True, kw_only=True)
class Attend(Op):
    """The product of the features with every row of a table of `features` rows: an output layer that may share an embedding's."""

    taste = 0.0

    features: int = size()

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {"embedding": Weight((self.features, inputs[0].channels), "normal_0.02")}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        return jnp.dot(inputs[0], weights["embedding"].T)
