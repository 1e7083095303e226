"""What of this room works on this machine, found out by trying. Run it in a worker: what it tries may crash."""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

import numpy as np

from alphanas.hardware import devices
from alphanas.hardware.machine import this_machine, use_threads

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "jax", "jaxlib", "onnx", "onnxruntime", "xgboost-cpu", "psutil", "cloudpickle")


def facts(threads: int) -> dict[str, Any]:
    """Versions (null for what is missing), the CPU as schedules see it, whether a small kernel builds, runs and is right, and the
    seconds that each step took."""
    import jax
    import tvm
    from tvm import relax

    from alphanas.hardware import lowering, tuning

    use_threads(threads)
    machine = this_machine(threads)
    weights = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    x = np.ones((4, 16), np.float32)

    def dense(rows: Any) -> Any:
        return jax.nn.relu(rows @ weights)

    marks = [time.perf_counter()]
    lowered = lowering.lower(dense, x, lanes=machine.lanes)
    marks.append(time.perf_counter())
    module = lowering.build_module(lowered, tuning.untuned(lowered, machine).knobs)
    compiled = relax.VirtualMachine(tvm.compile(module, target=machine.target), tvm.cpu())
    marks.append(time.perf_counter())
    got = compiled["main"](tvm.runtime.tensor(x)).numpy()
    marks.append(time.perf_counter())
    error = float(np.max(np.abs(got - np.maximum(x @ weights, 0.0))))
    seconds = dict(zip(("lower", "build", "run"), np.diff(marks).tolist(), strict=True))
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "cpu": machine.name,
        "lanes": machine.lanes,
        "threads": threads,
        "kernel_works": error < 1e-4,
        "seconds": seconds,
        "gpu": devices.facts(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
