"""Ends the process groups of a pool's workers once the pool's process is gone, however it went.

A worker dies with its parent by itself, but not what the worker started (compilers, tuners). Run as a script of its own, with the
standard library alone: it reads lines "+GROUP" and "-GROUP" on standard input, and at its end kills the groups that are left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Watches until the end of input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
