"""What worker processes run to fill the records: `survey`, `tune_kernel`, `try_kernel`, `predict`.

Payloads share: models (names to graphs as JSON text), batch, threads, records (path of the file, null for none that lasts). Kernels
are named by their keys. One kernel a task, so that a crash is one kernel's.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphanas.execution import TaskFailure
from alphanas.hardware.predicting import Predictor, complete, usual_pace
from alphanas.hardware.program import NotLowerable
from alphanas.hardware.records import METASCHEDULE, TEMPLATE, Device, Record, Records
from synth.graph import Graph

if TYPE_CHECKING:
    from alphanas.hardware.lowering import Lowered
    from alphanas.hardware.machine import Machine

UNSTEADY = 0.3
"""A record whose spread is this share of its seconds was taken in a hubbub: who tunes ahead of a search times it again."""
ROOM = "alphanas.hardware.filling"
SURVEY, TUNE, TRY, PREDICT = (f"{ROOM}:{name}" for name in ("survey", "tune_kernel", "try_kernel", "predict"))


def survey(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The distinct kernels of all models, and what is on record of each; measures the overhead of this device if no record tells.

    Result: kernels (one mapping each: key, kernel (what it computes), kind, count over all models, models, work, tunable (whether
    MetaSchedule takes it), template and metaschedule (seconds, spread, trials; null where unknown)), models (milliseconds
    predicted of each, null where a kernel is unknown), device, overhead, others (records that say nothing of this device), notes.
    Raises TaskFailure "not_lowerable", which names model and primitive.
    """
    from alphanas.hardware.overhead import known_overhead
    from alphanas.hardware.tuning import device_of

    machine = _machine(payload)
    device = device_of(machine)
    lowered = _all_lowered(payload, machine)
    with _opened(payload) as store:
        overhead = known_overhead(store, machine)
        both = {how: store.known(device, how) for how in (TEMPLATE, METASCHEDULE)}
        kernels = _kernels(lowered, both)
        models = {name: _predicted(graph, store, device, payload["batch"]) for name, graph in payload["models"].items()}
        facts = {"device": dataclasses.asdict(device), "overhead": overhead, "others": store.others(device), "notes": store.notes}
        return {"kernels": kernels, "models": models, **facts}


def tune_kernel(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Chooses the knobs of the kernel `key` by timing, unless a steady record has them; {"candidates": how many were timed}.

    Raises TaskFailure "timeout" where another process tunes it and does not come to an end within `within_s`.
    """
    from alphanas.hardware import tuning

    machine = _machine(payload)
    lowered, number = _found(payload, machine)
    with _opened(payload) as store:
        end = time.monotonic() + payload["within_s"]
        found = tuning.fill(store, lowered, machine, [number], end=end, steadier_than=UNSTEADY, among=True)
        if number not in found:
            raise TaskFailure("timeout", f"another process had it for the {payload['within_s']:g} s that there were")
        return {"candidates": found[number][1], "notes": store.notes}


def try_kernel(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Spends MetaSchedule trials on the kernel `key` until its record has `trials` of them."""
    from alphanas.hardware import metaschedule

    machine = _machine(payload)
    lowered, number = _found(payload, machine)
    with _opened(payload) as store:
        found = metaschedule.fill(store, lowered, machine, {number: payload["trials"]})
        return {"found": number in found, "notes": store.notes}


def predict(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The latency of the one model in `models` as the sum of its kernels' records; those unknown are tuned within `within_s`.

    Result: latency_ms (null where a kernel is left unknown), how ("records"), pace (of the machine that it holds at: `alone`
    and `exchange`, see `hardware.pace`; null where no record tells),
    known (distinct kernels on record before), tuned and unknown (now), kernels (calls), batch, threads, device, notes.
    """
    from alphanas.hardware import tasks, tuning
    from alphanas.hardware.overhead import known_overhead

    elsewhere = tasks.under_right_threads(PREDICT, payload)
    if elsewhere is not None:
        return dict(elsewhere)
    machine = _machine(payload)
    device = tuning.device_of(machine)
    (lowered,) = _all_lowered(payload, machine).values()
    with _opened(payload) as store:
        known_overhead(store, machine)
        before = store.known(device)
        missing = [n for n in tuning.heaviest_first(lowered) if not complete(before.get(lowered.keys[n]))]
        if missing:
            tuning.fill(store, lowered, machine, missing, end=time.monotonic() + payload["within_s"], among=True)
        now = store.known(device)
        usual = usual_pace(now.values())
        (graph,) = payload["models"].values()
        keys, ready = set(lowered.keys), {key for key, record in before.items() if complete(record)}
        return {
            "latency_ms": _predicted(graph, store, device, payload["batch"]),
            "how": "records",
            "pace": None if usual is None else dataclasses.asdict(usual),
            "known": len(keys & ready),
            "tuned": len({key for key in keys - ready if complete(now.get(key))}),
            "unknown": len({key for key in keys if not complete(now.get(key))}),
            "kernels": len(lowered.calls),
            "batch": payload["batch"],
            "threads": payload["threads"],
            "device": dataclasses.asdict(device),
            "notes": store.notes,
        }


def _machine(payload: Mapping[str, Any]) -> Machine:
    from alphanas.hardware.machine import this_machine, use_threads

    use_threads(payload["threads"])
    return this_machine(payload["threads"])


def _opened(payload: Mapping[str, Any]) -> Records:
    return Records.open(Path(payload["records"]) if payload["records"] else None)


def _all_lowered(payload: Mapping[str, Any], machine: Machine) -> dict[str, Lowered]:
    found = {}
    for name, graph in payload["models"].items():
        try:
            found[name] = _lowered(graph, payload["batch"], machine.lanes)
        except NotLowerable as error:
            raise TaskFailure("not_lowerable", f"{name}: {error}") from error
    return found


@functools.lru_cache(maxsize=64)
def _lowered(graph: str, batch: int, lanes: int) -> Lowered:
    from alphanas.hardware.lowering import lowered_plan
    from alphanas.hardware.outline import outline

    return lowered_plan(outline(Graph.from_json(graph), batch), lanes)


def _found(payload: Mapping[str, Any], machine: Machine) -> tuple[Lowered, int]:
    """(a model that has the kernel `key`, the kernel's number in it)."""
    key = payload["key"]
    return next((one, one.keys.index(key)) for one in _all_lowered(payload, machine).values() if key in one.keys)


def _predicted(graph: str, store: Records, device: Device, batch: int) -> float | None:
    """Milliseconds of one call; None where a kernel is unknown."""
    seconds = Predictor(store, device, batch)(Graph.from_json(graph)).seconds
    return None if seconds is None else 1e3 * seconds


def _kernels(lowered: Mapping[str, Lowered], both: Mapping[str, Mapping[str, Record]]) -> list[dict[str, Any]]:
    from alphanas.hardware.profile import named
    from alphanas.hardware.schedules import TUNED_KINDS

    rows: dict[str, dict[str, Any]] = {}
    for name, one in lowered.items():
        for call in one.calls:
            key, geometry = one.keys[call.task], one.tasks[call.task].geometry
            if key not in rows:
                told = {how: _told(known.get(key)) for how, known in both.items()}
                facts = {"kind": geometry.kind, "work": geometry.work, "tunable": geometry.kind in TUNED_KINDS}
                rows[key] = {"key": key, "kernel": named(one, call), **facts, "count": 0, "models": [], **told}
            rows[key]["count"] += 1
            if name not in rows[key]["models"]:
                rows[key]["models"].append(name)
    return sorted(rows.values(), key=lambda row: -row["work"] * row["count"])


def _told(record: Record | None) -> dict[str, Any] | None:
    if record is None:
        return None
    schedule = {name: value for name, value in record.schedule.items() if name not in ("function", "exact")}
    steady = record.unsteadiness < UNSTEADY
    return {
        "seconds": record.seconds,
        "spread": record.spread,
        "trials": record.trials,
        "time": record.time,
        "schedule": schedule,
        "steady": steady,
    }
