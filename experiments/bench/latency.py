"""Latency of zoo models on several back ends, in turns in one process, as JSON.

    python -m experiments.bench.latency --models resnet8@8,8,1 resnet8@32,32,3 --backends tvm,xla --threads 2

Every figure names back end, schedule, threads, batch and dtype; ratios are of medians, with a 95% bootstrap interval over repeats.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from typing import Any

from alphanas.execution import Completed, LocalPool
from alphanas.hardware.timing import ratio_interval
from alphanas.models import zoo

MODELS = ("resnet8@8,8,1", "resnet8@32,32,3", "mobilenet_nano@32,32,3", "vit_nano@32,32,3")


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    with LocalPool(1, threads=options.threads) as pool:
        facts = pool.submit("alphanas.hardware.tasks:facts", {"threads": options.threads}).result()
        rows = [_row(pool, model, options) for model in options.models]
    environment = facts.value if isinstance(facts, Completed) else {"failure": facts.cause}
    report = {"command": sys.argv[1:], "python": platform.python_version(), "machine": environment, "models": rows}
    print(json.dumps(report, indent=2))
    return 0 if all("failure" not in row for row in rows) else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency of zoo models on several back ends.")
    parser.add_argument("--models", nargs="+", default=MODELS, help="NAME@HEIGHT,WIDTH,CHANNELS")
    parser.add_argument("--backends", default="tvm,xla", help="comma-separated; ratios are to the first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds a model, building included")
    return parser.parse_args(arguments)


def _row(pool: LocalPool, model: str, options: argparse.Namespace) -> dict[str, Any]:
    name, _, shape = model.partition("@")
    graph = zoo.build(name, input_shape=tuple(int(size) for size in shape.split(",")), num_classes=options.classes)
    payload = {
        "graph": graph.to_json(),
        "backends": options.backends.split(","),
        "batch": options.batch,
        "threads": options.threads,
        "repeats": options.repeats,
        "check": True,
        "samples": True,
    }
    result = pool.submit("alphanas.hardware.tasks:compare", payload, limit_s=options.limit).result()
    row: dict[str, Any] = {"model": model, "params": graph.params}
    if not isinstance(result, Completed):
        return {**row, "failure": result.cause, "message": result.message}
    results = result.value["results"]
    samples = {entry["backend"]: entry.pop("samples_ms") for entry in results if "samples_ms" in entry}
    first = results[0]["backend"]
    row["backends"] = results
    row["times_slower_than_first"] = {
        backend: {"ratio": _median(taken) / _median(samples[first]), "interval": ratio_interval(samples[first], taken)}
        for backend, taken in samples.items()
        if backend != first and first in samples
    }
    return row


def _median(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 2]


if __name__ == "__main__":
    sys.exit(main())
