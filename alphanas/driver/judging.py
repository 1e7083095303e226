"""A candidate's way from cheap to costly: cost, one's own numbers, limits, zero-cost score, rungs, short training."""

from __future__ import annotations

from collections.abc import Generator

from alphanas.config import Config
from alphanas.driver import predict, stages
from alphanas.driver.cascade import Screens, scores_of, spared
from alphanas.driver.flows import Flow, Task, Wait
from alphanas.driver.run import Run
from alphanas.execution import Result
from alphanas.limits import MEASURED
from alphanas.scoring.reject import ScoreFilter
from alphanas.study import Candidate, Outcome, Study


def judge(run: Run, candidate: Candidate, screens: Screens) -> Flow:
    """Judges a candidate by the screens that its generation began with."""
    if run.recorder.done(candidate.id, "short") or predict.failed(run, candidate):
        return
    if not (yield from measured(run, candidate)) or _breaks_limits(run, candidate):
        return
    if screens.score is not None and not (yield from _scored(run, candidate, screens)):
        return
    parent = None if candidate.parent is None else run.recorder.study.candidate(candidate.parent)
    reached = 0
    for epochs, screen in screens.rungs.items():
        trained = yield from stages.rung(run, candidate, parent, epochs, after=reached)
        if not trained.ok:
            return
        reached = epochs
        low = screen.rejects(tuple(trained.values["accuracy"]), run.recorder.study.candidate(candidate.id).params or 0)
        if low and not spared(run.recorder.study, run.config, candidate.id, f"rung {epochs}"):
            _turn_away(run, candidate, f"low_rung {epochs}")
            return
    yield from stages.short(run, candidate, parent, after=reached, rivals=screens.rivals)


def cheaply_turned_away(run: Run, candidate: Candidate) -> bool:
    """Whether a candidate breaks limits by what its graph alone says, and so is turned away before anything is timed for it."""
    if run.recorder.done(candidate.id, "short"):
        return True
    stages.cost(run, candidate)
    return _breaks_limits(run, candidate)


def measured(run: Run, candidate: Candidate) -> Generator[Task | Wait, Result, bool]:
    """Reads the numbers that need no training, those that objectives and limits ask for; whether all of them are known."""
    stages.cost(run, candidate)
    for name in (name for name in run.config.judged_by if name not in MEASURED):
        found: Outcome = yield from stages.own(run, candidate, name)
        if not found.ok:
            return False
    return True


def _scored(run: Run, candidate: Candidate, screens: Screens) -> Generator[Task | Wait, Result, bool]:
    assert screens.score is not None
    found = yield from stages.score(run, candidate)
    if not found.ok:
        return False
    if turned_away_by_score(run.recorder.study, run.config, candidate, screens.score):
        _turn_away(run, candidate, "low_score")
        return False
    return True


def turned_away_by_score(study: Study, config: Config, candidate: Candidate, screen: ScoreFilter) -> bool:
    """Whether a scored candidate goes no further: its scores are low, or undefined, and chance does not spare it."""
    now = study.candidate(candidate.id)
    scores = scores_of(now)
    low = screen.rejects(scores, now.params or 0)
    return low and (scores is None or not spared(study, config, candidate.id, "score"))


def _breaks_limits(run: Run, candidate: Candidate) -> bool:
    """Turns away what breaks a limit, unless its parent breaks them more: a seed beyond the limits has to get there in steps."""
    study = run.recorder.study
    now = study.candidate(candidate.id)
    parent = 0.0 if now.parent is None else study.candidate(now.parent).excess
    if now.excess == 0 or now.excess < parent:
        return False
    said = [f"{limit}, and it has {now.objective(limit.name):,.6g}" for limit in study.breaks(now)]
    _turn_away(run, candidate, "constraint", "; ".join(said))
    return True


def _turn_away(run: Run, candidate: Candidate, cause: str, message: str | None = None) -> None:
    run.recorder.outcome(candidate.id, "short", "rejected", cause=cause, message=message)
