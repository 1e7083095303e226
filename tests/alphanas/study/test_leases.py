"""Leases, waiting, and fronts that follow: with clocks of their own, and an oracle that looks at everything anew."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from alphanas.errors import UserError
from alphanas.study import Patience, Recorder, Superseded, create_study, pareto_front, resume_study

START: dict[str, Any] = {"config": {}, "config_toml": "", "key": 3, "fingerprint": "print", "environment": {}}


def test_only_the_newest_token_records(tmp_path: Path) -> None:
    with create_study(tmp_path / "run", **START) as recorder:
        recorder.candidate(0)
        old, new = recorder.lease(0, "short", 1), recorder.lease(0, "short", 1)
        assert old is not None and new is not None and new.token > old.token
        with pytest.raises(Superseded):
            recorder.outcome(0, "short", discriminator=1, lease=old, artifacts={"weights/short": b"late"})
        assert recorder.study.seed().outcomes("short") == () and recorder.study.seed().weights() is None
        recorder.outcome(0, "short", discriminator=1, lease=new)
        assert recorder.done(0, "short", 1)
    with resume_study(tmp_path / "run") as recorder:
        assert recorder.lease(0, "full") is not None  # whoever held this folder before is dead


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.mended_at = 0.0, float("inf")

    def sleep(self, seconds: float) -> None:
        self.now += max(seconds, 1e-3)


@pytest.mark.parametrize(("mended", "told"), [(0.0, 0), (0.1, 2), (30.0, 2), (150.0, 4)])
def test_what_is_mended_in_time_is_waited_for_and_told(mended: float, told: int) -> None:
    clock, said = Clock(), list[str]()

    def attempt(again: bool) -> str:
        assert again == (clock.now > 0)
        if clock.now < mended:
            raise UserError("folder", saw="the disk is full", cause="disk_full")
        return "done"

    assert Patience(1000.0, said.append, clock.sleep, lambda: clock.now).keep_trying(attempt) == "done"
    assert mended <= clock.now <= mended + 5.0
    assert len(said) == told
    assert all(text.startswith("paused: folder: the disk is full") for text in said[:-1])


def test_patience_ends_and_what_cannot_be_mended_is_not_waited_for() -> None:
    clock = Clock()

    def fails(cause: str) -> None:
        raise UserError("folder", saw="no", cause=cause)

    patience = Patience(20.0, sleep=clock.sleep, clock=lambda: clock.now)
    with pytest.raises(UserError):
        patience.keep_trying(lambda again: fails("corrupted"))
    assert clock.now == 0.0
    with pytest.raises(UserError):
        patience.keep_trying(lambda again: fails("disk_full"))
    assert 20.0 <= clock.now < 21.0


def test_a_full_disk_pauses_the_study_and_then_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said, sync = Clock(), list[str](), os.fsync

    def full(file: int) -> None:
        if clock.now < 10.0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    patience = Patience(60.0, said.append, clock.sleep, lambda: clock.now)
    with create_study(tmp_path / "run", **START, patience=patience) as recorder:
        recorder.candidate(0)
        monkeypatch.setattr(os, "fsync", full)
        recorder.outcome(0, "short", artifacts={"weights/short": b"w"})
        assert recorder.study.seed().weights() is not None
        assert "the disk is full" in said[0] and clock.now >= 10.0
        clock.now = 0.0
        recorder.wait_until_writable()
        assert clock.now >= 10.0 and not list((tmp_path / "run").glob(".probe*"))


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk, which takes root")
def test_a_study_waits_until_there_is_room_on_its_disk(tmp_path: Path) -> None:
    disk, said = tmp_path / "disk", list[str]()
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    mend = Patience(60.0, said.append, lambda seconds: (disk / "filler").unlink(missing_ok=True))
    try:
        with create_study(disk / "run", **START, patience=mend) as recorder:
            recorder.candidate(0)
            with open(disk / "filler", "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(b"x" * 4096)
            goes_on(recorder, said)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_study_waits_until_its_folder_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said, replace = Clock(), list[str](), os.replace

    def forbidden(source: str, target: str) -> None:
        if clock.now < 10.0:
            raise OSError(errno.EROFS, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", forbidden)
    clock.now = 20.0
    with create_study(tmp_path / "run", **START, patience=Patience(60.0, said.append, clock.sleep, lambda: clock.now)) as recorder:

        @event.listens_for(recorder._engine, "engine_connect")
        def begins(connection: Any) -> None:
            connection.connection.execute(f"PRAGMA query_only = {int(clock.now < 20.0)}")

        recorder.candidate(0)
        clock.now = 0.0
        goes_on(recorder, said)
        assert clock.now >= 20.0


def goes_on(recorder: Recorder, said: list[str]) -> None:
    """Records through a pause; nothing of it is lost or doubled."""
    for number in range(1, 40):
        recorder.candidate(number, graph_json="{}" * 500)
        recorder.outcome(number, "short", artifacts={"weights/short": bytes(2000) + bytes([number])})
    assert len(recorder.study.candidates()) == 40 and all(one.weights() for one in recorder.study.candidates()[1:])
    assert all(len(one.outcomes()) == 2 for one in recorder.study.candidates()[1:])
    assert said[0].startswith("paused: ") and said[-1].startswith("going on")
    assert not recorder.study.decisions("late_outcome")


def test_the_front_that_follows_is_the_front_of_all(tmp_path: Path) -> None:
    chance = random.Random(5)
    with create_study(tmp_path / "run", **START) as recorder:
        for number in range(60):
            recorder.candidate(number, graph_hash=str(number))
            recorder.outcome(number, "cost", values={"params": chance.randrange(8), "macs": chance.randrange(8)})
            for seed in range(chance.randrange(3)):  # a second seed moves a point that was there already
                recorder.outcome(
                    chance.randrange(number + 1), "short", discriminator=f"{number}{seed}", values={"accuracy": chance.random()}
                )
            for names in (("error", "params", "macs"), ("params", "macs")):
                all_known = [one for one in recorder.study.candidates() if None not in map(one.objective, names)]
                points = [[float(one.objective(name) or 0) for name in names] for one in all_known]
                assert [one.id for one in recorder.study.pareto(names)] == [all_known[index].id for index in pareto_front(points)]
        mark, _ = recorder.study.news()
        assert recorder.study.news(mark)[1] == ()
        recorder.outcome(7, "test")
        recorder.candidate(60)
        assert [one.id for one in recorder.study.news(mark)[1]] == [7, 60]
        with pytest.raises(ZeroDivisionError), recorder.transaction():
            recorder.candidate(61)
            mark, _ = recorder.study.news()
            _ = 1 / 0
        assert len(recorder.study.news(mark)[1]) == 61
