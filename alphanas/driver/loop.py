"""The search: generations of proposals, made from the archive of the finished ones and judged from cheap to costly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from alphanas.driver import cascade, predict, stages
from alphanas.driver.flows import Flow, run_flows
from alphanas.driver.judging import cheaply_turned_away, judge, measured
from alphanas.driver.run import SEED, Run
from alphanas.errors import FAILED, UserError
from alphanas.models import weights
from alphanas.models.lifting import Lifted
from alphanas.search import strategies
from alphanas.search.archive import ERROR, Archive
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
        cascade.switch_off(run, generation=number, before=first)
        archive = run.learned.archive(run.recorder.study, before=first)
        flows = _proposals(run, archive, number, first)
        if predict.wanted(run.config):
            flows = iter(list(flows))
            made = [candidate for candidate in run.recorder.study.since(first) if candidate.status == "ok"]
            if not predict.predict(run, [candidate for candidate in made if not cheaply_turned_away(run, candidate)]):
                continue
        if run_flows(run.pool, flows, out_of_time=run.searching_is_over, on_change=run.tell):
            ids = [candidate.id for candidate in run.recorder.study.since(first)] or [first]
            volume = run.learned.archive(run.recorder.study, before=1 + max(ids)).hypervolume
            told = {"number": number, "ids": ids, "hypervolume": volume}
            run.recorder.decide("generation", told, once=f"generation {number}")
            cascade.tell(run)
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
    """A seed model that does not train, or that one's own function knows no number of, leaves nothing to compare with."""
    for outcome in run.recorder.study.seed().outcomes("objective"):
        if not outcome.ok:
            run.recorder.finish("failed")
            saw = f"it failed on the seed model: {(outcome.message or outcome.cause or '').splitlines()[0]}"
            wanted = "" if "; wanted " in saw else "a finite number for a synth.Graph"
            raise UserError(
                f"objective {outcome.discriminator}", saw=saw, wanted=wanted, exit_code=FAILED, cause="objective_failed"
            )
    trained = run.recorder.find(SEED, "short")
    if trained is None or trained.ok:
        return
    run.recorder.finish("failed")
    saw = f"its short training failed: {trained.cause}" + (f", {trained.message.splitlines()[0]}" if trained.message else "")
    remedy = "try a smaller training.learning_rate, or another model" if trained.cause == "diverged" else "mend that first"
    raise UserError(f"model {run.config.model}", saw=saw, remedy=remedy, exit_code=FAILED, cause="seed_failed")


def _judge_seed(run: Run) -> Flow:
    seed = run.recorder.study.seed()
    if (yield from measured(run, seed)):
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
    screens = run.cascade.screens(run.recorder.study, before=first, generation=generation)
    screens = replace(screens, rivals=partial(_least_error, archive))
    recorded = {candidate.id: candidate for candidate in run.recorder.study.since(first)}
    made, wanted = 0, run.config.search.generation
    for number in range(first, first + wanted * run.config.search.attempts):
        if made == wanted:
            return
        candidate = recorded.get(number)
        if candidate is None:
            rng = np.random.default_rng([run.recorder.study.key, number])
            candidate = _record(run, number, generation, strategy.propose(archive, rng))
            _tell_if_late(run, candidate)
        if candidate.graph_hash is not None:
            archive = archive.knowing([run.learned.proposed(candidate)])
        if candidate.status == "ok":
            made += 1
            yield judge(run, candidate, screens)


def _least_error(archive: Archive, candidate: Candidate) -> float | None:
    """The least error of a member that is no worse than a candidate in all other objectives; None if there is none."""
    others = {name: candidate.objective(name) for name in archive.objectives if name != ERROR}
    return archive.least_error({name: value for name, value in others.items() if value is not None})


def _tell_if_late(run: Run, candidate: Candidate) -> None:
    """Puts on record that a proposal may hang on the clock: on another machine it may be another one."""
    limit = run.config.synthesis.time_limit
    if candidate.seconds is None or candidate.seconds < limit:
        return
    run.recorder.decide("late_proposal", {"candidate": candidate.id, "seconds": candidate.seconds})
    run.progress.note(f"the proposal of candidate {candidate.id} took longer than synthesis.time_limit = {limit:g} s")


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
