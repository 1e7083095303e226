"""The inside of a worker process: read a task, run it, answer, until the parent closes the pipe or dies."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from alphanas.execution import frames, notes

PR_SET_PDEATHSIG = 1
# What a disk says that has no room, or must not be written: nothing that the task could help.
DISK = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full", errno.EROFS: "read_only"}
BEGUN = frames.encode({"begun": True})


def main(requests: int, replies: int, parent: int) -> None:
    """Runs tasks from one pipe and answers on another."""
    _die_with(parent)
    _as_nice_as(parent)
    for descriptor in (requests, replies):
        os.set_inheritable(descriptor, False)
    notes.connect(replies)
    while (request := frames.read(requests)) is not None:
        frames.write(replies, BEGUN)
        frames.write(replies, _answer(request["task"], request["payload"]))


def _die_with(parent: int) -> None:
    """Asks the system to end this process with its parent; elsewhere than on Linux the pool's warden alone does so."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _as_nice_as(parent: int) -> None:
    """Keeps the niceness of the session that the command was started in: on Linux a new session may be a scheduling group."""
    with contextlib.suppress(OSError, ValueError):
        theirs = Path(f"/proc/{parent}/autogroup").read_text().rpartition("nice")[2]
        Path("/proc/self/autogroup").write_text(theirs.strip())


def _answer(task: str, payload: Any) -> bytes:
    """The reply to one request. Here alone anything is caught: the process is the wall around what a task may raise."""
    started = time.monotonic()
    try:
        reply = {"value": _function(task)(payload)}
        encoded = frames.encode(reply | {"seconds": time.monotonic() - started})
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise
        cause, message = _classified(error)
        encoded = frames.encode({"cause": cause, "message": message, "seconds": time.monotonic() - started})
    sys.stdout.flush()
    sys.stderr.flush()
    return encoded


def _function(task: str) -> Any:
    module, _, name = task.partition(":")
    return getattr(importlib.import_module(module), name)


def _classified(error: BaseException) -> tuple[str, str]:
    from alphanas.errors import UserError
    from alphanas.execution.results import TaskFailure

    if isinstance(error, TaskFailure):
        return error.cause, error.message
    if isinstance(error, UserError):
        return "bad_input", str(error)
    text = f"{type(error).__name__}: {error}"
    number = error.errno if isinstance(error, OSError) else next((one for one in DISK if f"(os error {one})" in text), None)
    if number in DISK:
        return DISK[number], text[:2000]
    short = text if len(text) <= 2000 else text[:2000] + "…"
    return ("out_of_memory" if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text else "error"), short
