"""The cascade of a study: what its stages said so far, which of them are switched off, and the screens that they make."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from alphanas.config import Config
from alphanas.driver.standing import SEED
from alphanas.scoring.cascade import Observed, Stage, table, useless
from alphanas.scoring.ranking import combined
from alphanas.scoring.reject import ScoreFilter
from alphanas.study import Candidate, Study

if TYPE_CHECKING:
    from alphanas.driver.run import Run

OFF = "stage_off"
"""The kind of the decision that a stage is left out from now on."""

TOLD = "cascade"
"""The kind of the log's entry that says how the stages did."""

LOW = {"score": "low_score", "rung": "low_rung"}
"""Why a stage turns away, as outcomes tell it."""

Numbers = tuple[float, ...]


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages that rank candidates, from cheap to costly."""
    scoring, training = config.scoring, config.training
    rungs = (
        Stage("rung", f"{after - before} epochs", str(after), rejecting=True)
        for before, after in itertools.pairwise((0, *training.rungs))
    )
    score = [Stage("score", f"{scoring.proxy} on {scoring.batch} pictures, untrained", rejecting=True)]
    epochs = training.short_epochs - max(training.rungs, default=0)
    return (
        Stage("cost", "read from the graph: parameters"),
        *(score if scoring.proxy != "none" else ()),
        *rungs,
        Stage("short", f"{epochs} epochs" + (", weights from the parent" if training.inherit else "")),
        Stage("full", f"{training.epochs} epochs, {config.finish.seeds} seeds, for finalists"),
    )


LATENCY = (Stage("predict", "the sum of what is on record of its kernels"), Stage("measure", "timed whole, beside the seed"))
"""The stages that say how fast a candidate is: a chain of its own."""


@dataclass(frozen=True)
class Screens:
    """The filters that the finished generations leave for the next one; a stage that is switched off has none."""

    score: ScoreFilter | None = None
    rungs: Mapping[int, ScoreFilter] = field(default_factory=dict)
    rivals: Callable[[Candidate], float | None] | None = None
    """The least error of a finished candidate that is no worse in all other objectives, None if there is none."""


@dataclass
class _Seen:
    """What a stage said of candidates, by id."""

    numbers: dict[int, Numbers] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    entered: set[int] = field(default_factory=set)
    turned_away: set[int] = field(default_factory=set)


@dataclass
class Cascade:
    """The stages of a study, kept up with it as it grows. All of it is derived from the study's rows."""

    config: Config
    _mark: int = 0
    _params: dict[int, int] = field(default_factory=dict)
    _seen: dict[Stage, _Seen] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._seen = {stage: _Seen() for stage in (*stages_of(self.config), *LATENCY)}

    def screens(self, study: Study, *, before: int, generation: int) -> Screens:
        """The filters that a generation begins with: of what candidates below `before` said."""
        self._follow(study)
        off = switched_off(study, generation)
        score, rungs = None, {}
        for stage, seen in self._seen.items():
            if not stage.rejecting or str(stage) in off:
                continue
            rows = [(self._params[one], seen.numbers[one]) for one in sorted(seen.numbers) if one < before and one in self._params]
            if stage.name == "score":
                score = ScoreFilter(rows, self.config.scoring.reject)
            else:
                rungs[int(stage.discriminator)] = ScoreFilter(rows, 1 - self.config.training.promote)
        return Screens(score, rungs)

    def observed(self, study: Study, *, before: int | None = None) -> Sequence[Observed]:
        """What the stages said of all candidates, or of those below `before`; one that is left out says nothing more."""
        self._follow(study)
        off = switched_off(study)
        return [_observed(stage, self._seen[stage], off.get(str(stage)), before) for stage in stages_of(self.config)]

    def latencies(self, study: Study) -> Sequence[Observed]:
        """What was predicted and measured of latency; nothing where nothing was predicted."""
        self._follow(study)
        found = [_observed(stage, self._seen[stage], None, None) for stage in LATENCY]
        return found if found[0].entered else ()

    def _follow(self, study: Study) -> None:
        self._mark, changed = study.news(self._mark)
        for one in changed:
            if one.params:
                self._params[one.id] = one.params
            away = {outcome.cause for outcome in one.outcomes("short") if outcome.status == "rejected"} if one.id != SEED else set()
            for stage, seen in self._seen.items() if one.id != SEED else ():
                outcomes = [each for each in one.outcomes(stage.name) if stage.discriminator in ("", each.discriminator)]
                passed = [each for each in outcomes if each.status != "rejected"]
                if not passed:
                    continue
                seen.entered.add(one.id)
                if stage.rejecting and _cause(stage) in away:
                    seen.turned_away.add(one.id)
                seconds = [float(value) for each in passed if (value := each.values.get("seconds")) is not None]
                if seconds:
                    seen.seconds[one.id] = fmean(seconds)
                if (numbers := READ[stage.name](one, stage)) is not None:
                    seen.numbers[one.id] = numbers


def switched_off(study: Study, generation: int | None = None) -> Mapping[str, int]:
    """The stages that are left out, by name, with the generation from which they are; as of a generation if it is given."""
    told = {decision.payload["stage"]: decision.payload["generation"] for decision in study.decisions(OFF)}
    return {stage: since for stage, since in told.items() if generation is None or since <= generation}


def switch_off(run: Run, *, generation: int, before: int) -> None:
    """Decides, from finished generations alone, which stages do not rank and are left out from this generation on; logged."""
    off = switched_off(run.recorder.study)
    seen = run.cascade.observed(run.recorder.study, before=before)
    for one, after in itertools.pairwise(seen):
        found = None if str(one.stage) in off else useless(one, after, pairs=run.config.scoring.pairs)
        if found is None:
            continue
        told = {"stage": str(one.stage), "generation": generation, "next": str(after.stage), **found.to_json()}
        run.recorder.decide(OFF, told, once=f"{OFF} {one.stage}")
        said = f"its Kendall's tau with {after.stage} is {found.tau or 0:.2f} on {found.n} candidates"
        run.progress.note(f"{one.stage} is switched off: {said}")


def tell(run: Run) -> None:
    """Logs how the stages did so far: what summary.json and the report show."""
    study = run.recorder.study
    run.recorder.decide(TOLD, {"stages": table(run.cascade.observed(study)) + table(run.cascade.latencies(study))})


def spared(study: Study, config: Config, candidate: int, stage: str) -> bool:
    """Whether a candidate that a stage turns away goes on all the same; chance, but the same whenever it is asked."""
    rng = np.random.default_rng([study.key, candidate, zlib.crc32(stage.encode())])
    return bool(rng.random() < config.scoring.spared)


def scores_of(candidate: Candidate) -> Numbers | None:
    """A candidate's zero-cost scores; None where one is undefined or none was computed."""
    values = candidate.values("score")
    found = tuple((values.get("scores") or {"": values.get("score")}).values())
    return None if None in found else found


def _observed(stage: Stage, seen: _Seen, off: int | None, before: int | None) -> Observed:
    ids = [one for one in sorted(seen.numbers) if before is None or one < before]
    rows = [seen.numbers[one] for one in ids]
    several = combined(rows).tolist() if rows and len(rows[0]) > 1 else [row[0] for row in rows]
    seconds = list(seen.seconds.values())
    return Observed(stage, dict(zip(ids, several, strict=True)), seconds, len(seen.entered), len(seen.turned_away), off)


def _cause(stage: Stage) -> str:
    return " ".join([LOW[stage.name], stage.discriminator]).strip()


def _of_rung(candidate: Candidate, stage: Stage) -> Numbers | None:
    passed = [one for one in candidate.outcomes("rung") if one.ok and one.discriminator == stage.discriminator]
    return (fmean(passed[0].values["accuracy"]),) if passed else None


def _of_cost(candidate: Candidate, stage: Stage) -> Numbers | None:
    return None if candidate.params is None else (float(candidate.params),)


def _of_training(candidate: Candidate, stage: Stage) -> Numbers | None:
    found = candidate.accuracies(stage.name)
    return (fmean(found),) if found else None


READ: Mapping[str, Callable[[Candidate, Stage], Numbers | None]] = {
    "cost": _of_cost,
    "score": lambda candidate, stage: scores_of(candidate),
    "rung": _of_rung,
    "short": _of_training,
    "full": _of_training,
    "predict": lambda candidate, stage: None if candidate.predicted_ms is None else (-candidate.predicted_ms,),
    "measure": lambda candidate, stage: None if candidate.latency_ms is None else (-candidate.latency_ms,),
}
