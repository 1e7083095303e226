"""How long synthesis may go on: in seconds, and in steps of its work.

A step is a fixed piece of work, about a tenth of a millisecond, counted where the clock is looked at. What is remembered from call
to call, in memory or on disk, counts as many steps as it took to make. So the same question with the same generator and the same
limit in steps has the same answer on a slow machine and a fast one, in a new process and an old one; with a limit in seconds not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

K = TypeVar("K")
V = TypeVar("V")
In = TypeVar("In", contravariant=True)


class TimeIsUp(Exception):
    """A limit was reached within a piece of work; a procedure turns it into GaveUp."""


class Table(Protocol[In, V]):
    """What is remembered by key, with the steps that each took to make: a dict or a Memo."""

    def get(self, key: In, /) -> tuple[V, int] | None: ...
    def __setitem__(self, key: In, value: tuple[V, int], /) -> None: ...


@dataclass(eq=False)
class Clock:
    """When a procedure was started and when it must be done: in seconds of the monotonic clock, and in steps of its work."""

    started: float
    deadline: float = math.inf
    steps: float = math.inf
    whole: Clock | None = None
    """The clock of the work that this is a part of; what it takes, the whole takes."""
    taken: int = field(default=0, init=False)

    @staticmethod
    def of(time_limit: float | None = None, steps: float | None = None) -> Clock:
        """A clock that starts now; None is no limit."""
        now = time.monotonic()
        return Clock(now, now + (math.inf if time_limit is None else time_limit), math.inf if steps is None else steps)

    def part(self, *, steps: float = math.inf, reserve: float = 0.0) -> Clock:
        """A clock for a part of the work: at most so many steps, and so many seconds less than the whole has."""
        return Clock(time.monotonic(), self.deadline - reserve, steps, self)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def is_up(self) -> bool:
        """Whether there is no time left, or no steps."""
        return self._is_out_of_steps or time.monotonic() > self.deadline

    @property
    def _is_out_of_steps(self) -> bool:
        return self.taken > self.steps or (self.whole is not None and self.whole._is_out_of_steps)

    @property
    def reason(self) -> str:
        """Which limit was reached, once one is."""
        if self.whole is not None:
            return self.whole.reason
        return f"the limit of {self.steps:,g} steps was reached" if self.taken > self.steps else "the time was up"

    def take(self, steps: int = 1) -> bool:
        """Counts steps; whether there is time for more."""
        self._count(steps)
        return not self.is_up

    def _count(self, steps: int) -> None:
        self.taken += steps
        if self.whole is not None:
            self.whole._count(steps)

    def check(self, steps: int = 1) -> None:
        """Counts steps; TimeIsUp if a limit is reached: for work whose result is of no use in parts."""
        if not self.take(steps):
            raise TimeIsUp

    def remembered(self, table: Table[K, V], key: K, make: Callable[[], V]) -> V:
        """What a table has, or what is made and put there; it takes as many steps either way."""
        known = table.get(key)
        if known is not None:
            self.check(known[1])
            return known[0]
        before = self.taken
        value = make()
        table[key] = value, self.taken - before
        return value


ENDLESS = Clock(0.0)
"""The clock of work that nothing ends."""
