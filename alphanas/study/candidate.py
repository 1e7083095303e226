"""One candidate of a study, with all that is known about it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from alphanas.errors import FAILED, UserError
from alphanas.limits import MEASURED
from alphanas.study.files import write_atomic
from alphanas.study.records import Artifact, Outcome

if TYPE_CHECKING:
    from alphanas.study.study import Study
    from synth.graph import Graph

WEIGHTS = "weights"


@dataclass(frozen=True)
class Candidate:
    """A model that was proposed: where it came from, and what every stage said about it."""

    id: int
    parent: int | None
    generation: int
    status: str
    graph_hash: str | None
    duplicate_of: int | None
    proposal: Mapping[str, Any] = field(compare=False)
    method: str | None
    seconds: float | None
    study: Study = field(repr=False, compare=False)

    def outcomes(self, stage: str | None = None) -> tuple[Outcome, ...]:
        """What the stages said, oldest first."""
        return tuple(outcome for outcome in self.study.outcomes_of(self.id) if stage in (None, outcome.stage))

    def values(self, stage: str) -> Mapping[str, Any]:
        """The numbers of the first passed outcome of a stage; empty if there is none."""
        return next((outcome.values for outcome in self.outcomes(stage) if outcome.ok), {})

    @property
    def params(self) -> int | None:
        """Parameters, if counted."""
        return _number(self.values("cost").get("params"))

    @property
    def macs(self) -> int | None:
        """Multiply-adds of one picture, if counted."""
        return _number(self.values("cost").get("macs"))

    def accuracies(self, stage: str) -> tuple[float, ...]:
        """Accuracy per seed in "short" or "full" (on the validation part) or "test" (on the test part)."""
        found: list[float] = []
        for outcome in self.outcomes(stage):
            accuracy = outcome.values.get("accuracy") if outcome.ok else None
            numbers = map(_number, accuracy if isinstance(accuracy, list) else [accuracy])
            found += [number for number in numbers if number is not None]
        return tuple(found)

    @property
    def error(self) -> float | None:
        """1 - accuracy on the validation part after the short training, which starts from the parent's weights."""
        accuracies = self.accuracies("short")
        return 1.0 - fmean(accuracies) if accuracies else None

    @property
    def accuracy(self) -> float | None:
        """Mean accuracy on the test part; None for all but the seed and the finalists."""
        accuracies = self.accuracies("test")
        return fmean(accuracies) if accuracies else None

    @property
    def latency_ms(self) -> float | None:
        """Median latency of the first back end that was measured."""
        return _number(self.values("measure").get("median_ms"))

    @property
    def predicted_ms(self) -> float | None:
        """Latency as the sum of what is on record of its kernels, and overhead; None where it was not predicted."""
        return _number(self.values("predict").get("latency_ms"))

    def objective(self, name: str) -> float | None:
        """The number to minimise that goes by this name in `search.objectives`; None when it is not known.

        "latency" is the predicted one where there is one, else the measured one: predictions compare with predictions. An import
        path is one's own function.
        """
        if name not in MEASURED:
            return self._own(name)
        if name == "error":
            return self.error
        if name == "latency":
            return self.latency_ms if self.predicted_ms is None else self.predicted_ms
        return _number(self.values("cost").get(name))

    def _own(self, name: str) -> float | None:
        found = (one.values.get("value") for one in self.outcomes("objective") if one.ok and one.discriminator == name)
        return _number(next(found, None))

    @property
    def excess(self) -> float:
        """By how much it breaks the study's constraints, each as a share of its bound; 0 if it breaks none that is known."""
        return self.study.excess(self)

    def graph_json(self) -> str | None:
        """The graph as JSON; None when synthesis found none."""
        return self.study.graph_json(self.id)

    def graph(self) -> Graph:
        """The graph itself; needs jax."""
        from synth.graph import Graph

        text = self.graph_json()
        if text is None:
            raise UserError(f"candidate {self.id}", saw=f"no graph, its synthesis is {self.status}", exit_code=FAILED)
        return Graph.from_json(text)

    def artifacts(self) -> tuple[Artifact, ...]:
        """Files of this candidate, oldest first."""
        return self.study.artifacts_of(self.id)

    def artifact(self, kind: str) -> Path | None:
        """The path of a file, its content checked against its hash; None when there is none of that kind."""
        found = [artifact for artifact in self.artifacts() if artifact.kind == kind]
        return self.study.verified(found[0]) if found else None

    def weights(self) -> Path | None:
        """The path of the weights that were trained last."""
        kinds = [artifact.kind for artifact in self.artifacts() if artifact.kind.split("/")[0] == WEIGHTS]
        return self.artifact(kinds[-1]) if kinds else None

    def lineage(self) -> tuple[Candidate, ...]:
        """From the seed to this candidate."""
        line = [self]
        while line[-1].parent is not None and line[-1].parent not in {one.id for one in line}:
            line.append(self.study.candidate(line[-1].parent))
        return tuple(reversed(line))

    def save(self, folder: str | Path) -> Path:
        """Writes graph.json, weights.safetensors if it was trained, and model.py if it was exported; returns the folder."""
        folder = Path(folder)
        text = self.graph_json()
        if text is None:
            raise UserError(f"candidate {self.id}", saw=f"no graph, its synthesis is {self.status}", exit_code=FAILED)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "graph.json", text)
        for name, source in (("weights.safetensors", self.weights()), ("model.py", self.artifact("model.py"))):
            if source is not None:
                shutil.copyfile(source, folder / name)
        return folder

    def summary(self) -> dict[str, Any]:
        """id, params, macs, accuracy and latency, as in summary.json; null where it was not measured, or not predicted."""
        return {
            "id": self.id,
            "params": self.params,
            "macs": self.macs,
            "accuracy": _over_seeds(self.accuracies("test")),
            "validation_accuracy": _over_seeds(self.accuracies("full") or self.accuracies("short")),
            "latency_ms": _latency(self.values("measure")),
            "predicted_ms": self.predicted_ms,
        }

    def _repr_html_(self) -> str:
        from alphanas.study.html import table

        return table([self])


def _number(value: Any) -> Any:
    """The value if it is a number, otherwise None."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _over_seeds(accuracies: tuple[float, ...]) -> dict[str, Any] | None:
    return {"mean": fmean(accuracies), "per_seed": list(accuracies)} if accuracies else None


def _latency(values: Mapping[str, Any]) -> dict[str, Any] | None:
    if not values:
        return None
    named = {"median": "median_ms", "spread": "spread_ms"}
    named |= {"quartiles": "quartiles_ms", "p50": "p50_ms", "p90": "p90_ms", "p99": "p99_ms", "ratio_to_seed": "ratio_to"}
    kept = ("backend", "tuned", "schedule", "trials", "threads", "batch", "dtype", "repeats", "runs", "level", "shortfall")
    return {name: values.get(key) for name, key in named.items()} | {key: values.get(key) for key in kept}
