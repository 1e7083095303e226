"""The facts of a study as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STAGES = ("synthesis", "cost", "objective", "predict", "score", "rung", "short", "full", "test", "measure")
STATUSES = ("ok", "rejected", "failed", "duplicate", "infeasible", "gave_up")


@dataclass(frozen=True)
class Outcome:
    """What one stage said about one candidate."""

    candidate: int
    stage: str
    discriminator: str = ""
    status: str = "ok"
    cause: str | None = None
    message: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None

    @property
    def ok(self) -> bool:
        """The stage was passed."""
        return self.status == "ok"


@dataclass(frozen=True)
class Artifact:
    """A file of a candidate in the run folder: whole, or absent."""

    candidate: int
    kind: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Decision:
    """One entry of the append-only log."""

    sequence: int
    kind: str
    payload: Mapping[str, Any]
    time: float
