"""A whole search with limits, rungs, one's own objective and two scores ranked together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alphanas.config import Config
from alphanas.driver import search
from alphanas.driver.replay import replay
from alphanas.errors import UserError
from alphanas.study import Study

OWN = "def nodes(graph): return len(graph.nodes)\n"
NOT_A_NUMBER = "def nodes(graph): return float('nan')\n"


def config(folder: Path, text: str) -> Config:
    (folder / "mine.py").write_text(text)
    mapping: dict[str, Any] = {
        "model": "zoo:mlp",
        "time_limit": "60m",
        "search": {"generation": 3, "max_candidates": 6, "objectives": ["error", "params", f"{folder / 'mine.py'}:nodes"]},
        "scoring": {"proxy": "naswot+synflow"},
        "training": {"short_epochs": 3, "rungs": [1], "epochs": 3},
        "finish": {"finalists": 1, "seeds": 1},
        "hardware": {"backends": []},
        "constraints": {"params": "at most 95%"},
    }
    return Config.from_mapping(mapping)


def check(study: Study) -> None:
    """What every such study has."""
    summary = study.summary()
    rows = {row["stage"]: row for row in summary["cascade"]}
    assert list(rows) == ["cost", "score", "rung 1", "short", "full"]
    assert rows["score"]["next"] == "rung 1" and rows["rung 1"]["seconds"] > 0
    assert rows["score"]["candidates"] == sum(bool(one.outcomes("score")) for one in study.candidates())
    assert [entry["generation"] for entry in summary["hypervolume"]] == list(range(1, 1 + len(summary["hypervolume"])))
    for one in study.candidates():
        if one.id and one.graph_hash is not None:
            assert one.objective(study.objectives[2]) == len(one.graph().nodes)
        if one.accuracies("short") and one.id:
            assert one.outcomes("rung") and one.excess == 0, "the seed is beyond the limit, and every child is far below"
        for outcome in one.outcomes("short"):
            assert outcome.status != "rejected" or outcome.cause in ("low_score", "low_rung 1", "constraint")
    assert all(one.excess == 0 for one in study.pareto())


@pytest.mark.slow
def test_every_stage_is_told_and_limits_hold(tmp_path: Path) -> None:
    study = search(config(tmp_path, OWN), out=tmp_path / "run")
    check(study)
    assert not replay(tmp_path / "run", run_code=True).differences


@pytest.mark.slow
def test_hopeless_trainings_are_stopped_and_count_as_turned_away(tmp_path: Path) -> None:
    found = config(tmp_path, OWN)
    watched = replace(
        found,
        training=replace(found.training, rungs=(), early_stop=0.002),
        scoring=replace(found.scoring, proxy="none"),
        search=replace(found.search, objectives=("error",)),
        constraints=(),
    )
    study = search(watched, out=tmp_path / "run")
    assert len(study.seed().values("short")["curve"][0]) == 3
    stopped = [one for one in study.candidates() for outcome in one.outcomes("short") if outcome.cause == "low_curve"]
    assert stopped, "every child has to come near the best so far"
    assert all(one.error is None for one in stopped)
    assert all(one.id not in {best.id for best in study.pareto()} for one in stopped)
    assert not replay(tmp_path / "run").differences


@pytest.mark.slow
def test_an_objective_that_is_no_number_of_the_seed_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"objective .*mine.py:nodes: it failed on the seed model: .*returned nan"):
        search(config(tmp_path, NOT_A_NUMBER), out=tmp_path / "run")
