"""The live pages: what they answer, that they follow the store, and that they read alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphanas.errors import UserError
from alphanas.report.dashboard import server
from alphanas.report.tables import COLUMNS, rows, write_csv, write_parquet, write_tensorboard
from alphanas.study import open_study, resume_study
from tests.alphanas.report.fakes import fake_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    fake_study(tmp_path / "digits")
    return tmp_path / "digits"


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with server(folder) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_pages_show_the_study_and_nothing_else(folder: Path, address: str) -> None:
    assert "<h2>Candidates</h2>" in get(address + "/")[1]
    assert "<h1>Candidate 3" in get(address + "/candidate/3")[1]
    assert json.loads(get(address + "/summary.json")[1]) == json.loads(json.dumps(open_study(folder).summary()))
    for path in ("/candidate/4711", "/candidate/x", "/../study.sqlite", "/study.sqlite", "/config.toml"):
        assert get(address + path)[0] == 404
    assert get(address + "/", Host="evil.example")[0] == 403
    with pytest.raises(urllib.error.HTTPError, match="501"):
        urllib.request.urlopen(urllib.request.Request(address + "/", data=b"x", method="POST"), timeout=30)


def test_pages_follow_the_store_and_never_change_it(folder: Path, address: str) -> None:
    database = folder / "study.sqlite"
    before, seen = hashlib.sha256(database.read_bytes()).digest(), get(address + "/version")[1]
    get(address + "/")
    assert hashlib.sha256(database.read_bytes()).digest() == before and get(address + "/version")[1] == seen
    with resume_study(folder) as recorder:
        recorder.candidate(99, status="infeasible", parent=0, generation=9, message="for the test", cause="infeasible")
    assert get(address + "/version")[1] != seen
    assert "<h1>Candidate 99" in get(address + "/candidate/99")[1]


def test_a_port_that_is_taken_and_a_folder_that_is_none_are_user_errors(folder: Path, address: str) -> None:
    with pytest.raises(UserError, match="port"):
        server(folder, port=int(address.rpartition(":")[2]))
    with pytest.raises(UserError, match="no such folder"):
        server(folder / "nowhere")


@pytest.mark.slow
def test_a_browser_shows_the_page(address: str) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium here")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom", address + "/"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert "<h2>Candidates</h2>" in shown and 'class="stale"' not in shown


def test_tables_hold_what_the_candidates_say(folder: Path, tmp_path: Path) -> None:
    import csv

    study = open_study(folder)
    write_csv(study, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    wanted = rows(study)
    assert len(read) == len(study.candidates()) and tuple(wanted[0])[: len(COLUMNS)] == tuple(COLUMNS)
    assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in wanted] == read
    assert [row["id"] for row in wanted if row["best"]] == [study.best().id]


def test_parquet_is_the_same_table(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    study = open_study(folder)
    write_parquet(study, tmp_path / "table.parquet")
    assert parquet.read_table(tmp_path / "table.parquet").to_pylist() == rows(study)


@pytest.mark.slow
def test_tensorboard_reads_the_numbers(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    study = open_study(folder)
    write_tensorboard(study, tmp_path / "logs")
    events = EventAccumulator(str(tmp_path / "logs"), size_guidance={"tensors": 0})
    events.Reload()
    found = {event.step: float(event.tensor_proto.float_val[0]) for event in events.Tensors("candidate/params")}
    assert found == {one.id: one.params for one in study.candidates() if one.params is not None}
