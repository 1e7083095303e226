"""Sizing: whole networks at once, and chains. Prints JSON: `python -m experiments.bench.sizing [NAME …]`.

Networks are sized for shares of their parameters, with widths that are multiples of 8 or 16, without and with the stages' rank
bounds, and for a model of latency. `gap` is how much better anything could be, 0 if the answer is proven to be the best. Beside
each stands the seed with all widths scaled by one factor at the same budget: its kept capacity, and how much of the budget it uses.
Every answer is built and counted anew. Chains are sized with their kernels and groups, by enumeration and by Z3.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alphanas.models import zoo
from synth import Budget, Found, Graph, Interval, Op, Value, macs, resize, sizes, verify
from synth.effect import effect
from synth.memory import bytes_of
from synth.op import output_value
from synth.ops import BatchNorm, Conv, Relu
from synth.resizing import uniform
from synth.stages import stages
from synth.ties import ties

REPEATS = 5
LIMIT = 10.0

NETWORKS: dict[str, tuple[tuple[int, int, int], int]] = {
    "resnet50": ((224, 224, 3), 1000),
    "resnet18": ((224, 224, 3), 1000),
    "mobilenet_v2": ((224, 224, 3), 1000),
    "mobilenet_nano": ((32, 32, 3), 10),
    "vit_ti16": ((224, 224, 3), 1000),
    "densenet121": ((224, 224, 3), 1000),
}


def latency(op: Op, *values: Value) -> float:
    """A model of latency, not a measurement, in microseconds: 50 GMAC/s in lanes of 16 channels, 10 GB/s of memory, and a call."""
    result = effect(op, values[0]).value if len(values) == 1 else output_value(op, values)
    lanes = [-(-value.channels // 16) * 16 / value.channels for value in (values[0], result)]
    moved = sum(map(bytes_of, (*values, result)))
    weights = op.weights(*values)
    work = sum(int(np.prod(weight.shape)) for weight in weights.values()) * int(np.prod(result.spatial or (1,)))
    return 1.0 + work * lanes[0] * lanes[1] / 50_000 + moved / 10_000


CASES: dict[str, Mapping[str, Any]] = {
    "40% of the parameters, multiples of 16": {"share": 0.4, "multiple": 16},
    "40%, multiples of 16, every stage's rank bound": {"share": 0.4, "multiple": 16, "keep_rank": 1.0},
    "40%, multiples of 8": {"share": 0.4, "multiple": 8},
    "60%, multiples of 16, blocks too": {"share": 0.6, "multiple": 16, "free": ("widths", "depths")},
    "40%, multiples of 16, rank bounds, 90% of the capacity, fastest by a latency model": {
        "share": 0.4, "multiple": 16, "keep_rank": 1.0, "keep": 0.9, "objective": latency,
    },
}  # fmt: skip


def main(*only: str) -> None:
    """Sizes every network in every way and prints the table."""
    names = [name for name in NETWORKS if not only or name in only]
    rows = [_row(name, case) for name in names for case in CASES]
    print(json.dumps({"limit_s": LIMIT, "networks": rows, "chains": [] if only else _chains()}, indent=1))


def _row(name: str, case: str) -> dict[str, Any]:
    shape, classes = NETWORKS[name]
    graph = zoo.build(name, input_shape=shape, num_classes=classes)
    options = dict(CASES[case])
    budget = Budget(Interval(0, int(options.pop("share") * graph.params)))
    found, first = _timed(lambda: resize(graph, budget, time_limit=LIMIT, **options))
    # What the process remembers of ops is shared, as in a search; the answer itself is made anew.
    _, again = _timed(lambda: resize(graph, budget, time_limit=LIMIT, **options))
    row: dict[str, Any] = {"network": name, "case": case, "params": graph.params, "seconds": first, "seconds_warm": again}
    if not isinstance(found, Found):
        return row | {"status": type(found).__name__, "reason": str(found)}
    facts = _facts(found.graph, graph, budget)
    assert "objective" in options or abs(facts["capacity"] - (found.value or 0)) < 1e-9, "the value is not what it is defined to be"
    baseline = uniform(graph, budget, multiple=options["multiple"])
    return row | {
        "status": "optimal" if found.optimal else "gap",
        "value": found.value,
        "gap": found.gap,
        "result": facts,
        "uniform": None if baseline is None else _facts(baseline, graph, budget),
    }


def _facts(graph: Graph, seed: Graph, budget: Budget) -> dict[str, Any]:
    """What a graph costs and keeps, counted on the graph and its whole jaxpr."""
    checked = verify(graph)
    work = macs(graph)
    assert checked.capacity.macs == work and budget.params.holds(graph.params)
    kept = [
        min(stage.rank / before.rank, 1.0)
        for stage, before in zip(stages(graph), stages(seed), strict=False)
        if before.rank and stage.target == before.target
    ]
    return {
        "params": graph.params,
        "budget_used": graph.params / budget.params.high,
        "macs": work,
        "capacity": _capacity(graph, seed),
        "least_stage_rank_kept": min(kept, default=None),
        "latency_model_ms": sum(latency(node.op, *graph.input_values(node)) for node in graph.nodes) / 1000,
    }


def _capacity(graph: Graph, seed: Graph) -> float:
    """The kept capacity, anew from the definition: the mean over the sizes that may change; 0 for those left out."""
    kept = []
    for width in ties(seed).widths:
        for name, field in width.setters if not width.fixed else ():
            node = graph.by_name.get(name)
            share = getattr(node.op, field) / width.size if node is not None else 1 / max(width.size, 2)
            kept.append(1 - (np.log(min(1.0, share)) / np.log(max(width.size, 2))) ** 2)
    return float(np.mean(kept)) if kept else 1.0


BOTTLENECK: list[Op] = [
    *(Conv(features=64, kernel=1), BatchNorm(), Relu()),
    *(Conv(features=64, groups=2), BatchNorm(), Relu()),
    *(Conv(features=256, kernel=1), BatchNorm()),
]
WIDTHS = (16, 32, 48, 64, 96, 128)
DEEP: list[Op] = [op for _ in range(5) for op in (Conv(features=64), Relu())] + [Conv(features=64, kernel=1)]


def _chains() -> list[dict[str, Any]]:
    """Chains with sizes, kernels and groups open, in both ways."""
    both = (("bottleneck", 256, BOTTLENECK), ("five convolutions", 64, DEEP))
    ways = (("enumeration, else Z3", sizes.LARGEST_FRONTIER), ("Z3", 0))
    return [
        _chain_row(name, Value((None, 16, 16, channels)), ops, fields, *way)
        for name, channels, ops in both
        for fields in ((), ("kernel", "groups"))
        for way in ways
    ]


def _chain_row(name: str, value: Value, ops: list[Op], fields: tuple[str, ...], way: str, frontier: int) -> dict[str, Any]:
    budget = Budget(Interval(15_000, 16_000), Interval(0, 4_200_000))
    times, answer = [], ""
    usual, sizes.LARGEST_FRONTIER = sizes.LARGEST_FRONTIER, frontier
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        started = time.perf_counter()
        found = sizes.solve(value, ops, value, widths=WIDTHS, budget=budget, fields=fields, multiple=16, rng=rng, time_limit=5.0)
        times.append(1000 * (time.perf_counter() - started))
        answer = "found" if isinstance(found, tuple) else str(found)
    sizes.LARGEST_FRONTIER = usual
    times_ms = {"first_ms": times[0], "median_ms": statistics.median(times[1:]), "spread_ms": [min(times[1:]), max(times[1:])]}
    return {"chain": name, "open": ["features", *fields], "way": way, "answer": answer} | times_ms


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    result = call()
    return result, time.perf_counter() - started


if __name__ == "__main__":
    main(*sys.argv[1:])
