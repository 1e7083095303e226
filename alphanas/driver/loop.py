"""The search: generations of proposals, made from the archive of the finished ones and judged from cheap to costly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from alphanas.driver import predict, stages
from alphanas.driver.flows import Flow, run_flows
from alphanas.driver.run import SEED, Run
from alphanas.errors import FAILED, UserError
from alphanas.models import weights
from alphanas.models.lifting import Lifted
from alphanas.scoring.reject import ScoreFilter
from alphanas.search import strategies
from alphanas.search.archive import Archive
from alphanas.search.proposal import Failure, New, Proposal
from alphanas.study import STATUSES, Candidate

EMPTY_GENERATIONS = 3
"""After so many generations in a row without a new candidate, the space around the archive counts as exhausted."""


def search_generations(run: Run, seed: Lifted | None) -> None:
    """Searches until only the finish's share of the time is left, or enough candidates were trained, or nothing new is found.

    `seed` is None when the study has its seed model already.
    """
    run.stage = "training the seed model"
    run.tell()
    if seed is not None:
        _record_seed(run, seed)
    predict.predict_seed(run)
    if not run_flows(run.pool, iter([_judge_seed(run)]), out_of_time=lambda: run.time_left < 0, on_change=run.tell):
        return
    _require_trained(run)
    run.stage = "searching"
    while not run.searching_is_over() and (_begun(run) or not (_enough(run) or _exhausted(run))):
        number = len(run.recorder.study.decisions("generation")) + 1
        first = _first(run)
        run.generation = number
        archive = run.learned.archive(run.recorder.study, before=first)
        flows = _proposals(run, archive, number, first)
        if predict.wanted(run.config):
            flows = iter(list(flows))
            if not predict.predict(run, run.recorder.study.since(first)):
                continue
        if run_flows(run.pool, flows, out_of_time=run.searching_is_over, on_change=run.tell):
            ids = [candidate.id for candidate in run.recorder.study.since(first)]
            run.recorder.decide("generation", {"number": number, "ids": ids or [first]}, once=f"generation {number}")
            run.recorder.decide("elapsed", {"seconds": run.elapsed})


def _record_seed(run: Run, seed: Lifted) -> None:
    artifacts = {}
    if seed.variables is not None:
        path = run.recorder.scratch("seed.safetensors")
        weights.save(seed.variables, path)
        artifacts = {"weights/initial": path}
    origin = {"kind": "seed", "model": run.config.model, "ops": seed.report.ops, "opaque": seed.report.opaque}
    run.recorder.candidate(SEED, graph_json=seed.graph.to_json(), graph_hash=seed.graph.hash, proposal=origin, artifacts=artifacts)


def _require_trained(run: Run) -> None:
    """A seed model that does not train leaves nothing to compare with."""
    outcome = run.recorder.find(SEED, "short")
    if outcome is None or outcome.ok:
        return
    run.recorder.finish("failed")
    saw = f"its short training failed: {outcome.cause}" + (f", {outcome.message.splitlines()[0]}" if outcome.message else "")
    remedy = "try a smaller training.learning_rate, or another model" if outcome.cause == "diverged" else "mend that first"
    raise UserError(f"model {run.config.model}", saw=saw, remedy=remedy, exit_code=FAILED, cause="seed_failed")


def _judge_seed(run: Run) -> Flow:
    seed = run.recorder.study.seed()
    stages.cost(run, seed)
    yield from stages.short(run, seed, seed if seed.weights() is not None else None)


def _begun(run: Run) -> bool:
    """Whether an interruption left a generation half judged: it is finished first, however many candidates there are."""
    return bool(run.recorder.study.since(_first(run)))


def _first(run: Run) -> int:
    """The first id after the finished generations."""
    last = run.recorder.study.decisions("generation")[-1:]
    return 1 + max((candidate for decision in last for candidate in decision.payload["ids"]), default=SEED)


def _enough(run: Run) -> bool:
    limit = run.config.search.max_candidates
    return 0 < limit <= run.standing.follow(run.recorder.study).counts["ok"] - 1  # the seed is none of them


def _exhausted(run: Run) -> bool:
    last = run.recorder.study.decisions("generation")[-EMPTY_GENERATIONS:]
    if len(last) < EMPTY_GENERATIONS:
        return False
    return not any(candidate.status == "ok" for candidate in run.recorder.study.since(min(last[0].payload["ids"])))


def _proposals(run: Run, archive: Archive, generation: int, first: int) -> Iterator[Flow]:
    """The flows of a generation's candidates; an id whose proposal is recorded is not proposed again."""
    strategy = strategies.build(run.config)
    screen = _screen(run, before=first)
    recorded = {candidate.id: candidate for candidate in run.recorder.study.since(first)}
    made, wanted = 0, run.config.search.generation
    for number in range(first, first + wanted * run.config.search.attempts):
        if made == wanted:
            return
        candidate = recorded.get(number)
        if candidate is None:
            rng = np.random.default_rng([run.recorder.study.key, number])
            candidate = _record(run, number, generation, strategy.propose(archive, rng))
        if candidate.graph_hash is not None:
            archive = archive.knowing([run.learned.proposed(candidate)])
        if candidate.status == "ok":
            made += 1
            yield _judge(run, candidate, screen)


def _screen(run: Run, *, before: int) -> ScoreFilter:
    """The score filter, of what the finished generations scored."""
    return ScoreFilter(run.learned.scores(run.recorder.study, before=before), run.config.scoring.reject)


def _record(run: Run, number: int, generation: int, proposal: Proposal) -> Candidate:
    record = partial(
        run.recorder.candidate,
        number,
        parent=proposal.parent,
        generation=generation,
        proposal=proposal.to_json(),
        method=proposal.method or None,
        seconds=proposal.seconds,
    )
    match proposal.answer:
        case New(graph):
            return record(graph_json=graph.to_json(), graph_hash=graph.hash)
        case Failure(cause, message):
            return record(status=cause if cause in STATUSES else "rejected", cause=cause, message=message)


def _judge(run: Run, candidate: Candidate, screen: ScoreFilter) -> Flow:
    """From cheap to costly: cost, zero-cost score, short training; each may end it."""
    if run.recorder.done(candidate.id, "short") or predict.failed(run, candidate):
        return
    costs = stages.cost(run, candidate)
    if run.config.scoring.proxy != "none":
        scored = yield from stages.score(run, candidate)
        if not scored.ok:
            return
        if screen.rejects(scored.values.get("score"), costs.values["params"]):
            run.recorder.outcome(candidate.id, "short", "rejected", cause="low_score")
            return
    parent = None if candidate.parent is None else run.recorder.study.candidate(candidate.parent)
    yield from stages.short(run, candidate, parent)
