"""Models as users write them, lifted and lowered, compute what they computed, opaque nodes included. TVM runs elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphanas.execution import thread_environment
from tests.alphanas.hardware import lifted

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def errors() -> Any:
    """The error of each model."""
    command = [sys.executable, "-m", "tests.alphanas.hardware.lifted"]
    environment = {**os.environ, **thread_environment(2)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", lifted.names())
def test_a_lifted_model_is_lowered_to_what_it_computes(errors: Any, name: str) -> None:
    assert errors[name] <= 1e-4
