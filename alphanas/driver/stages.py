"""The stages that a candidate goes through, from cheap to costly. What is recorded already is never done again."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from alphanas.driver.flows import Flow, Task, Wait
from alphanas.driver.predict import records_path
from alphanas.driver.run import SEED, Run
from alphanas.execution import Failed, Result
from alphanas.study import MENDABLE, Candidate, Lease, Outcome, Superseded

Stage = Generator[Task | Wait, Result, Outcome]

LOOK_AGAIN_S = 1.0
"""After this time it is looked whether another process has come to its result, or died."""
ATTEMPTS = 3
"""So often a task is done whose worker is killed, or that finds the disk full."""

LONGEST_REPORT = 3.5
"""What a measurement with every run timed may take, of the seconds asked for: a slow model takes up to three times as long."""
TAUGHT_BY = "weights/short"
"""The seed model's weights that students learn from: those that the search began with."""


def perform(
    run: Run,
    candidate: Candidate,
    stage: str,
    task: Task,
    *,
    discriminator: str = "",
    keeps: Mapping[str, Path] | None = None,
    raised: str = "error",
) -> Stage:
    """The outcome of a stage: the recorded one, or that of the task, recorded together with the files that it leaves.

    `raised` is the cause of a failure that a task raised.

    A stage that another process works on is that one's, until its lease ends; a result that comes after that is not recorded.
    """
    while (known := run.recorder.find(candidate.id, stage, discriminator)) is None:
        lease = run.recorder.lease(candidate.id, stage, discriminator)
        if lease is None:
            yield Wait(LOOK_AGAIN_S)
            continue
        try:
            return (yield from _performed(run, lease, task, keeps or {}, raised))
        except Superseded:
            continue
    return known


def _performed(run: Run, lease: Lease, task: Task, keeps: Mapping[str, Path], raised: str) -> Stage:
    """The outcome of a task, under a lease. It is done again after what was not its doing: a full or read-only disk, when that is
    mended, and a worker that was killed from outside."""
    for attempt in range(ATTEMPTS):
        started = time.time()
        result = yield task
        killed = isinstance(result, Failed) and result.cause == "crashed" and "SIGKILL" in result.message
        unlucky = isinstance(result, Failed) and result.cause in MENDABLE
        if not (killed or unlucky) or attempt == ATTEMPTS - 1:
            break
        if unlucky:
            run.recorder.wait_until_writable()
    record = partial(
        run.recorder.outcome,
        lease.candidate,
        lease.stage,
        discriminator=lease.discriminator,
        started=started,
        ended=time.time(),
        lease=lease,
    )
    if isinstance(result, Failed):
        return record(status="failed", cause=raised if result.cause == "error" else result.cause, message=_told(result))
    values = dict(result.value)
    if values.get("diverged"):
        return record(status="failed", cause="diverged", values=values)
    if values.get("hopeless"):
        return record(status="rejected", cause="low_curve", values=values)
    return record(values=values, artifacts={kind: path for kind, path in keeps.items() if path.exists()})


def cost(run: Run, candidate: Candidate) -> Outcome:
    """Parameters, MACs and the largest live activations, read from the graph."""
    from alphanas.scoring.cost import cost as cost_of

    known = run.recorder.find(candidate.id, "cost")
    return known or run.recorder.outcome(candidate.id, "cost", values=asdict(cost_of(candidate.graph())))


def score(run: Run, candidate: Candidate) -> Stage:
    """The zero-cost score on one minibatch, before any training."""
    scoring = run.config.scoring
    payload = {
        "graph": candidate.graph_json(),
        "data": run.data_payload(),
        "kind": scoring.proxy,
        "batch": scoring.batch,
        "seed": run.recorder.study.key,
        "compilations": str(run.recorder.scratch("compilations")),
    }
    task = Task("alphanas.scoring.tasks:score", payload, run.config.training.stall_limit, f"score #{candidate.id}")
    return (yield from perform(run, candidate, "score", task))


def own(run: Run, candidate: Candidate, name: str) -> Stage:
    """The number that one's own function gives of the graph; a failure if it raises, or returns no finite number."""
    payload = {"graph": candidate.graph_json(), "function": name}
    label = f"{name.rpartition(':')[2]} of #{candidate.id}"
    task = Task("alphanas.scoring.tasks:objective", payload, run.config.training.stall_limit, label)
    return (yield from perform(run, candidate, "objective", task, discriminator=name, raised="objective_failed"))


def rung(run: Run, candidate: Candidate, parent: Candidate | None, epochs: int, *, after: int) -> Stage:
    """The short training as far as `epochs`, from the rung `after` so many or, after none, from the parent's weights."""
    inherit, origin = _begin(run, candidate, parent, after)
    key, named = run.recorder.study.key, str(epochs)
    return (yield from _train(run, candidate, "rung", epochs - after, key, discriminator=named, inherit=inherit, parent=origin))


def short(
    run: Run,
    candidate: Candidate,
    parent: Candidate | None,
    *,
    after: int = 0,
    rivals: Callable[[Candidate], float | None] | None = None,
) -> Stage:
    """A short training that starts from the parent's weights, evaluated on the validation part; the seed's may be longer.

    After a rung it goes on from there, for the epochs that are left. `rivals` tells the error that a candidate has to come near to:
    where the recipe watches learning curves, one that will not is stopped.
    """
    training = run.config.training
    epochs = (training.seed_epochs if candidate.id == SEED else 0) or training.short_epochs
    inherit, origin = _begin(run, candidate, parent, after)
    key, curve = run.recorder.study.key, _curve(run, candidate, rivals)
    return (yield from _train(run, candidate, "short", epochs - after, key, inherit=inherit, parent=origin, curve=curve))


def _curve(run: Run, candidate: Candidate, rivals: Callable[[Candidate], float | None] | None) -> dict[str, Any] | None:
    """What the learning curve is watched for: the seed's is kept, others are held against it."""
    margin = run.config.training.early_stop
    if not margin:
        return None
    study = run.recorder.study
    kept = [errors for errors in study.seed().values("short").get("curve") or () if errors]
    bar = None if rivals is None else rivals(study.candidate(candidate.id))
    return {"margin": margin, "bar": bar, "seed": kept[0] if kept else []}


def _begin(run: Run, candidate: Candidate, parent: Candidate | None, after: int) -> tuple[Path | None, Candidate | None]:
    """(the weights that a short training goes on from, whose they are)"""
    if after:
        return candidate.artifact(f"weights/rung{after}"), candidate
    return (parent.weights() if parent is not None and run.config.training.inherit else None), parent


def full(run: Run, candidate: Candidate, seed: int) -> Stage:
    """A full training from scratch, evaluated on the validation part; `seed` counts from 0 and is the same for all candidates.

    Each seed may part the pictures anew into training and validation, so that more pictures decide among finalists.
    """
    key, fold = run.recorder.study.key + seed, 1 + seed if run.config.finish.resample else 0
    return (yield from _train(run, candidate, "full", run.config.training.epochs, key, discriminator=str(seed), fold=fold))


def _train(
    run: Run,
    candidate: Candidate,
    stage: str,
    epochs: int,
    seed: int,
    *,
    discriminator: str = "",
    inherit: Path | None = None,
    parent: Candidate | None = None,
    fold: int = 0,
    curve: Mapping[str, Any] | None = None,
) -> Stage:
    training = run.config.training
    teacher = _teacher(run)
    kind = f"weights/{stage}{discriminator}"
    weights = run.recorder.scratch(f"{candidate.id}-{stage}{discriminator}.safetensors")
    payload = {
        "graph": candidate.graph_json(),
        "data": run.data_payload(),
        "recipe": {**run.config.to_mapping()["training"], "epochs": epochs},
        "seeds": [seed],
        "inherit": None if inherit is None else str(inherit),
        "parent": None if parent is None else parent.graph_json(),
        "teacher": None if teacher is None else str(teacher.artifact(TAUGHT_BY)),
        "teacher_graph": None if teacher is None else teacher.graph_json(),
        "fold": fold,
        "weights_out": str(weights),
        "evaluate": "validation",
        "compilations": str(run.recorder.scratch("compilations")),
        "lessons": str(run.recorder.scratch("lessons")),
        # What the seed and the finalists reach is held against each other: none of them stops halfway.
        "time_limit": None if stage == "full" or candidate.id == SEED else training.time_limit,
        "kernels": _kernels(run),
        "curve": curve,
    }
    label = f"train #{candidate.id}" + (f" seed {discriminator}" if discriminator else "")
    task = Task("alphanas.scoring.tasks:train", payload, training.stall_limit, label)
    outcome = yield from perform(run, candidate, stage, task, discriminator=discriminator, keeps={kind: weights})
    _keep_kernels(run, outcome.values.get("kernels") or {})
    return outcome


def _kernels(run: Run) -> dict[str, Any]:
    """The formulations that this study trains by, so that a resumed one, on another machine too, rounds as it did before."""
    return {key: plan for one in reversed(run.recorder.study.decisions("kernels")) for key, plan in one.payload.items()}


def _keep_kernels(run: Run, found: Mapping[str, Any]) -> None:
    known = _kernels(run) if found else {}
    if new := {key: plan for key, plan in found.items() if key not in known}:
        run.recorder.decide("kernels", new)


def _teacher(run: Run) -> Candidate | None:
    """The seed model as it was trained first, if the recipe listens to a teacher; nobody's while it is not trained.

    In full trainings the seed learns from it too: the finalists' recipe is the seed's.
    """
    training = run.config.training
    if not (training.soft_labels or training.attention_transfer):
        return None
    seed = run.recorder.study.seed()
    return seed if seed.artifact(TAUGHT_BY) is not None else None


def test(run: Run, candidate: Candidate, seed: int) -> Stage:
    """The accuracy of a full training on the test part, which nothing before has seen."""
    payload = {
        "graph": candidate.graph_json(),
        "data": run.data_payload(),
        "weights": str(candidate.artifact(f"weights/full{seed}")),
        "evaluate": "test",
    }
    task = Task("alphanas.scoring.tasks:evaluate", payload, run.config.training.stall_limit, f"test #{candidate.id}")
    return (yield from perform(run, candidate, "test", task, discriminator=str(seed)))


def measure(
    run: Run, candidates: Sequence[Candidate], backend: str, *, knob_seconds: float, company: Sequence[Candidate] = ()
) -> Flow:
    """Latencies on this machine, in worker processes that may crash or hang; `knob_seconds` for choosing each one's schedules.

    Each candidate is built, checked and timed alone first, so that a failure is its own; those that passed are then timed in turns
    in one process, and these are the figures that are recorded: their ratios mean something, and that to the seed is recorded with
    its interval. `company` are candidates measured before that take their turns too; what is on record of them stays.
    """
    left = [candidate for candidate in candidates if not run.recorder.done(candidate.id, "measure", backend)]
    knobs = {"knob_seconds": knob_seconds}
    alone: dict[int, Mapping[str, Any]] = {}
    for candidate in left:
        task = _measurement(run, "measure", backend, f"#{candidate.id}", {**_model(run, candidate, backend), **knobs}, 1)
        result = yield task
        if isinstance(result, Failed):
            run.recorder.outcome(
                candidate.id, "measure", "failed", discriminator=backend, cause=result.cause, message=_told(result)
            )
            continue
        alone[candidate.id] = result.value
    passed = [candidate for candidate in left if candidate.id in alone]
    together: Mapping[str, Any] = {}
    known = [run.recorder.find(one.id, "measure", backend) for one in company]
    taking_turns = [
        *(one for one, outcome in zip(company, known, strict=True) if one not in left and outcome and outcome.ok),
        *passed,
    ]
    if passed and len(taking_turns) > 1:
        every = {str(candidate.id): _model(run, candidate, backend) for candidate in taking_turns}
        models = {"models": every, "reference": str(SEED), "report_s": run.config.hardware.report_s, **knobs}
        result = yield _measurement(run, "side_by_side", backend, "the finalists side by side", models, len(taking_turns))
        together = {} if isinstance(result, Failed) else result.value["results"]
    beside = [candidate.id for candidate in taking_turns if "median_ms" in together.get(str(candidate.id), {})]
    for candidate in passed:
        if candidate.id in beside:
            values = {**together[str(candidate.id)], "beside": beside}
        else:
            values = {**alone[candidate.id], "beside": []}
        run.recorder.outcome(candidate.id, "measure", discriminator=backend, values=values)


def _measurement(run: Run, task: str, backend: str, label: str, models: Mapping[str, Any], count: int) -> Task:
    hardware = run.config.hardware
    payload = {
        **models,
        "backend": backend,
        "target": hardware.target,
        "batch": hardware.batch,
        "trials": hardware.trials,
        "threads": hardware.threads,
        "repeats": hardware.repeats,
        "check": True,
        "records": str(records_path(run)),
    }
    limit = (hardware.time_limit + LONGEST_REPORT * models.get("report_s", 0.0)) * count
    return Task(f"alphanas.hardware.tasks:{task}", payload, limit, f"measure {label} by {backend}")


def _model(run: Run, candidate: Candidate, backend: str) -> dict[str, Any]:
    plain = {"graph": candidate.graph_json(), "weights": str(candidate.weights())}
    return plain | _in_onnx(run, candidate) if backend == "onnxruntime" else plain


def _in_onnx(run: Run, candidate: Candidate) -> dict[str, str]:
    from alphanas.export.onnx.export import for_measuring
    from alphanas.models import weights

    graph = candidate.graph()
    variables = weights.load(str(candidate.weights()), graph)
    return for_measuring(graph, variables, run.recorder.scratch(f"{candidate.id}.onnx"))


def _told(failure: Failed) -> str:
    return "\n".join(part for part in (failure.message, failure.log_tail) if part)
