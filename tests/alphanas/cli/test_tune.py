"""`tune` on a tiny model: it fills the records, goes on where it was, and says what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alphanas.cli.main import main

TINY = ["tune", "zoo:mlp", "--input", "1,4,4,1", "--threads", "1"]


@pytest.mark.slow
def test_a_second_run_finds_on_record_what_the_first_one_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "--records", str(tmp_path / "records.sqlite"), "--json"]
    seen: list[Any] = []
    for _ in range(2):
        assert main(words) == 0
        captured = capsys.readouterr()
        seen.append((json.loads(captured.out), captured.err))
    (first, said), (again, later) = seen
    assert first["unknown"] == again["unknown"] == 0 and first["failures"] == []
    assert len(first["kernels"]) == said.count("candidates timed") >= 2
    assert all(kernel["best"] == "template" and kernel["template"]["seconds"] > 0 for kernel in first["kernels"])
    assert first["models"]["zoo:mlp"] > 0
    # What was timed in a hubbub may be timed again; all else stays as it is.
    steady = [kernel for kernel in first["kernels"] if kernel["template"]["steady"]]
    assert all(kernel in again["kernels"] for kernel in steady)
    assert later.count("candidates timed") <= len(first["kernels"]) - len(steady)


def test_nothing_is_tuned_where_nothing_would_be_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ALPHANAS_CACHE", "off")
    assert main(TINY) == 2
    assert "--records" in capsys.readouterr().err


def test_a_file_that_holds_no_records_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--records", str(tmp_path)]) == 2
    assert "a folder" in capsys.readouterr().err
