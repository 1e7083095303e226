"""Kernels are known by what they compute: equal forms are equal functions, and weights have no part in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def report() -> Any:
    command = [sys.executable, "-m", "tests.alphanas.hardware.forms"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_kernels_of_one_form_are_one_function(report: Any) -> None:
    found = report["written"]
    assert found["agree"] == found["kernels"] > found["forms"] > 50


def test_a_number_that_is_not_special_changes_the_function_but_not_the_key(report: Any) -> None:
    assert report["numbers"] == {"keys": 1, "codes": 2, "special": 5}


def test_an_outline_has_the_kernels_of_the_model_with_its_weights(report: Any) -> None:
    assert report["outlines"] and set(report["outlines"].values()) == {0}


def test_a_kernel_met_before_is_called_with_the_values_of_this_program(report: Any) -> None:
    assert report["again"] == [True, True]
