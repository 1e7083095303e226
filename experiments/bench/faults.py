"""What a thousand evaluations with injected crashes, hangs and floods of memory leave behind, as JSON.

    python -m experiments.bench.faults --evaluations 1000 --share 0.05

Each evaluation builds a small network, compiles it and runs it in a worker process under a limit of time and of memory. A share
of them does instead what bad candidates do: a segmentation fault, an abort, an exit, a hang, a hang with a process of its own
that ignores signals, a flood of memory in the worker or in a process below it, a wrong result. Every outcome goes into a study;
the figures are read back from it. `mismatched` are outcomes whose cause is not what was injected, `orphans` processes that are
left when the pool is closed, `orphans_of_a_killed_parent` those left when a parent with busy workers is killed by SIGKILL. Memory
in MiB: the parent's in the first and in the last tenth of the evaluations, and the largest that a worker had after one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphanas.execution import Completed, LocalPool, TaskFailure
from alphanas.study import Study, create_study, environment, open_study

MARK = "ALPHANAS_FAULTS"
TASK = "experiments.bench.faults:evaluate"
CHILD = [sys.executable, "-S", "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"]


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    report = {"command": sys.argv[1:], "environment": environment(threads=1), **run(options)}
    print(json.dumps(report, indent=2))
    return 0 if report["sound"] else 1


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Evaluations with injected faults.")
    parser.add_argument("--evaluations", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.05, help="of the evaluations that fail")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds of one evaluation")
    parser.add_argument("--memory", type=int, default=1024, help="MiB that one evaluation may hold")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    mark = uuid.uuid4().hex
    injected = _injected(options)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        parent, largest = _evaluate_all(options, injected, mark, Path(folder) / "study")
        seconds = time.monotonic() - began
        recorded = _recorded(open_study(Path(folder) / "study"))
        orphans = len(_marked(mark))
        of_killed = _orphans_of_a_killed_parent(options, Path(folder))
    expected = {number: FAULTS[name].cause if name else "ok" for number, name in enumerate(injected)}
    mismatched = [
        {"evaluation": number, "injected": injected[number], "recorded": recorded.get(number)}
        for number, cause in expected.items()
        if recorded.get(number) != cause
    ]
    tenth = max(1, len(parent) // 10)
    first, last = statistics.median(parent[:tenth]), statistics.median(parent[-tenth:])
    return {
        "evaluations": options.evaluations,
        "injected": dict(Counter(filter(None, injected))),
        "recorded": dict(Counter(recorded.values())),
        "mismatched": mismatched,
        "orphans": orphans,
        "orphans_of_a_killed_parent": of_killed,
        "seconds": seconds,
        "memory": {"parent_first": first, "parent_last": last, "worker_largest": largest, "limit": options.memory},
        "sound": not mismatched and len(recorded) == options.evaluations and orphans == of_killed == 0,
    }


def _injected(options: argparse.Namespace) -> list[str]:
    """What each evaluation does: the name of a fault, or nothing; each fault about as often."""
    names = sorted(FAULTS)
    faulty = [names[number % len(names)] for number in range(round(options.share * options.evaluations))]
    plan = faulty + [""] * (options.evaluations - len(faulty))
    random.Random(options.seed).shuffle(plan)
    return plan


def _evaluate_all(options: argparse.Namespace, injected: list[str], mark: str, folder: Path) -> tuple[list[float], float]:
    """Runs everything and records it; the parent's memory after each evaluation, and the largest that a worker had."""
    parent, largest = [], 0.0
    payloads = [{"number": number, "fault": name, "flood_mib": 2 * options.memory} for number, name in enumerate(injected)]
    with (
        create_study(folder, config={}, config_toml="", key=0, fingerprint="", environment={}) as recorder,
        LocalPool(options.workers, env={MARK: mark}, memory_limit=options.memory << 20) as pool,
    ):
        for number, result in pool.map_unordered(TASK, payloads, limit_s=options.limit):
            recorder.candidate(number, graph_json="{}", graph_hash=str(number), proposal={})
            if isinstance(result, Completed):
                recorder.outcome(number, "measure", values=result.value)
                largest = max(largest, result.value["mib"])
            else:
                recorder.outcome(number, "measure", "failed", cause=result.cause, message=result.message)
            parent.append(_mib(os.getpid()))
            if len(parent) % 100 == 0:
                print(f"{len(parent)} of {len(injected)}", file=sys.stderr, flush=True)
    return parent, largest


def _recorded(study: Study) -> dict[int, str]:
    """The cause on record for each evaluation, "ok" for those that passed."""
    found = {}
    for candidate in study.candidates():
        for outcome in candidate.outcomes("measure"):
            found[candidate.id] = "ok" if outcome.ok else str(outcome.cause)
    return found


def _orphans_of_a_killed_parent(options: argparse.Namespace, folder: Path) -> int:
    """Processes that are left of a pool whose parent was killed while its workers hung, with processes of their own below them."""
    mark = uuid.uuid4().hex
    code = (
        "import sys, time; from alphanas.execution import LocalPool\n"
        f"pool = LocalPool({options.workers}, env={{{MARK!r}: {mark!r}}})\n"
        f"for number in range({options.workers}):\n"
        f"    pool.submit({TASK!r}, {{'number': number, 'fault': 'hang_with_child', 'flood_mib': 0}})\n"
        "time.sleep(3600)\n"
    )
    path = os.pathsep.join(filter(None, sys.path))
    parent = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, cwd=folder)
    _until(lambda: len(_marked(mark)) >= 2 * options.workers, 60.0)
    parent.kill()
    parent.wait()
    _until(lambda: not _marked(mark), 10.0)
    return len(_marked(mark))


def _until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.1)


def _marked(mark: str) -> list[int]:
    """Running processes that were started with the mark in their environment, which is passed on to whatever they start."""
    wanted, found = f"{MARK}={mark}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (
                wanted in (folder / "environ").read_bytes().split(b"\0")
                and (folder / "stat").read_text().rpartition(")")[2][1] != "Z"
            ):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def _mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def evaluate(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A task: compiles and runs a small network, or does what a bad candidate does."""
    import jax
    import numpy as np

    from synth import Builder
    from synth.ops import Conv, Dense, GlobalAvgPool, Relu

    if payload["fault"]:
        FAULTS[payload["fault"]].do(payload)
    build = Builder((6, 6, 2))
    x = build(Relu(), build(Conv(features=1 + payload["number"] % 7), build.input, name="conv"), name="relu")
    graph = build.graph(build(Dense(features=3), build(GlobalAvgPool(), x, name="pool"), name="head"))
    out = jax.jit(graph.apply)(graph.init(jax.random.key(payload["number"])), np.ones((1, 6, 6, 2), np.float32))
    return {"total": float(np.asarray(out).sum()), "mib": _mib(os.getpid())}


def _segfault(payload: Mapping[str, Any]) -> None:
    ctypes.string_at(0)


def _abort(payload: Mapping[str, Any]) -> None:
    os.abort()


def _exit(payload: Mapping[str, Any]) -> None:
    os._exit(0)


def _hang(payload: Mapping[str, Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def _hang_with_child(payload: Mapping[str, Any]) -> None:
    subprocess.run(CHILD, check=True)


def _flood(payload: Mapping[str, Any]) -> None:
    held = bytearray()
    for _ in range(payload["flood_mib"] // 8):
        held += b"\1" * (8 << 20)
        time.sleep(0.002)
    time.sleep(5)


def _flood_below(payload: Mapping[str, Any]) -> None:
    code = f"import time; held = b'\\1' * ({payload['flood_mib']} << 20); time.sleep(60)"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def _wrong(payload: Mapping[str, Any]) -> None:
    raise TaskFailure("wrong_output", "the output differs from JAX")


class Fault:
    """What a bad candidate does, and the cause that is to be recorded."""

    def __init__(self, do: Callable[[Mapping[str, Any]], None], cause: str) -> None:
        self.do, self.cause = do, cause


FAULTS: Mapping[str, Fault] = {
    "segfault": Fault(_segfault, "crashed"),
    "abort": Fault(_abort, "crashed"),
    "exit": Fault(_exit, "crashed"),
    "hang": Fault(_hang, "timeout"),
    "hang_with_child": Fault(_hang_with_child, "timeout"),
    "flood": Fault(_flood, "out_of_memory"),
    "flood_below": Fault(_flood_below, "out_of_memory"),
    "wrong_result": Fault(_wrong, "wrong_output"),
}

if __name__ == "__main__":
    sys.exit(main())
