"""What is not a task's doing is not its outcome: a worker killed from outside, a full disk, a lease that was taken over."""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from alphanas.config import Config
from alphanas.driver import stages
from alphanas.driver.flows import Flow, Task, run_flows
from alphanas.driver.run import Run
from alphanas.execution import LocalPool
from alphanas.report.progress import Silent
from alphanas.study import Patience, Recorder, create_study

HERE = Path(__file__).parent
START: dict[str, Any] = {"config": {}, "config_toml": "", "key": 3, "fingerprint": "print", "environment": {}}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.syspath_prepend(str(HERE))
    with create_study(tmp_path / "run", **START, patience=Patience(60.0)) as recorder, LocalPool(workers=2) as pool:
        yield Run(Config(), recorder, pool, Silent(), examples=10)


def train(run: Run, number: int, task: str, payload: Any, keep: Path) -> Flow:
    candidate = run.recorder.candidate(number)
    work = Task(f"trouble_tasks:{task}", {"out": str(keep), "payload": payload}, 60.0, task)
    yield from stages.perform(run, candidate, "short", work, keeps={"weights/short": keep})


def conduct(run: Run, flows: Iterator[Flow]) -> None:
    assert run_flows(run.pool, flows, out_of_time=lambda: False, on_change=lambda labels: run.recorder.renew())


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
@pytest.mark.parametrize("kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_workers_that_are_killed_change_nothing(run: Run, kills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "ATTEMPTS", kills + 1)  # chance may well hit one task three times, on a busy machine
    stop, chance, killed = threading.Event(), random.Random(6), [0]

    def killing() -> None:
        while not stop.wait(chance.uniform(0.2, 0.7)) and killed[0] < kills:
            workers = [one for one in psutil.Process().children() if "execution.worker" in " ".join(one.cmdline())]
            if workers:
                os.kill(chance.choice(workers).pid, signal.SIGKILL)
                killed[0] += 1

    killer = threading.Thread(target=killing)
    killer.start()
    count, number = 0, 0
    while killed[0] < kills and killer.is_alive():
        last = number + 8
        conduct(
            run, iter([train(run, one, "write_slowly", one, run.recorder.scratch(f"{one}.bin")) for one in range(number, last)])
        )
        number = last
    stop.set()
    killer.join()
    for one in run.recorder.study.candidates():
        (short,) = one.outcomes("short")
        assert short.values == {"number": one.id} and one.weights().read_bytes() == bytes([one.id % 256]) * 1000  # type: ignore[union-attr]
        count += 1
    assert count == number and not run.recorder.study.decisions("late_outcome")


def test_a_worker_that_finds_the_disk_full_is_asked_again(run: Run, tmp_path: Path) -> None:
    marker = tmp_path / "full"
    marker.touch()
    threading.Timer(1.0, marker.unlink).start()
    waits: list[float] = []

    def wait_until_writable(self: Recorder) -> None:
        waits.append(time.monotonic())
        while marker.exists():
            time.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recorder, "wait_until_writable", wait_until_writable)
        conduct(run, iter([train(run, 0, "full_while", [str(marker), errno.ENOSPC], run.recorder.scratch("0"))]))
    assert [one.values for one in run.recorder.study.candidate(0).outcomes("short")] == [{"number": 0}] and len(waits) == 1


def test_a_result_of_a_lease_that_was_taken_over_gives_way(run: Run) -> None:
    recorder = run.recorder
    candidate = recorder.candidate(0)
    flow = stages.perform(run, candidate, "short", Task("a:b", {}, 1.0, ""))
    assert isinstance(next(flow), Task)
    newer = recorder.lease(0, "short")
    assert newer is not None
    from alphanas.execution import Completed

    assert isinstance(flow.send(Completed({"accuracy": 0.1})), Task)  # it was refused, and asks again: the other lease is ours, too
    recorder.outcome(0, "short", values={"accuracy": 0.2})
    with pytest.raises(StopIteration) as ended:
        flow.send(Completed({"accuracy": 0.1}))
    assert ended.value.value.values == {"accuracy": 0.2}
