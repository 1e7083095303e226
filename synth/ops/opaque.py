"""A piece of a model that the vocabulary has no word for: it runs, trains and is analysed, and is never edited."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from synth.op import ModalOp, Value, Weight
from synth.programs import run

IDENTITY = '{"inputs": 1, "steps": [], "outputs": [0]}'


@dataclass(frozen=True, kw_only=True)
class Opaque(ModalOp):
    """A JAX program as JSON (`synth.programs`): its inputs are the node's, then its trained weights, then its held arrays.

    `trained` and `held` are (name, shape, dtype) for each array; `because` says why no op of the vocabulary stands here.
    """

    taste = 0.0
    alike = True
    keeps_state = True

    program: str = IDENTITY
    trained: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    held: tuple[tuple[str, tuple[int, ...], str], ...] = ()
    label: str = "identity"
    because: str = ""

    @property
    def arity(self) -> int:  # type: ignore[override]
        """Number of inputs."""
        return int(_parsed(self.program)["inputs"]) - len(self.trained) - len(self.held)

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        return {name: _weight(name, shape, dtype) for name, shape, dtype in self.trained}

    def state(self, *inputs: Value) -> dict[str, Weight]:
        return {name: Weight(shape, "zeros", dtype=dtype) for name, shape, dtype in self.held}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        arrays = [weights[name] for name, _, _ in (*self.trained, *self.held)]
        return run(_parsed(self.program), [*inputs, *arrays], inputs[0].shape[0])[0]

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same as in inference; what it holds stays as it is."""
        return self.apply(weights, *inputs), {name: weights[name] for name, _, _ in self.held}

    def __str__(self) -> str:
        return f"opaque({self.label})"


@functools.lru_cache(maxsize=1024)
def _parsed(program: str) -> Mapping[str, Any]:
    parsed: Mapping[str, Any] = json.loads(program)
    return parsed


def _weight(name: str, shape: tuple[int, ...], dtype: str) -> Weight:
    if len(shape) > 1:
        return Weight(shape, "lecun_normal", math.prod(shape[:-1]), dtype)
    return Weight(shape, "ones" if "scale" in name else "zeros", dtype=dtype)
