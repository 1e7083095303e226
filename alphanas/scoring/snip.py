"""SNIP: how much of a fresh network's loss hangs on its weights (Lee et al., ICLR 2019; summed as by Abdelfattah et al., 2021)."""

from __future__ import annotations

import jax
import numpy as np

from alphanas.scoring.backward import loss_slopes
from synth import Graph
from synth.graph import Variables


def snip(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """The sum over all weights w of |w · ∂L/∂w|, L the minibatch's mean cross-entropy."""
    found = loss_slopes(graph, variables, pictures, labels, key, weights=True)
    parts = [
        _worth(variables["params"][node][name], slope)
        for node, slopes in found.of_weights.items()
        for name, slope in slopes.items()
    ]
    return float(sum(parts)) / len(pictures)


def _worth(weight: jax.Array, slope: jax.Array) -> float:
    return float(np.abs(np.asarray(weight, np.float64) * np.asarray(slope, np.float64)).sum())
