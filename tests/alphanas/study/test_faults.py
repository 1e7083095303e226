"""Bad folders, disks and stores: one clear line, and nothing lost."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from alphanas.errors import UserError
from alphanas.study import Recorder, create_study, open_study, resume_study

START: dict[str, Any] = {"config": {"seed": 3}, "config_toml": "", "key": 3, "fingerprint": "print", "environment": {}}
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run folder with ten candidates."""
    with create_study(tmp_path / "run", **START) as recorder:
        fill(recorder, range(10))
    return tmp_path / "run"


def fill(recorder: Recorder, numbers: range) -> None:
    for number in numbers:
        recorder.candidate(number, graph_json="{}" * 500, graph_hash=f"h{number}")
        recorder.outcome(number, "cost", values={"params": number})


def fails(cause: str, *arguments: Any, call: Any = open_study, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert caught.value.cause == cause, str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_of_another_study_is_not_searched_into(folder: Path) -> None:
    assert "resume" in fails("other_study", folder, call=create_study, **START)
    text = fails("other_study", folder, call=create_study, **{**START, "config": {"seed": 4, "x": {"y": 1}}})
    assert "seed = 4 here, 3 there" in text
    assert len(open_study(folder).candidates()) == 10


def test_a_study_goes_on_with_its_own_config_and_data_only(folder: Path) -> None:
    assert "seed = 4 here, 3 there" in fails("other_study", folder, call=resume_study, config={"seed": 4})
    assert "data.source" in fails("other_study", folder, call=resume_study, fingerprint="another")
    with resume_study(folder, config={"seed": 3}, fingerprint="print"):
        pass


def test_folders_that_hold_no_study(folder: Path, tmp_path: Path) -> None:
    assert "did you mean 'run'?" in fails("missing_file", tmp_path / "rum")
    assert "no study.sqlite" in fails("not_a_run_folder", tmp_path)
    assert "no study.sqlite" in fails("not_a_run_folder", tmp_path, call=resume_study)
    (tmp_path / "notes.txt").write_text("mine")
    assert "not empty: " in fails("bad_folder", tmp_path, call=create_study, **START)
    assert "is a file" in fails("bad_folder", tmp_path / "notes.txt", call=create_study, **START)
    assert "is a file" in fails("bad_folder", tmp_path / "notes.txt" / "run", call=create_study, **START)
    for call, options in ((create_study, START), (open_study, {}), (resume_study, {})):
        fails("bad_folder", tmp_path / ("x" * 300), call=call, **options)
    other = tmp_path / "other"
    other.mkdir()
    with sqlite3.connect(other / "study.sqlite") as connection:
        connection.execute("CREATE TABLE trials (id)")
    connection.close()
    fails("not_a_run_folder", other)
    fails("not_a_run_folder", other, call=resume_study)


def test_one_writer_at_a_time(folder: Path) -> None:
    code = """
import sys
from alphanas.study import resume_study
recorder = resume_study(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        assert writer.stdout is not None and writer.stdout.readline() == b"open\n"
        assert f"process {writer.pid} on" in fails("locked", folder, call=resume_study)
        assert open_study(folder).status() == "running"
    finally:
        writer.kill()
        writer.communicate()
    assert open_study(folder).status() == "interrupted"
    with resume_study(folder) as recorder:
        assert "is writing to it" in fails("locked", folder, call=resume_study)
        fill(recorder, range(10, 11))


def limited(recorder: Recorder, pages: int) -> None:
    """Gives every connection of a recorder a disk of so many pages."""

    @event.listens_for(recorder._engine, "begin")
    def begins(connection: Any) -> None:
        connection.connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_stops_with_one_line_and_nothing_is_lost(folder: Path) -> None:
    before = (folder / "study.sqlite").stat().st_size // 4096
    with resume_study(folder) as recorder:
        limited(recorder, before + 2)
        text = fails("disk_full", recorder, range(10, 1000), call=fill)
        assert "resume" in text and "free some space" in text
        done = len(recorder.study.candidates())
        assert 10 <= done < 1000
        limited(recorder, 1 << 30)
        fill(recorder, range(done - 1, done + 5))  # the disk was mended: the same process goes on
    assert len(open_study(folder).candidates()) == done + 5


def test_a_full_disk_for_an_artifact_records_nothing_of_the_outcome(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with resume_study(folder) as recorder:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            fails("disk_full", 1, "short", call=recorder.outcome, artifacts={"weights/short": b"w"})
        assert not recorder.done(1, "short")
        assert recorder.study.candidate(1).weights() is None
        recorder.outcome(1, "short", artifacts={"weights/short": b"w"})


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which takes root")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        with create_study(disk / "run", **START) as recorder:
            filler = disk / "filler"
            fill(recorder, range(10))
            with open(filler, "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"x" * 4096)
            fails("disk_full", recorder, range(10, 2000), call=fill)
            fails("disk_full", 1, "short", call=recorder.outcome, artifacts={"weights/short": b"w" * 100_000})
            done = len(recorder.study.candidates())
            assert done >= 10
        assert len(open_study(disk / "run").candidates()) == done
        fails("disk_full", disk / "another", call=create_study, **START)
        filler.unlink()
        with resume_study(disk / "run") as recorder:
            fill(recorder, range(done - 1, done + 3))
        assert len(open_study(disk / "run").candidates()) == done + 3
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def shown(folder: Path) -> Iterator[Path]:
    """A run folder with a log beside it, all of which any user may read and nobody may write."""
    root = Path(tempfile.mkdtemp())
    recorder = resume_study(folder)
    fill(recorder, range(10, 13))
    shutil.copytree(folder, root / "run")
    recorder.close()
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root / "run"
    for path in (root, *root.rglob("*")):
        path.chmod(0o777)
    shutil.rmtree(root)


def give_up_rights() -> None:
    """Takes root's right to write what may not be written, for this process and what it executes."""
    pr_capbset_drop, cap_dac_override = 24, 1
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(pr_capbset_drop, cap_dac_override, 0, 0, 0) != 0:
        raise OSError("root's rights cannot be given up here")


def without_rights(code: str, folder: Path) -> str:
    """What a program prints that must keep to the permissions of files."""
    command = [sys.executable, "-c", f"import sys; folder = sys.argv[1]\n{code}", str(folder)]
    result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, preexec_fn=give_up_rights)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("leftover", ["log and index", "log", "neither"])
def test_a_read_only_folder_can_be_read(shown: Path, leftover: str) -> None:
    if os.geteuid() != 0 and leftover != "log and index":
        pytest.skip("taking files out of a read-only folder takes root")
    if leftover != "log and index":
        (shown / "study.sqlite-shm").unlink(missing_ok=True)
    if leftover == "neither":
        (shown / "study.sqlite-wal").unlink()
    code = "from alphanas.study import open_study\nstudy = open_study(folder); study.summary(); print(len(study.candidates()))"
    assert without_rights(code, shown) == ("10" if leftover == "neither" else "13")


def test_a_read_only_folder_cannot_be_searched_into(shown: Path) -> None:
    code = """
from alphanas.study import create_study, resume_study
from alphanas.errors import UserError
for call in (lambda: resume_study(folder), lambda: create_study(folder + "/inner", config={}, config_toml="", key=0, fingerprint="",
             environment={})):
    try:
        call()
    except UserError as error:
        print(error.cause, str(error).count("\\n"))
"""
    assert without_rights(code, shown) == "read_only 0\nread_only 0"


def connect(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "study.sqlite", isolation_level=None)


def test_a_store_of_a_later_release_is_left_alone(folder: Path) -> None:
    connection = connect(folder)
    connection.execute("UPDATE study SET schema_version = 99")
    connection.close()
    for call in (open_study, resume_study):
        assert "upgrade alphanas" in fails("newer_schema", folder, call=call)


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE outcomes",
        "UPDATE study SET schema_version = 'x'",
        "UPDATE study SET schema_version = 0",
        "UPDATE study SET config = '{'",
        "UPDATE candidates SET proposal = 'no json'",
        "UPDATE candidates SET id = 'x' WHERE id = 3",
        "UPDATE outcomes SET \"values\" = '[]'",
        "UPDATE decisions SET payload = '3'",
        "ALTER TABLE candidates DROP COLUMN method",
    ],
)
def test_a_store_that_was_tampered_with_is_refused(folder: Path, damage: str) -> None:
    connection = connect(folder)
    connection.execute(damage)
    connection.close()
    fails("corrupted", folder, call=lambda where: open_study(where).summary())


def test_a_store_with_random_bytes_is_read_or_refused(folder: Path) -> None:
    path, chance = folder / "study.sqlite", random.Random(0)
    whole = path.read_bytes()
    seen = {"read": 0}
    for number in range(150):
        changed = bytearray(whole)
        for _ in range(chance.choice([1, 5, 30])):
            changed[chance.randrange(len(whole))] = chance.randrange(256)
        path.write_bytes(changed if number % 5 else changed[: chance.randrange(len(whole))])
        for extra in folder.glob("study.sqlite-*"):
            extra.unlink()
        study = None
        try:
            study = open_study(folder)
            study.summary()
            study._repr_html_()
            [one.graph_json() for one in study.candidates()]
            seen["read"] += 1
        except UserError as error:
            seen[error.cause] = seen.get(error.cause, 0) + 1
        finally:
            if study is not None:
                study.close()
    assert seen["corrupted"] > 20
    for content in (b"", b"not a database" * 100):
        path.write_bytes(content)
        fails("corrupted" if content else "not_a_run_folder", folder)
        fails("corrupted" if content else "not_a_run_folder", folder, call=resume_study)


def test_an_artifact_is_whole_or_refused(folder: Path) -> None:
    with resume_study(folder) as recorder:
        recorder.artifact(1, "weights/short", b"content")
        candidate = recorder.study.candidate(1)
        path = candidate.weights()
        assert path is not None
        path.write_bytes(b"c0ntent")
        assert "sha256" in fails("corrupted", call=candidate.weights)
        path.unlink()
        assert "no such file" in fails("corrupted", call=candidate.weights)
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    connection = connect(folder)
    connection.execute("UPDATE artifacts SET path = '../secret'")
    connection.close()
    assert "leaves the run folder" in fails("corrupted", call=open_study(folder).candidate(1).weights)


def test_leftovers_of_a_dead_process_are_swept(folder: Path) -> None:
    with resume_study(folder) as recorder:
        recorder.artifact(1, "weights/short", b"kept")
        recorder.scratch("half").write_bytes(b"half")
        orphan = folder / "artifacts" / "ab" / "abcd.safetensors"
        orphan.parent.mkdir(exist_ok=True)
        orphan.write_bytes(b"orphan")
        (folder / ".summary.json.x.part").write_text("half")
    with resume_study(folder) as recorder:
        assert not orphan.exists()
        assert not (folder / ".summary.json.x.part").exists()
        assert list((folder / "scratch").iterdir()) == []
        assert recorder.study.candidate(1).weights() is not None
