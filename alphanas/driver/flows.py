"""Candidates as flows: a flow yields the tasks that it needs done, and is resumed with what became of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from alphanas.execution import Completed, Handle, Pool, Result


@dataclass(frozen=True)
class Task:
    """Work for a worker process: the function's import path, its JSON-able payload, its wall limit, and what to call it."""

    function: str
    payload: dict[str, Any]
    limit_s: float
    label: str


@dataclass(frozen=True)
class Wait:
    """Nothing to do for this flow for some seconds: another process does what it needs."""

    seconds: float


Flow = Generator[Task | Wait, Result, None]
WAITED = Completed(None)
AHEAD = 2
"""Flows under way for each worker."""


def run_flows(
    pool: Pool, flows: Iterator[Flow], *, out_of_time: Callable[[], bool], on_change: Callable[[tuple[str, ...]], None]
) -> bool:
    """Runs flows side by side until all are through, or time is out; whether all are through.

    As many flows again as there are workers are begun ahead, so that no worker waits while one more is being proposed. When time
    is out, the tasks in flight are abandoned: nothing of them is recorded, and a resumed search does them.
    """
    active: dict[Handle, tuple[Flow, str]] = {}
    waiting: list[tuple[float, Flow]] = []
    exhausted = False

    def advance(flow: Flow, result: Result | None) -> None:
        try:
            task = next(flow) if result is None else flow.send(result)
        except StopIteration:
            return
        if isinstance(task, Wait):
            waiting.append((time.monotonic() + task.seconds, flow))
            return
        active[pool.submit(task.function, task.payload, limit_s=task.limit_s)] = (flow, task.label)

    def has_room() -> bool:
        return not exhausted and len(active) + len(waiting) < AHEAD * pool.workers and not out_of_time()

    while True:
        if has_room():
            flow = next(flows, None)
            exhausted = flow is None
            if flow is not None:
                advance(flow, None)
            on_change(tuple(label for _, label in active.values()))
        if out_of_time() or (exhausted and not (active or waiting)):
            for handle in active:
                handle.cancel()
            return exhausted and not (active or waiting)
        if not active and not has_room():
            time.sleep(min(max(min(due for due, _ in waiting) - time.monotonic(), 0.0), 0.5))
        for entry in [entry for entry in waiting if entry[0] <= time.monotonic()]:
            waiting.remove(entry)
            advance(entry[1], WAITED)
        # What finished while a flow was begun goes on before the next one is.
        finished, _ = pool.wait(list(active), timeout=0.0 if has_room() else 0.5)
        for handle in finished:
            flow, _ = active.pop(handle)
            advance(flow, handle.result())
        on_change(tuple(label for _, label in active.values()))
