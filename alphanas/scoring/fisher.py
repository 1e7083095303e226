"""Fisher potential: how much a fresh network's loss would change if channels were removed (Turner et al., ICLR 2020).

A filter that rejects what lost capacity; it does not rank what is good, so it is no score to maximise. It varies much with the
initial weights: it is meant as a mean over at least three of them.
"""

from __future__ import annotations

import jax
import numpy as np

from alphanas.scoring.backward import loss_slopes
from alphanas.scoring.taps import taps
from synth import Graph
from synth.graph import Variables


def fisher(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """The sum over the inputs A of all activations, and over their channels c, of mean_n (Σ_positions A[n,c] · ∂L/∂A[n,c])² / 2.

    L is the sum of the cross-entropies of the minibatch, so that the value does not fall with its size.
    """
    found = loss_slopes(graph, variables, pictures, labels, key, weights=False)
    tapped = [name for name in taps(graph) if name in found.of_values]
    return float(sum(_potential(found.values[name], found.of_values[name]) for name in tapped))


def _potential(values: jax.Array, slopes: jax.Array) -> float:
    product = np.asarray(values, np.float64) * np.asarray(slopes, np.float64)
    along = product.reshape(values.shape[0], -1, values.shape[-1]).sum(1)
    return float(0.5 * np.square(along).mean(0).sum())
