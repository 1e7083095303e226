"""Waiting for what somebody can mend: a full disk, a folder that became read-only, a database that went away."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from alphanas.errors import UserError
from alphanas.options import format_duration

Answer = TypeVar("Answer")

MENDABLE = frozenset({"disk_full", "read_only", "disk_failed", "store_lost", "locked"})
"""Causes that pass without a change to the study."""
SHORTEST_S, LONGEST_S = 0.2, 5.0
AGAIN_S = 60.0
"""Whoever waits is told so again after this time."""


def no_one(text: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Patience:
    """How long to wait until something is mended, and who is told of it. Without seconds, the first failure is the last."""

    seconds: float = 0.0
    tell: Callable[[str], None] = no_one
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def keep_trying(self, attempt: Callable[[bool], Answer]) -> Answer:
        """What `attempt` returns; it is called with whether it was called before, and must bear that."""
        began, told, pause, again = self.clock(), -AGAIN_S, SHORTEST_S, False
        while True:
            try:
                answer = attempt(again)
            except UserError as error:
                waited = self.clock() - began
                if error.cause not in MENDABLE or waited >= self.seconds:
                    raise
                if waited - told >= AGAIN_S:
                    self.tell(f"paused: {error.faults[0].thing}: {error.faults[0].saw}; {self._outlook(waited)}")
                    told = waited
                self.sleep(min(pause, max(self.seconds - waited, 0.0)))
                pause, again = min(2 * pause, LONGEST_S), True
                continue
            if again:
                self.tell(f"going on after a pause of {self.clock() - began:.0f} s")
            return answer

    def _outlook(self, waited: float) -> str:
        left = format_duration(float(round(self.seconds - waited)) or 1.0)
        return f"the study goes on as soon as that is mended, and stops after {left}; nothing that was recorded is lost"


IMPATIENT = Patience()
