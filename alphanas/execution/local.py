"""A pool of worker processes on this machine."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from alphanas.execution import frames, warden
from alphanas.execution.notes import Note
from alphanas.execution.process import WorkerProcess
from alphanas.execution.results import Failed, Result
from alphanas.execution.threads import accelerator_environment, memory_environment, thread_environment

RECYCLE_BYTES = 1 << 30
# A worker may be lost before it begins the task it was handed: killed while idle, no memory to start. That is not the task's doing.
ATTEMPTS = 3


class Handle:
    """A task that was submitted."""

    def __init__(self, task: str, request: bytes, limit_s: float | None, changed: threading.Condition) -> None:
        self.task = task
        self.limit_s = limit_s
        self.request = request
        self.cancelled = False
        self._changed = changed
        self._result: Result | None = None

    @staticmethod
    def of(task: str, payload: Any, limit_s: float | None, changed: threading.Condition) -> Handle:
        """A task that is named and given a payload; ValueError for a name that is none."""
        module, colon, name = task.partition(":")
        if not (module and colon and name.isidentifier()):
            raise ValueError(f"a task is named 'package.module:function', saw {task!r}")
        return Handle(task, frames.encode({"task": task, "payload": payload}), limit_s, changed)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self._result is not None

    def result(self, timeout: float | None = None) -> Result:
        """Waits for the result; `TimeoutError` if there is none in time."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"{self.task}: no result within {timeout} s")
        assert self._result is not None
        return self._result

    def cancel(self) -> None:
        """Ends the task, or keeps it from being begun: its result is `Failed("cancelled", …)` unless it was finished before."""
        self.cancelled = True

    def settle(self, result: Result) -> None:
        """The pool's: sets the result."""
        with self._changed:
            self._result = result
            self._changed.notify_all()


class LocalPool:
    """Worker processes that run tasks by import path; see the room's docstring."""

    def __init__(
        self,
        workers: int,
        *,
        threads: int = 1,
        env: Mapping[str, str] | None = None,
        memory_limit: int | None = None,
        recycle_bytes: int = RECYCLE_BYTES,
        on_note: Callable[[Note], None] | None = None,
    ) -> None:
        """`memory_limit`: bytes that a worker, with what it started, may hold before its task is ended (looked at every 0.2 s, so
        that a fast eater may overshoot; not an address-space limit, which XLA cannot live with). A worker that keeps more than
        `recycle_bytes` of its own after a task (not counting libraries, of which a GPU has gigabytes) is replaced. `on_note` is
        called, from a thread of the pool, with what tasks say; see `notes`.
        """
        if workers < 1:
            raise ValueError(f"workers must be at least 1, saw {workers}")
        self.workers = workers
        self._env = {**thread_environment(threads), **memory_environment(), **accelerator_environment(), **(env or {})}
        self._memory_limit = memory_limit
        self._recycle_bytes = recycle_bytes
        self._on_note = on_note or _unheard
        self._changed = threading.Condition()
        self._queue: queue.SimpleQueue[Handle | None] = queue.SimpleQueue()
        self._closed = False
        self._warden_lock = threading.Lock()
        self._warden = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(warden.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._threads = [threading.Thread(target=self._serve, name=f"worker-{number}", daemon=True) for number in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: str, payload: Any, *, limit_s: float | None = None) -> Handle:
        """Queues `module:function` with a JSON payload; `limit_s` is wall time from its start, imports included.

        A task that says that it gets on (`notes.progress`) has so much time from each time it does.
        """
        if self._closed:
            raise RuntimeError("the pool is closed")
        handle = Handle.of(task, payload, limit_s, self._changed)
        self._queue.put(handle)
        return handle

    def wait(self, handles: Sequence[Handle], timeout: float | None = None) -> tuple[list[Handle], list[Handle]]:
        """(finished, unfinished), as soon as one is finished or the timeout is over."""
        with self._changed:
            self._changed.wait_for(lambda: not handles or any(handle.done for handle in handles), timeout)
            finished = [handle for handle in handles if handle.done]
            return finished, [handle for handle in handles if not handle.done]

    def map_unordered(self, task: str, payloads: Iterable[Any], *, limit_s: float | None = None) -> Iterator[tuple[int, Result]]:
        """(index of the payload, result) in the order they finish."""
        waiting = {self.submit(task, payload, limit_s=limit_s): index for index, payload in enumerate(payloads)}
        try:
            while waiting:
                finished, _ = self.wait(list(waiting))
                for handle in finished:
                    yield waiting.pop(handle), handle.result()
        finally:
            for handle in waiting:
                handle.cancel()

    def close(self) -> None:
        """Ends all workers; what is unfinished is cancelled."""
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
                handle.settle(_cancelled())
        if self._warden.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._warden.stdin.close()
        self._warden.wait()

    def __enter__(self) -> LocalPool:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        """One thread a worker: it starts the process, hands it tasks, and replaces it when it is lost."""
        process: WorkerProcess | None = None
        while (handle := self._queue.get()) is not None:
            for _ in range(ATTEMPTS):
                process, result, begun = self._attempt(process, handle)
                lost = isinstance(result, Failed) and result.cause == "crashed"
                if begun or not lost:
                    break
            handle.settle(result)
        self._retire(process)

    def _attempt(self, process: WorkerProcess | None, handle: Handle) -> tuple[WorkerProcess | None, Result, bool]:
        """(the worker if it can go on, the result, whether the task was begun)."""
        if self._unwanted(handle):
            return process, _cancelled(), False
        started = time.monotonic()
        try:
            if process is None or not process.alive():
                self._retire(process)
                process = self._start()
            result = process.run(
                handle.request,
                limit_s=handle.limit_s,
                memory_limit=self._memory_limit,
                cancelled=partial(self._unwanted, handle),
                on_note=self._on_note,
            )
        except OSError as error:
            self._retire(process)
            return None, Failed("crashed", f"no worker could be started: {error}", "", time.monotonic() - started), False
        begun = process.begun
        if process.alive() and process.private() <= self._recycle_bytes:
            return process, result, begun
        self._retire(process)
        return None, result, begun

    def _unwanted(self, handle: Handle) -> bool:
        return handle.cancelled or self._closed

    def _start(self) -> WorkerProcess:
        process = WorkerProcess(self._env)
        self._tell_warden(f"+{process.pid}")
        return process

    def _retire(self, process: WorkerProcess | None) -> None:
        if process is not None:
            process.close()
            self._tell_warden(f"-{process.pid}")

    def _tell_warden(self, line: str) -> None:
        # Without its warden the pool still works; workers still die with their parent, only their own children might not.
        with self._warden_lock, contextlib.suppress(BrokenPipeError):
            assert self._warden.stdin is not None
            self._warden.stdin.write(f"{line}\n".encode())
            self._warden.stdin.flush()


def _unheard(note: Note) -> None:
    """Nobody listens."""


def _cancelled() -> Failed:
    return Failed("cancelled", "cancelled before it was begun")
