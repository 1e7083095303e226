"""`kill -9` of the writer at random instants: the store opens, all that was committed is there, and it goes on."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from alphanas.study import Study, open_study, resume_study

SCRIPT = Path(__file__).with_name("fill.py")


def live_and_die(folder: Path, seconds: float) -> list[str]:
    """What a writer said was committed before it was killed, that many seconds after it opened the study."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    writer = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    )
    assert writer.stdout is not None and writer.stderr is not None
    first = writer.stdout.readline()
    assert first == "open\n", writer.stderr.read()
    timer = threading.Timer(seconds, writer.kill)
    timer.start()
    lines = writer.stdout.read().split("\n")[:-1]
    writer.wait()
    writer.stdout.close()
    writer.stderr.close()
    return lines


def content(number: int) -> bytes:
    specification = importlib.util.spec_from_file_location("fill", SCRIPT)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return bytes(module.content(number))


def check(study: Study, said: set[str]) -> None:
    """All that was said is there once; what is there beyond it is whole."""
    candidates = study.candidates()
    assert [one.id for one in candidates] == list(range(len(candidates)))
    found = {f"candidate {one.id}" for one in candidates}
    pairs = [entry.payload["number"] for entry in study.decisions("pair")]
    assert pairs == sorted(set(pairs))
    for one in candidates:
        stages = [outcome.stage for outcome in one.outcomes()]
        assert len(stages) == len(set(stages))
        found |= {f"{stage} {one.id}" for stage in stages}
        assert one.graph_json() == f"graph {one.id}"
        assert (one.id in pairs) == ("full" in stages)
        assert (one.weights() is not None) == ("short" in stages)
    assert said <= found


def die_often(folder: Path, times: int, seed: int) -> None:
    chance = random.Random(seed)
    said: set[str] = set()
    for _ in range(times):
        said |= set(live_and_die(folder, chance.uniform(0.0, 0.15)))
        check(open_study(folder), said)
    with resume_study(folder) as recorder:
        check(recorder.study, said)
        kept = {artifact.path for one in recorder.study.candidates() for artifact in one.artifacts()}
        files = {path.relative_to(folder).as_posix() for path in (folder / "artifacts").rglob("*") if path.is_file()}
        assert files == kept
        last = recorder.study.candidates()[-1]
        if last.weights() is not None:
            assert last.weights().read_bytes() == content(last.id)  # type: ignore[union-attr]
    assert len(said) > 3 * times


def test_nothing_committed_is_lost(tmp_path: Path) -> None:
    die_often(tmp_path / "run", 4, seed=1)


@pytest.mark.slow
def test_nothing_committed_is_lost_in_two_hundred_deaths(tmp_path: Path) -> None:
    die_often(tmp_path / "run", 200, seed=2)


def test_death_while_the_study_is_being_made(tmp_path: Path) -> None:
    """The folder holds a study or it does not; in either case the next process goes on with it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    chance = random.Random(3)
    started = time.monotonic()
    live_and_die(tmp_path / "whole", 0.0)
    whole = time.monotonic() - started
    for number in range(2):
        folder = tmp_path / f"run{number}"
        writer = subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], stdout=subprocess.DEVNULL, env=environment)
        time.sleep(whole * chance.uniform(0.7, 1.1))
        writer.kill()
        writer.wait()
        live_and_die(folder, 0.05)
        check(open_study(folder), set())
