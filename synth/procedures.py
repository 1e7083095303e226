"""The one door to synthesis: `synthesize(problem, method=…)`. A new procedure is a module and a row here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synth import branches, enumerative, exact, progressive
from synth.problem import Problem
from synth.result import Result

METHODS: dict[str, Callable[..., Result]] = {
    "exact": exact.synthesize,
    "progressive": progressive.synthesize,
    "enumerative": enumerative.synthesize,
    "branches": branches.synthesize,
}


def synthesize(
    problem: Problem,
    method: str = "exact",
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
) -> Result:
    """Up to `count` programs that meet the problem's target, each verified by interpreting its whole jaxpr.

    Random ones with `rng`, the cheapest in parameters without. `time_limit` is in seconds. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"no synthesis method is called {method!r}; known are {', '.join(METHODS)}")
    return METHODS[method](problem, rng=rng, count=count, time_limit=time_limit)
