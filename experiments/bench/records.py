"""Latency predicted from records against latency measured whole, and what a prediction costs, as JSON.

    python -m experiments.bench.records --records FILE [--rows FILE] [--only resnet18@32,…] [--threads 2] [--tune-only]

Each network's kernels are tuned first, into the given records (a second run finds them there). Then, network by network, it is
built and measured whole under the schedules on record, and predicted as the sum of its kernels' records and the measured overhead.
The error is |predicted / measured - 1|. Records hold at the machine's usual pace (`alphanas.hardware.pace`), which a shared machine
leaves from minute to minute: the pace takes its turns with each network, and `predicted_ms` is the sum times the pace now over the
usual one; `at_usual_pace_ms` is the sum as it is. No prediction is made after its network was measured.

Networks: zoo models at 32×32, the same at other widths, edits as a search makes them, and some at 224×224. With --rows, networks
measured by an earlier run are read from that file and not measured again.
"""

from __future__ import annotations

import argparse
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
from alphanas.execution import Completed, LocalPool
from alphanas.hardware.filling import PREDICT
from alphanas.hardware.predicting import Predictor
from alphanas.hardware.records import Device, Records
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
    graphs = {name: graph for name, graph in networks().items() if not options.only or name in options.only.split(",")}
    with tempfile.TemporaryDirectory() as folder, LocalPool(1, threads=options.threads) as pool:
        records = options.records or Path(folder) / "records.sqlite"
        shared = {"batch": 1, "threads": options.threads, "records": str(records)}
        tuned = {name: _tuned(pool, name, graph, shared) for name, graph in graphs.items()}
        failed = {name: result for name, result in tuned.items() if "failure" in result}
        rows = _kept(options.rows)
        if not options.tune_only:
            for name, graph in graphs.items():
                if name not in rows and name not in failed:
                    rows[name] = _paced(_measured(pool, graph, shared), tuned[name])
                    _keep(options.rows, rows)
        good = {name: row for name, row in rows.items() if "failure" not in row and name in graphs}
        device = next((Device(**result["device"]) for result in tuned.values() if "device" in result), None)
        cost = _cost(graphs, records, device) if device is not None and not failed else None
    report = {"command": sys.argv[1:], "device": device and dataclasses.asdict(device), "networks": rows, "failed": failed}
    print(json.dumps({**report, "agreement": _agreement(good), "prediction_ms": cost}, indent=2))
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Latency predicted from records against latency measured whole.")
    parser.add_argument("--records", type=Path, help="file of records (default: one that does not last)")
    parser.add_argument("--rows", type=Path, help="file of what was measured, read and written")
    parser.add_argument("--only", default="", help="names of networks with commas between")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune-only", action="store_true", help="fill the records and measure no network")
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
    return {key: result.value[key] for key in (*told, "build_seconds")}


def _paced(measured: Mapping[str, Any], tuned: Mapping[str, Any]) -> dict[str, Any]:
    """What was measured, with what was predicted before, brought to the pace that the machine then had."""
    if "failure" in measured:
        return dict(measured)
    factor = measured["pace_ms"] / (1e3 * tuned["pace"])
    predicted = {"predicted_ms": factor * tuned["latency_ms"], "at_usual_pace_ms": tuned["latency_ms"], "pace_of_usual": factor}
    return {**measured, **predicted, "kernels": tuned["kernels"]}


def _kept(path: Path | None) -> dict[str, Any]:
    """What an earlier run measured, without what it could not and what tells less than a row does now."""
    rows = dict(json.loads(path.read_text())) if path is not None and path.exists() else {}
    return {name: row for name, row in rows.items() if "at_usual_pace_ms" in row}


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


def _timed(predictor: Predictor, text: str) -> float:
    graph = Graph.from_json(text)
    begin = time.perf_counter()
    found = predictor(graph)
    seconds = time.perf_counter() - begin
    assert found.unknown == 0, "not all kernels are known"
    return 1e3 * seconds


if __name__ == "__main__":
    sys.exit(main())
