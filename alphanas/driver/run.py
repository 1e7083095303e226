"""What every stage of a search shares: the configuration, the recorder, the workers, the clock, and who is told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alphanas.config import Config
from alphanas.report.progress import Figures, Progress, Snapshot

if TYPE_CHECKING:
    from alphanas.execution import LocalPool
    from alphanas.study import Candidate, Recorder

SEED = 0
"""The id of the seed model."""


@dataclass
class Run:
    """One process's share of a search.

    `examples` is the size of the validation part, `spent` the time that earlier processes of the same study have used.
    """

    config: Config
    recorder: Recorder
    pool: LocalPool
    progress: Progress
    examples: int
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)
    stage: str = "starting"
    generation: int | None = None

    @property
    def elapsed(self) -> float:
        """Seconds that this study has run, over all its processes."""
        return self.spent + time.monotonic() - self.started

    @property
    def time_left(self) -> float:
        """Seconds until the time limit; negative beyond it."""
        return self.config.time_limit - self.elapsed

    def searching_is_over(self) -> bool:
        """Whether only the share of the time that is kept for the finish is left."""
        return self.elapsed > self.config.time_limit * (1 - self.config.finish.share)

    def data_payload(self) -> dict[str, Any]:
        """The data section, as tasks take it."""
        return self.config.to_mapping()["data"]

    def tell(self, running: tuple[str, ...] = ()) -> None:
        """Tells the progress display where the search stands."""
        candidates = self.recorder.study.candidates()
        seed = next((candidate for candidate in candidates if candidate.id == SEED), None)
        best = best_so_far(self.config, candidates)
        self.progress.update(
            Snapshot(
                stage=self.stage,
                counts=dict(Counter(candidate.status for candidate in candidates)),
                seed=_figures(seed),
                best=_figures(best),
                elapsed=self.elapsed,
                time_left=self.time_left,
                generation=self.generation,
                running=running,
            )
        )


def best_so_far(config: Config, candidates: Sequence[Candidate]) -> Candidate | None:
    """The smallest candidate whose short training on the validation part comes within the tolerance of the seed's."""
    trained = [(one, one.error, one.params) for one in candidates if one.error is not None and one.params is not None]
    bar = next((error for one, error, _ in trained if one.id == SEED), None)
    if bar is None:
        return None
    good = [(params, error, one.id, one) for one, error, params in trained if error <= bar + config.finish.tolerance + 1e-9]
    return min(good)[-1]


def _figures(candidate: Candidate | None) -> Figures | None:
    if candidate is None:
        return None
    return Figures(
        candidate.id,
        candidate.params,
        candidate.macs,
        None if candidate.error is None else 1 - candidate.error,
        candidate.latency_ms,
    )
