"""The finish: full training of the seed and the finalists, the choice, the test part, latency, exports, summary, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from alphanas.driver import cascade, stages
from alphanas.driver.budget import affordable, in_round, race_cost
from alphanas.driver.choice import Point, answers, choose_best, choose_finalists, point, still_racing
from alphanas.driver.flows import Flow, run_flows
from alphanas.driver.run import SEED, Run
from alphanas.errors import UserError
from alphanas.execution import LocalPool
from alphanas.execution.limits import memory_share
from alphanas.hardware.devices import environment as device_environment
from alphanas.study import MENDABLE, Candidate, Study, write_atomic

MEASURE_SHARE, MEASURE_S = 0.15, 60.0
"""Share of the time limit that full training leaves for measuring latency, and the seconds that are enough."""
SPENT_SHARE = 0.9
"""Share of the workers' time that trainings are planned to fill: they do not all end at once."""
COMPILE_S = 3.0
"""Seconds that a training is taken to need beside its epochs."""
EXPORT_SHARE, EXPORT_S = 0.03, 15.0
"""Share of the time limit that everything before leaves for exports and the report, and the seconds that are enough."""


def finish(run: Run) -> None:
    """Everything after the search; what was done before an interruption is not done again."""
    chosen = _finalists(run)
    run.stage = "training the seed and the finalists"
    everyone = [run.recorder.study.seed(), *chosen]
    _race(run, chosen)
    _second_chances(run, chosen)
    best = _decide(run, chosen)
    run.stage = "testing"
    trained = [candidate for candidate in everyone if candidate.outcomes("full")]
    _run(run, iter([_tests(run, candidate) for candidate in trained]))
    run.stage = "measuring latency"
    # A measurement has the machine to itself, and the threads that the configuration says.
    run.pool.close()
    with LocalPool(
        workers=1,
        threads=run.config.hardware.threads,
        env=device_environment(run.config.hardware.target),
        memory_limit=run.config.execution.memory * 2**20 or memory_share(),
        on_note=lambda note: run.progress.note(note.text) if note.text else None,
    ) as alone:
        _run(replace(run, pool=alone), iter([_measure(run, trained, best)]))
    run.stage = "writing the report"
    run.tell()
    run.recorder.patiently(lambda: write_best(run, best))
    for passing in ("compilations", "lessons"):
        shutil.rmtree(run.recorder.scratch(passing), ignore_errors=True)
    cascade.tell(run)
    run.recorder.finish("done")
    run.recorder.patiently(lambda: write_reports(run))


def write_best(run: Run, best: Candidate) -> None:
    """The folder `best/`: readable source, weights and graph, each checked against the graph before it counts as written.

    A form that cannot hold the model (source of a node that was not understood) is left out, with the reason on record.
    """
    from alphanas.export import export
    from alphanas.models import weights as files

    weights = best.weights()
    if weights is None:
        return
    graph = best.graph()
    variables = files.load(weights, graph)
    folder = run.recorder.folder / "best"
    for form in ("flax", "graph"):
        try:
            export(graph, variables, form, folder)
        except UserError as error:
            if error.cause in MENDABLE:
                raise
            run.recorder.decide("not_exported", {"candidate": best.id, "format": form, "why": str(error)})
            run.progress.note(f"best/ is without its {form} form: {error}")
    if best.artifact("model.py") is None and (folder / "model.py").is_file():
        run.recorder.artifact(best.id, "model.py", (folder / "model.py").read_bytes())


def write_reports(run: Run) -> None:
    """summary.json and report.html of what is known now."""
    from alphanas.report import write_report

    study, folder = run.recorder.study, run.recorder.folder
    write_atomic(folder / "summary.json", json.dumps(study.summary(), indent=2) + "\n")
    write_report(study, folder / "report.html")


def _finalists(run: Run) -> list[Candidate]:
    """The finalists, as decided before if nothing was searched since: as many as the race has time for, by `budget.race_cost`."""
    study = run.recorder.study
    decided = _decided(study, "finalists", since="generation")
    if decided is not None:
        return [study.candidate(number) for number in decided["ids"]]
    seed = point(study.seed())
    if seed is None:
        return []
    allowed = [candidate for candidate in study.candidates() if candidate.id != SEED and candidate.excess == 0]
    trained = [found for candidate in allowed if (found := point(candidate)) is not None]
    slack = _slack(run, seed)
    seconds, ids = _seconds(run), list[int]()
    for count in range(run.config.finish.finalists, 0, -1):
        ids = choose_finalists(seed, trained, count=count, slack=slack)
        bar, *times = (_training_time(run, study.candidate(number)) for number in (SEED, *ids))
        if race_cost(bar, times, run.config.finish.seeds) <= seconds:
            break
    run.recorder.decide("finalists", {"ids": ids, "slack": slack})
    return [study.candidate(number) for number in ids]


def _race(run: Run, chosen: Sequence[Candidate]) -> None:
    """Trains the seed and the finalists seed by seed; who is clearly no answer drops out, those that are close get more seeds.

    Before each seed that the configuration asks for it is looked, once and for all, for whom there is time.
    """
    finish, seed = run.config.finish, run.recorder.study.seed()
    racing = list(chosen)
    for number in range(finish.seeds + finish.extra_seeds):
        if number >= finish.seeds and (len(racing) < 2 or not _time_for(run, [seed, *racing])):
            return
        costs = {one.id: _training_time(run, one) for one in racing}
        trainings = in_round(number, SEED, costs, asked=finish.seeds)
        flows = [_full(run, run.recorder.study.candidate(one), which) for one, which in trainings]
        if not _run(run, iter(flows), reserve=_reserve(run)):
            return
        racing = still_racing(seed, racing, finish, seeds=number + 1)
        if number + 1 < finish.seeds:
            racing = _with_time(run, racing, seeds=number + 1)


def _with_time(run: Run, racing: Sequence[Candidate], *, seeds: int) -> list[Candidate]:
    """Those of the race that there is time for after so many seeds, as decided before if the finalists are the same."""
    study, finish = run.recorder.study, run.config.finish
    since = study.decisions("finalists")[-1].sequence
    told = [one.payload for one in study.decisions("race") if one.sequence > since and one.payload["seeds"] == seeds]
    if not told and len(racing) > 1:
        costs = {one.id: _training_time(run, one) for one in racing}
        chances = answers(study.seed(), racing, finish, seeds=seeds)
        # The seed model was trained with all of its seeds in the first round.
        ids = affordable(chances, costs, seed=0.0, rounds=finish.seeds - seeds, seconds=_seconds(run))
        told = [{"seeds": seeds, "racing": [one.id for one in racing], "ids": ids}]
        run.recorder.decide("race", told[0])
    return [one for one in racing if not told or one.id in told[-1]["ids"]]


def _seconds(run: Run) -> float:
    """Seconds of all workers together that are left for full trainings."""
    return SPENT_SHARE * (run.time_left - _reserve(run)) * run.config.workers


def _second_chances(run: Run, chosen: Sequence[Candidate]) -> None:
    """Where all that stayed in the race failed, who is best of those that left it is trained with the seeds it lacks, in time.

    Each is decided once and for all, before it is trained: half of its seeds, after an interruption, would decide otherwise.
    """
    study, seeds = run.recorder.study, range(run.config.finish.seeds)
    for _ in chosen:
        since = study.decisions("finalists")[-1].sequence
        told = [one.payload["candidate"] for one in study.decisions("second_chance") if one.sequence > since]
        best = study.candidate(told[-1] if told else SEED)
        if all(run.recorder.done(best.id, "full", number) for number in seeds):
            best = study.candidate(choose_best(study.seed(), chosen, run.config.finish)["candidate"])
            lacking = [number for number in seeds if not run.recorder.done(best.id, "full", number)]
            if best.id == SEED or not lacking or not _time_for(run, [best] * len(lacking)):
                return
            run.recorder.decide("second_chance", {"candidate": best.id})
        if best.id == SEED or not _run(run, iter([_full(run, best, number) for number in seeds]), reserve=_reserve(run)):
            return


def _time_for(run: Run, models: Sequence[Candidate]) -> bool:
    """Whether all of them can be trained once more in the time that is left for it."""
    return sum(_training_time(run, one) for one in models) <= _seconds(run)


def _decided(study: Study, kind: str, *, since: str) -> Mapping[str, Any] | None:
    """The last decision of a kind, if it is later than all those of the kind `since`."""
    last, other = study.decisions(kind), study.decisions(since)
    if not last or (other and other[-1].sequence > last[-1].sequence):
        return None
    return last[-1].payload


def _training_time(run: Run, candidate: Candidate) -> float:
    """Seconds that one full training of a candidate is going to take: what the longest took, or by the epochs of its short one.

    0 if neither is known.
    """
    took = [outcome.values["seconds"] for outcome in candidate.outcomes("full") if outcome.ok]
    if took:
        return float(max(took))
    per_epoch = candidate.values("short").get("seconds_per_epoch")
    return per_epoch * run.config.training.epochs + COMPILE_S if per_epoch else 0.0


def _slack(run: Run, seed: Point) -> float:
    """What a short training's error may exceed the seed's by: the tolerance, or one standard error of the validation part."""
    error = max(seed.error, 1.0 / run.examples)
    return max(run.config.finish.tolerance, (error * (1 - error) / run.examples) ** 0.5)


def _decide(run: Run, chosen: Sequence[Candidate]) -> Candidate:
    """The best, decided and on record."""
    payload = choose_best(run.recorder.study.seed(), chosen, run.config.finish)
    before = run.recorder.study.decisions("best")
    if not before or dict(before[-1].payload) != payload:
        run.recorder.decide("best", payload)
    return run.recorder.study.candidate(payload["candidate"])


def _run(run: Run, flows: Iterator[Flow], *, reserve: float | None = None) -> bool:
    """Whether all of it was done."""
    reserve = _export_time(run) if reserve is None else reserve
    return run_flows(run.pool, flows, out_of_time=lambda: run.time_left < reserve, on_change=run.tell)


def _reserve(run: Run) -> float:
    return _export_time(run) + _measure_time(run)


def _export_time(run: Run) -> float:
    return min(EXPORT_SHARE * run.config.time_limit, EXPORT_S)


def _measure_time(run: Run) -> float:
    """Seconds for measuring on all back ends."""
    hardware = run.config.hardware
    backends, reports = len(hardware.backends), hardware.report_s * (run.config.finish.finalists + 1)
    return min(MEASURE_SHARE * run.config.time_limit, MEASURE_S * backends) + reports * backends if backends else 0.0


def _full(run: Run, candidate: Candidate, seed: int) -> Flow:
    yield from stages.full(run, candidate, seed)


def _tests(run: Run, candidate: Candidate) -> Flow:
    for outcome in candidate.outcomes("full"):
        if outcome.ok:
            yield from stages.test(run, candidate, int(outcome.discriminator))


def _measure(run: Run, candidates: Sequence[Candidate], best: Candidate) -> Flow:
    """The seed and the best one first, should time be short; one at a time: two at once would measure each other."""
    share = 0.5 / max(1, len(candidates) * len(run.config.hardware.backends))
    first = [candidate for candidate in candidates if candidate.id in (SEED, best.id)]
    others = [candidate for candidate in candidates if candidate not in first]
    for group in (first, others):
        for backend in run.config.hardware.backends:
            yield from stages.measure(run, group, backend, knob_seconds=share * _measure_time(run), company=first)
