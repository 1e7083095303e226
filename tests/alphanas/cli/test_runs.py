"""`search`, `resume`, `report` and `export` on run folders: what they ask of the driver, what they print, how they stop."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from alphanas import driver
from alphanas.cli import main
from alphanas.config import Config
from alphanas.report.progress import Figures, Progress, Snapshot
from alphanas.study import Study, open_study
from tests.alphanas.report.fakes import fake_study


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "digits.toml"
    path.write_text('model = "zoo:resnet8"\ntime_limit = "5m"\n')
    return path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path]]:
    """A driver that notes what it was asked and hands back a made-up study."""
    calls: list[tuple[Config, Path]] = []

    def search(config: Config, *, out: Path, progress: Progress) -> Study:
        calls.append((config, out))
        progress.update(Snapshot("searching", {"ok": 3}, best=Figures(2, 100, 200, 0.9), time_left=5.0))
        return fake_study(out)

    monkeypatch.setattr(driver, "search", search)
    return calls


def test_search_hands_config_overrides_and_folder_to_the_driver(
    config: Path, asked: list[tuple[Config, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["search", str(config), "--out", str(out), "--seed", "7", "--time-limit", "2m", "--workers", "3"]
    assert main([*words, "--set", "search.generation=4", "training.epochs=9"]) == 0
    ((settled, folder),) = asked
    assert folder == out
    assert (settled.seed, settled.time_limit, settled.workers) == (7, 120.0, 3)
    assert (settled.search.generation, settled.training.epochs) == (4, 9)
    shown = capsys.readouterr()
    assert "seed" in shown.out and "best" in shown.out and "done" in shown.out
    assert "searching" in shown.err and "#2" in shown.err


def test_search_with_json_prints_the_summary_alone(
    config: Path, asked: list[tuple[Config, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", str(config), "--out", str(tmp_path / "run"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(open_study(tmp_path / "run").summary()))


def test_without_out_every_search_gets_a_folder_of_its_own(
    config: Path, asked: list[tuple[Config, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        assert main(["search", str(config), "--quiet"]) == 0
    assert [folder for _, folder in asked] == [Path("runs/digits"), Path("runs/digits-2"), Path("runs/digits-3")]


def test_search_never_writes_over_a_study(
    config: Path, asked: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_study(tmp_path / "run")
    assert main(["search", str(config), "--out", str(tmp_path / "run")]) == 2
    assert asked == []
    assert "resume" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_search_says_how_to_go_on(
    number: int, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"

    def stopped(config: Config, *, out: Path, progress: Progress) -> Study:
        study = fake_study(out, finished=False)
        os.kill(os.getpid(), number)
        return study

    monkeypatch.setattr(driver, "search", stopped)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["search", str(config), "--out", str(out), "--quiet"]) == 1
    text = capsys.readouterr().err
    assert f"python -m alphanas resume {out}" in text and text.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_resume_goes_on_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_study(tmp_path / "run")
    folders: list[Path] = []

    def resume(folder: Path, *, progress: Progress) -> Study:
        folders.append(folder)
        return open_study(folder)

    monkeypatch.setattr(driver, "resume", resume)
    assert main(["resume", str(tmp_path / "run"), "--json"]) == 0
    assert folders == [tmp_path / "run"]
    assert json.loads(capsys.readouterr().out)["status"] == "done"


def test_report_writes_the_page_and_leaves_the_study_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    fake_study(folder)
    before = (folder / "study.sqlite").read_bytes()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    assert (folder / "study.sqlite").read_bytes() == before


def test_a_folder_without_a_study_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["report", str(tmp_path)],
        ["resume", str(tmp_path)],
        ["export", str(tmp_path), "--format", "graph", "--out", "x"],
    ):
        assert main(words) == 2
        text = capsys.readouterr().err
        assert str(tmp_path) in text and text.count("\n") == 1


def test_a_store_that_is_broken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    fake_study(folder).close()
    (folder / "study.sqlite").write_bytes(b"no database" * 1000)
    assert main(["report", str(folder)]) in (1, 2)
    text = capsys.readouterr().err
    assert str(folder) in text and "Traceback" not in text and "unexpected" not in text


def test_export_of_what_was_not_trained_or_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    fake_study(folder)
    words = ["export", str(folder), "--format", "graph", "--out", str(tmp_path / "out")]
    assert main([*words, "--candidate", "999"]) == 2
    assert "999" in capsys.readouterr().err
    assert main([*words, "--candidate", "1"]) == 1
    assert "not trained" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
