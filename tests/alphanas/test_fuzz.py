"""Damaged configs, graph files and run folders are refused clearly or read correctly, and run no code; more in the benchmark."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from experiments.bench import fuzz


def clean(scratch: Path, count: int, seed: int) -> None:
    found = fuzz.run(scratch, count, seed)
    assert found["wrong"] == []
    for kind, counts in found["counts"].items():
        assert set(counts) <= {"read", "refused"} and sum(counts.values()) == count // 3, kind


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    clean(tmp_path, 45, 3)


@pytest.mark.slow
def test_many_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    clean(tmp_path, 300, 4)


def test_the_harness_sees_what_it_is_to_see(tmp_path: Path) -> None:
    """Code that runs, a file outside, a program, an exception and a hang are each told from a clean case."""
    watch, inside = fuzz.Watch(tmp_path), tmp_path / "case"
    inside.mkdir()
    (inside / "canary.py").write_text("x = 1")

    def imports() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(inside))
            __import__("canary")
            del sys.modules["canary"]

    for act, told in (
        (imports, "ran"),
        (lambda: (tmp_path / "outside").write_text("x"), "wrote"),
        (lambda: __import__("subprocess").run(["true"]), "subprocess"),
        (lambda: (inside / "fine").write_text("x"), ""),
    ):
        with watch.over(inside) as seen:
            act()
        assert any(told in one for one in seen) if told else not seen
    assert fuzz.judged(lambda: [].pop(), 5.0, show=False)[0] == "IndexError"
    assert fuzz.judged(lambda: __import__("time").sleep(5), 0.2, show=False)[0] == "hang"
