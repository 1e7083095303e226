"""Tasks that do what candidates do to a worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from alphanas.errors import UserError
from alphanas.execution import TaskFailure


def echo(payload: Any) -> Any:
    return payload


def modules(payload: Any) -> list[str]:
    return sorted(sys.modules)


def environment(payload: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in payload}


def pid(payload: Any) -> int:
    return os.getpid()


def segfault(payload: Any) -> None:
    print("before the crash", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(10)


def hard_exit(payload: int) -> None:
    os._exit(payload)


def soft_exit(payload: int) -> None:
    sys.exit(payload)


def hang(payload: Any) -> None:
    print("hanging", flush=True)
    time.sleep(3600)


def raises(payload: str) -> None:
    raise KeyError(payload)


def fails(payload: str) -> None:
    raise TaskFailure(payload, "said by the task")


def bad_input(payload: str) -> None:
    raise UserError(payload, saw="a fault")


def not_json(payload: Any) -> Any:
    return object()


def chatter(payload: int) -> int:
    os.write(1, b"x" * payload + b"THE END")
    return payload


def chatter_and_raise(payload: int) -> None:
    chatter(payload)
    raise ValueError("after chatter")


def eat(payload: int) -> int:
    held = bytearray()
    for _ in range(payload):
        held += b"\1" * (1 << 20)
        time.sleep(0.001)
    time.sleep(5)
    return len(held)


def memory_error(payload: Any) -> None:
    raise MemoryError


def child_then_hang(payload: str) -> None:
    """Starts a process of its own, says both numbers, hangs."""
    child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"])
    Path(payload).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(3600)


def close_pipes(payload: Any) -> None:
    os.closerange(3, 64)
    time.sleep(3600)


def sleep(payload: float) -> float:
    time.sleep(payload)
    return payload


def fork_and_die(payload: Any) -> None:
    """Leaves a process that holds the worker's pipes open."""
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(5)


def stop(payload: Any) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def hold(payload: dict[str, Any]) -> list[float]:
    """Takes a turn, says in a file that it holds it, and tells from when to when it did."""
    from alphanas.execution.turns import turn

    with turn("cpu", "a test"):
        begin = time.monotonic()
        Path(payload["note"]).write_text(str(os.getpid()))
        time.sleep(payload["seconds"])
        return [begin, time.monotonic()]


def niceness(payload: Any) -> int | None:
    """That of this process's scheduling group; None where the system has none (no such file, or one that says nothing)."""
    try:
        words = Path("/proc/self/autogroup").read_text().split()
    except FileNotFoundError:
        return None
    return int(words[-1]) if words else None


def family_eats(payload: int) -> None:
    """A process below it eats the memory."""
    code = f"import time; held = b'\\1' * ({payload} << 20); time.sleep(60)"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)


def note_and_wait(payload: tuple[str, str]) -> None:
    """Says in a file that it runs, and ends when another file is there."""
    Path(payload[0]).touch()
    while not Path(payload[1]).exists():
        time.sleep(0.1)


def get_on(payload: tuple[int, float, float]) -> str:
    """Takes so many steps of so many seconds and reports each; then says nothing for as long as it is told."""
    from alphanas.execution import notes

    steps, each, silent = payload
    for _ in range(steps):
        time.sleep(each)
        notes.progress()
    time.sleep(silent)
    return "done"
