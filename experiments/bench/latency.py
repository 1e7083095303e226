"""Latency of convolutional and attention nets on several back ends, time to a latency, and grouped convolutions, as JSON.

    python -m experiments.bench.latency                             # everything
    python -m experiments.bench.latency nets --models resnet18@224,224,3 mobilenet_v2@224,224,3
    python -m experiments.bench.latency start                       # seconds from a network to its latency
    python -m experiments.bench.latency grouped                     # grouped spatial pack beside TVM's own grouped convolution
    python -m experiments.bench.latency profile --models resnet50@224,224,3

Every figure names back end, schedule, threads, batch and dtype. Ratios are of medians of back ends that took turns in one process,
with a 95% bootstrap interval over repeats; geometric means are over the networks of the run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from alphanas.execution import Completed, LocalPool
from alphanas.export.onnx.export import for_measuring
from alphanas.hardware import devices
from alphanas.hardware.grouped import AGAINST_DEFAULT
from alphanas.hardware.profile import PROFILE
from alphanas.hardware.timing import ratio_interval
from alphanas.models import weights, zoo

MODELS = tuple(
    f"{name}@224,224,3" for name in ("resnet18", "resnet50", "mobilenet_v2", "efficientnet_b0", "vit_ti16", "resnext50_32x4d")
)
GROUPS = (2, 4, 8, 16, 32)
GROUPED_SHAPES = ((56, 64), (28, 128))
START_MODEL = "resnet18@224,224,3"


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPool(1, threads=options.threads, env={"ALPHANAS_CACHE": folder, **devices.environment(devices.CPU)}) as pool,
    ):
        facts = pool.submit("alphanas.hardware.tasks:facts", {"threads": options.threads}).result()
        environment = facts.value if isinstance(facts, Completed) else {"failure": facts.cause}
        report: dict[str, Any] = {"command": sys.argv[1:], "machine": environment}
        for name in options.sections or list(SECTIONS):
            report[name] = SECTIONS[name](pool, options, Path(folder))
    print(json.dumps(report, indent=2))
    return 1 if '"failure"' in json.dumps(report) else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency of networks on several back ends.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--models", nargs="+", default=MODELS, help="NAME@HEIGHT,WIDTH,CHANNELS")
    parser.add_argument("--backends", default="tvm,onnxruntime,xla", help="comma-separated; ratios are to the first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--records", type=Path, help="database of known kernels (default: an empty one)")
    parser.add_argument("--knob-seconds", type=float, default=60.0, help="for choosing the knobs of a network's unknown kernels")
    parser.add_argument("--trials", type=int, default=32, help="of MetaSchedule on TVM's own grouped convolutions, a layout")
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS, help="of the grouped convolutions")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds a model, building included")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return options


def _payload(model: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    name, _, shape = model.partition("@")
    graph = zoo.build(name, input_shape=tuple(int(size) for size in shape.split(",")), num_classes=options.classes)
    variables = graph.init(jax.random.key(0))
    weights.save(variables, folder / f"{name}.safetensors")
    return {
        "graph": graph.to_json(),
        "weights": str(folder / f"{name}.safetensors"),
        "batch": options.batch,
        "threads": options.threads,
        "repeats": options.repeats,
        "knob_seconds": options.knob_seconds,
        "records": str(options.records or folder / "records.sqlite"),
        "check": True,
        "samples": True,
        **(for_measuring(graph, variables, folder / f"{name}.onnx") if "onnxruntime" in options.backends else {}),
    }


def _nets(pool: LocalPool, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The networks side by side, and geometric means of the ratios."""
    rows = [_net(pool, model, options, folder) for model in options.models]
    ratios: dict[str, list[float]] = {}
    for row in rows:
        for backend, found in row.get("times_slower_than_first", {}).items():
            ratios.setdefault(backend, []).append(found["ratio"])
    means = {
        name: {"geometric_mean": math.exp(sum(map(math.log, found)) / len(found)), "least": min(found), "networks": len(found)}
        for name, found in ratios.items()
    }
    return {"networks": rows, "times_slower_than_first": means}


def _net(pool: LocalPool, model: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    payload = {**_payload(model, options, folder), "backends": options.backends.split(",")}
    result = pool.submit("alphanas.hardware.tasks:compare", payload, limit_s=options.limit).result()
    row: dict[str, Any] = {"model": model}
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


def _start(pool: LocalPool, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds from a network that was never seen, and from one whose kernels are known, to its checked latency.

    In a worker that runs already, as those of a search do; the network is built, tuned, compared with JAX and timed.
    """
    payload = {**_payload(START_MODEL, options, folder), "backend": "tvm", "repeats": 10, "records": str(folder / "new.sqlite")}
    found: dict[str, Any] = {"model": START_MODEL}
    for name in ("never_seen", "known"):
        begin = time.monotonic()
        result = pool.submit("alphanas.hardware.tasks:measure", payload, limit_s=options.limit).result()
        if not isinstance(result, Completed):
            return {**found, "failure": result.cause, "message": result.message}
        seconds = time.monotonic() - begin
        found[name] = {"seconds": seconds, **{key: result.value[key] for key in ("median_ms", "candidates", "tuned")}}
    return found


def _grouped(pool: LocalPool, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Grouped 3×3 convolutions, packing included, beside TVM's own, as it lowers them and tuned."""
    rows = []
    for size, channels in GROUPED_SHAPES:
        for groups in options.groups:
            row: dict[str, Any] = {"size": size, "channels": channels, "groups": groups, "threads": options.threads}
            result = pool.submit(AGAINST_DEFAULT, {**row, "trials": options.trials}, limit_s=options.limit).result()
            failed = None if isinstance(result, Completed) else {"failure": result.cause, "message": result.message}
            rows.append(row | (failed or result.value))
    return rows


def _profile(pool: LocalPool, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Where the time of each network goes, the kernels that take most first."""
    rows = []
    for model in options.models:
        result = pool.submit(PROFILE, _payload(model, options, folder), limit_s=options.limit).result()
        if not isinstance(result, Completed):
            rows.append({"model": model, "failure": result.cause, "message": result.message})
            continue
        kernels = sorted(result.value["kernels"], key=lambda row: -row["ms"])
        rows.append({"model": model, **result.value, "kernels": kernels})
    return rows


def _median(samples: list[float]) -> float:
    return sorted(samples)[len(samples) // 2]


SECTIONS: Mapping[str, Callable[[LocalPool, argparse.Namespace, Path], Any]] = {
    "nets": _nets,
    "start": _start,
    "grouped": _grouped,
    "profile": _profile,
}


if __name__ == "__main__":
    sys.exit(main())
