"""The one door to synthesis: `synthesize(problem, method=…)`. A new procedure is a module and a row here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from synth import branches, enumerative, exact, progressive
from synth.problem import Problem
from synth.questions import refuse_several_ends
from synth.result import Result

METHODS: dict[str, Callable[..., Result]] = {
    "exact": exact.synthesize,
    "progressive": progressive.synthesize,
    "enumerative": enumerative.synthesize,
    "branches": branches.synthesize,
}


SEVERAL_ENDS = frozenset({"branches"})
"""The methods for problems of several inputs or outputs."""


def synthesize(
    problem: Problem,
    method: str = "exact",
    *,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float | None = None,
    steps: float | None = None,
) -> Result:
    """Up to `count` programs that meet the problem's target, each verified by interpreting its whole jaxpr.

    Random ones with `rng`, the cheapest in parameters without. It gives up after `time_limit` seconds, or `steps` of its work (see
    `synth.clock`): with a limit in steps alone, equal questions and generators have equal answers on every machine. Raises
    ValueError for an unknown method, GraphError for several inputs or outputs where the method makes sequences.
    """
    if method not in METHODS:
        raise ValueError(f"no synthesis method is called {method!r}; known are {', '.join(METHODS)}")
    if method not in SEVERAL_ENDS:
        refuse_several_ends(problem)
    return METHODS[method](problem, rng=rng, count=count, time_limit=time_limit, steps=steps)
