"""Values that candidates have in common: what stands before an edit is computed once for a parent and all its children."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from typing import Any

import numpy as np

from synth.initializers import initialize
from synth.op import Weight

Array = np.ndarray[Any, Any]

LARGEST = 128 << 20
"""Bytes of values that a process keeps, of large ones and of small ones; what was not asked for longest goes first."""

SMALL = 1 << 15
"""Bytes of an array that is held apart: however many large ones come, the small ones stay, and the other way round."""

MOST = 1 << 16
"""Steps that a process knows the numbers of, the latest."""


class SharedValues:
    """A table of arrays by number. A number stands for what an array was computed from: a step, and the numbers that it read.

    So an array that had to go is the same one when it is computed again, and what was computed from it still holds.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest, self._held = largest, {True: 0, False: 0}
        self._numbers: OrderedDict[Hashable, int] = OrderedDict()
        self._arrays: dict[bool, OrderedDict[int, Array]] = {small: OrderedDict() for small in (True, False)}
        self._next = itertools.count()

    def number(self, key: Hashable) -> int:
        """The number of a step, equal for equal keys; never one that another key has had."""
        found = self._numbers.get(key)
        if found is not None:
            self._numbers.move_to_end(key)
            return found
        found = self._numbers[key] = next(self._next)
        if len(self._numbers) > MOST:
            self._numbers.popitem(last=False)
        return found

    def __contains__(self, number: int) -> bool:
        return any(number in arrays for arrays in self._arrays.values())

    def get(self, number: int) -> Array | None:
        """The array of a number, which nobody may write to; None if it is not there."""
        for arrays in self._arrays.values():
            if number in arrays:
                arrays.move_to_end(number)
                return arrays[number]
        return None

    def of(self, number: int, compute: Callable[[], Array]) -> Array:
        """The array of a number, which nobody may write to; computed if it is not there."""
        found = self.get(number)
        if found is not None:
            return found
        array = compute()
        small = array.nbytes <= SMALL
        self._arrays[small][number] = array
        self._held[small] += array.nbytes
        while self._held[small] > self._largest:
            _, gone = self._arrays[small].popitem(last=False)
            self._held[small] -= gone.nbytes
        return array


_DRAWN = SharedValues()


def remembered(weight: Weight, words: tuple[int, ...], name: str) -> Array:
    """The initial value of a weight, drawn once for all candidates that have it; nobody can write to it."""
    return _DRAWN.of(_DRAWN.number((weight, words, name)), partial(_fixed, weight, words, name))


def _fixed(weight: Weight, words: tuple[int, ...], name: str) -> Array:
    drawn = initialize(weight, words, name)
    drawn.flags.writeable = False
    return drawn


def digest(arrays: Mapping[str, Array]) -> bytes:
    """What tells arrays by name apart from all others: their content."""
    found = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.name} {array.shape} ".encode())
        found.update(_content(array))
    return found.digest()


_CONTENTS: dict[int, tuple[weakref.ref[Array], bytes]] = {}


def _content(array: Array) -> bytes:
    """A digest of an array's elements; remembered for one that nobody can write to."""
    known = _CONTENTS.get(id(array))
    if known is not None and known[0]() is array:
        return known[1]
    found = hashlib.blake2b(np.ascontiguousarray(array).data, digest_size=16).digest()
    if not array.flags.writeable and array.base is None:
        number = id(array)
        _CONTENTS[number] = weakref.ref(array, lambda _: _CONTENTS.pop(number, None)), found
    return found
