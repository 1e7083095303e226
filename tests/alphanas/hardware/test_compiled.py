"""What is kept of compiled kernels stays within its room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alphanas.hardware import compiled


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "MOST_BYTES", 250)
    place = tmp_path / "device"
    place.mkdir()
    for age, name in enumerate(("newest", "middle", "oldest")):
        (place / f"{name}.so").write_bytes(b"x" * 100)
        os.utime(place / f"{name}.so", (1000 - age, 1000 - age))
    os.link(place / "newest.so", place / "twin.so")  # kernels of one library take its room once
    compiled._tidied(tmp_path)
    assert sorted(path.stem for path in place.iterdir()) == ["middle", "newest", "twin"]


def test_a_kernels_name_tells_its_parts_apart() -> None:
    assert compiled.symbol("a", "bc") != compiled.symbol("ab", "c")
    assert compiled.symbol("a", "bc") == compiled.symbol("a", "bc")
