"""The main job on a tiny model: what it leaves behind, that it can be killed, and that chance is the seed's alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import alphanas
from alphanas.config import Config
from alphanas.driver import resume, search
from alphanas.errors import UserError
from alphanas.study import Study

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "model": "zoo:mlp",
    "time_limit": "20m",
    "search": {"generation": 3, "max_candidates": 6},
    "training": {"short_epochs": 1, "epochs": 1},
    "finish": {"finalists": 1, "seeds": 2},
    "hardware": {"backends": []},
}


def facts(study: Study) -> list[tuple[Any, ...]]:
    """What the search decided, without what depends on the clock."""
    return [(one.id, one.parent, one.generation, one.status, one.graph_hash, one.error) for one in study.candidates()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search(Config.from_mapping(TINY), out=tmp_path_factory.mktemp("runs") / "tiny")


def test_a_search_leaves_all_that_it_promises(finished: Study) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert {"config.toml", "study.sqlite", "summary.json", "report.html", "best"} <= names
    assert {"model.py", "weights.safetensors", "graph.json"} <= {path.name for path in (finished.folder / "best").iterdir()}
    summary = json.loads((finished.folder / "summary.json").read_text())
    assert summary["status"] == "done"
    assert summary["counts"]["proposed"] >= 6
    assert len(summary["seed"]["accuracy"]["per_seed"]) == len(summary["best"]["accuracy"]["per_seed"]) == 2
    assert summary["seed"]["latency_ms"] is None


def test_only_the_seed_and_the_finalists_were_tested(finished: Study) -> None:
    finalists = set(finished.decisions("finalists")[-1].payload["ids"])
    assert {one.id for one in finished.candidates() if one.outcomes("test")} == {0, *finalists}


def test_the_same_seed_gives_the_same_search_on_another_number_of_workers(finished: Study, tmp_path: Path) -> None:
    other = search(Config.from_mapping({**TINY, "workers": 1}), out=tmp_path / "other")
    assert facts(other) == facts(finished)
    different = search(Config.from_mapping({**TINY, "seed": 1}), out=tmp_path / "different")
    assert facts(different) != facts(finished)


def test_resuming_a_finished_search_does_nothing_again(finished: Study) -> None:
    before = [(one.id, one.outcomes()) for one in finished.candidates()]
    (finished.folder / "report.html").unlink()
    again = resume(finished.folder)
    assert [(one.id, one.outcomes()) for one in again.candidates()] == before
    assert (finished.folder / "report.html").is_file()


def test_killed_at_any_instant_a_search_goes_on_to_the_same_end(finished: Study, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    config = tmp_path / "tiny.toml"
    config.write_text(Config.from_mapping(TINY).to_toml())
    chance = random.Random(0)
    known: set[tuple[Any, ...]] = set()
    for kills in range(6):
        verb = ["resume", str(folder)] if (folder / "study.sqlite").exists() else ["search", str(config), "--out", str(folder)]
        process = subprocess.Popen([sys.executable, "-m", "alphanas", *verb], start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=chance.uniform(2.0, 9.0) + kills)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        if not (folder / "study.sqlite").exists():
            continue
        outcomes = {
            (outcome.candidate, outcome.stage, outcome.discriminator, outcome.status, outcome.ended)
            for one in alphanas.open_study(folder).candidates()
            for outcome in one.outcomes()
        }
        assert known <= outcomes
        known = outcomes
        time.sleep(0.3)
    # On a slow machine no process may have lived long enough to begin.
    ended = resume(folder) if (folder / "study.sqlite").exists() else search(Config.from_mapping(TINY), out=folder)
    assert facts(ended) == facts(finished)


def test_a_second_search_into_the_same_folder_is_refused(finished: Study) -> None:
    with pytest.raises(UserError, match="resume"):
        search(Config.from_mapping(TINY), out=finished.folder)


LIFTED = """
import jax.numpy as jnp
import numpy as np

def factory():
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((64, 32)).astype("float32") / 8, "b": rng.standard_normal((32, 10)).astype("float32") / 6}
    def forward(weights, x):
        hidden = jnp.sort(x.reshape(x.shape[0], -1) @ weights["a"], axis=-1)
        return hidden @ weights["b"]
    return forward, weights
"""


def test_a_model_with_a_piece_that_is_not_understood_is_searched_and_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(LIFTED)
    config = Config.from_mapping(
        {**TINY, "model": f"{tmp_path / 'model.py'}:factory", "search": {"generation": 2, "max_candidates": 2}}
    )
    study = search(config, out=tmp_path / "run")
    assert study.status() == "done"
    opaque = study.seed().proposal["opaque"]
    assert opaque and all(opaque.values())
    assert set(opaque) <= set(study.best().graph().by_name)
    assert (study.folder / "best" / "graph.json").is_file()
    assert study.decisions("not_exported")[-1].payload["format"] == "flax"


def test_a_seed_that_does_not_train_is_one_clear_error(tmp_path: Path) -> None:
    config = Config.from_mapping(
        {**TINY, "training": {"short_epochs": 1, "epochs": 1, "learning_rate": 99.0, "optimizer": "sgd", "clip_norm": 0}}
    )
    with pytest.raises(UserError, match="short training failed: diverged"):
        search(config, out=tmp_path / "run")
    assert alphanas.open_study(tmp_path / "run").status() == "failed"
