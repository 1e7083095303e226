"""Latency predicted from records against latency measured whole, and what a prediction costs, as JSON.

    python -m experiments.bench.records --records FILE [--rows FILE] [--only resnet18@32,…] [--threads 2] [--tune-only]
    python -m experiments.bench.records --records FILE --rows FILE --join
    python -m experiments.bench.records --cost

Each network's kernels are tuned first, into the given records (a second run finds them there). Then, network by network, it is
built and measured whole under the schedules on record, and predicted as the sum of its kernels' records and the measured overhead.
The error is |predicted / measured - 1|. Records are brought to one pace of the machine (`alphanas.hardware.pace`), which a shared
machine leaves from minute to minute: the pace takes its turns with each network, and `predicted_ms` is the sum at that pace;
`at_usual_pace_ms` is the sum at the usual one. Nothing else of what was measured enters a prediction.

Networks: zoo models at 32×32, the same at other widths, edits as a search makes them, and some at 224×224. With --rows, networks
measured by an earlier run are read from that file and not measured again, so that the whole can be done in short parts; --join
then tunes and measures nothing and reports on all of them.

--cost times predictions of every zoo model at 224×224, each kernel on record with invented seconds: the graph is read anew each
time. `first` is the first one of a process, which has met none of the model's ops.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from alphanas.config import Config
from alphanas.errors import UserError
from alphanas.execution import Completed, LocalPool
from alphanas.hardware import devices
from alphanas.hardware.filling import PREDICT
from alphanas.hardware.identity import identify
from alphanas.hardware.outline import outline
from alphanas.hardware.predicting import Pace, Predictor
from alphanas.hardware.program import Storage
from alphanas.hardware.records import FEW_BYTES, TEMPLATE, Device, Record, Records
from alphanas.hardware.tasks import MEASURE
from alphanas.models import zoo
from alphanas.search import strategies
from alphanas.search.archive import Archive, Member
from alphanas.search.proposal import New
from alphanas.search.widths import scaled
from synth.graph import Graph

SMALL = ("resnet8", "resnet18", "resnet34", "mobilenet_nano", "mobilenet_v2", "vit_nano", "cifar_cnn")
WIDTHS = (("resnet8", 0.5), ("resnet8", 2.0), ("resnet18", 0.25), ("resnet18", 0.5), ("mobilenet_v2", 0.5))
EDITED = (("resnet8", 1), ("resnet8", 2), ("resnet8", 3), ("cifar_cnn", 1), ("cifar_cnn", 2))
LARGE = ("resnet18", "mobilenet_v2", "vit_ti16")
ROUNDS = 15
TUNE_S, MEASURE_S = 900.0, 300.0


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    if options.cost:
        print(json.dumps({"command": sys.argv[1:], "prediction_ms": _cost_of_zoo(options.threads)}, indent=2))
        return 0
    rows = _kept(options.rows)
    graphs = {name: graph for name, graph in networks().items() if not options.only or name in options.only.split(",")}
    if options.join:
        graphs = {name: graph for name, graph in graphs.items() if name in rows}
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPool(1, threads=options.threads, env=devices.environment(devices.CPU)) as pool,
    ):
        records = options.records or Path(folder) / "records.sqlite"
        shared = {"batch": 1, "threads": options.threads, "records": str(records)}
        tuned = {} if options.join else {name: _tuned(pool, name, graph, shared) for name, graph in graphs.items()}
        failed = {name: result for name, result in tuned.items() if "failure" in result}
        for name, graph in graphs.items() if not options.tune_only else ():
            if name not in rows and name not in failed:
                rows[name] = {**_measured(pool, graph, shared), "device": tuned[name]["device"]}
                _keep(options.rows, rows)
        good = {name: graph for name, graph in graphs.items() if "failure" not in rows.get(name, {"failure": ""})}
        predicted = {name: rows[name] | _predicted(rows[name], graph, records) for name, graph in good.items()}
        device = next((Device(**result["device"]) for result in (*tuned.values(), *rows.values()) if "device" in result), None)
        cost = _cost(graphs, records, device) if device is not None and not failed else None
    report = {"command": sys.argv[1:], "device": device and dataclasses.asdict(device), "networks": predicted, "failed": failed}
    print(json.dumps({**report, "agreement": _agreement(predicted), "prediction_ms": cost}, indent=2))
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency predicted from records against latency measured whole.")
    parser.add_argument("--records", type=Path, help="file of records (default: one that does not last)")
    parser.add_argument("--rows", type=Path, help="file of what was measured, read and written")
    parser.add_argument("--only", default="", help="names of networks with commas between")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune-only", action="store_true", help="fill the records and measure no network")
    parser.add_argument("--join", action="store_true", help="tune and measure nothing: report on the networks in --rows")
    parser.add_argument("--cost", action="store_true", help="time predictions of every zoo model, with invented records")
    return parser.parse_args(arguments)


def networks() -> dict[str, Graph]:
    """Twenty networks by name."""
    small = {name: zoo.build(name, input_shape=(32, 32, 3), num_classes=10) for name in SMALL}
    found = {f"{name}@32": graph for name, graph in small.items()}
    for name, factor in WIDTHS:
        graph = scaled(small[name], factor)
        assert graph is not None, f"{name} has no width times {factor}"
        found[f"{name}x{factor:g}@32"] = graph
    found |= {f"{name}+edit{seed}@32": edited(small[name], seed) for name, seed in EDITED}
    return found | {f"{name}@224": zoo.build(name, input_shape=(224, 224, 3), num_classes=1000) for name in LARGE}


def edited(graph: Graph, seed: int) -> Graph:
    """The graph after the first change that random synthesis finds with this seed."""
    config = Config.from_mapping({"search": {"strategy": "random", "objectives": ["params", "macs"]}})
    strategy, archive = strategies.build(config), Archive(("params",), (Member(0, graph, (float(graph.params),)),))
    rng = np.random.default_rng(seed)
    while True:
        match strategy.propose(archive, rng).answer:
            case New(found):
                return found


def _tuned(pool: LocalPool, name: str, graph: Graph, shared: Mapping[str, Any]) -> dict[str, Any]:
    payload = {**shared, "models": {name: graph.to_json()}, "within_s": TUNE_S}
    begin = time.perf_counter()
    result = pool.submit(PREDICT, payload, limit_s=2 * TUNE_S).result()
    print(f"{name}: kernels known after {time.perf_counter() - begin:.1f} s", file=sys.stderr, flush=True)
    return dict(result.value) if isinstance(result, Completed) else {"failure": result.cause, "message": result.message}


def _measured(pool: LocalPool, graph: Graph, shared: Mapping[str, Any]) -> dict[str, Any]:
    how = {"backend": "tvm", "check": False, "knob_seconds": TUNE_S, "pace": True}
    payload = {**shared, "graph": graph.to_json(), "weights": None, **how}
    result = pool.submit(MEASURE, payload, limit_s=MEASURE_S).result()
    if not isinstance(result, Completed):
        return {"failure": result.cause, "message": result.message}
    told = ("median_ms", "spread_ms", "pace_ms", "steady", "schedule", "tuned", "candidates", "kernels_sharing_threads")
    found = {key: result.value[key] for key in (*told, "build_seconds")}
    return {**found, "exchange_ms": result.value.get("exchange_ms", 0.0)}


def _predicted(row: Mapping[str, Any], graph: Graph, path: Path) -> dict[str, Any]:
    """The prediction at the pace that the machine had when the network was measured, and at its usual one."""
    with Records.open(path) as records:
        predictor = Predictor(records, Device(**row["device"]), 1)
        then = Pace(row["pace_ms"] / 1e3, row["exchange_ms"] / 1e3)
        at_usual, now = predictor(graph), predictor(graph, pace=then)
    assert now.seconds is not None and at_usual.seconds is not None, "not all kernels are known"
    return {"predicted_ms": 1e3 * now.seconds, "at_usual_pace_ms": 1e3 * at_usual.seconds, "kernels": now.calls}


def _kept(path: Path | None) -> dict[str, Any]:
    """What an earlier run measured, without what it could not and what tells less than a row does now."""
    rows = dict(json.loads(path.read_text())) if path is not None and path.exists() else {}
    return {name: row for name, row in rows.items() if "exchange_ms" in row}


def _keep(path: Path | None, rows: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(rows, indent=1))


def _agreement(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"networks": len(rows)} | {name: _of(rows, name) for name in ("predicted_ms", "at_usual_pace_ms")}


def _of(rows: Mapping[str, Mapping[str, Any]], predicted: str) -> dict[str, Any]:
    errors = {name: row[predicted] / row["median_ms"] - 1 for name, row in rows.items()}
    sizes = [abs(error) for error in errors.values()]
    pairs = [(row[predicted], row["median_ms"]) for row in rows.values()]
    return {
        "median_error": statistics.median(sizes) if sizes else None,
        "worst_error": max(sizes, default=None),
        "spearman": float(spearmanr(*zip(*pairs, strict=True)).statistic) if len(pairs) > 2 else None,
        "errors": errors,
    }


def _cost(graphs: Mapping[str, Graph], path: Path, device: Device) -> dict[str, Any]:
    """Milliseconds of a prediction whose kernels are all known, the graph read anew each time; `first` of each network."""
    texts = {name: graph.to_json() for name, graph in graphs.items()}
    first, later = {}, {}
    with Records.open(path) as records:
        predictor = Predictor(records, device, 1)
        for name, text in texts.items():
            first[name] = _timed(predictor, text)
        for name, text in texts.items():
            later[name] = statistics.median(_timed(predictor, text) for _ in range(ROUNDS))
    both = {"median": statistics.median(later.values()), "largest": max(later.values()), "largest_first": max(first.values())}
    return {**both, "of_each": later, "first_of_each": first}


def _cost_of_zoo(threads: int) -> dict[str, Any]:
    """`_cost` of every zoo model that takes large pictures, each of whose kernels has an invented record."""
    device = Device("none", "invented", 8, 12, threads, "none", "none")
    graphs = {}
    for name in zoo.MODELS:
        with contextlib.suppress(UserError):  # of small pictures alone
            graphs[name] = zoo.build(name, input_shape=(224, 224, 3), num_classes=1000)
    first, later = {}, {}
    for name, graph in graphs.items():
        first[name] = _timed(Predictor(Records.open(None), device, 1), graph.to_json(), known=False)
        with Records.open(None) as records:
            _invent(records, device, graph)
            predictor = Predictor(records, device, 1)
            _timed(predictor, graph.to_json())
            later[name] = statistics.median(_timed(predictor, graph.to_json()) for _ in range(ROUNDS))
    both = {"median": statistics.median(later.values()), "largest": max(later.values()), "largest_first": max(first.values())}
    return {**both, "of_each": later, "first_of_each": first}


def _invent(records: Records, device: Device, graph: Graph) -> None:
    """Records of every kernel of a graph, and the overhead."""
    plan = outline(graph, 1)
    producers = {step.output: step for step in plan.flat.steps}
    storages: dict[int, Storage] = {}
    records.set_overhead(device, {"call": 1e-6, "kernel": 1e-6})
    facts: dict[str, Any] = {"caches": ((FEW_BYTES, 0.0),), "pace": 1e-5, "handed": (0.0,) * 4, "exchange": 1e-5}
    for kernel in plan.kernels:
        kind, key = plan.flat.types[kernel.output], identify(plan, producers, storages, kernel, device.lanes).key
        storages[kernel.output] = Storage(kind.shape, kind.shape, kind.dtype)
        records.add(device, Record(key, TEMPLATE, "map", 1, storages[kernel.output], {}, 1e-6, **facts))


def _timed(predictor: Predictor, text: str, *, known: bool = True) -> float:
    graph = Graph.from_json(text)
    begin = time.perf_counter()
    found = predictor(graph)
    seconds = time.perf_counter() - begin
    assert found.unknown == 0 or not known, "not all kernels are known"
    return 1e3 * seconds


if __name__ == "__main__":
    sys.exit(main())
