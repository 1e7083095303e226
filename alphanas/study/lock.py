"""One writer per run folder: a lock that the system drops when its process dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import time
import uuid
from pathlib import Path

from alphanas.errors import FAILED, UserError
from alphanas.study.faults import translated
from alphanas.study.files import LOCK

PATIENCE_S = 0.5


class Lock:
    """An exclusive hold on a run folder, until `release` or the end of the process.

    `flock` on a local file system: not inherited by worker processes, since Python closes its files across exec.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with translated(folder):
            self._file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        deadline = time.monotonic() + PATIENCE_S
        while not _try_lock(self._file):
            if time.monotonic() > deadline:
                holder = _holder(self._file)
                os.close(self._file)
                raise _held(folder, holder)
            time.sleep(0.05)
        self.identity = _identity(self._file)
        record = {"pid": os.getpid(), "host": socket.gethostname(), "folder": self.identity}
        with translated(folder):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(record).encode(), 0)

    def held(self) -> bool:
        """Whether it is still ours."""
        return self._file >= 0

    def release(self) -> None:
        """Lets another process write."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_locked(folder: Path) -> bool:
    """Whether some process is writing to this run folder now."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try_lock(file, shared=True)
    finally:
        os.close(file)


def _try_lock(file: int, *, shared: bool = False) -> bool:
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _identity(file: int) -> str:
    """What tells this run folder from others, the same for all who ever held its lock."""
    try:
        found = str(json.loads(os.pread(file, 4096, 0))["folder"])
    except (ValueError, KeyError, TypeError, OSError, RecursionError):
        found = ""
    return found if re.fullmatch("[0-9a-f]{32}", found) else uuid.uuid4().hex


def _holder(file: int) -> str:
    try:
        record = json.loads(os.pread(file, 4096, 0))
        return f"process {int(record['pid'])} on {str(record['host'])[:100]!r}"
    except (ValueError, KeyError, TypeError, OSError):
        return "another process"


def _held(folder: Path, holder: str) -> UserError:
    remedy = "wait for it or end it, then resume; or choose another folder with --out"
    return UserError(f"run folder {folder}", saw=f"{holder} is writing to it", remedy=remedy, exit_code=FAILED, cause="locked")
