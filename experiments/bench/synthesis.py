"""Synthesis: success, time and cost of the procedures on fixed targets. Prints JSON: `python -m experiments.bench.synthesis`.

Targets (a) to (e) are those on which the ancestor was measured. Every result is proven by interpreting its whole jaxpr; times are
medians over draws in one process, `cold` is the first call for a target, which traces the ops and builds the space.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from synth import Budget, Found, Interval, Op, Problem, Value, chain, synthesize, widths_up_to
from synth.exact import solution_space
from synth.ops import AvgPool, BatchNorm, Conv, Relu
from synth.product import Product

DRAWS = 20
METHODS = ("exact", "progressive", "enumerative")


def _unit(features: int, kernel: int = 3) -> list[Op]:
    return [Conv(features=features, kernel=kernel), BatchNorm(), Relu()]


TARGETS: dict[str, tuple[Value, Sequence[Op]]] = {
    "a conv3-relu": (Value((None, 32, 32, 32)), [Conv(features=64), Relu()]),
    "b conv3-relu-pool": (Value((None, 32, 32, 32)), [Conv(features=64), Relu(), AvgPool()]),
    "c conv-bn-relu": (Value((None, 16, 16, 64)), _unit(64)),
    "d conv-bn-relu-conv-bn": (Value((None, 16, 16, 64)), [*_unit(64), Conv(features=64), BatchNorm()]),
    "e bottleneck": (
        Value((None, 16, 16, 256)),
        [*_unit(64, 1), *_unit(64), Conv(features=256, kernel=1), BatchNorm()],
    ),
}


def main(draws: int = DRAWS, only: str = "") -> None:
    """Measures every procedure on every target and prints the table."""
    rows = [_row(name, *target, method, draws) for name, target in TARGETS.items() if only in name for method in METHODS]
    print(json.dumps({"draws": draws, "rows": rows}, indent=1))


def _row(name: str, value: Value, ops: Sequence[Op], method: str, draws: int) -> dict[str, Any]:
    graph = chain(value, ops)
    problem = Problem.of(graph)
    # Enumeration takes as long as it is given on long targets, and its order does not depend on the draw.
    draws, limit = (2, 10.0) if method == "enumerative" else (draws, 20.0)
    times, costs, found = [], [], 0
    for seed in range(draws + 1):
        started = time.perf_counter()
        result = synthesize(problem, method, rng=np.random.default_rng(seed), time_limit=limit)
        times.append(1000 * (time.perf_counter() - started))
        if isinstance(result, Found):
            found += 1
            costs.append(result.proofs[0].params)
    row = {
        "target": name,
        "method": method,
        "found": found,
        "attempts": draws + 1,
        "cold_ms": times[0],
        "median_ms": float(np.median(times[1:])),
        "p99_ms": float(np.percentile(times[1:], 99)),
        "median_params": float(np.median(costs)) if costs else None,
    }
    return row | (_exact_figures(graph, problem, draws) if method == "exact" else {})


def _exact_figures(graph: Any, problem: Problem, draws: int) -> dict[str, Any]:
    """Op kinds alone once warm, and with sizes within a third of the parameters."""
    space = solution_space(problem, prior=True)
    assert isinstance(space, Product)
    rng = np.random.default_rng(0)
    lengths = [1.0] * (problem.max_length + 1)
    kinds = [_timed(lambda: space.sample(rng, weighted=True, lengths=lengths)) for _ in range(50)]
    target = problem.target.within(Budget(Interval(0, graph.params // 3)))
    sized = Problem.of(graph, target, widths=widths_up_to(max(problem.sizes)))
    whole = [_timed(lambda: synthesize(sized, rng=rng, time_limit=20)) for _ in range(draws)]
    optimum = synthesize(problem)
    return {
        "states": len(space.values),
        "edges": len(space.next),
        "kinds_median_ms": float(np.median(kinds)),
        "sized_median_ms": float(np.median(whole)),
        "sized_p99_ms": float(np.percentile(whole, 99)),
        "least_params": optimum.proofs[0].params if isinstance(optimum, Found) else None,
    }


def _timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


if __name__ == "__main__":
    main(only=sys.argv[1] if len(sys.argv) > 1 else "")
