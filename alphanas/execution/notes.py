"""What a task says while it runs: a line that a user should read, and that it waits for its turn, which is not its own time.

    notes.say("…")                                    # reaches the pool's `on_note`
    with notes.waiting("waiting for …"): …            # the task's time limit stands still
    notes.progress()                                  # the task's time limit begins anew: it is slow, but does not hang

Outside of a worker process nobody listens, and they do nothing else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alphanas.execution import frames

PROGRESS_EVERY_S = 0.5
"""Progress is passed on no more often than this, so that every step may report it."""


@dataclass(frozen=True)
class Note:
    """A line to be read, which may be empty; `clock`: whether the task's time runs from now on (None: as before)."""

    text: str
    clock: bool | None = None


@dataclass
class _Channel:
    """The pipe to the parent; None outside of a worker."""

    descriptor: int | None = None
    progressed: float = float("-inf")
    """When progress was passed on last."""


_channel = _Channel()
_lock = threading.Lock()


def connect(descriptor: int) -> None:
    """The worker's: from now on notes go to this pipe."""
    _channel.descriptor = descriptor


def pass_on(note: Note) -> None:
    """Sends a note, or one of a process below, to the parent."""
    if _channel.descriptor is None:
        return
    with _lock:
        frames.write(_channel.descriptor, frames.encode({"note": note.text, "clock": note.clock}))


def say(text: str) -> None:
    """A line that a user should read."""
    pass_on(Note(text))


def progress() -> None:
    """This task got on: its time limit, that of a task that hangs, counts from now."""
    now = time.monotonic()
    if _channel.descriptor is None or now < _channel.progressed + PROGRESS_EVERY_S:
        return
    _channel.progressed = now
    with _lock:
        frames.write(_channel.descriptor, frames.encode({"progress": True}))


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """While this task waits for another one, for the reason given, its time stands still."""
    pass_on(Note(text, clock=False))
    try:
        yield
    finally:
        pass_on(Note("", clock=True))
