"""Latency steers a search: every candidate has a predicted one, and a kernel is timed once however many candidates have it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from alphanas.config import Config
from alphanas.driver import search
from alphanas.errors import UserError
from alphanas.study import Study

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "model": "zoo:mlp",
    "time_limit": "30m",
    "search": {"generation": 3, "max_candidates": 5, "objectives": ["error", "latency"]},
    "scoring": {"proxy": "none"},
    "training": {"short_epochs": 1, "epochs": 1},
    "finish": {"finalists": 1, "seeds": 1},
}


def settled(path: Path, **more: Any) -> Config:
    hardware = {"backends": [], "threads": 1, "records": str(path), "tune_limit": "5m", **more}
    return Config.from_mapping({**TINY, "hardware": hardware})


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache") / "records.sqlite"


@pytest.fixture(scope="module")
def study(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search(settled(path), out=tmp_path_factory.mktemp("runs") / "one")


def test_every_trained_candidate_was_predicted_from_records(study: Study) -> None:
    trained = [one for one in study.candidates() if one.error is not None]
    assert len(trained) >= 3
    for one in trained:
        (outcome,) = one.outcomes("predict")
        assert outcome.ok and outcome.values["how"] == "records" and outcome.values["unknown"] == 0
        assert one.objective("latency") == outcome.values["latency_ms"] > 0
    assert all(one.objective("latency") is not None for one in study.pareto())


def test_a_second_study_of_the_same_candidates_times_nothing(study: Study, path: Path, tmp_path: Path) -> None:
    def kept() -> list[Any]:
        with sqlite3.connect(path) as connection:
            return connection.execute("SELECT * FROM records ORDER BY kernel, how").fetchall()

    before = kept()
    again = search(settled(path), out=tmp_path / "again")
    graphs = {one.graph_hash for one in study.candidates() if one.error is not None}
    same = [one for one in again.candidates() if one.error is not None and one.graph_hash in graphs]
    assert same
    for one in same:
        assert one.outcomes("predict")[0].values["tuned"] == 0
        assert one.objective("latency") > 0  # type: ignore[operator]
    assert set(before) <= set(kept())


def test_nothing_is_timed_for_what_breaks_a_limit_that_the_graph_shows(path: Path, tmp_path: Path) -> None:
    # No change of the insides reaches it: what is no nearer to it than its parent goes no further.
    limited = {**settled(path).to_mapping(), "constraints": {"peak_bytes": "at most 1%"}}
    found = search(Config.from_mapping(limited), out=tmp_path / "run").candidates()
    away = [one for one in found if any(outcome.cause == "constraint" for outcome in one.outcomes("short"))]
    assert away
    assert not any(one.outcomes("predict") for one in away)
    assert all(one.outcomes("predict") for one in found if one.error is not None)


def test_a_seed_that_cannot_be_timed_in_time_stops_the_search_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="tune_limit"):
        search(settled(tmp_path / "records.sqlite", tune_limit="1ms"), out=tmp_path / "run")
