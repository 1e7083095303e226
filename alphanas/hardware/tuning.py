"""Choosing every task's knobs by timing its candidates, and remembering what was chosen.

A record is one line of JSON: the task's key (its code, the CPU, threads, TVM's version), the knobs and the seconds. Lines are
appended in one write, so that several processes may share a file; a line that is damaged is passed over.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from alphanas.hardware.emit import Emitted
from alphanas.hardware.lowering import Lowered
from alphanas.hardware.machine import Machine
from alphanas.hardware.schedules import Knobs, candidates, scheduled, thread_choices

ROUNDS = 3
PARALLEL_MARGIN = 1.2
"""Threads must make a kernel faster by this factor to be used."""
ROUND_MS = 2
"""Each candidate is timed in so many rounds of at least so long, in turns with the others; its best round counts."""


@dataclass(frozen=True)
class Tuned:
    """The knobs of every task, the seconds of those that were timed, and how many candidates were built for it."""

    knobs: tuple[Knobs, ...]
    seconds: tuple[float | None, ...]
    built: int
    complete: bool


def untuned(lowered: Lowered, machine: Machine) -> Tuned:
    """The likeliest knobs, nothing timed."""
    knobs = tuple(candidates(task.geometry, machine.registers, machine.threads)[0] for task in lowered.tasks)
    return Tuned(knobs, (None,) * len(knobs), 0, False)


def tune(lowered: Lowered, machine: Machine, *, limit_s: float, records: Path | None = None) -> Tuned:
    """Times the candidates of every task that no record knows, the heaviest first, until the time is up.

    What is not reached keeps its likeliest knobs, and `complete` says so.
    """
    end = time.monotonic() + limit_s
    known = read_records(records)
    start = untuned(lowered, machine)
    knobs, seconds = list(start.knobs), list(start.seconds)
    calls = [call.task for call in lowered.calls]
    order = sorted(range(len(knobs)), key=lambda n: -lowered.tasks[n].geometry.work * calls.count(n))
    built, complete = 0, True
    for number in order:
        task = lowered.tasks[number]
        tiles = candidates(task.geometry, machine.registers, machine.threads)
        if len(tiles) == len(thread_choices(task.geometry, machine.threads)) == 1:
            continue
        key = record_key(task, machine)
        if key in known:
            knobs[number], seconds[number] = known[key]
            continue
        if time.monotonic() > end:
            complete = False
            continue
        knobs[number], seconds[number], tried = _fastest(task, machine)
        built += tried
        append_record(records, key, knobs[number], seconds[number] or 0.0)
    return Tuned(tuple(knobs), tuple(seconds), built, complete)


def _fastest(task: Emitted, machine: Machine) -> tuple[Knobs, float, int]:
    """(the fastest knobs, their seconds, how many were built): the best tile first, then whether threads help it."""
    tiles = candidates(task.geometry, machine.registers, machine.threads)
    seconds = _timed(task, tiles, machine)
    tile = min(seconds, key=lambda knobs: seconds[knobs])
    others = [dataclasses.replace(tile, parallel=parallel) for parallel in thread_choices(task.geometry, machine.threads)]
    others = [knobs for knobs in others if knobs not in seconds]
    if others:
        seconds |= _timed(task, others, machine)
    # In a loop of its own a kernel finds the other threads awake; in a network it may have to wake them.
    best = min(seconds, key=lambda knobs: seconds[knobs] * (PARALLEL_MARGIN if knobs.parallel else 1.0))
    return best, seconds[best], len(seconds)


def on_one_thread(chosen: Sequence[Knobs]) -> list[Knobs]:
    """The same knobs with nothing shared among threads."""
    return [dataclasses.replace(knobs, parallel=False) for knobs in chosen]


def _timed(task: Emitted, choices: list[Knobs], machine: Machine) -> dict[Knobs, float]:
    seconds = time_functions(task, [scheduled(task, knobs) for knobs in choices], machine)
    return dict(zip(choices, seconds, strict=True))


def time_functions(task: Emitted, functions: Sequence[Any], machine: Machine) -> list[float]:
    """Seconds of one run of each function that computes the task, all timed in turns."""
    names = [f"choice{n}" for n in range(len(functions))]
    symbols = {name: function.with_attr("global_symbol", name) for name, function in zip(names, functions, strict=True)}
    compiled = tvm.compile(tvm.IRModule(symbols), target=machine.target).jit()
    device = tvm.cpu()
    arrays = [tvm.runtime.tensor(array, device) for array in _arguments(task)]
    best = dict.fromkeys(names, float("inf"))
    for _ in range(ROUNDS):
        for name in names:
            timer = compiled.time_evaluator(name, device, number=1, repeat=1, min_repeat_ms=ROUND_MS)
            best[name] = min(best[name], float(timer(*arrays).mean))
    return list(best.values())


def _arguments(task: Emitted) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = []
    for parameter in task.function.params:
        shape = tuple(int(size) for size in parameter.shape)
        arrays.append(rng.standard_normal(shape).astype(str(parameter.dtype)))
    return arrays


def record_key(task: Emitted, machine: Machine) -> str:
    """What a record is found by: equal code on an equal machine."""
    text = "\n".join([task.function.script(), repr(machine), tvm.__version__])
    return hashlib.sha256(text.encode()).hexdigest()


def read_records(path: Path | None) -> Mapping[str, tuple[Knobs, float]]:
    """All records of a file by key; none where there is no file."""
    found: dict[str, tuple[Knobs, float]] = {}
    if path is None or not path.exists():
        return found
    for line in path.read_text(errors="replace").splitlines():
        try:
            record = json.loads(line)
            found[record["key"]] = (Knobs(**record["knobs"]), float(record["seconds"]))
        except (ValueError, KeyError, TypeError):
            continue
    return found


def append_record(path: Path | None, key: str, knobs: Knobs, seconds: float) -> None:
    """Adds a record in one write."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"key": key, "knobs": dataclasses.asdict(knobs), "seconds": seconds}
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(record) + "\n").encode())
    finally:
        os.close(descriptor)
