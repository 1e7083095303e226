"""The zero-cost scores by name: from one minibatch, without training, higher is better. A new one is one file and a line here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from alphanas.errors import nearest
from alphanas.scoring.cost import cost
from alphanas.scoring.fisher import fisher
from alphanas.scoring.gradnorm import gradnorm
from alphanas.scoring.jacobian import jacobian_covariance
from alphanas.scoring.naswot import naswot
from alphanas.scoring.shared import remembered
from alphanas.scoring.snip import snip
from alphanas.scoring.synflow import synflow
from synth import Graph
from synth.graph import Variables

Value = Callable[[Graph, Variables, np.ndarray, np.ndarray, jax.Array], float]


@dataclass(frozen=True)
class Proxy:
    """A score of (graph, fresh variables, pictures, labels, key); minus infinity or NaN where it is undefined."""

    value: Value
    passes: int = 1
    """Passes through the network that it takes, a backward one counted as two: its cost beside the others; 0: reads no weights."""
    initialisations: int = 1
    """Initial weights that it is the mean over, at least."""


PROXIES: Mapping[str, Proxy] = {
    "naswot": Proxy(naswot),
    "jacobian": Proxy(jacobian_covariance, passes=3),
    "synflow": Proxy(synflow, passes=3),
    "fisher": Proxy(fisher, passes=3, initialisations=3),
    "gradnorm": Proxy(gradnorm, passes=3),
    "snip": Proxy(snip, passes=3),
    "params": Proxy(lambda graph, variables, pictures, labels, key: float(graph.params), passes=0),
    "macs": Proxy(lambda graph, variables, pictures, labels, key: float(cost(graph).macs), passes=0),
}


def parts(kind: str) -> tuple[str, ...]:
    """The scores that a combination such as `naswot+synflow` is made of; ValueError for a name that is no score, or comes twice."""
    names = tuple(name.strip() for name in kind.split("+"))
    for name in names:
        if name not in PROXIES:
            raise ValueError(
                f"no zero-cost score is called {name!r}; known are {', '.join(PROXIES)} ({nearest(name, PROXIES) or 'join with +'})"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"the zero-cost score {kind!r} names one score twice")
    return names


def score(graph: Graph, pictures: np.ndarray, labels: np.ndarray, *, kind: str, seed: int, repeats: int = 1) -> float | None:
    """The mean of a score over `repeats` initialisations, or as many as it needs; None where one of them is not finite.

    Raises ValueError for a name that is no score.
    """
    (name,) = parts(kind)
    proxy = PROXIES[name]
    count = max(repeats, proxy.initialisations) if proxy.passes else 1
    keys = [jax.random.fold_in(jax.random.key(seed), repeat) for repeat in range(count)]
    values = [proxy.value(graph, graph.drawn(key, remembered) if proxy.passes else {}, pictures, labels, key) for key in keys]
    return float(np.mean(values)) if all(math.isfinite(value) for value in values) else None
