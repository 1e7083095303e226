"""Candidates as flows: a flow yields the tasks that it needs done, and is resumed with what became of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from alphanas.execution import Handle, LocalPool, Result


@dataclass(frozen=True)
class Task:
    """Work for a worker process: the function's import path, its JSON-able payload, its wall limit, and what to call it."""

    function: str
    payload: dict[str, Any]
    limit_s: float
    label: str


Flow = Generator[Task, Result, None]


def run_flows(
    pool: LocalPool, flows: Iterator[Flow], *, out_of_time: Callable[[], bool], on_change: Callable[[tuple[str, ...]], None]
) -> bool:
    """Runs flows side by side until all are through, or time is out; whether all are through.

    A flow is started only when a worker would otherwise wait for it, so that what a flow reads is as new as can be. When time
    is out, the tasks in flight are abandoned: nothing of them is recorded, and a resumed search does them.
    """
    active: dict[Handle, tuple[Flow, str]] = {}
    exhausted = False

    def advance(flow: Flow, result: Result | None) -> None:
        try:
            task = next(flow) if result is None else flow.send(result)
        except StopIteration:
            return
        active[pool.submit(task.function, task.payload, limit_s=task.limit_s)] = (flow, task.label)

    while True:
        while not exhausted and len(active) <= pool.workers and not out_of_time():
            flow = next(flows, None)
            exhausted = flow is None
            if flow is not None:
                advance(flow, None)
            on_change(tuple(label for _, label in active.values()))
        if not active or out_of_time():
            for handle in active:
                handle.cancel()
            return exhausted and not active
        finished, _ = pool.wait(list(active), timeout=0.5)
        for handle in finished:
            flow, _ = active.pop(handle)
            advance(flow, handle.result())
        on_change(tuple(label for _, label in active.values()))
