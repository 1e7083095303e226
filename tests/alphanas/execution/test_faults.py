"""Evaluations with injected faults: every outcome on record with its cause, no process left, memory flat."""

from __future__ import annotations

import sys

import pytest

from experiments.bench import faults


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_whatever_candidates_do_is_recorded_and_leaves_nothing() -> None:
    options = faults._options(["--evaluations", "32", "--share", "0.25", "--limit", "30", "--memory", "768"])
    report = faults.run(options)
    assert report["mismatched"] == []
    assert report["orphans"] == report["orphans_of_a_killed_parent"] == 0
    assert set(report["injected"]) == set(faults.FAULTS) and sum(report["recorded"].values()) == 32
    assert report["memory"]["parent_last"] <= report["memory"]["parent_first"] + 64
    assert report["sound"]
