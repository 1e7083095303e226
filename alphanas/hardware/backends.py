"""What can run a model: one function per back end, from a model to something that runs and says how it was built.

A back end that cannot run here raises TaskFailure("unavailable", reason). Nothing heavy is imported before a back end is asked for.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from alphanas.execution import TaskFailure
from alphanas.hardware import devices, timing
from alphanas.hardware.predicting import SMALL_NETWORK_S
from alphanas.hardware.program import NotLowerable

if TYPE_CHECKING:
    from alphanas.hardware.lowering import Lowered
    from alphanas.hardware.machine import Machine
    from alphanas.hardware.records import Record, Records
    from alphanas.hardware.schedules import Knobs

KNOB_SECONDS = 40.0
QUICKLY: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
"""For what runs once: XLA compiles MobileNetV2 in less than half the time."""


@dataclass(frozen=True, eq=False)
class Model:
    """A function with its weights inside, inputs for it, and the means that a back end may spend on it."""

    function: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    threads: int
    trials: int = 0
    knob_seconds: float = KNOB_SECONDS
    records: Path | None = None
    onnx: Path | None = None
    onnx_problem: str = ""
    target: str = devices.CPU
    """"cpu", "cuda" or the name of a CPU that TVM is to compile for; see `devices`."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model ready to run: `run` returns when results are there, `outputs` are those of one run, `facts` go into the report."""

    run: Callable[[], object]
    outputs: Callable[[], list[np.ndarray]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def prepare(backend: str, model: Model) -> Prepared:
    """The model on a back end of the table."""
    return BACKENDS[backend](model)


def reference(model: Model) -> list[np.ndarray]:
    """What JAX computes on the CPU, as the list of outputs."""
    with jax.default_device(jax.devices(devices.CPU)[0]):
        compiled = jax.jit(model.function).lower(*model.inputs).compile(compiler_options=QUICKLY)
        return [np.asarray(output) for output in jax.tree.leaves(compiled(*model.inputs))]


def _tvm(model: Model) -> Prepared:
    """Our kernels: weights packed into vectors, epilogues fused, knobs chosen by timing.

    With trials, MetaSchedule tries the heaviest kernels too, and its function takes the place of ours where it is faster.
    """
    import tvm
    from tvm import relax

    from alphanas.hardware import compiled, lowering, tuning
    from alphanas.hardware.machine import machine_for, use_threads
    from alphanas.hardware.records import Records

    if model.target == devices.CUDA:
        return _tvm_on_gpu(model)
    use_threads(model.threads)
    machine = machine_for(None if model.target == devices.CPU else model.target, model.threads)
    if not machine.here:
        raise TaskFailure("unavailable", f"this machine cannot run what is compiled for {model.target}")
    try:
        lowered = lowering.lower(model.function, *model.inputs, lanes=machine.lanes)
    except NotLowerable as error:
        raise TaskFailure("not_lowerable", str(error)) from error
    timed = model.knob_seconds > 0
    with Records.open(model.records) as store:
        tuned = tuning.tune_with(store, lowered, machine, limit_s=model.knob_seconds) if timed else None
        chosen = tuned or tuning.untuned(lowered, machine)
        replaced = _metaschedules(store, lowered, machine, model.trials) if timed else {}
    arguments = [tvm.runtime.tensor(array) for array in model.inputs]

    fresh = 0

    def build(knobs: Sequence[Knobs]) -> Any:
        nonlocal fresh
        kernels = tuning.kernels_of(lowered, knobs, replaced)
        libraries, made = compiled.loaded(kernels.functions, machine, compiled.folder_of(model.records))
        fresh += made
        module = lowering.linked(lowered, kernels.symbols, kernels.forms, libraries)
        # The module itself, not what `jit` makes of it: that links anew whatever is not compiled here, and libraries cannot be.
        return relax.VirtualMachine(tvm.compile(module, target=machine.target).mod, tvm.cpu())["main"]

    main, shared = build(chosen.knobs), sum(knobs.parallel for knobs in chosen.knobs)
    if timed and shared and not replaced and sum(seconds or 0.0 for seconds in chosen.seconds) < SMALL_NETWORK_S:
        # Kernels of microseconds may lose more by handing work to another thread than their own timings show.
        other = build(tuning.on_one_thread(chosen.knobs))
        both = timing.interleaved({"shared": lambda: main(*arguments), "alone": lambda: other(*arguments)}, repeats=5)
        if both["alone"].median < both["shared"].median:
            main, shared = other, 0

    def outputs() -> list[np.ndarray]:
        result = main(*arguments)
        several = isinstance(result, list | tuple) or not hasattr(result, "numpy")
        return [item.numpy() for item in result] if several else [result.numpy()]

    facts = {
        "schedule": "packed+metaschedule" if replaced else "packed",
        "tuned": chosen.complete,
        "trials": model.trials,
        "candidates": chosen.built,
        "kernels": lowered.counts(),
        "kernels_sharing_threads": shared,
        "kernels_compiled": fresh,
        "target": machine.name,
        "notes": list(chosen.notes),
    }
    return Prepared(lambda: main(*arguments), outputs, facts)


def _tvm_on_gpu(model: Model) -> Prepared:
    """The same kernels, unpacked, under TVM's default schedules for GPUs; each run is awaited."""
    device = devices.tvm_device(model.target)
    import tvm
    from tvm import relax

    target = tvm.target.Target.from_device(device)
    main = relax.VirtualMachine(built_for_gpu(model, target), device)["main"]
    arguments = [tvm.runtime.tensor(array, device) for array in model.inputs]

    def run() -> Any:
        result = main(*arguments)
        device.sync()
        return result

    def outputs() -> list[np.ndarray]:
        result = run()
        return [item.numpy() for item in (result if isinstance(result, list | tuple) else [result])]

    facts = {"schedule": "default", "tuned": False, "trials": 0, "device": str(device), "target": str(target)}
    return Prepared(run, outputs, facts)


def built_for_gpu(model: Model, target: Any) -> Any:
    """The model compiled for a CUDA target, which need not be here."""
    import tvm
    from tvm.s_tir import dlight

    from alphanas.hardware import lowering

    try:
        lowered = lowering.lower(model.function, *model.inputs, lanes=1)
    except NotLowerable as error:
        raise TaskFailure("not_lowerable", str(error)) from error
    module = lowering.assemble(lowered, [task.function for task in lowered.tasks])
    with target:
        module = dlight.ApplyDefaultSchedule(dlight.gpu.Matmul(), dlight.gpu.Reduction(), dlight.gpu.Fallback())(module)
    return tvm.compile(module, target=target)


def _metaschedules(store: Records, lowered: Lowered, machine: Machine, trials: int) -> dict[int, Record]:
    """MetaSchedule's records by task, where they are faster than ours.

    The trials go to the kernels where they may save most; what earlier runs spent on a kernel counts, and is not spent again.
    """
    from alphanas.hardware import spending, tuning

    if trials:
        from alphanas.hardware import metaschedule, schedules

        calls = [call.task for call in lowered.calls]
        work = {n: task.geometry.work for n, task in enumerate(lowered.tasks) if task.geometry.kind in schedules.TUNED_KINDS}
        # Not by seconds: if the shares hung on a clock, a second run would not find what the first one did.
        needs = [spending.Need(str(n), calls.count(n), float(amount), 0) for n, amount in work.items()]
        given = {int(key): count for key, count in spending.shares(needs, trials).items()}
        tuning.fill(store, lowered, machine, list(given), end=math.inf)
        metaschedule.fill(store, lowered, machine, given)
    return tuning.metaschedules(store, lowered, machine)


def _xla(model: Model) -> Prepared:
    """The function under `jax.jit`, weights as constants, as TVM has them."""
    device = devices.jax_device(model.target)
    with jax.default_device(device):
        compiled = jax.jit(model.function).lower(*model.inputs).compile()
    arguments = [jax.device_put(array, device) for array in model.inputs]

    def outputs() -> list[np.ndarray]:
        return [np.asarray(output) for output in jax.tree.leaves(compiled(*arguments))]

    facts = {"schedule": "default", "tuned": False, "trials": 0, "device": str(device)}
    return Prepared(lambda: jax.block_until_ready(compiled(*arguments)), outputs, facts)


def _onnxruntime(model: Model) -> Prepared:
    """The model's ONNX file, as it was exported, in onnxruntime with its default optimizations."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise TaskFailure("unavailable", "onnxruntime is not installed; pip install 'alphanas[onnx]'")
    if model.onnx is None:
        raise TaskFailure("unavailable", f"no onnx file of the model: {model.onnx_problem or 'none was given'}")
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = model.threads, 1
    settings.log_severity_level = 3
    providers = devices.onnx_providers(model.target, onnxruntime.get_available_providers())
    session = onnxruntime.InferenceSession(str(model.onnx), settings, providers=providers)
    given = dict(zip((item.name for item in session.get_inputs()), model.inputs, strict=True))
    facts = {"schedule": "default", "tuned": False, "trials": 0}
    return Prepared(lambda: session.run(None, given), lambda: list(session.run(None, given)), facts)


BACKENDS: Mapping[str, Callable[[Model], Prepared]] = {"tvm": _tvm, "xla": _xla, "onnxruntime": _onnxruntime}
