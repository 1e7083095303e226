"""Gradient norm: how far one step on the loss would move a fresh network (Abdelfattah et al., ICLR 2021)."""

from __future__ import annotations

import jax
import numpy as np

from alphanas.scoring.backward import loss_slopes
from synth import Graph
from synth.graph import Variables


def gradnorm(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """The sum over weight arrays of the Euclidean norm of the gradient of the minibatch's mean cross-entropy."""
    found = loss_slopes(graph, variables, pictures, labels, key, weights=True)
    norms = [_norm(slope) for slopes in found.of_weights.values() for slope in slopes.values()]
    return float(sum(norms)) / len(pictures)


def _norm(slope: jax.Array) -> float:
    return float(np.linalg.norm(np.asarray(slope, np.float64)))
