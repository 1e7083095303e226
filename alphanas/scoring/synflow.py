"""SynFlow: the logarithm of the flow through all weights of a network, without data (Tanaka et al., NeurIPS 2020)."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from alphanas.scoring.backward import output_slopes
from synth import Graph
from synth.graph import Variables


def synflow(graph: Graph, variables: Variables, pictures: np.ndarray, labels: np.ndarray, key: jax.Array) -> float:
    """log Σ |w · ∂R/∂w| over all weights w, R the sum of the outputs for an input of ones, every weight replaced by |w|.

    In inference, so that a fresh batch norm is (nearly) the identity. Computed in 64 bits: the flow through a deep network is
    beyond the range of 32. Minus infinity if nothing flows.
    """
    with jax.enable_x64(True):
        positive: Any = {
            collection: {
                node: {name: np.abs(np.asarray(array, np.float64)) for name, array in arrays.items()}
                for node, arrays in nodes.items()
            }
            for collection, nodes in variables.items()
        }
        ones = np.ones((1, *np.asarray(pictures).shape[1:]))
        found = output_slopes(graph, positive, ones, key, train=False, weights=True)
        flow = sum(
            float(np.abs(positive["params"][node][name] * np.asarray(slope, np.float64)).sum())
            for node, slopes in found.of_weights.items()
            for name, slope in slopes.items()
        )
    return math.log(flow) if flow > 0 else float("-inf")
