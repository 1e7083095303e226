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

The back ends take turns in one worker process with a time limit, so that they meet the same conditions. The batch is the
first number of --input. Every latency says how it was scheduled, and whether the schedule was chosen by timing (tuned)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `latency`."""
    add_model(parser)
    parser.add_argument(
        "--backends", type=words, default=("tvm", "xla"), metavar="NAMES", help=f"of {','.join(BACKENDS)} (default: tvm,xla)"
    )
    parser.add_argument(
        "--trials",
        type=natural,
        default=0,
        metavar="N",
        help="tuning trials of TVM's MetaSchedule (default: 0, the packed templates alone)",
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

    lifted = load_model(arguments)
    graph = lifted.graph
    measurements = _measure(graph, lifted.variables, arguments)
    failed = [one for one in measurements if "failure" in one]
    if arguments.json:
        head = {"model": arguments.model, "input": list(arguments.input), "params": graph.params, "macs": macs(graph)}
        print_json({**head, "measurements": measurements})
        return FAILED if failed else 0
    columns = ("back end", "median", "schedule", "trials", "threads", "batch", "dtype", "largest error")
    print_table(columns, [_row(one) for one in measurements], right=("median",))
    for one in failed:
        print(f"{one['backend']}: {one['failure']}: {(one['message'].strip().splitlines() or ['no message'])[0]}")
    return FAILED if failed else 0


def _measure(graph: Graph, variables: Variables | None, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All back ends in turns in one process; if that crashes or hangs, each in one of its own, to know which it was."""
    from alphanas.execution import Completed, LocalPool
    from alphanas.models import weights

    with tempfile.TemporaryDirectory() as folder, LocalPool(workers=1, threads=arguments.threads) as pool:
        path = None if variables is None else Path(folder) / "weights.safetensors"
        if variables is not None and path is not None:
            weights.save(variables, path)
        payload = {
            "graph": graph.to_json(),
            "weights": path and str(path),
            "batch": arguments.input[0],
            "trials": arguments.trials,
            "threads": arguments.threads,
            "repeats": arguments.repeats,
            "check": True,
        }
        if "onnxruntime" in arguments.backends:
            payload |= _in_onnx(graph, variables, Path(folder) / "model.onnx")

        def compare(backends: tuple[str, ...]) -> list[dict[str, Any]]:
            limit = arguments.time_limit * len(backends)
            result = pool.submit("alphanas.hardware.tasks:compare", {**payload, "backends": list(backends)}, limit_s=limit).result()
            if isinstance(result, Completed):
                return list(result.value["results"])
            if len(backends) > 1:
                return [one for backend in backends for one in compare((backend,))]
            return [{"backend": backends[0], "failure": result.cause, "message": result.message}]

        return compare(arguments.backends)


def _in_onnx(graph: Graph, variables: Variables | None, path: Path) -> dict[str, str]:
    import jax

    from alphanas.export.onnx.export import for_measuring

    # The weights that a worker would give to a model that has none.
    return for_measuring(graph, graph.init(jax.random.key(0)) if variables is None else variables, path)


def _row(one: dict[str, Any]) -> tuple[Any, ...]:
    from alphanas.report.markup import latency_text

    if "failure" in one:
        return (one["backend"], None, *[""] * 6)
    tuned = "tuned" if one.get("tuned") else "untuned"
    error = None if one.get("max_error") is None else f"{one['max_error']:.1e}"
    conditions = [one.get(name) for name in ("trials", "threads", "batch", "dtype")]
    return (one["backend"], latency_text(one, digits=4), f"{one.get('schedule')}, {tuned}", *conditions, error)
