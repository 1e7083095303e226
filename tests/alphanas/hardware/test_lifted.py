"""Models as users write them, lifted and lowered, compute what they computed, opaque nodes included. TVM runs elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.alphanas.hardware import lifted
from tests.alphanas.hardware.apart import told_by

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def errors() -> Any:
    """The error of each model."""
    return told_by("tests.alphanas.hardware.lifted", limit_s=600.0)


@pytest.mark.parametrize("name", lifted.names())
def test_a_lifted_model_is_lowered_to_what_it_computes(errors: Any, name: str) -> None:
    assert errors[name] <= 1e-4
