"""What every stage of a search shares: the configuration, the recorder, the workers, the clock, and who is told."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from alphanas.config import Config
from alphanas.driver.cascade import Cascade
from alphanas.driver.learned import Learned
from alphanas.driver.standing import SEED, Standing
from alphanas.report.progress import Figures, Progress, Snapshot

if TYPE_CHECKING:
    from alphanas.execution import Pool
    from alphanas.hardware.predicting import Predictor
    from alphanas.study import Candidate, Recorder

__all__ = ["SEED", "Run"]


@dataclass
class Run:
    """One process's share of a search.

    `examples` is the size of the validation part, `spent` the time that earlier processes of the same study have used.
    """

    config: Config
    recorder: Recorder
    pool: Pool
    progress: Progress
    examples: int
    spent: float = 0.0
    started: float = field(default_factory=time.monotonic)
    stage: str = "starting"
    generation: int | None = None
    predictor: Predictor | None = None
    """Predicts latencies without timing anything, once it is known what device this is."""
    standing: Standing = field(init=False)
    learned: Learned = field(init=False)
    cascade: Cascade = field(init=False)

    def __post_init__(self) -> None:
        self.standing = Standing(self.config.finish.tolerance)
        self.learned = Learned(self.config.search.objectives)
        self.cascade = Cascade(self.config)

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
        self.recorder.renew()
        now = self.standing.follow(self.recorder.study)
        self.progress.update(
            Snapshot(
                stage=self.stage,
                counts=dict(now.counts),
                seed=_figures(now.seed),
                best=_figures(now.best),
                elapsed=self.elapsed,
                time_left=self.time_left,
                generation=self.generation,
                running=running,
            )
        )


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
