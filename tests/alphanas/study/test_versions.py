"""Run folders of every schema version open, say what they said, and can be gone on with."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphanas.study import open_study, resume_study, schema

GOLDEN = sorted((Path(__file__).parent / "golden").glob("v*"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(request.param, tmp_path / "run"))


def subset(part: object, whole: object) -> bool:
    """Whether all that a summary said is still said; a later release may add to it."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and subset(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) == len(whole) and all(map(subset, part, whole))
    return part == whole


def test_there_is_one_for_every_version() -> None:
    assert [path.name for path in GOLDEN] == [f"v{version}" for version in range(1, schema.VERSION + 1)]


def test_an_old_folder_says_what_it_said(golden: Path) -> None:
    study = open_study(golden)
    summary = json.loads((golden / "summary.json").read_text())
    seen = study.summary()
    for key in summary:
        assert subset(summary[key], seen[key]) or summary[key] == seen[key], key
    weights = study.candidate(2).weights()
    assert weights is not None and weights.read_bytes() == b"weights of 2"
    assert study.candidate(3).proposal == {"property": "depth", "from": 2, "to": 3}


def test_an_old_folder_can_be_gone_on_with(golden: Path) -> None:
    with resume_study(golden) as recorder:
        recorder.candidate(5, graph_json="{}", graph_hash="h5", parent=0)
        assert len(recorder.study.candidates()) == 6


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A release in which a table has one column more."""
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    steps = ("ALTER TABLE candidates ADD COLUMN note TEXT", "UPDATE candidates SET note = 'old'")
    monkeypatch.setattr(schema, "MIGRATIONS", {**schema.MIGRATIONS, schema.VERSION - 1: steps})
    yield


def version(folder: Path) -> int:
    connection = sqlite3.connect(folder / "study.sqlite")
    found = connection.execute("SELECT schema_version FROM study").fetchone()[0]
    connection.close()
    return int(found)


def test_a_reader_migrates_a_copy_and_a_search_the_store(golden: Path, next_version: None) -> None:
    before = version(golden)
    study = open_study(golden)
    assert len(study.candidates()) == 5
    with study._reading() as connection:
        assert connection.exec_driver_sql("SELECT DISTINCT note FROM candidates").scalars().all() == ["old"]
    study.close()
    assert version(golden) == before < schema.VERSION
    resume_study(golden).close()
    assert version(golden) == schema.VERSION
    resume_study(golden).close()
    assert len(open_study(golden).candidates()) == 5
