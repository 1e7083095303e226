"""Jacobian covariance: how differently a fresh network's slopes point for different pictures (Mellor et al., 2020)."""

from __future__ import annotations

import jax
import numpy as np

from alphanas.scoring.backward import output_slopes
from synth import Graph
from synth.graph import Variables

SMALL = 1e-5
"""What keeps the logarithm and the inverse of a vanishing eigenvalue finite."""


def jacobian_covariance(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """−Σ log(v + k) + 1/(v + k) over the eigenvalues v of the correlations between the pictures' slopes, k = 1e-5.

    A picture's slope is that of the sum of the outputs in the picture, in training mode. Minus infinity if some slope is constant.
    """
    found = output_slopes(graph, variables, pictures, key, train=True, weights=False)
    name = graph.inputs[0].name
    if name not in found.of_values:
        return float("-inf")
    slopes = np.asarray(found.of_values[name], np.float64).reshape(len(pictures), -1)
    slopes -= slopes.mean(1, keepdims=True)
    lengths = np.linalg.norm(slopes, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return float("-inf")
    directions = slopes / lengths
    eigenvalues = np.linalg.eigvalsh(directions @ directions.T)
    return float(-np.sum(np.log(np.maximum(eigenvalues, 0.0) + SMALL) + 1.0 / (np.maximum(eigenvalues, 0.0) + SMALL)))
