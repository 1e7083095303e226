"""The pool on a Ray cluster: every worker is an actor with a place of its own, and in it the same worker process as on one machine.

So a candidate that crashes, hangs or eats the memory is the same outcome as with `LocalPool`. A node that is lost takes no task
with it: what it worked on is begun again elsewhere. Files go by path: all nodes must see the run folder (a shared file system).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from alphanas.errors import FAILED, UserError
from alphanas.execution.local import Handle, LocalPool
from alphanas.execution.results import Completed, Failed, Result
from alphanas.execution.threads import memory_environment, thread_environment

POLL_S = 0.2
ATTEMPTS = 3
"""So often a task is begun whose node was lost; after that it is taken for what brings nodes down."""
TOLD_AFTER_S = 10.0
"""A worker for which no node has room for so long is worth a message."""


class Seat:
    """The actor: one worker process on some node."""

    def __init__(self, threads: int, memory_limit: int | None, folder: str, path: list[str]) -> None:
        sys.path += [entry for entry in path if entry not in sys.path]
        with contextlib.suppress(OSError):
            os.chdir(folder)
        self._folder = folder
        self._pool = LocalPool(1, threads=threads, memory_limit=memory_limit)

    def ready(self, marks: list[str]) -> tuple[str, list[str]]:
        """(the node's name, which of these files it does not see)."""
        return os.uname().nodename, [mark for mark in marks if not Path(self._folder, mark).exists()]

    def run(self, task: str, payload: Any, limit_s: float | None) -> tuple[Any, ...]:
        """What became of a task, in plain values."""
        match self._pool.submit(task, payload, limit_s=limit_s).result():
            case Completed(value, seconds):
                return (value, seconds)
            case Failed(cause, message, log_tail, seconds):
                return (cause, message, log_tail, seconds)


class RayPool:
    """`LocalPool` on the nodes of a Ray cluster; see `alphanas.execution` for what tasks and results are."""

    def __init__(
        self,
        workers: int,
        *,
        threads: int = 1,
        memory_limit: int | None = None,
        gpus: float = 0.0,
        address: str = "",
        marks: Sequence[str | Path] = (),
        tell: Callable[[str], None] = lambda text: None,
        patience_s: float = 3600.0,
    ) -> None:
        """`address`: of the cluster; empty is that in RAY_ADDRESS, or a new one on this machine. A worker takes `threads` CPUs and
        `gpus` GPUs of its node. `marks`: files that every node must see. `tell` is told when nodes are lost or lacking; after
        `patience_s` without any worker `wait` raises UserError.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, saw {workers}")
        self.workers = workers
        self._ray = _ray()
        self._own = not self._ray.is_initialized()
        self._connect(address, workers * threads)
        self._tell, self._patience_s = tell, patience_s
        self._marks = [str(mark) for mark in marks]
        self._arguments = (threads, memory_limit, os.getcwd(), sys.path)
        path = os.pathsep.join(dict.fromkeys(entry or os.getcwd() for entry in sys.path))
        environment = {"env_vars": {**thread_environment(threads), **memory_environment(), "PYTHONPATH": path}}
        self._kind = self._ray.remote(Seat).options(num_cpus=threads, num_gpus=gpus, max_restarts=0, runtime_env=environment)
        self._changed = threading.Condition()
        self._queue: queue.SimpleQueue[Handle | None] = queue.SimpleQueue()
        self._payloads: dict[Handle, Any] = {}
        self._losses: dict[Handle, int] = {}
        self._closed = False
        self._homeless: dict[str, float] = {}
        self._blind: UserError | None = None
        self._threads = [threading.Thread(target=self._serve, name=f"seat-{number}", daemon=True) for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: str, payload: Any, *, limit_s: float | None = None) -> Handle:
        """Queues `module:function` with a JSON payload; `limit_s` is wall time from its start on its node."""
        if self._closed:
            raise RuntimeError("the pool is closed")
        handle = Handle.of(task, payload, limit_s, self._changed)
        self._payloads[handle] = payload
        self._queue.put(handle)
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float | None = None) -> tuple[list[Handle], list[Handle]]:
        """(finished, unfinished), as soon as one is finished or the timeout is over; UserError when all nodes are gone for long."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._require_nodes()
            left = POLL_S if deadline is None else min(POLL_S, max(deadline - time.monotonic(), 0.0))
            with self._changed:
                self._changed.wait_for(lambda: not handles or any(handle.done for handle in handles), left)
                finished = [handle for handle in handles if handle.done]
            if finished or not handles or (deadline is not None and time.monotonic() >= deadline):
                return finished, [handle for handle in handles if not handle.done]

    def close(self) -> None:
        """Ends all workers, and the cluster if it was made for this pool; what is unfinished is cancelled."""
        if self._closed:
            return
        self._closed = True
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        while not self._queue.empty():
            handle = self._queue.get()
            if handle is not None:
                handle.settle(CANCELLED)
        if self._own:
            self._ray.shutdown()

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _connect(self, address: str, cpus: int) -> None:
        if not self._own:
            return
        known = address or os.environ.get("RAY_ADDRESS", "")
        options: dict[str, Any] = {"address": known} if known else {"num_cpus": cpus, "include_dashboard": False}
        try:
            self._ray.init(**options, log_to_driver=False, logging_level="error", configure_logging=True)
        except (ConnectionError, ValueError, RuntimeError) as error:
            remedy = "check execution.address and that the cluster runs (`ray status`)"
            saw = f"no connection: {' '.join(str(error).split())[:200]}"
            raise UserError(f"Ray cluster {known}", saw=saw, remedy=remedy, exit_code=FAILED, cause="cluster_lost") from None

    def _require_nodes(self) -> None:
        if self._blind is not None:
            raise self._blind
        alone = len(self._homeless) == self.workers and time.monotonic() - max(self._homeless.values()) > self._patience_s
        if alone:
            remedy = "start nodes again, then resume: what was finished is kept"
            saw = f"no node has had room for a worker for {self._patience_s:.0f} s"
            raise UserError("Ray cluster", saw=saw, remedy=remedy, exit_code=FAILED, cause="cluster_lost")

    def _serve(self) -> None:
        """One thread a worker: it finds it a node, then hands it tasks, and finds another node when that is lost."""
        seat: Any = None
        while (seat := seat if seat is not None else self._seat()) is not None and (handle := self._queue.get()) is not None:
            result = self._attempt(seat, handle)
            if result is None or result is CANCELLED:
                self._retire(seat)
                seat = None
            self._losses[handle] = self._losses.get(handle, 0) + (result is None)
            if result is None and self._losses[handle] < ATTEMPTS:
                self._queue.put(handle)  # for whoever has a node
                continue
            del self._payloads[handle], self._losses[handle]
            handle.settle(result or Failed("crashed", f"its node was lost {ATTEMPTS} times"))
        self._retire(seat)

    def _attempt(self, seat: Any, handle: Handle) -> Result | None:
        """The result; None if the node was lost."""
        try:
            answer = seat.run.remote(handle.task, self._payloads[handle], handle.limit_s)
            while not self._ray.wait([answer], timeout=POLL_S)[0]:
                if handle.cancelled or self._closed:
                    return CANCELLED
            return _result(self._ray.get(answer))
        except self._ray.exceptions.RayError as error:
            self._tell(f"a worker of the Ray cluster was lost ({type(error).__name__}); its task is begun again on another node")
            return None

    def _seat(self) -> Any:
        """A worker on a node that sees the files, waited for as long as the pool is open; None when it is closed."""
        me, began, told = threading.current_thread().name, time.monotonic(), False
        try:
            while not self._closed and self._blind is None:
                seat = self._kind.remote(*self._arguments)
                ready = seat.ready.remote(self._marks)
                while not self._ray.wait([ready], timeout=POLL_S)[0] and not self._closed:
                    if time.monotonic() - began > TOLD_AFTER_S and not told:
                        self._homeless[me] = began
                        self._tell(f"no node of the Ray cluster has room for {me}: the search goes on with the others, or waits")
                        told = True
                if not self._closed and self._sees(ready):
                    return seat
                self._retire(seat)
        finally:
            self._homeless.pop(me, None)
        return None

    def _sees(self, ready: Any) -> bool:
        """Whether a worker that has its place sees all files; False, too, if its node is lost already."""
        try:
            node, unseen = self._ray.get(ready)
        except self._ray.exceptions.RayError:
            return False
        if unseen:
            saw, wanted = f"it does not see {unseen[0]}", "a run folder on a file system that all nodes share, under the same path"
            self._blind = UserError(f"Ray node {node}", saw=saw, wanted=wanted, exit_code=FAILED, cause="cluster_blind")
        return not unseen

    def _retire(self, seat: Any) -> None:
        if seat is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(seat)


CANCELLED = Failed("cancelled", "cancelled before it was finished")


def _result(answer: tuple[Any, ...]) -> Result:
    return Completed(*answer) if len(answer) == 2 else Failed(*answer)


def _ray() -> Any:
    # A worker's environment is what the driver says, not a copy of the driver's package manager.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        remedy = "install it by: pip install 'alphanas[ray]', or set execution.engine to local"
        raise UserError("execution.engine ray", saw=str(error), remedy=remedy, exit_code=FAILED, cause="missing") from None
