"""The stage that predicts latency: the sum of what is on record of a candidate's kernels. Only what no record knows is timed.

A generation's candidates are predicted before any of them is trained, so that kernels are timed while the workers rest.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from alphanas.config import Config
from alphanas.driver.flows import Flow, Task, run_flows
from alphanas.driver.run import SEED, Run
from alphanas.errors import FAILED, UserError
from alphanas.execution import Failed, LocalPool, Result
from alphanas.hardware import devices, records
from alphanas.hardware.filling import PREDICT
from alphanas.hardware.predicting import Predictor
from alphanas.hardware.program import NotLowerable
from alphanas.study import Candidate

STAGE = "predict"


def wanted(config: Config) -> bool:
    """Whether candidates are compared by their latency, or limited in it."""
    return "latency" in config.judged_by


def records_path(run: Run) -> Path:
    """The file of records that a study reads and fills: the configuration's, the cache folder's, or with no cache its own."""
    named = run.config.hardware.records
    return Path(named).expanduser().absolute() if named else records.default_path() or run.recorder.scratch("records.sqlite")


def check_records(config: Config) -> None:
    """Raises UserError where the file that the configuration names cannot be one of records; what is only damaged is mended."""
    path = Path(config.hardware.records).expanduser().absolute()
    if config.hardware.records and path.exists():
        records.Records.open(path).close()


def predict(run: Run, candidates: Sequence[Candidate]) -> bool:
    """Records a prediction of each candidate that has a graph and no prediction; False if time was up before."""
    if not wanted(run.config):
        return True
    alive = [candidate for candidate in candidates if candidate.status == "ok"]
    left = [candidate for candidate in alive if not run.recorder.done(candidate.id, STAGE)]
    left = [candidate for candidate in left if not _from_records(run, candidate)]
    if not left:
        return True
    before, run.stage = run.stage, "timing kernels"
    with LocalPool(1, threads=run.config.hardware.threads, env=devices.environment(devices.CPU)) as alone:
        flows = iter([_timed(run, candidate) for candidate in left])
        done = run_flows(alone, flows, out_of_time=run.searching_is_over, on_change=run.tell)
    run.stage = before
    return done


def predict_seed(run: Run) -> None:
    """`predict` for the seed model; without its latency there is nothing to compare with."""
    predict(run, [run.recorder.study.seed()])
    outcome = run.recorder.find(SEED, STAGE)
    if outcome is None or outcome.ok:
        return
    run.recorder.finish("failed")
    saw = f"its latency could not be predicted: {outcome.cause}, {(outcome.message or 'no message').splitlines()[0]}"
    remedy = (
        "raise hardware.tune_limit" if outcome.cause == "untuned" else "take latency out of search.objectives, or mend that first"
    )
    raise UserError(f"model {run.config.model}", saw=saw, remedy=remedy, exit_code=FAILED, cause="seed_failed")


def failed(run: Run, candidate: Candidate) -> bool:
    """Whether a candidate has no latency to be compared by."""
    outcome = run.recorder.find(candidate.id, STAGE)
    return outcome is not None and not outcome.ok


def _from_records(run: Run, candidate: Candidate) -> bool:
    """Predicts without timing anything, if all kernels are on record; whether that, or a refusal, is recorded now."""
    if run.predictor is None:
        return False
    started = time.time()
    try:
        found = run.predictor(candidate.graph())
    except NotLowerable as error:
        run.recorder.outcome(candidate.id, STAGE, "failed", cause="not_lowerable", message=str(error), started=started)
        return True
    if found.seconds is None:
        return False
    hardware, device = run.config.hardware, asdict(run.predictor.device)
    values = {"latency_ms": 1e3 * found.seconds, "how": "records", "known": found.known, "tuned": 0, "unknown": 0}
    values |= {"kernels": found.calls, "batch": hardware.batch, "threads": hardware.threads, "device": device}
    run.recorder.outcome(candidate.id, STAGE, values=values, started=started, ended=time.time())
    return True


def _timed(run: Run, candidate: Candidate) -> Flow:
    """Times the unknown kernels in a worker, unless an earlier candidate's worker has met them all."""
    if _from_records(run, candidate):
        return
    yield from _outcome(run, candidate)


def _outcome(run: Run, candidate: Candidate) -> Generator[Task, Result, None]:
    hardware, path = run.config.hardware, records_path(run)
    payload: dict[str, Any] = {
        "models": {f"#{candidate.id}": candidate.graph_json()},
        "batch": hardware.batch,
        "threads": hardware.threads,
        "records": str(path),
        "within_s": hardware.tune_limit,
    }
    started = time.time()
    result = yield Task(PREDICT, payload, 2 * hardware.tune_limit + 60, f"time kernels of #{candidate.id}")
    record = partial(run.recorder.outcome, candidate.id, STAGE, started=started, ended=time.time())
    if isinstance(result, Failed):
        record(status="failed", cause=result.cause, message=result.message)
        return
    values = dict(result.value)
    for note in values.pop("notes"):
        run.progress.note(note)
    if run.predictor is None:
        device = records.Device(**values["device"])
        run.predictor = Predictor(records.Records.open(path), device, hardware.batch)
    if values["latency_ms"] is None:
        saw = f"{values['unknown']} kernels were not reached within hardware.tune_limit = {hardware.tune_limit:g} s"
        record(status="failed", cause="untuned", message=saw, values=values)
        return
    record(values=values)
