"""Laws of turns, with real processes: one at a time on a device, a lock ends with its process, waiting is told and is free."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphanas.execution import Completed, Failed, LocalPool, Note, TaskFailure
from alphanas.execution.turns import lock_file, turn

HERE = Path(__file__).parent


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ALPHANAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(HERE))
    yield tmp_path / "cache"


def hold(pool: LocalPool, note: Path, seconds: float, *, limit_s: float = 30.0) -> object:
    return pool.submit("sample_tasks:hold", {"note": str(note), "seconds": seconds}, limit_s=limit_s)


def wait_for(note: Path) -> None:
    deadline = time.monotonic() + 20
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert note.exists()


def test_turns_of_several_processes_never_overlap(cache: Path, tmp_path: Path) -> None:
    with LocalPool(2) as one, LocalPool(1) as other:
        handles = [
            pool.submit("sample_tasks:hold", {"note": str(tmp_path / "x"), "seconds": 0.05}) for pool in (one, one, other) * 3
        ]
        results = [handle.result(timeout=60) for handle in handles]
    spans = sorted(tuple(result.value) for result in results if isinstance(result, Completed))
    assert len(spans) == 9
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_devices_do_not_wait_for_each_other_and_a_turn_holds_turns(cache: Path) -> None:
    with turn("cpu", "a"), turn("cuda", "b"), turn("cpu", "c", longest_s=0.0):
        pass
    with turn("cpu", "again", longest_s=0.0):
        pass


def test_another_thread_waits_for_its_own_turn(cache: Path) -> None:
    caught: list[TaskFailure] = []

    def other() -> None:
        try:
            with turn("cpu", "b", longest_s=0.1):
                pass
        except TaskFailure as failure:
            caught.append(failure)

    with turn("cpu", "the first"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert [failure.cause for failure in caught] == ["device_busy"]
    assert f"process {os.getpid()} measures the first" in caught[0].message


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_waiting_is_told_and_is_not_the_tasks_time(cache: Path, tmp_path: Path) -> None:
    heard: list[Note] = []
    with LocalPool(1) as first, LocalPool(1, on_note=heard.append) as second:
        second.submit("sample_tasks:echo", 1).result()
        hold(first, tmp_path / "held", 1.5)
        wait_for(tmp_path / "held")
        result = second.submit("sample_tasks:hold", {"note": str(tmp_path / "b"), "seconds": 0.01}, limit_s=0.8).result(timeout=30)
    assert isinstance(result, Completed), result
    assert [note.clock for note in heard] == [False, True]
    assert "waiting for the cpu: process" in heard[0].text and "measures a test" in heard[0].text


def test_a_lock_ends_with_its_process(cache: Path, tmp_path: Path) -> None:
    with LocalPool(1) as pool:
        handle = pool.submit("sample_tasks:hold", {"note": str(tmp_path / "held"), "seconds": 60})
        wait_for(tmp_path / "held")
        with pytest.raises(TaskFailure, match="not free"), turn("cpu", "too early", longest_s=0.0):
            pass
        os.kill(int((tmp_path / "held").read_text()), signal.SIGKILL)
        result = handle.result(timeout=20)
        assert isinstance(result, Failed) and result.cause == "crashed"
        with turn("cpu", "after the crash", longest_s=5.0):
            pass


def test_what_hangs_in_its_turn_ends_at_its_limit(cache: Path, tmp_path: Path) -> None:
    with LocalPool(1) as pool:
        result = pool.submit("sample_tasks:hold", {"note": str(tmp_path / "held"), "seconds": 60}, limit_s=1.5).result(timeout=20)
    assert isinstance(result, Failed) and result.cause == "timeout"


@pytest.mark.parametrize("setting", ["off", "/proc/none"])
def test_there_is_a_lock_where_there_is_no_cache(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHANAS_CACHE", setting)
    assert os.access(lock_file("cpu").parent, os.W_OK)
