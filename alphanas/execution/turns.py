"""One measurement at a time on a device: whoever times something takes a turn, across threads of work, processes and studies.

    with turn("cpu", "latency of …"):
        …                                    # only while timing: what compiles need not wait

The lock is the system's on an open file (flock), so that it ends with its process, however that went. Its file lies in the cache
folder (`$ALPHANAS_CACHE`, or `alphanas` in the user's cache folder; with `ALPHANAS_CACHE=off` in the folder for temporary files)
and says who holds it. Who has to wait says so, and its time limit stands still meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alphanas.execution import notes
from alphanas.execution.results import TaskFailure

POLL_S = 0.05
LONGEST_S = 1800.0
"""After so long a wait for another's measurement the task has failed, with the cause "device_busy"."""

_mine = threading.local()


@contextmanager
def turn(device: str, what: str, *, longest_s: float = LONGEST_S) -> Iterator[None]:
    """Waits for this device and holds it; inside another turn of this thread on the same device it is that turn.

    Raises TaskFailure "device_busy" when another process holds the device longer than `longest_s`.
    """
    held: set[str] = _mine.__dict__.setdefault("held", set())
    if device in held:
        yield
        return
    path = lock_file(device)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _wait(descriptor, device, longest_s)
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "what": what}).encode(), 0)
        held.add(device)
        try:
            yield
        finally:
            held.discard(device)
    finally:
        os.close(descriptor)


def lock_file(device: str) -> Path:
    """The file that a device is locked by; it is never removed, or two could hold two files of one name."""
    name = f"measuring-{platform.node() or 'here'}-{device}.lock"
    # As `synth.cache` has it, which comes with JAX: a process that only waits for its turn would load it for nothing.
    named = os.environ.get("ALPHANAS_CACHE")
    base = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alphanas"
    for folder in () if named == "off" else (base,):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644))
            return folder / name
    return Path(tempfile.gettempdir()) / f"alphanas-{os.getuid()}-{name}"


def _wait(descriptor: int, device: str, longest_s: float) -> None:
    if _taken(descriptor):
        return
    holder = _holder(descriptor)
    end = time.monotonic() + longest_s
    with notes.waiting(f"waiting for the {device}: {holder}; one measurement at a time"):
        while not _taken(descriptor):
            if time.monotonic() > end:
                raise TaskFailure("device_busy", f"the {device} was not free within {longest_s:g} s: {_holder(descriptor)}")
            time.sleep(POLL_S)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {found['pid']} measures {found['what']}"
    except (ValueError, KeyError, TypeError):
        return "another process measures"
