"""A study is what its log, its seed and its config make it; replay finds what was changed since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphanas.cli.main import main
from alphanas.driver import search
from alphanas.driver.replay import replay
from alphanas.study import Study

pytestmark = pytest.mark.slow

TINY: dict[str, Any] = {
    "model": "zoo:mlp",
    "search": {"generation": 2, "max_candidates": 4},
    "training": {"short_epochs": 1, "epochs": 1},
    "finish": {"finalists": 1, "seeds": 1},
    "hardware": {"backends": []},
    "time_limit": "20m",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return search(TINY, out=tmp_path_factory.mktemp("runs") / "tiny")


def test_an_undisturbed_study_replays(finished: Study) -> None:
    found = replay(finished.folder)
    assert found.differences == [] and found.left_out == []
    wanted = {"graphs", "costs", "artifacts", "front", "summary", "log", "decisions", "proposals", "screen"}
    assert wanted <= set(found.checked)
    assert found.checked["proposals"] == 2 * (len(finished.candidates()) - 1)


def rows(statement: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        with sqlite3.connect(folder / "study.sqlite") as connection:
            connection.execute("PRAGMA foreign_keys=OFF")
            assert connection.execute(statement).rowcount > 0
        connection.close()

    return change


def weights(folder: Path) -> None:
    next((folder / "artifacts").rglob("*.safetensors")).write_bytes(b"other")


def summary(folder: Path) -> None:
    told = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**told, "pareto": []}))


def config(folder: Path) -> None:
    path = folder / "config.toml"
    path.write_text(path.read_text().replace("mutation = 0.5", "mutation = 0.25", 1))


CHANGES: list[tuple[str, Callable[[Path], None], str]] = [
    (
        "cost",
        rows("""UPDATE outcomes SET "values" = json_set("values", '$.macs', 1) WHERE stage = 'cost' AND candidate = 1"""),
        "macs",
    ),
    ("hash", rows("UPDATE candidates SET graph_hash = 'x' WHERE id = 1"), "its graph's hash"),
    ("seed", rows("UPDATE study SET study_key = 77"), "its proposal"),
    (
        "error",
        rows("""UPDATE outcomes SET "values" = json_set("values", '$.accuracy', 1.0) WHERE stage = 'short' AND candidate = 2"""),
        "",
    ),
    ("generation", rows("DELETE FROM decisions WHERE kind = 'generation' AND json_extract(payload, '$.number') = 1"), "its number"),
    ("lost outcome", rows("DELETE FROM outcomes WHERE stage = 'synthesis' AND candidate = 2"), "its synthesis"),
    ("weights", weights, "weights/"),
    ("summary", summary, "summary.json, pareto"),
    ("config", config, "config.toml"),
]


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_was_changed_is_named(finished: Study, tmp_path: Path, change: Callable[[Path], None], told: str) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    change(folder)
    found = replay(folder, proposals=told == "its proposal")
    assert found.differences and any(told in difference.thing for difference in found.differences)


def test_the_verb_says_so_by_its_exit_code(finished: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(finished.folder), "--no-proposals"]) == 0
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    weights(folder)
    capsys.readouterr()
    assert main(["replay", str(folder), "--no-proposals", "--json"]) == 1
    assert "weights/" in json.loads(capsys.readouterr().out)["differences"][0]["thing"]
