"""Laws of the records: what one process keeps all others read, and nothing that goes wrong loses any of it. No TVM here."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from alphanas.errors import UserError
from alphanas.hardware.program import Storage
from alphanas.hardware.records import METASCHEDULE, TEMPLATE, Device, Record, Records, default_path

HERE = Device("znver4", "a CPU x2", 16, 24, 2, "0.27.0", "c0de")
ROOT = Path(__file__).parents[3]


def record(kernel: str = "k", seconds: float = 1e-3, *, how: str = TEMPLATE, trials: int = 4, spread: float = 1e-5) -> Record:
    return Record(
        kernel,
        how,
        "contraction",
        10,
        Storage((1, 9), (1, 16), "float32"),
        {"row": 2},
        seconds,
        spread,
        trials,
        5.0,
        ((4096, 1e-6),),
        5e-5,
        2e-3,
        (0.0, -1e-7, 2e-6, 3e-6),
        1.3e-5,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "records.sqlite"


def test_records_are_read_back_as_they_were_by_whoever_opens_the_file(path: Path) -> None:
    with Records.open(path) as mine, Records.open(path) as other:
        mine.add(HERE, record())
        assert other.find(HERE, "k") == record()
        assert other.known(HERE) == {"k": record()}
        mine.set_overhead(HERE, {"call": 1e-6, "kernel": 2e-6})
        assert other.overhead(HERE) == {"call": 1e-6, "kernel": 2e-6}
        assert mine.notes == other.notes == []


def test_the_fastest_schedule_of_a_kernel_is_the_one_that_is_known(path: Path) -> None:
    with Records.open(path) as store:
        store.add(HERE, record(seconds=2e-3))
        store.add(HERE, record(seconds=1e-3, how=METASCHEDULE))
        assert store.known(HERE)["k"].how == METASCHEDULE
        assert store.known(HERE, TEMPLATE)["k"].seconds == 2e-3


def test_a_record_gives_way_to_a_steadier_one_or_one_of_more_trials_alone(path: Path) -> None:
    with Records.open(path) as store:
        store.add(HERE, record(seconds=2e-3, spread=1e-4))
        store.add(HERE, record(seconds=1e-3, spread=2e-4))
        assert store.find(HERE, "k").seconds == 2e-3  # type: ignore[union-attr]
        store.add(HERE, record(seconds=3e-3, spread=1e-5))
        assert store.find(HERE, "k").seconds == 3e-3  # type: ignore[union-attr]
        store.add(HERE, record(seconds=4e-3, spread=3e-3, trials=9))
        assert store.find(HERE, "k").seconds == 4e-3  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "reason"), [({"tvm": "0.28.0"}, "TVM 0.27.0"), ({"threads": 1}, "2 threads"), ({"code": "x"}, "another version")]
)
def test_records_of_another_device_or_tvm_are_kept_and_say_nothing(path: Path, change: dict[str, object], reason: str) -> None:
    other = dataclasses.replace(HERE, **change)  # type: ignore[arg-type]
    with Records.open(path) as store:
        store.add(HERE, record())
        assert store.known(other) == {} and store.find(other, "k") is None
        assert [(reason in text, count) for text, count in store.others(other).items()] == [(True, 1)]
        store.add(other, record(seconds=7.0))
        assert store.find(HERE, "k") == record()


def test_a_damaged_file_is_put_aside_and_what_can_be_read_is_taken_over(path: Path) -> None:
    with Records.open(path) as store:
        for number in range(400):
            store.add(HERE, record(f"kernel {number}"))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 4096] = b"\xff" * 4096
    content[100:116] = b"\xff" * 16  # the first page says where the tables are
    path.write_bytes(content)
    with Records.open(path) as store:
        assert any("damaged" in note for note in store.notes)
        store.add(HERE, record("new"))
        assert "new" in store.known(HERE)
    (aside,) = path.parent.glob("records.sqlite.damaged-*[0-9]")
    assert aside.read_bytes() == bytes(content)


def test_rows_of_a_file_that_breaks_off_are_taken_over(path: Path) -> None:
    with Records.open(path) as store:
        for number in range(400):
            store.add(HERE, record(f"kernel {number}"))
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with Records.open(path) as store:
        known = store.known(HERE)
        assert 0 < len(known) < 400
        assert all(each == record(kernel) for kernel, each in known.items())
        assert any("taken over" in note for note in store.notes)


def test_a_file_of_something_else_is_refused_and_stays(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(UserError, match="something else"):
        Records.open(path)
    assert path.read_bytes() == before


LATER = ("pace", "alone", "handed", "exchange")
"""Columns that came with the third format and the fourth."""


@pytest.mark.parametrize(("format_", "missing"), [(1, ("caches", *LATER)), (2, LATER), (3, LATER[2:])])
def test_a_file_of_an_older_version_is_made_a_new_one_and_keeps_its_records(
    path: Path, format_: int, missing: tuple[str, ...]
) -> None:
    unknown: dict[str, Any] = {"caches": (), "pace": None, "alone": None, "handed": (), "exchange": None}
    with Records.open(path) as store:
        store.add(HERE, record())
        for column in missing:
            store._connection.execute(f"ALTER TABLE records DROP COLUMN {column}")
        store._connection.execute(f"PRAGMA user_version = {format_}")
    with Records.open(path) as store:
        assert store.known(HERE) == {"k": dataclasses.replace(record(), **{name: unknown[name] for name in missing})}
        store.add(HERE, record())
        assert store.known(HERE) == {"k": record()}


def test_a_file_of_a_newer_version_is_refused_and_stays(path: Path) -> None:
    with Records.open(path) as store:
        store.add(HERE, record())
        store._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="format 99"):
        Records.open(path)


def test_where_nothing_can_be_written_records_last_as_long_as_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Records.open(tmp_path / "file" / "records.sqlite") as store:
        store.add(HERE, record())
        assert store.known(HERE) == {"k": record()}
        assert len(store.notes) == 1
    with pytest.raises(UserError, match="a folder"):
        Records.open(tmp_path)


def test_a_full_disk_loses_nothing_that_was_kept(path: Path) -> None:
    with Records.open(path) as store:
        store.add(HERE, record("kept"))
        store._connection.execute(f"PRAGMA max_page_count = {store._connection.execute('PRAGMA page_count').fetchone()[0]}")
        for number in range(200):
            store.add(HERE, record(f"kernel {number}"))
        assert len(store.known(HERE)) == 201
        assert any("full" in note for note in store.notes)
    with Records.open(path) as store:
        assert "kept" in store.known(HERE)


WRITER = """
import sys
from pathlib import Path
from alphanas.hardware.records import Records
from tests.alphanas.hardware.test_records import HERE, record
with Records.open(Path(sys.argv[1])) as store:
    for number in range(50):
        store.add(HERE, record(f"{sys.argv[2]} {number}"))
"""
HOLDER = """
import sys, time
from pathlib import Path
from alphanas.hardware.records import Records
from tests.alphanas.hardware.test_records import HERE
with Records.open(Path(sys.argv[1])) as store, store.claim(HERE, "k") as mine:
    print(mine, flush=True)
    time.sleep(600)
"""


def test_what_several_processes_write_at_once_is_all_there(path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], cwd=ROOT) for number in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    with Records.open(path) as store:
        assert len(store.known(HERE)) == 100


def test_one_process_tunes_a_kernel_at_a_time_until_it_ends_however_it_ends(path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline().strip() == "True"
        with Records.open(path) as store:
            with store.claim(HERE, "k") as mine, store.claim(HERE, "another") as free:
                assert (mine, free) == (False, True)
            holder.kill()
            holder.wait()
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                with store.claim(HERE, "k") as mine:
                    if mine:
                        break
            assert mine
    finally:
        holder.kill()
        holder.wait()


def test_the_cache_folder_is_the_users_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path))
    assert default_path() == tmp_path / "records.sqlite"
    monkeypatch.setenv("ALPHANAS_CACHE", "off")
    assert default_path() is None
    monkeypatch.delenv("ALPHANAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert default_path() == tmp_path / "user" / "alphanas" / "records.sqlite"
