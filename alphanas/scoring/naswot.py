"""NASWOT: how differently a fresh network's activations respond to different pictures (Mellor et al., ICML 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np

from alphanas.scoring.interpreted import training_values
from alphanas.scoring.taps import taps
from synth import Graph
from synth.graph import Variables


def naswot(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """log |det K|, where K[i, j] counts the activation units that are both on or both off for pictures i and j.

    A unit is an element of an activation's input, on where it is positive; batch norms use the batch's own statistics. Minus
    infinity if two pictures have the same code, or nothing is an activation. Compare values of equal batches only.
    """
    names = taps(graph)
    values = training_values(graph, variables, key, pictures, names)
    return log_determinant([values[name] for name in names])


def log_determinant(tapped: Sequence[np.ndarray | jax.Array]) -> float:
    """The score of the values that go into a network's activations; minus infinity if there are none."""
    if not tapped:
        return float("-inf")
    kernel = sum(_agreements(np.asarray(values)) for values in tapped)
    sign, logarithm = np.linalg.slogdet(kernel)
    return float(logarithm) if sign > 0 else float("-inf")


def _agreements(values: np.ndarray) -> np.ndarray:
    """The number of units that are both on or both off, for each pair of pictures; exact up to 2²⁴ units.

    With NumPy: each shape would have to be compiled anew.
    """
    signs = np.where(values.reshape(len(values), -1) > 0, np.float32(1), np.float32(-1))
    return 0.5 * ((signs @ signs.T).astype(np.float64) + signs.shape[1])
