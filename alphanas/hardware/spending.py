"""Where tuning trials save most time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

CHUNK = 8
"""A kernel needs some trials to be worth any: they are given out in so many at a time."""


@dataclass(frozen=True)
class Need:
    """A kernel as the budget sees it: how often it runs, its seconds and multiply-adds, and the trials that it has had."""

    key: str
    count: int
    seconds: float
    work: int
    trials: int = 0


def shares(needs: Sequence[Need], trials: int, *, chunk: int = CHUNK) -> dict[str, int]:
    """How many trials each kernel gets, all of them if there is a kernel; kernels without any are missing.

    A chunk goes to where the most seconds may be saved: those above what the kernel would take at the rate of the fastest one,
    times how often it runs, and the less the more trials it has had.
    """
    rate = max((need.work / need.seconds for need in needs if need.seconds > 0), default=0.0)
    heap: list[tuple[float, int, float, int]] = []
    for place, need in enumerate(needs):
        room = need.count * max(need.seconds - (need.work / rate if rate else 0.0), 0.01 * need.seconds)
        heapq.heappush(heap, (-room / (1 + need.trials / chunk), place, room, need.trials))
    given: dict[str, int] = {}
    while heap and trials > 0:
        _, place, room, had = heapq.heappop(heap)
        now = min(chunk, trials)
        trials -= now
        given[needs[place].key] = given.get(needs[place].key, 0) + now
        heapq.heappush(heap, (-room / (1 + (had + now) / chunk), place, room, had + now))
    return given
