"""The search: generations of proposals, each made from the archive of the finished ones, each candidate judged from cheap to costly."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from alphanas.driver import stages
from alphanas.driver.flows import Flow, run_flows
from alphanas.driver.run import SEED, Run
from alphanas.study import Candidate

if TYPE_CHECKING:
    from alphanas.search.archive import Archive
    from synth.graph import Graph, Variables

EMPTY_GENERATIONS = 3
"""After so many generations in a row without a new candidate, the space around the archive counts as exhausted."""


def search_generations(run: Run, seed: Graph, variables: Variables | None) -> None:
    """Searches until only the finish's share of the time is left, or enough candidates were trained, or nothing new is found."""
    run.stage = "training the seed model"
    run.tell()
    _record_seed(run, seed, variables)
    if not run_flows(run.pool, iter([_judge_seed(run)]), out_of_time=lambda: run.time_left < 0, on_change=run.tell):
        return
    run.stage = "searching"
    while not run.searching_is_over() and not _enough(run) and not _exhausted(run):
        finished = run.recorder.study.decisions("generation")
        number = len(finished) + 1
        first = 1 + max((candidate for decision in finished for candidate in decision.payload["ids"]), default=SEED)
        run.generation = number
        archive = _archive(run, before=first)
        flows = _proposals(run, archive, number, first)
        if run_flows(run.pool, flows, out_of_time=run.searching_is_over, on_change=run.tell):
            ids = [candidate.id for candidate in run.recorder.study.candidates() if candidate.generation == number]
            run.recorder.decide("generation", {"number": number, "ids": ids or [first]})
            run.recorder.decide("elapsed", {"seconds": run.elapsed})


def _record_seed(run: Run, seed: Graph, variables: Variables | None) -> None:
    if any(candidate.id == SEED for candidate in run.recorder.study.candidates()):
        return
    artifacts = {}
    if variables is not None:
        from alphanas.models import weights as files

        path = run.recorder.scratch("seed.safetensors")
        files.save(variables, path)
        artifacts = {"weights/initial": path}
    run.recorder.candidate(SEED, graph_json=seed.to_json(), graph_hash=seed.hash, artifacts=artifacts)


def _judge_seed(run: Run) -> Flow:
    seed = run.recorder.study.seed()
    stages.cost(run, seed)
    yield from stages.short(run, seed, seed if seed.weights() is not None else None)


def _enough(run: Run) -> bool:
    limit = run.config.search.max_candidates
    judged = [candidate for candidate in run.recorder.study.candidates() if candidate.id != SEED and candidate.status == "ok"]
    return 0 < limit <= len(judged)


def _exhausted(run: Run) -> bool:
    last = run.recorder.study.decisions("generation")[-EMPTY_GENERATIONS:]
    if len(last) < EMPTY_GENERATIONS:
        return False
    alive = {candidate.id for candidate in run.recorder.study.candidates() if candidate.status == "ok"}
    return all(alive.isdisjoint(decision.payload["ids"]) for decision in last)
