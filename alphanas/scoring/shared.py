"""Values that candidates have in common: what stands before an edit is computed once for a parent and all its children."""

from __future__ import annotations

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LARGEST = 128 << 20
"""Bytes of values that a process keeps; what was not asked for longest goes first."""


class SharedValues:
    """A table of arrays, each known by what it was computed from: a step, and the numbers of the arrays that this step read."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest, self._held = largest, 0
        self._entries: OrderedDict[Hashable, tuple[int, Array]] = OrderedDict()
        self._numbers = itertools.count()

    def of(self, key: Hashable, compute: Callable[[], Array]) -> tuple[int, Array]:
        """(the array's number, the array), computed if it is not there; nobody may write to it.

        A number is never given twice: an array that had to go and is computed again is another one to what is computed from it.
        """
        found = self._entries.get(key)
        if found is not None:
            self._entries.move_to_end(key)
            return found
        array = compute()
        entry = next(self._numbers), array
        self._entries[key] = entry
        self._held += array.nbytes
        while self._held > self._largest:
            _, (_, gone) = self._entries.popitem(last=False)
            self._held -= gone.nbytes
        return entry


def digest(arrays: Mapping[str, Array]) -> bytes:
    """What tells arrays by name apart from all others: their content."""
    found = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype} {array.shape} ".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.digest()
