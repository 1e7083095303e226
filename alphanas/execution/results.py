"""What can come of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Completed:
    """The task returned."""

    value: Any
    seconds: float = 0.0


@dataclass(frozen=True)
class Failed:
    """The task did not return: the cause in a word, what was seen in a line, and the end of its log."""

    cause: str
    message: str
    log_tail: str = field(default="", repr=False)
    seconds: float = 0.0


Result = Completed | Failed


class TaskFailure(Exception):
    """Raised by a task to name the cause of its failure itself."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(cause, message)
        self.cause = cause
        self.message = message
