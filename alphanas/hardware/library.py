"""A graph as a compiled library: what a worker process runs for the tvm export."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from alphanas.execution import TaskFailure
from alphanas.hardware.program import NotLowerable


def build(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Compiles a graph at one batch size for a target and writes the library.

    Payload: graph (JSON text), weights (path of a safetensors file), batch, threads, target (see `machine_for`; null for this
    machine), knob_seconds (time for choosing schedules that no record tells, here alone; 0 for the likeliest), records (path of the
    file of records; null for the cache folder's), folder. Result: file, runs_here, cpu, triple, schedule, tuned, kernels (distinct
    ones), timed_now (candidates), notes. Where no compiler links for the target, the file is a .tar of objects, which TVM links
    where it is loaded.

    Raises TaskFailure: "not_lowerable" (names the primitive); UserError for a target that is not known.
    """
    import tvm

    from alphanas.hardware import lowering, tuning
    from alphanas.hardware.machine import machine_for, use_threads
    from alphanas.hardware.records import Records, default_path
    from alphanas.models import weights
    from synth.graph import Graph

    machine = machine_for(payload["target"], payload["threads"])
    graph = Graph.from_json(payload["graph"])
    variables = weights.load(payload["weights"], graph)
    inputs = [jax.ShapeDtypeStruct(item.value.aval(payload["batch"]).shape, np.dtype(item.dtype)) for item in graph.inputs]
    try:
        lowered = lowering.lower(functools.partial(graph.apply, variables), *inputs, lanes=machine.lanes)
    except NotLowerable as error:
        raise TaskFailure("not_lowerable", str(error)) from error
    timed = machine.here and not machine.triple and payload["target"] is None and payload["knob_seconds"] > 0
    chosen, others = tuning.untuned(lowered, machine), {}
    if timed:
        use_threads(machine.threads)
        with Records.open(Path(payload["records"]) if payload["records"] else default_path()) as store:
            chosen = tuning.tune_with(store, lowered, machine, limit_s=payload["knob_seconds"])
            others = tuning.metaschedules(store, lowered, machine)
    kernels = tuning.kernels_of(lowered, chosen.knobs, others)
    functions = [kernels.functions[name]() for name in kernels.symbols]
    compiled = tvm.compile(lowering.assemble(lowered, functions), target=machine.target)
    return {
        "file": _written(compiled, Path(payload["folder"]), machine.triple),
        "runs_here": machine.here,
        "cpu": machine.name,
        "triple": machine.triple or str(tvm.target.codegen.llvm_get_system_triple()),
        "schedule": "packed+metaschedule" if others else "packed",
        "tuned": chosen.complete,
        "kernels": len(lowered.tasks),
        "timed_now": chosen.built,
        "notes": list(chosen.notes),
    }


def run(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a loader script on the arrays of one file and writes the outputs to another: folder, inputs, outputs (paths)."""
    import runpy

    with np.load(payload["inputs"]) as file:
        arrays = [file[name] for name in file.files]
    model = runpy.run_path(str(Path(payload["folder"]) / "load.py"))["load"]()
    results = model(*arrays)
    np.savez(payload["outputs"], *(results if isinstance(results, tuple) else (results,)))
    return {}


def _written(compiled: Any, folder: Path, triple: str) -> str:
    from tvm.support import cc

    if not triple:
        name = "model.so" if cc.get_cc() else "model.tar"
        compiled.export_library(str(folder / name))
        return name
    linker = shutil.which(f"{triple}-gcc") or shutil.which(f"{triple}-g++")
    if linker is None:
        compiled.export_library(str(folder / "model.tar"))
        return "model.tar"
    compiled.export_library(str(folder / "model.so"), fcompile=cc.cross_compiler(linker))
    return "model.so"
