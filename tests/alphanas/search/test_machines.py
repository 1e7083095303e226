"""What is proposed does not hang on the machine: on how fast its clock goes, nor on what a process remembers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alphanas.models import zoo
from alphanas.search.archive import Archive, Member
from alphanas.search.change import changed
from alphanas.search.regions import Options

SHARES = {"region": 1.0, "resize": 1.0, "leap": 1.0, "insert": 0.5}
STEPS = (40, 2_000)
"""A limit that most syntheses reach, and one that few do."""


def proposals(steps: int, seeds: int = 5) -> list[list[object]]:
    """What a parent becomes under a limit in steps, for each generator: the record without its seconds, and the graph's hash."""
    graph = zoo.build("mlp", input_shape=(8, 8, 1), num_classes=10)
    archive = Archive(("params",), (Member(0, graph, (float(graph.params),)),))
    options = Options(steps=steps, max_length=4, branches=0.3)
    told: list[list[object]] = []
    for seed in range(seeds):
        made = changed(archive, np.random.default_rng(seed), options, archive.seed, SHARES)
        record = json.loads(json.dumps({**made.to_json(), "seconds": 0}))
        told.append([record, None if made.graph is None else made.graph.hash])
    return told


def test_a_slow_clock_changes_no_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {steps: proposals(steps) for steps in STEPS}
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: 4 * real())
    assert {steps: proposals(steps) for steps in STEPS} == plain


def test_the_limit_in_steps_is_a_limit() -> None:
    causes = [entry[0]["cause"] for entry in proposals(STEPS[0])]  # type: ignore[index]
    assert "gave_up" in causes


@pytest.mark.slow
def test_a_new_process_with_nothing_on_disk_proposes_the_same(tmp_path: Path) -> None:
    code = f"import json; from {__name__} import *; print(json.dumps([proposals(steps) for steps in STEPS]))"
    env = {**os.environ, "ALPHANAS_CACHE": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [proposals(steps) for steps in STEPS]
