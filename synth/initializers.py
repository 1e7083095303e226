"""Initial values of weights, drawn with NumPy: compiling JAX's own initialisers takes longer than training a small model."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import jax
import numpy as np

from synth.op import Weight

Draw = Callable[[np.random.Generator, Weight], np.ndarray]


def _normal(scale: float) -> Draw:
    def draw(rng: np.random.Generator, weight: Weight) -> np.ndarray:
        return rng.standard_normal(weight.shape) * np.sqrt(scale / max(weight.fan_in, 1))

    return draw


def _constant(value: float) -> Draw:
    return lambda rng, weight: np.full(weight.shape, value)


def _small_normal(rng: np.random.Generator, weight: Weight) -> np.ndarray:
    return rng.standard_normal(weight.shape) * 0.02


INITIALIZERS: dict[str, Draw] = {
    "he_normal": _normal(2.0),
    "lecun_normal": _normal(1.0),
    "normal_0.02": _small_normal,
    "zeros": _constant(0.0),
    "ones": _constant(1.0),
}


def words_of(key: jax.Array) -> tuple[int, ...]:
    """What a key says, as numbers; jax's concretization error under `jit`: initialise outside."""
    return tuple(np.asarray(jax.random.key_data(key)).astype(np.uint32).ravel().tolist())


def initialize(weight: Weight, words: tuple[int, ...], name: str) -> np.ndarray:
    """The initial value of the weight called `name`; the same for equal keys and names, whatever else is initialised.

    Raises KeyError for an initialiser that does not exist.
    """
    rng = np.random.default_rng([*words, zlib.crc32(name.encode())])
    return (INITIALIZERS[weight.initializer](rng, weight) * weight.gain).astype(weight.dtype)
