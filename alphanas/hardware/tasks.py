"""What worker processes run: `measure`, `compare`, `side_by_side` and `facts`."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alphanas.execution import Failed, LocalPool, TaskFailure, notes, thread_environment
from alphanas.execution.turns import turn
from alphanas.hardware import devices, timing

MEASURE = "alphanas.hardware.tasks:measure"
PACE, FAR, NEAR = "the machine's pace", "threads that read each other's lines", "threads that read their own"


def measure(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Latency of a graph on one back end, checked against JAX.

    Payload: graph (JSON text), weights (path of a safetensors file, or null for initial ones), backend, batch, trials, threads,
    repeats, check; optional: knob_seconds (time for choosing knobs, 0 for none), records (path of a file of known knobs),
    repeat_ms, report_s (seconds of each program, every run timed by itself), onnx (path of the model in ONNX, which onnxruntime
    runs) or onnx_problem (why there is none), target (see `devices`; "cpu" by default), pace (whether `hardware.pace` takes its
    turns too, as pace_ms and, with several threads, exchange_ms). Latencies are of one call from Python with inputs in place,
    result awaited.

    Raises TaskFailure: "unavailable" (back end), "not_lowerable" (names the primitive), "wrong_output" (differs from JAX).
    """
    if (elsewhere := under_right_threads(MEASURE, payload)) is not None:
        return elsewhere
    (result,) = measure_together({**payload, "backends": [payload["backend"]]})["results"]
    if "failure" in result:
        raise TaskFailure(result["failure"], result["message"])
    return result


def compare(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Latencies of a graph on several back ends, in turns in one process.

    Payload as `measure`'s, with `backends` in place of `backend`; optional: against (another model, {graph, weights, onnx}, that
    takes its turns on every back end). Result: `results`, one mapping a back end, with `ratio_to` the other model or else the first
    back end; `against`, the other model's; `conditions`. A back end that cannot run has "failure" and "message" instead.
    """
    elsewhere = under_right_threads("alphanas.hardware.tasks:compare", payload)
    return measure_together(payload) if elsewhere is None else elsewhere


def measure_together(payload: Mapping[str, Any]) -> dict[str, Any]:
    """`compare`, in this process whatever its threads are."""
    from alphanas.hardware.conditions import conditions

    found, backends, model = conditions(payload["threads"]), list(payload["backends"]), model_of(payload)
    if payload.get("against") is None:
        results = _in_turns(
            {name: (name, model) for name in backends}, payload, references=dict.fromkeys(backends[1:], backends[0])
        )
        return {"results": [results[name] for name in backends], "against": [], "conditions": found}
    other = model_of({**payload, **payload["against"]})
    others = {name: f"{name}, the other" for name in backends}
    contenders = {name: (name, model) for name in backends} | {others[name]: (name, other) for name in backends}
    results = _in_turns(contenders, payload, references=others)
    return {
        "results": [results[name] for name in backends],
        "against": [results[others[name]] for name in backends],
        "conditions": found,
    }


def side_by_side(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Latencies of several graphs on one back end, in turns in one process, so that their ratios mean something.

    Payload as `measure`'s, with `models`, a mapping of names to {graph, weights}, in place of graph and weights; optional:
    reference (a name in it, that the others' `ratio_to` is taken to). Result: {"results": {name: as `measure`'s}}; a model that
    cannot run has "failure" and "message" instead.
    """
    elsewhere = under_right_threads("alphanas.hardware.tasks:side_by_side", payload)
    if elsewhere is not None:
        return dict(elsewhere)
    models = {name: (payload["backend"], model_of({**payload, **model})) for name, model in payload["models"].items()}
    reference = str(payload.get("reference"))
    references = {name: reference for name in models if name != reference} if reference in models else {}
    return {"results": _in_turns(models, payload, references=references)}


def _in_turns(
    contenders: Mapping[str, tuple[str, Any]], payload: Mapping[str, Any], *, references: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What was measured of each (back end, model), by name: built and checked one after the other, timed in turns.

    `references` names for some of them another one that its `ratio_to` is taken to.
    """
    from alphanas.hardware import backends

    results: dict[str, dict[str, Any]] = {}
    runs = {}
    for name, (backend, model) in contenders.items():
        begin = time.perf_counter()
        try:
            prepared = backends.prepare(backend, model)
            error = difference(prepared.outputs(), backends.reference(model)) if payload.get("check", True) else None
            allowed = devices.tolerance(model.target)
            if error is not None and not error <= allowed:
                raise TaskFailure("wrong_output", f"{name} differs from JAX by {error:.2g} of the output; {allowed:g} is allowed")
        except TaskFailure as failure:
            results[name] = {"backend": backend, "failure": failure.cause, "message": failure.message}
            continue
        runs[name] = prepared.run
        built = time.perf_counter() - begin
        results[name] = {"backend": backend, **prepared.facts, "max_error": error, "build_seconds": built}
        results[name] |= {"threads": model.threads, "batch": payload["batch"], "dtype": str(model.inputs[0].dtype)}
    several = len({backend for backend, _ in contenders.values()}) > 1
    latencies = dict(_timed(_with_pace(runs, payload), payload, rest=several))
    beside = {name: latencies.pop(name).median for name in (PACE, FAR, NEAR) if name in latencies}
    for name, latency in latencies.items():
        results[name] |= _figures(latency)
        results[name] |= _paces(beside)
        if payload.get("samples"):
            results[name]["samples_ms"] = [1e3 * sample for sample in latency.samples]
        if (other := references.get(name)) in latencies:
            found = timing.ratio(latency, latencies[other])
            interval = [found.low, found.high]
            results[name]["ratio_to"] = {"name": other, "ratio": found.value, "interval": interval, "verdict": found.verdict}
    return results


def _with_pace(runs: Mapping[str, Any], payload: Mapping[str, Any]) -> dict[str, Any]:
    """The programs, and the machine's pace with them where it is asked for."""
    if not runs or not payload.get("pace"):
        return dict(runs)
    from alphanas.hardware import pace
    from alphanas.hardware.machine import this_machine

    machine = this_machine(payload["threads"])
    exchange = {FAR: pace.exchanger(machine, far=True), NEAR: pace.exchanger(machine, far=False)} if machine.threads > 1 else {}
    return {**runs, PACE: pace.runner(machine), **exchange}


def _paces(beside: Mapping[str, float]) -> dict[str, float]:
    """The machine's pace and exchange as JSON, in milliseconds, where they took their turns."""
    from alphanas.hardware import pace

    found = {"pace_ms": 1e3 * beside[PACE]} if PACE in beside else {}
    return found | ({"exchange_ms": 1e3 * pace.more_than(beside[FAR], beside[NEAR])} if FAR in beside else {})


def _timed(runs: Mapping[str, Any], payload: Mapping[str, Any], *, rest: bool) -> dict[str, timing.Latency]:
    """All in turns, while no other process measures: at the search's level, or with `report_s` seconds of each at a report's."""
    if not runs:
        return {}
    with turn(devices.lock_name(payload.get("target", devices.CPU)), f"latency of {', '.join(runs)}"):
        if payload.get("report_s"):
            return timing.at_length(runs, seconds=payload["report_s"], rest=rest)
        repeat_s = payload.get("repeat_ms", 1e3 * timing.REPEAT_S) / 1e3
        return timing.interleaved(runs, repeats=max(2, payload.get("repeats") or timing.REPEATS), repeat_s=repeat_s, rest=rest)


def _figures(latency: timing.Latency) -> dict[str, Any]:
    """A latency as JSON, in milliseconds; percentiles are null where runs were not timed by themselves."""
    percentiles = {f"p{percent}_ms": latency.percentile(percent) for percent in (50, 90, 99)}
    return {
        "median_ms": 1e3 * latency.median,
        "spread_ms": 1e3 * latency.spread,
        "quartiles_ms": [1e3 * quartile for quartile in latency.quartiles],
        **{name: None if value is None else 1e3 * value for name, value in percentiles.items()},
        "level": "report" if len(latency.runs) else "search",
        "shortfall": latency.shortfall,
        "steady": latency.steady,
        "repeats": len(latency.samples),
        "number": latency.number,
        "runs": len(latency.runs) or len(latency.samples) * latency.number,
        "attempts": latency.attempts,
        "cores_busy": latency.cores,
    }


def facts(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What of this room works here; see `doctor.facts`."""
    from alphanas.hardware import doctor

    return doctor.facts(int(payload.get("threads", 1)))


def difference(outputs: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference of any output, relative to that output's largest element; infinite for other shapes or dtypes."""
    if [(x.shape, x.dtype) for x in outputs] != [(x.shape, x.dtype) for x in expected]:
        return float("inf")
    errors = [0.0]
    for got, wanted in zip(outputs, expected, strict=True):
        scale = float(np.max(np.abs(wanted.astype(np.float64)), initial=0.0))
        error = float(np.max(np.abs(got.astype(np.float64) - wanted.astype(np.float64)), initial=0.0))
        errors.append(error / scale if scale > 0 else error)
    return float("nan") if any(np.isnan(errors)) else max(errors)


def model_of(payload: Mapping[str, Any]) -> Any:
    import jax

    from alphanas.hardware.backends import KNOB_SECONDS, Model
    from alphanas.models import weights
    from synth.graph import Graph

    graph = Graph.from_json(payload["graph"])
    path = payload.get("weights")
    variables = weights.load(path, graph) if path else graph.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    inputs = []
    for item in graph.inputs:
        shape = tuple(payload["batch"] if size is None else size for size in item.shape)
        inputs.append(rng.standard_normal(shape).astype(item.dtype))
    records = payload.get("records")
    return Model(
        functools.partial(graph.apply, variables),
        tuple(inputs),
        payload["threads"],
        payload.get("trials", 0),
        payload.get("knob_seconds", KNOB_SECONDS),
        Path(records) if records else None,
        Path(payload["onnx"]) if payload.get("onnx") else None,
        payload.get("onnx_problem", ""),
        payload.get("target", devices.CPU),
    )


def under_right_threads(task: str, payload: Mapping[str, Any]) -> Any:
    """The task's result from a worker of its own, if this process was started for another number of threads; else None.

    XLA and others read the number once, when they are loaded, so that it can only be given to a new process.
    """
    wanted = thread_environment(payload["threads"])
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return None
    environment = devices.environment(payload.get("target", devices.CPU))
    with LocalPool(1, threads=payload["threads"], env=environment, on_note=notes.pass_on) as pool:
        result = pool.submit(task, dict(payload)).result()
    if isinstance(result, Failed):
        raise TaskFailure(result.cause, "\n".join(part for part in (result.message, result.log_tail) if part))
    return result.value
