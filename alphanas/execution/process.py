"""One worker process as its parent sees it: start, ask, watch, kill."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphanas.execution import frames
from alphanas.execution.notes import Note
from alphanas.execution.results import Completed, Failed, Result

TAIL_BYTES = 16_384
POLL_S = 0.2
FAREWELL_S = 1.0
# Whether the system tells that a child has ended without reaping it; macOS does not, to Python before 3.13.
CAN_LOOK = sys.platform != "darwin"
BOOT = "import sys; from alphanas.execution.worker import main; main(*map(int, sys.argv[1:]))"


class _Clock:
    """How long a task has run since it got on last; what it waits for others does not count."""

    def __init__(self, started: float) -> None:
        self._started, self._waited = started, 0.0
        self._stopped: float | None = None
        self.progressed = False
        """Whether the task said that it got on."""

    def restart(self, now: float) -> None:
        """Counts from now on."""
        self._started, self._waited, self.progressed = now, 0.0, True
        self._stopped = None if self._stopped is None else now

    def set(self, runs: bool | None, now: float) -> None:
        """Stops it, or lets it run; None leaves it."""
        if runs is False and self._stopped is None:
            self._stopped = now
        elif runs and self._stopped is not None:
            self._waited += now - self._stopped
            self._stopped = None

    def ran(self, now: float) -> float:
        """Seconds of the task's own."""
        return (now if self._stopped is None else self._stopped) - self._started - self._waited


class WorkerProcess:
    """A running worker. Not for use by two threads at once; the thread that made it must outlive it (Linux ties their ends)."""

    def __init__(self, env: Mapping[str, str]) -> None:
        request_read, self._requests = os.pipe()
        self._replies, reply_write = os.pipe()
        self._log, log_write = os.pipe()
        theirs = (request_read, reply_write, log_write)
        path = os.pathsep.join(dict.fromkeys(entry or os.getcwd() for entry in sys.path))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", BOOT, str(request_read), str(reply_write), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                pass_fds=(request_read, reply_write),
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **env},
                start_new_session=True,
            )
        except BaseException:
            for descriptor in (self._requests, self._replies, self._log):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self.pid = self._process.pid
        os.set_blocking(self._requests, False)
        self.begun = False
        """Whether the last task that it was handed was begun: what happened before that is not the task's doing."""
        self._buffer = bytearray()
        self._tail = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._replies, selectors.EVENT_READ)
        self._selector.register(self._log, selectors.EVENT_READ)

    def run(
        self,
        request: bytes,
        *,
        limit_s: float | None,
        memory_limit: int | None,
        cancelled: Callable[[], bool],
        on_note: Callable[[Note], None],
    ) -> Result:
        """The result of one task; after a crash, at the limit of time or memory, and when it is cancelled, the worker is dead.

        `limit_s` counts from when the task last said that it got on, or was begun.
        """
        started = time.monotonic()
        self._clock = _Clock(started)
        self._drain_log()
        self._tail.clear()
        self.begun = False
        unsent = memoryview(request)
        self._selector.register(self._requests, selectors.EVENT_WRITE)
        while True:
            waited = self._clock.ran(time.monotonic())
            broken = self._broken_limit(waited, limit_s, memory_limit) if not cancelled() else ("cancelled", "cancelled")
            if broken is not None:
                return self._ended(*broken, started)
            left = POLL_S if limit_s is None else min(POLL_S, max(limit_s - waited, 0.0) + 0.001)
            ready = {key.fd for key, _ in self._selector.select(left)}
            if self._log in ready:
                self._drain_log()
            if self._requests in ready:
                unsent = self._send(unsent)
            if self._replies in ready and not self._receive():
                return self._crashed(started)
            if not ready and self._exited():  # and what it left running holds its pipes open
                return self._crashed(started)
            while (reply := frames.decode(self._buffer)) is not None:
                if "progress" in reply:
                    self._clock.restart(time.monotonic())
                elif "note" in reply:
                    self._clock.set(reply["clock"], time.monotonic())
                    on_note(Note(reply["note"], reply["clock"]))
                elif "begun" in reply:
                    self.begun = True
                else:
                    self._drain_log()
                    return _result(reply, self._log_tail())

    def _broken_limit(self, waited: float, limit_s: float | None, memory_limit: int | None) -> tuple[str, str] | None:
        """(cause, message) of the limit that the task has reached."""
        if limit_s is not None and waited > limit_s:
            return "timeout", f"no {'progress for' if self._clock.progressed else 'result within'} {limit_s:g} s"
        resident = self.resident() if memory_limit is not None else 0
        if memory_limit is not None and resident > memory_limit:
            return "out_of_memory", f"{resident >> 20} MiB resident, above the limit of {memory_limit >> 20} MiB"
        return None

    def _send(self, unsent: memoryview) -> memoryview:
        """Sends what the pipe takes now; a worker that does not read must not hold up who watches its limits."""
        try:
            unsent = unsent[os.write(self._requests, unsent) :]
        except BrokenPipeError:
            unsent = unsent[:0]  # it has ended: the other pipe says so
        if not unsent:
            self._selector.unregister(self._requests)
        return unsent

    def _receive(self) -> bool:
        """Takes what was answered so far; False when the pipe is closed."""
        block = os.read(self._replies, 1 << 20)
        self._buffer += block
        return bool(block)

    def resident(self) -> int:
        """Bytes of memory that the process and all that it started hold now; 0 where the system does not tell."""
        return sum(_held(pid)[0] for pid in _family(self.pid))

    def private(self) -> int:
        """The same without the pages of files, such as the libraries that are loaded."""
        return sum(held - of_files for held, of_files in map(_held, _family(self.pid)))

    def alive(self) -> bool:
        """Whether it can take a task."""
        return self._process.returncode is None and not self._exited()

    def kill(self) -> int:
        """Ends the worker and all that it started; returns its exit status as `subprocess` has it."""
        # The group first: as long as the dead leader is not reaped, its number cannot be anyone else's.
        if self._process.returncode is None or not CAN_LOOK:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()

    def close(self, *, grace_s: float = FAREWELL_S) -> None:
        """Lets an idle worker end by itself, then makes it; closes the pipes."""
        os.close(self._requests)
        deadline = time.monotonic() + grace_s
        while not self._exited() and time.monotonic() < deadline:
            self._drain_log()
            time.sleep(0.01)
        self.kill()
        self._selector.close()
        os.close(self._replies)
        os.close(self._log)

    def _exited(self) -> bool:
        """Whether it has ended, without reaping it."""
        if self._process.returncode is not None:
            return True
        if not CAN_LOOK:
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _ended(self, cause: str, message: str, started: float) -> Failed:
        self.kill()
        self._drain_log()
        return Failed(cause, message, self._log_tail(), time.monotonic() - started)

    def _crashed(self, started: float) -> Failed:
        """The pipe is closed: the process has ended, or ends now."""
        deadline = time.monotonic() + FAREWELL_S
        while not self._exited() and time.monotonic() < deadline:
            time.sleep(0.005)
        ended = self._exited()
        status = self.kill()
        self._drain_log()
        message = _exit_text(status) if ended else "it closed its pipe"
        return Failed("crashed", message, self._log_tail(), time.monotonic() - started)

    def _drain_log(self) -> None:
        """Takes what was printed so far, keeps its end."""
        os.set_blocking(self._log, False)
        while True:
            try:
                block = os.read(self._log, 1 << 16)
            except BlockingIOError:
                return
            if not block:
                if self._log in self._selector.get_map():
                    self._selector.unregister(self._log)
                return
            self._tail += block
            del self._tail[:-TAIL_BYTES]

    def _log_tail(self) -> str:
        return self._tail.decode(errors="replace").strip()


def _family(pid: int) -> list[int]:
    """A process and everything below it, as far as the system tells."""
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{one}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
    return found


def _held(pid: int) -> tuple[int, int]:
    """Bytes of memory, and how many of them are pages of files."""
    try:
        _, held, of_files, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
    except (OSError, ValueError):
        return 0, 0
    page = os.sysconf("SC_PAGE_SIZE")
    return held * page, of_files * page


def _result(reply: dict[str, Any], tail: str) -> Result:
    if "cause" in reply:
        return Failed(reply["cause"], reply["message"], tail, reply["seconds"])
    return Completed(reply["value"], reply["seconds"])


def _exit_text(status: int) -> str:
    if status >= 0:
        return f"the worker exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (the system does so when memory runs out)" if name == "SIGKILL" else ""
    return f"the worker was ended by {name}{hint}"
