"""NASWOT: how differently a fresh network's activations respond to different pictures (Mellor et al., ICML 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from alphanas.scoring.interpreted import of_training_values
from alphanas.scoring.taps import taps
from synth import Graph
from synth.graph import Variables


def naswot(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """log |det K|, where K[i, j] counts the activation units that are both on or both off for pictures i and j.

    A unit is an element of an activation's input, on where it is positive; batch norms use the batch's own statistics. Minus
    infinity if two pictures have the same code, or nothing is an activation. Compare values of equal batches only.
    """
    return _logarithm(of_training_values(agreements, graph, variables, key, pictures, taps(graph)))


def log_determinant(tapped: Sequence[np.ndarray | jax.Array]) -> float:
    """The score of the values that go into a network's activations; minus infinity if there are none."""
    return _logarithm([agreements(np.asarray(values)) for values in tapped])


def _logarithm(kernels: Sequence[np.ndarray]) -> float:
    if not kernels:
        return float("-inf")
    sign, logarithm = np.linalg.slogdet(sum(kernels))
    return float(logarithm) if sign > 0 else float("-inf")


def agreements(values: np.ndarray) -> np.ndarray:
    """The number of units that are both on or both off, for each pair of pictures.

    With NumPy, on codes of a bit a unit: each shape would have to be compiled anew.
    """
    signs = values.reshape(len(values), -1) > 0
    codes = np.packbits(signs, axis=1)
    words = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8))).view(np.uint64)
    apart = [np.bitwise_count(words ^ one).sum(axis=1, dtype=np.int64) for one in words]
    return signs.shape[1] - np.array(apart, dtype=np.float64)
