"""What a study ran on: versions, processor, threads. Looks only at package metadata, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "alphanas",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "z3-solver",
    "apache-tvm",
    "apache-tvm-ffi",
    "scikit-learn",
    "onnxruntime",
)


def environment(*, threads: int | None = None) -> dict[str, Any]:
    """Versions, CPU, cores and threads of this machine; a package that is not there is null."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in PACKAGES},
        "cpu": _processor(),
        "cores": cores(),
        "threads": threads,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text(errors="replace").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
