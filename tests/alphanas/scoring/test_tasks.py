"""The tasks of worker processes: JSON in, JSON out, deterministic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphanas.models import weights
from alphanas.scoring import tasks
from synth import Builder, Graph
from synth.ops import BatchNorm, Conv, Dense, GlobalAvgPool, Relu

DATA = {"source": "digits", "train_limit": 200}
RECIPE = {"epochs": 2, "batch_size": 32, "short_epochs": 1, "learning_rate": 0.01}


def network(features: int = 4) -> Graph:
    build = Builder((8, 8, 1))
    x = build(Conv(features=features), build.input, name="conv")
    x = build(Relu(), build(BatchNorm(), x, name="norm"), name="act")
    return build.graph(build(Dense(features=10), build(GlobalAvgPool(), x, name="pool"), name="head"))


def payload(**changes: Any) -> dict[str, Any]:
    return {"graph": network().to_json(), "data": DATA, "recipe": RECIPE, "seeds": [0, 1], **changes}


def test_training_reports_each_seed_and_writes_weights(tmp_path: Path) -> None:
    result = tasks.train(payload(weights_out=str(tmp_path / "w.safetensors"), evaluate="test"))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert len(result["accuracy"]) == 2 and all(0 < accuracy < 1 for accuracy in result["accuracy"])
    assert result["stopped"] == ["finished", "finished"] and not result["diverged"] and result["epochs"] == 4
    assert 0 < 4 * result["seconds_per_epoch"] < result["seconds"]
    weights.load(result["weights"], network())
    stored = tasks.evaluate({"graph": network().to_json(), "data": DATA, "weights": result["weights"], "evaluate": "test"})
    assert stored["accuracy"] == result["accuracy"][0] and stored["loss"] == result["loss"][0]
    again = tasks.train(payload(evaluate="test"))
    assert again["accuracy"] == result["accuracy"] and again["weights"] is None


def test_a_hopeless_training_stops_after_the_epoch_that_shows_it(tmp_path: Path) -> None:
    path = str(tmp_path / "w.safetensors")
    watched = {"recipe": {**RECIPE, "epochs": 4}, "seeds": [0], "weights_out": path}
    whole = tasks.train(payload(**watched, curve={"margin": 0.1, "bar": None, "seed": []}))
    assert len(whole["curve"][0]) == 4 and not whole["hopeless"]
    assert whole["accuracy"] == [pytest.approx(1 - whole["curve"][0][-1])]
    like = tasks.train(payload(**watched, curve={"margin": 0.1, "bar": whole["curve"][0][-1], "seed": whole["curve"][0]}))
    assert like["accuracy"] == whole["accuracy"] and not like["hopeless"]
    stopped = tasks.train(payload(**watched, curve={"margin": 0.1, "bar": 0.0, "seed": whole["curve"][0]}))
    assert stopped["hopeless"] and stopped["stopped"] == ["hopeless"] and stopped["epochs"] == 1
    assert stopped["curve"][0] == whole["curve"][0][:1]


def test_divergence_is_recorded_and_null(tmp_path: Path) -> None:
    recipe = {
        **RECIPE,
        "optimizer": "sgd",
        "learning_rate": 100.0,
        "weight_decay": 10.0,
        "clip_norm": 0.0,
        "warmup": 0.0,
        "epochs": 8,
    }
    result = tasks.train(payload(recipe=recipe, weights_out=str(tmp_path / "w.safetensors")))
    assert result["diverged"] and result["accuracy"] == [None, None] and result["stopped"] == ["diverged"] * 2
    assert result["weights"] is None and not (tmp_path / "w.safetensors").exists()
    json.dumps(result, allow_nan=False)


def test_children_start_from_their_parents_weights(tmp_path: Path) -> None:
    path = str(tmp_path / "parent.safetensors")
    parent = tasks.train(payload(seeds=[0], weights_out=path))
    frozen = {**RECIPE, "epochs": 0}
    child = tasks.train(payload(seeds=[5], recipe=frozen, inherit=path, parent=network().to_json()))
    fresh = tasks.train(payload(seeds=[5], recipe=frozen))
    assert child["inherited"] == 3 and fresh["inherited"] == 0
    assert child["accuracy"] == parent["accuracy"] and child["loss"] == parent["loss"]
    assert fresh["loss"] != parent["loss"]


def test_a_time_limit_leaves_later_seeds_out() -> None:
    result = tasks.train(payload(seeds=[0, 1, 2], time_limit=0.0, recipe={**RECIPE, "epochs": 20}))
    assert result["stopped"] == ["time_limit"] * 3
    assert result["accuracy"][0] is not None and result["accuracy"][1:] == [None, None]


@pytest.mark.parametrize("kind", ["naswot", "fisher", "params", "macs"])
def test_scores_repeat_themselves(kind: str) -> None:
    request = {"graph": network().to_json(), "data": DATA, "seed": 3, "kind": kind, "batch": 16, "repeats": 2}
    first, again = tasks.score(request), tasks.score(request)
    assert first["score"] == again["score"] and first["score"] is not None


@pytest.mark.slow
def test_processes_share_what_they_compiled(tmp_path: Path) -> None:
    """Another process trains to the same numbers from the shared folder, and adds nothing to it."""
    script = "import json, sys; from alphanas.scoring import tasks; print(json.dumps(tasks.train(json.loads(sys.argv[1]))))"
    request = json.dumps(payload(compilations=str(tmp_path / "compiled")))
    results, entries = [], []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script, request], capture_output=True, text=True, check=True)
        results.append(json.loads(done.stdout))
        entries.append({path.name for path in (tmp_path / "compiled").iterdir() if not path.name.endswith("-atime")})
    assert results[0]["accuracy"] == results[1]["accuracy"] and results[0]["loss"] == results[1]["loss"]
    assert entries[0] and entries[0] == entries[1]
