"""`latency MODEL`: how long one call takes on this machine, by back end, each in a worker process that may crash or hang."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.cli.common import add_json, add_model, duration, natural, positive, print_json, print_table, words
from alphanas.errors import FAILED, UserError, nearest

if TYPE_CHECKING:
    from synth import Graph
    from synth.graph import Variables

BACKENDS = ("tvm", "xla", "onnxruntime")

HELP = """measure how long one call takes on this machine, by back end

Each back end runs in a process of its own with a time limit. The batch is the first number of --input. A latency is untuned
unless --trials says otherwise, and says so."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `latency`."""
    add_model(parser)
    parser.add_argument(
        "--backends", type=words, default=("tvm", "xla"), metavar="NAMES", help=f"of {','.join(BACKENDS)} (default: tvm,xla)"
    )
    parser.add_argument(
        "--trials", type=natural, default=0, metavar="N", help="tuning trials of TVM's MetaSchedule (default: 0, untuned)"
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=min(2, os.cpu_count() or 1),
        metavar="N",
        help="threads of a call (default: %(default)s)",
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=10,
        metavar="N",
        help="repeats that median and spread are taken over (default: %(default)s)",
    )
    parser.add_argument(
        "--time-limit", type=duration, default=120.0, metavar="TIME", help="for each back end, such as 90s (default: 120s)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, and prints one line a back end; 1 if one of them failed."""
    unknown = [name for name in arguments.backends if name not in BACKENDS]
    if unknown or not arguments.backends:
        name = unknown[0] if unknown else ""
        raise UserError(f"--backends {','.join(arguments.backends)}", saw=f"no back end {name!r}", remedy=nearest(name, BACKENDS))

    from alphanas.cli.model import load_model
    from synth.analysis import macs

    graph, variables = load_model(arguments)
    measurements = _measure(graph, variables, arguments)
    failed = any("failed" in one for one in measurements)
    if arguments.json:
        head = {"model": arguments.model, "input": list(arguments.input), "params": graph.params, "macs": macs(graph)}
        print_json({**head, "measurements": measurements})
        return FAILED if failed else 0
    columns = ("back end", "median", "spread", "schedule", "trials", "threads", "batch", "dtype", "largest error")
    print_table(columns, [_row(one) for one in measurements], right=("median", "spread"))
    for one in measurements:
        if "failed" in one:
            print(f"{one['backend']}: {one['failed']}: {one['message'].strip().splitlines()[0] if one['message'].strip() else ''}")
    return FAILED if failed else 0


def _measure(graph: Graph, variables: Variables | None, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    import jax

    from alphanas.execution import Completed, LocalPool
    from alphanas.models import weights

    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, LocalPool(workers=1, threads=arguments.threads) as pool:
        path = Path(folder) / "weights.safetensors"
        weights.save(variables if variables is not None else graph.init(jax.random.key(0)), path)
        for backend in arguments.backends:
            payload = {
                "graph": graph.to_json(),
                "weights": str(path),
                "backend": backend,
                "batch": arguments.input[0],
                "trials": arguments.trials if backend == "tvm" else 0,
                "threads": arguments.threads,
                "repeats": arguments.repeats,
                "check": True,
            }
            match pool.submit("alphanas.hardware.tasks:measure", payload, limit_s=arguments.time_limit).result():
                case Completed(value=value):
                    found.append({"backend": backend, **value})
                case failure:
                    found.append({"backend": backend, "failed": failure.cause, "message": failure.message})
    return found


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    if "failed" in one:
        return (one["backend"], *[None] * 8)
    tuned = "tuned" if one.get("tuned") else "untuned"
    return (
        one["backend"],
        f"{one['median_ms']:.4g} ms",
        f"± {one['spread_ms']:.2g} ms",
        f"{one.get('schedule')}, {tuned}",
        *(one.get(name) for name in ("trials", "threads", "batch", "dtype")),
        None if one.get("max_error") is None else f"{one['max_error']:.1e}",
    )
