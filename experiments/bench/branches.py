"""Branches: published blocks within reach of plain ones, and what a draw takes. JSON: `python -m experiments.bench.branches`.

For each block: whether branch synthesis derives it from the plain block's properties, the probability that one draw gives its ops
(sizes aside; its inverse is the mean number of draws), and the milliseconds of whole draws, verified, warm and for the first time.
"""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any

import numpy as np

from synth import Found, Graph, Problem, synthesize
from synth.branches import derivable, goals_of, grammar_of, probability
from synth.result import Infeasible
from tests.synth.named import NAMED, WIDTHS

DRAWS = 30


def main(draws: int = DRAWS) -> None:
    """Prints the table."""
    print(json.dumps({"draws": draws, "rows": [_row(name, *pair, draws) for name, pair in NAMED.items()]}, indent=1))


def _row(name: str, plain: Graph, block: Graph, draws: int) -> dict[str, Any]:
    problem = Problem.of(plain, max_length=6, widths=WIDTHS)
    times, found, nodes = [], 0, []
    for seed in range(draws + 1):
        started = time.perf_counter()
        result = synthesize(problem, "branches", rng=np.random.default_rng(seed))
        times.append(1000 * (time.perf_counter() - started))
        if isinstance(result, Found):
            found += 1
            nodes.append(len(result.graph.nodes))
    likely = probability(problem, block)
    goals = goals_of(problem)
    assert not isinstance(goals, Infeasible)
    grammar = grammar_of(problem, goals)
    return {
        "block": name,
        "reachable": derivable(problem, block),
        "log10_probability": math.log10(likely) if likely else None,
        "states": len(grammar.states),
        "not_conditioned_on": list(grammar.states.unasked),
        "found": found,
        "attempts": draws + 1,
        "mean_nodes": float(np.mean(nodes)) if nodes else None,
        "cold_ms": times[0],
        "median_ms": float(np.median(times[1:])),
        "quartiles_ms": np.percentile(times[1:], [25, 75]).tolist(),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
