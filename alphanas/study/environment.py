"""What a study ran on: versions, processor, threads. Looks only at package metadata, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import re
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


def instructions() -> frozenset[str] | None:
    """What an x86 CPU may be asked for here, by Linux's names in letters and digits alone; None where the system does not say.

    A virtual machine may hide what the CPU's model is known for.
    """
    flags = _told_of_processor("flags")
    return None if flags is None else frozenset(re.sub(r"[^a-z0-9 ]", "", flags).split())


def _processor() -> str:
    return _told_of_processor("model name") or platform.processor() or platform.machine()


def _told_of_processor(name: str) -> str | None:
    """What Linux says of the first core under a name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(errors="replace").splitlines() if information.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)
