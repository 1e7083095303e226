"""Where the time of a lowered network goes, kernel by kernel: what `latency --profile` prints.

Kernels run one after the other on the network's own values, so that each finds in the caches what the one before it left there.
Imports TVM when it runs: only worker processes call it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alphanas.hardware.program import Flat, Step
from synth.graph import Graph

if TYPE_CHECKING:
    from alphanas.hardware.backends import Model
    from alphanas.hardware.lowering import Call, Lowered
    from alphanas.hardware.machine import Machine

PROFILE = "alphanas.hardware.profile:profile"
REPEATS = 15
PEAK_ROUNDS = 5
PEAK_DEPTH = 64
PEAK_TURNS = 20_000


def profile(payload: Mapping[str, Any]) -> dict[str, Any]:
    """What each kernel of a graph takes on the tvm back end; payload as `tasks.measure`'s.

    Result: {"kernels": rows as of `rows`, with the `nodes` of the graph that each comes from, "sum_ms", "peak_gflops": what a
    product in the nearest cache reaches on all threads}.
    Raises TaskFailure: "not_lowerable" (names the primitive).
    """
    from alphanas.hardware import tasks

    elsewhere = tasks.under_right_threads(PROFILE, payload)
    if elsewhere is not None:
        return dict(elsewhere)
    found, graph = of_model(tasks.model_of(payload)), Graph.from_json(payload["graph"])
    for row in found["kernels"]:
        row["nodes"] = _nodes(graph, row.pop("origins"))
    return found


def _nodes(graph: Graph, origins: Sequence[str]) -> list[str]:
    """The nodes of a graph that scopes are of, or lie within, in the graph's order."""
    parts = {"/".join(origin.split("/")[:length]) for origin in origins for length in range(1, origin.count("/") + 2)}
    return [node.name for node in graph.nodes if node.name in parts]


def of_model(model: Model) -> dict[str, Any]:
    """`profile` of a model in this process, whose threads TVM must have been given; scopes (`origins`) in place of nodes."""
    from alphanas.execution import TaskFailure
    from alphanas.hardware import lowering, schedules, tuning
    from alphanas.hardware.machine import this_machine, use_threads
    from alphanas.hardware.program import NotLowerable

    use_threads(model.threads)
    machine = this_machine(model.threads)
    try:
        lowered = lowering.lower(model.function, *model.inputs, lanes=machine.lanes)
    except NotLowerable as error:
        raise TaskFailure("not_lowerable", str(error)) from error
    tuned = tuning.tune(lowered, machine, limit_s=model.knob_seconds, records=model.records)
    functions = [schedules.scheduled(task, knobs) for task, knobs in zip(lowered.tasks, tuned.knobs, strict=True)]
    peak = peak_flops(machine)
    kernels = rows(lowered, machine, functions, model.inputs, peak)
    return {"kernels": kernels, "sum_ms": sum(row["ms"] for row in kernels), "peak_gflops": peak / 1e9}


def rows(
    lowered: Lowered, machine: Machine, functions: Sequence[Any], inputs: Sequence[np.ndarray], peak: float
) -> list[dict[str, Any]]:
    """One mapping a call, in order: kernel, ms (median), MACs, gflops (2 a MAC), share of the peak; None where it has no MACs."""
    times = _times(_calls(lowered, machine, functions, inputs))
    found = []
    for number, (call, seconds) in enumerate(zip(lowered.calls, times, strict=True)):
        macs = sum(_macs(lowered.flat, step) for step in (*call.inner, call.anchor))
        rate = 2 * macs / seconds if macs else None
        found.append(
            {
                "number": number,
                "task": call.task,
                "kernel": named(lowered, call),
                "origins": _origins(lowered, call),
                "ms": 1e3 * seconds,
                "macs": macs,
                "gflops": rate and rate / 1e9,
                "share_of_peak": rate and rate / peak,
            }
        )
    return found


def _origins(lowered: Lowered, call: Call) -> list[str]:
    """The scopes that a kernel's steps come from: all steps between what it reads and what it leaves behind."""
    producers = {step.output: step for step in lowered.flat.steps}
    stored = {argument.slot for argument in call.arguments} - {call.output}
    found, waiting, seen = [], [call.output], set()
    while waiting:
        slot = waiting.pop()
        if slot in seen or slot in stored or slot not in producers:
            continue
        seen.add(slot)
        found.append(producers[slot].origin)
        waiting += producers[slot].inputs
    return sorted(set(found) - {""})


def _calls(
    lowered: Lowered, machine: Machine, functions: Sequence[Any], inputs: Sequence[np.ndarray]
) -> list[Callable[[], object]]:
    """The network's calls in order, each with its memory in place."""
    import functools

    import tvm

    from alphanas.hardware.lowering import form_of, packed

    symbols = {f"kernel{n}": function.with_attr("global_symbol", f"kernel{n}") for n, function in enumerate(functions)}
    compiled = tvm.compile(tvm.IRModule(symbols), target=machine.target).jit()
    values: dict[Any, Any] = dict(zip(lowered.flat.inputs, map(tvm.runtime.tensor, inputs), strict=True))
    calls: list[Callable[[], object]] = []
    for call in lowered.calls:
        reads = call.reads(form_of(functions[call.task]))
        for argument in reads:
            if argument.slot not in values and argument not in values:
                constant = lowered.flat.constants[argument.slot]
                values[argument] = tvm.runtime.tensor(packed(constant, argument, lowered.lanes))
        arguments = [values[a.slot] if a.slot in values else values[a] for a in reads]
        storage = lowered.storages[call.output]
        values[call.output] = tvm.runtime.empty(storage.filled, storage.dtype, tvm.cpu())
        calls.append(functools.partial(compiled[f"kernel{call.task}"], *arguments, values[call.output]))
    return calls


def _times(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Median seconds of each call over repeats of all of them in order."""
    samples = []
    for _ in range(REPEATS + 2):
        stamps = [time.perf_counter()]
        for call in calls:
            call()
            stamps.append(time.perf_counter())
        samples.append(np.diff(stamps))
    return [float(seconds) for seconds in np.median(samples[2:], axis=0)]


def _macs(flat: Flat, anchor: Step | None) -> int:
    """Multiply-adds of a step, filling not counted."""
    if anchor is None or anchor.primitive not in ("convolve", "contract"):
        return 0
    weight = flat.types[anchor.inputs[1]].shape
    depth = math.prod(weight[:-1]) if anchor.primitive == "convolve" else weight[-2]
    return flat.types[anchor.output].size * depth


def named(lowered: Lowered, call: Call) -> str:
    """What a kernel computes, with its sizes: the step that reduces, or its kind, and a convolution that it begins with."""
    first = [_named(lowered, call.output, step) for step in call.inner if step.primitive == "convolve"]
    return ", then ".join([*first, _named(lowered, call.output, call.anchor)])


def _named(lowered: Lowered, output: int, anchor: Step | None) -> str:
    types = lowered.flat.types

    def size(slot: int) -> str:
        return "×".join(str(length) for length in types[slot].shape) or "1"

    if anchor is None:
        return f"element-wise {size(output)}"
    first = f"{size(anchor.inputs[0])} → {size(anchor.output)}"
    if anchor.primitive == "contract":
        return f"product {first}"
    if anchor.primitive != "convolve":
        return f"{anchor.params['kind']} {first}"
    window = "×".join(str(length) for length in types[anchor.inputs[1]].shape[:-2])
    groups, strides = anchor.params["groups"], anchor.params["strides"]
    extra = f", {groups} groups" if groups > 1 else ""
    return f"convolution {window}, stride {max(strides)}{extra} {first}"


def peak_flops(machine: Machine) -> float:
    """Operations a second (two a multiply-add) that a product reaches on all threads when all it reads is in the nearest cache."""
    import tvm

    from alphanas.hardware import pace

    compiled, arrays = pace.product(machine, threads=machine.threads, depth=PEAK_DEPTH, turns=PEAK_TURNS)
    timer = compiled.time_evaluator("product", tvm.cpu(), number=1, repeat=PEAK_ROUNDS)
    work = math.prod(int(size) for size in arrays[-1].shape) * PEAK_TURNS * PEAK_DEPTH
    return 2.0 * work / float(min(timer(*arrays).results))
