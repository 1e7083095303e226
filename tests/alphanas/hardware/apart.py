"""Test programs that import TVM, run in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from alphanas.execution import thread_environment

ROOT = Path(__file__).parents[3]


def told_by(module: str, *, limit_s: float) -> Any:
    """The JSON in the last line that a module prints, run with two threads; AssertionError with its errors if it fails."""
    command = [sys.executable, "-m", module]
    environment = {**os.environ, **thread_environment(2)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
