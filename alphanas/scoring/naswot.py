"""NASWOT: how differently a fresh network's activations respond to different pictures (Mellor et al., ICML 2021)."""

from __future__ import annotations

import jax
import numpy as np

from alphanas.scoring.compiled import every_training_value
from alphanas.scoring.taps import taps
from synth import Graph
from synth.graph import Variables


def naswot(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """log |det K|, where K[i, j] counts the activation units that are both on or both off for pictures i and j.

    A unit is an element of an activation's input, on where it is positive; batch norms use the batch's own statistics. Minus
    infinity if two pictures have the same code, or nothing is an activation. Compare values of equal batches only.
    """
    values = every_training_value(graph, variables, key, pictures)
    count = len(pictures)
    kernel = np.zeros((count, count))
    for name in taps(graph):
        codes = (np.asarray(values[name]).reshape(count, -1) > 0).astype(np.float32)
        agreements = codes @ codes.T
        on = codes.sum(1)
        kernel += codes.shape[1] - on[:, None] - on[None, :] + 2.0 * agreements
    sign, logarithm = np.linalg.slogdet(kernel)
    return float(logarithm) if sign > 0 else float("-inf")
