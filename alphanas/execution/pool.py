"""What the driver asks of whatever runs its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from alphanas.execution.local import Handle


class Pool(Protocol):
    """Runs tasks by import path, each apart from all else; see the room's docstring. `workers` is how many run at once."""

    @property
    def workers(self) -> int:
        """Tasks that run at once."""

    def submit(self, task: str, payload: Any, *, limit_s: float | None = None) -> Handle:
        """Queues `module:function` with a JSON payload."""

    def wait(self, handles: Sequence[Handle], timeout: float | None = None) -> tuple[list[Handle], list[Handle]]:
        """(finished, unfinished), as soon as one is finished or the timeout is over."""

    def close(self) -> None:
        """Ends all workers; what is unfinished is cancelled."""
