"""Where a model is measured: this machine's CPU, or its GPU where there is one and a back end can use it.

A target is "cpu", "cuda", or the name of a CPU that the tvm back end is to compile for. What is not there is
TaskFailure("unavailable", reason), and the reason says what is missing.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
from pathlib import Path
from typing import Any

from alphanas.execution import TaskFailure

CPU, CUDA = "cpu", "cuda"
DRIVER = Path("/proc/driver/nvidia/version")
WORKS = "works"
PLUGIN = re.compile(r"jax-cuda\d+-plugin")
TOLERANCES = {CPU: 1e-4, CUDA: 5e-3}
"""Largest difference from JAX's output on the CPU, relative to its largest element: GPUs multiply with fewer bits by default."""


def tolerance(target: str) -> float:
    """What outputs may differ by on a target."""
    return TOLERANCES.get(target, TOLERANCES[CPU])


def lock_name(target: str) -> str:
    """The device that only one measurement at a time may use; CPUs of other names are this machine's CPU."""
    return CUDA if target == CUDA else CPU


def environment(target: str) -> dict[str, str]:
    """Variables of a worker that measures on a target.

    It has to see the device, where JAX may have been held to the CPU; and its memory is laid out as in the process of whoever uses
    the model, not as workers that train ask for it (`execution.threads.memory_environment`).
    """
    memory = {"GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "")}
    return {"JAX_PLATFORMS": "", **memory} if target == CUDA else memory


def jax_device(target: str) -> Any:
    """JAX's device of a target."""
    import jax

    if target not in (CPU, CUDA):
        raise TaskFailure("unavailable", f"this back end compiles for this machine alone, not for {target}")
    try:
        return jax.devices(target)[0]
    except RuntimeError as error:
        raise TaskFailure("unavailable", f"no GPU for JAX: {_missing_for_jax() or error}") from error


def _missing_for_jax() -> str:
    if not any(PLUGIN.fullmatch(distribution.name) for distribution in importlib.metadata.distributions()):
        return "JAX is installed without CUDA; pip install 'jax[cuda12]'" + (
            "" if DRIVER.exists() else "; nor is there an NVIDIA driver"
        )
    if os.environ.get("JAX_PLATFORMS", "") not in ("", CUDA):
        return f"JAX_PLATFORMS={os.environ['JAX_PLATFORMS']} holds JAX to other devices"
    return "" if DRIVER.exists() else "there is no NVIDIA driver"


def tvm_device(target: str) -> Any:
    """TVM's device of a target."""
    import tvm

    if target != CUDA:
        return tvm.cpu()
    if not tvm.runtime.enabled(CUDA):
        raise TaskFailure("unavailable", "no GPU for TVM: its wheel was built without CUDA")
    device = tvm.cuda(0)
    if not device.exist:
        raise TaskFailure(
            "unavailable", "no GPU for TVM: " + ("no CUDA device" if DRIVER.exists() else "there is no NVIDIA driver")
        )
    return device


def onnx_providers(target: str, available: list[str]) -> list[str]:
    """onnxruntime's providers of a target, of those that it was built with."""
    if target == CPU:
        return ["CPUExecutionProvider"]
    if target != CUDA:
        raise TaskFailure("unavailable", f"this back end compiles for this machine alone, not for {target}")
    if "CUDAExecutionProvider" not in available:
        raise TaskFailure("unavailable", "no GPU for onnxruntime: it was built without CUDA; pip install onnxruntime-gpu")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def facts() -> dict[str, str]:
    """For each back end, what its GPU is, or why it has none."""
    found = {}
    for backend, device in (("xla", jax_device), ("tvm", tvm_device)):
        try:
            found[backend] = f"{WORKS}: {device(CUDA)}"
        except TaskFailure as failure:
            found[backend] = failure.message
    return found
