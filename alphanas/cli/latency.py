"""`latency MODEL`: how long one call takes on this machine, by back end, each in a worker process that may crash or hang."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.cli.common import add_json, add_model, duration, natural, positive, print_json, words
from alphanas.errors import FAILED, UserError, nearest

if TYPE_CHECKING:
    from alphanas.execution import Note
    from alphanas.models.lifting import Lifted

BACKENDS = ("tvm", "xla", "onnxruntime")
REPORT_S = 60.0
BAD_INPUT = "bad_input"

HELP = """measure how long one call takes on this machine, by back end

The back ends take turns in one worker process with a limit of time and of memory, so that they meet the same conditions;
no other measurement of alphanas runs on the machine meanwhile. The batch is the first number of --input. Every latency says how
it was scheduled, and whether the schedule was chosen by timing (tuned). One is called faster than another only if the 95%
interval of their ratio excludes 1."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `latency`."""
    add_model(parser)
    parser.add_argument(
        "--backends", type=words, default=("tvm", "xla"), metavar="NAMES", help=f"of {','.join(BACKENDS)} (default: tvm,xla)"
    )
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="another model that takes its turns on every back end: ratios are to it (default: to the first back end)",
    )
    parser.add_argument(
        "--report-level",
        nargs="?",
        type=duration,
        const=REPORT_S,
        metavar="TIME",
        help="time every run by itself, for at least 1,024 runs and this time for each back end, and tell the 50th, 90th and 99th "
        "percentile (default: 60s; less than that, or fewer runs, is labelled so)",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="where the time goes on the tvm back end: each kernel, the nodes it comes from, its multiply-adds and its share of "
        "what the machine reaches",
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
        "--target",
        default="cpu",
        metavar="NAME",
        help="cpu (this machine's), cuda (its GPU), or the name of a CPU that tvm is to compile for (default: cpu)",
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        default=10,
        metavar="N",
        help="repeats that median and spread are taken over (default: %(default)s)",
    )
    parser.add_argument(
        "--time-limit",
        type=duration,
        default=120.0,
        metavar="TIME",
        help="for each back end, such as 90s; the time of --report-level comes on top (default: 120s)",
    )
    parser.add_argument(
        "--memory-limit",
        type=positive,
        metavar="MIB",
        help="what the worker may hold before it is ended (default: four fifths of the machine's memory)",
    )
    parser.add_argument(
        "--records", type=Path, metavar="PATH", help="file of known kernels, read and filled (default: the one in the cache folder)"
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Measures, and prints one line a back end; 1 if one of them failed."""
    unknown = [name for name in arguments.backends if name not in BACKENDS]
    if unknown or not arguments.backends:
        name = unknown[0] if unknown else ""
        raise UserError(f"--backends {','.join(arguments.backends)}", saw=f"no back end {name!r}", remedy=nearest(name, BACKENDS))

    from alphanas.cli.latency_table import print_latencies, print_profile
    from alphanas.cli.model import load_model
    from synth.analysis import macs

    if (path := _records(arguments)) is not None:
        from alphanas.hardware.records import Records

        Records.open(Path(path)).close()  # what is wrong with the file is said before anything is done
    lifted = load_model(arguments)
    other = load_model(argparse.Namespace(**{**vars(arguments), "model": arguments.against})) if arguments.against else None
    found = _measure(lifted, other, arguments)
    _refuse_bad_input(found)
    failed = any("failure" in one for one in (*found["results"], *found["against"]))
    profile = _profile(lifted, arguments) if arguments.profile else None
    failed = failed or "failure" in (profile or {})
    if arguments.json:
        head = {"model": arguments.model, "input": list(arguments.input), "params": lifted.graph.params, "macs": macs(lifted.graph)}
        against = {"model": arguments.against, "measurements": found["against"]} if other else None
        measured = {"measurements": found["results"], "against": against, "conditions": found["conditions"]}
        print_json({**head, **measured, "profile": profile})
    else:
        print_latencies(found, arguments.against)
    if profile is not None and not arguments.json:
        print_profile(profile)
    return FAILED if failed else 0


def _refuse_bad_input(found: Mapping[str, Any]) -> None:
    """What a worker was given and cannot know what to do with, such as a CPU without a name, is bad usage and no measurement."""
    for one in found["results"]:
        if one.get("failure") == BAD_INPUT:
            raise UserError(f"latency on {one['backend']}", saw=one["message"], cause=BAD_INPUT)


def _measure(lifted: Lifted, other: Lifted | None, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """All back ends in turns in one process; if that crashes or hangs, each in one of its own, to know which it was."""
    from alphanas.execution import Completed, LocalPool
    from alphanas.hardware.devices import environment

    report_s = arguments.report_level
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPool(
            workers=1, threads=arguments.threads, env=environment(arguments.target), memory_limit=_memory(arguments), on_note=_show
        ) as pool,
    ):
        payload = {
            **_sent(lifted, Path(folder), "model", arguments),
            "against": None if other is None else _sent(other, Path(folder), "against", arguments),
            "batch": arguments.input[0],
            "trials": arguments.trials,
            "records": _records(arguments),
            "threads": arguments.threads,
            "repeats": arguments.repeats,
            "report_s": report_s,
            "target": arguments.target,
            "check": True,
        }

        def compare(backends: tuple[str, ...]) -> Mapping[str, Any]:
            from alphanas.hardware.conditions import conditions

            models = 1 if other is None else 2
            limit = len(backends) * models * (arguments.time_limit + 3.5 * (report_s or 0.0))
            result = pool.submit("alphanas.hardware.tasks:compare", {**payload, "backends": list(backends)}, limit_s=limit).result()
            if isinstance(result, Completed):
                return dict(result.value)
            if len(backends) == 1:
                failure = {"backend": backends[0], "failure": result.cause, "message": result.message}
                return {"results": [failure], "against": [], "conditions": conditions(arguments.threads)}
            parts = [compare((backend,)) for backend in backends]
            both = {key: [one for part in parts for one in part[key]] for key in ("results", "against")}
            return {**both, "conditions": parts[0]["conditions"]}

        return compare(arguments.backends)


def _profile(lifted: Lifted, arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Where the time goes on the tvm back end, or why that is not known."""
    from alphanas.execution import Completed, LocalPool
    from alphanas.hardware.devices import CPU, environment

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPool(1, threads=arguments.threads, env=environment(CPU), memory_limit=_memory(arguments), on_note=_show) as pool,
    ):
        payload = {
            **_sent(lifted, Path(folder), "model", arguments),
            "batch": arguments.input[0],
            "threads": arguments.threads,
            "records": _records(arguments),
        }
        result = pool.submit("alphanas.hardware.profile:profile", payload, limit_s=arguments.time_limit).result()
    if isinstance(result, Completed):
        return dict(result.value)
    return {"failure": result.cause, "message": result.message}


def _records(arguments: argparse.Namespace) -> str | None:
    from alphanas.hardware.records import default_path

    path = arguments.records or default_path()
    return None if path is None else str(path)


def _memory(arguments: argparse.Namespace) -> int:
    from alphanas.execution.limits import memory_share

    return arguments.memory_limit * 2**20 if arguments.memory_limit else memory_share()


def _show(note: Note) -> None:
    if note.text:
        print(note.text, file=sys.stderr, flush=True)


def _sent(lifted: Lifted, folder: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A model as the worker gets it, its files in a folder."""
    from alphanas.models import weights

    path = None if lifted.variables is None else folder / f"{name}.safetensors"
    if lifted.variables is not None and path is not None:
        weights.save(lifted.variables, path)
    sent = {"graph": lifted.graph.to_json(), "weights": path and str(path)}
    return sent | _in_onnx(lifted, folder / f"{name}.onnx") if "onnxruntime" in arguments.backends else sent


def _in_onnx(lifted: Lifted, path: Path) -> dict[str, str]:
    import jax

    from alphanas.export.onnx.export import for_measuring

    # The weights that a worker would give to a model that has none.
    variables = lifted.graph.init(jax.random.key(0)) if lifted.variables is None else lifted.variables
    return for_measuring(lifted.graph, variables, path)
