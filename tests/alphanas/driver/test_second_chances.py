"""Who left the race and is best after all is trained with the seeds it lacks; an interruption in the middle changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphanas.config import Config
from alphanas.driver import finish
from alphanas.driver.run import Run
from alphanas.execution import LocalPool
from alphanas.report.progress import Silent
from alphanas.study import create_study

START: dict[str, Any] = {"config": {}, "config_toml": "", "key": 3, "fingerprint": "print", "environment": {}}
PARAMS = {0: 10_000, 1: 8000, 2: 900}
TRUE = {0: (0.90, 0.90, 0.90), 1: (0.93, 0.80, 0.93), 2: (0.80, 0.80, 0.80)}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with create_study(tmp_path / "run", **START) as recorder, LocalPool(workers=1) as pool:
        run = Run(Config(), recorder, pool, Silent(), examples=10)
        for one, params in PARAMS.items():
            recorder.candidate(one)
            recorder.outcome(one, "cost", values={"params": params, "macs": 1, "peak_bytes": 1})
        recorder.decide("finalists", {"ids": [1, 2]})
        for one, seed in [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2), (1, 0)]:
            trained(run, one, seed)
        yield run


def trained(run: Run, one: int, seed: int) -> None:
    values = {"accuracy": [TRUE[one][seed]], "seconds": 1.0, "validation_pictures": 2000}
    run.recorder.outcome(one, "full", discriminator=str(seed), values=values)


def chances(run: Run, monkeypatch: pytest.MonkeyPatch, *, breaks_after: int = 9) -> None:
    """Trainings that say at once what is true, of which so many are done before the process dies."""
    left = [breaks_after]

    def at_once(run: Run, flows: Iterator[tuple[int, int]], *, reserve: float) -> bool:
        for one, seed in flows:
            if run.recorder.done(one, "full", seed):
                continue
            if not left[0]:
                return False
            left[0] -= 1
            trained(run, one, seed)
        return True

    monkeypatch.setattr(finish, "_run", at_once)
    monkeypatch.setattr(finish, "_full", lambda run, candidate, seed: (candidate.id, seed))
    study = run.recorder.study
    finish._second_chances(run, [study.candidate(1), study.candidate(2)])


def seeds(run: Run) -> list[str]:
    return sorted(one.discriminator for one in run.recorder.study.candidate(1).outcomes("full"))


def test_the_best_of_those_that_left_gets_the_seeds_that_it_lacks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    chances(run, monkeypatch)
    assert seeds(run) == ["0", "1", "2"]
    assert [one.payload["candidate"] for one in run.recorder.study.decisions("second_chance")] == [1]


def test_an_interrupted_second_chance_is_finished_though_half_of_it_would_say_no(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    chances(run, monkeypatch, breaks_after=1)
    assert seeds(run) == ["0", "1"]
    chances(run, monkeypatch)
    assert seeds(run) == ["0", "1", "2"]
    chances(run, monkeypatch)
    assert len(run.recorder.study.decisions("second_chance")) == 1


def test_without_time_nobody_gets_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.spent = run.config.time_limit
    chances(run, monkeypatch)
    assert seeds(run) == ["0"] and not run.recorder.study.decisions("second_chance")
