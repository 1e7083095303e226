"""How much memory workers may hold where nobody said."""

from __future__ import annotations

SHARE = 0.8


def memory_share(workers: int = 1) -> int:
    """Bytes for each of so many workers: together four fifths of the memory that the machine has."""
    import psutil  # type: ignore[import-untyped]

    return int(SHARE * psutil.virtual_memory().total / workers)
