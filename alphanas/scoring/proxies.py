"""The zero-cost scores by name: from one minibatch, without training, higher is better. A new one is one file and a line here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from alphanas.scoring.cost import cost
from alphanas.scoring.fisher import fisher
from alphanas.scoring.naswot import naswot
from synth import Graph
from synth.graph import Variables

Proxy = Callable[[Graph, Variables, np.ndarray, np.ndarray, jax.Array], float]

PROXIES: Mapping[str, Proxy] = {
    "naswot": naswot,
    "fisher": fisher,
    "params": lambda graph, variables, pictures, labels, key: float(graph.params),
    "macs": lambda graph, variables, pictures, labels, key: float(cost(graph).macs),
}


def score(graph: Graph, pictures: np.ndarray, labels: np.ndarray, *, kind: str, seed: int, repeats: int = 1) -> float | None:
    """The mean of a score over `repeats` initialisations; None where one of them is not finite.

    Raises ValueError for a name that is no score.
    """
    if kind not in PROXIES:
        raise ValueError(f"no zero-cost score is called {kind!r}; known are {', '.join(PROXIES)}")
    keys = [jax.random.fold_in(jax.random.key(seed), repeat) for repeat in range(repeats)]
    values = [PROXIES[kind](graph, graph.init(key), pictures, labels, key) for key in keys]
    return float(np.mean(values)) if all(math.isfinite(value) for value in values) else None
