"""What a latency hangs on beside the model: versions, processor, clock, load, threads. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from alphanas.study import environment

GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
BUSY = 0.5
"""Load a core, before anything was run, above which the machine was not quiet."""


def conditions(threads: int) -> dict[str, Any]:
    """Versions, CPU, cores, threads; the clock's governor (null where the system hides it), and the load found here."""
    load = os.getloadavg()[0]
    found = environment(threads=threads)
    return {**found, "governor": _governor(), "load": load, "quiet": load <= BUSY * found["cores"]}


def _governor() -> str | None:
    try:
        return GOVERNOR.read_text().strip()
    except OSError:
        return None
