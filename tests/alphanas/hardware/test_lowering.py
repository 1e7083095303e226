"""What TVM computes from a lowered function is what JAX computes, for every op, primitive and knob. TVM runs in another process."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import jax.extend.core.primitives as core
import pytest

from alphanas.hardware.refusals import REFUSED
from properties.jaxpr import STRUCTURAL
from tests.alphanas.hardware import cases
from tests.alphanas.hardware.apart import told_by

TOLERANCES = {case.name: case.tolerance for case in cases._functions()}
UNSEEN = {
    *("add_any", "copy", "copy_p", "pvary", "sharding_constraint", "layout_constraint", "optimization_barrier", "name"),
    "device_put",
}
"""Rules for primitives that only gradients or several devices make, or that change nothing."""
PRIMITIVES = sorted(getattr(core, name).name for name in dir(core) if name.endswith("_p"))


@pytest.fixture(scope="module")
def report() -> Any:
    """The errors of all cases."""
    return told_by("tests.alphanas.hardware.conformance", limit_s=300.0)


@pytest.mark.parametrize("name", cases.names())
def test_a_lowered_function_computes_what_jax_computes(report: Any, name: str) -> None:
    assert report["errors"][name] <= TOLERANCES.get(name, 1e-5)


@pytest.mark.parametrize("kind", ["convolution", "dense", "depthwise", "expanded", "turning", "winograd"])
def test_knobs_change_no_result(report: Any, kind: str) -> None:
    assert len(report["knobs"][kind]) >= 3
    assert max(report["knobs"][kind]) <= (5e-5 if kind == "winograd" else 1e-5)


def test_another_vector_width_changes_no_result(report: Any) -> None:
    assert max(report["widths"]) <= 1e-5


def test_weights_are_asked_for_ahead_where_no_near_cache_holds_them(report: Any) -> None:
    assert report["asked"] == [False, True]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the names are of x86 CPUs")
def test_vectors_are_those_of_the_cpu_and_an_unknown_cpu_is_refused(report: Any) -> None:
    found = report["vectors"]
    assert (found["znver4"], found["haswell"], found["core2"]) == ([16, 24], [8, 12], [4, 12])
    assert "did you mean" in found["znver9"]


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file() or platform.machine() != "x86_64", reason="Linux tells of x86 CPUs")
def test_nothing_is_compiled_for_vectors_that_the_system_hides_of_its_cpu(report: Any) -> None:
    assert report["hidden"] == [4, 12, False]


def test_every_rule_is_tried(report: Any) -> None:
    assert set(report["rules"]) - set(report["seen"]) <= UNSEEN


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_primitive_of_jax_is_lowered_or_refused_with_a_reason(report: Any, name: str) -> None:
    lowered = name in {*report["rules"], *STRUCTURAL}
    assert lowered != bool(REFUSED.get(name))
