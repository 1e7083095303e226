"""Functions that compute one task, timed in turns on data of their own. Imports TVM: only worker processes import this module."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from alphanas.execution.turns import turn
from alphanas.hardware.compiled import in_parts
from alphanas.hardware.emit import Emitted
from alphanas.hardware.machine import Machine
from alphanas.hardware.records import FEW_BYTES
from alphanas.hardware.timing import ATTEMPTS, Latency, settled_number

ROUNDS = 3
ROUND_MS = 2
"""Each candidate is timed in so many rounds of at least so long, in turns with the others; its best round counts."""
ROUNDS_BYTES = (1 << 22, 1 << 24, 1 << 26)
"""Beyond a core's own caches, within those that cores share, and beyond all."""
MOST_COPIES = 1024
HANDOVERS = 40
NOTHING = "testing.nop"
"""TVM's function that does nothing: what a call from Python costs by itself."""
DISTURBED = 1.2
"""Repeats that took so many times the best round were disturbed."""
REPEATS = 7
"""Repeats that a record's median and spread are taken over."""


class Contest:
    """Functions that compute the same task, compiled together."""

    def __init__(self, task: Emitted, functions: Sequence[Any], machine: Machine) -> None:
        self._names = [f"choice{n}" for n in range(len(functions))]
        self._modules: dict[str, Any] = {}
        for part in in_parts(dict(zip(self._names, functions, strict=True)), machine, _ready):
            self._modules |= part
        self._nothing = tvm.get_global_func(NOTHING)
        made: dict[Any, Any] = {}
        self._arrays = [_arrays(function, made) for function in functions]

    def best(self) -> list[float]:
        """Seconds of one run of each function, in its best round."""
        best = dict.fromkeys(self._names, float("inf"))
        with turn("cpu", "kernels"):
            for _ in range(ROUNDS):
                for place, name in enumerate(self._names):
                    best[name] = min(best[name], self._timed_once(place))
        return list(best.values())

    def best_of(self, place: int) -> float:
        """Seconds of one run of one function, in its best round."""
        with turn("cpu", "a kernel"):
            return min(self._timed_once(place) for _ in range(ROUNDS))

    def _timed_once(self, place: int) -> float:
        timer = self._evaluator(place, number=1, repeat=1, min_repeat_ms=ROUND_MS)
        return float(timer(*self._arrays[place]).mean)

    def _evaluator(self, place: int, **options: int) -> Any:
        name = self._names[place]
        return self._modules[name].time_evaluator(name, tvm.cpu(), **options)

    def steady(self, place: int, seconds: float) -> Latency:
        """The latency of one function, which takes about so many seconds.

        Repeats above 5% spread, or that took far longer than that, are taken again: a disturbance may outlast them all.
        """
        number = settled_number(seconds, ROUND_MS / 1e3)
        timer = self._evaluator(place, number=number, repeat=REPEATS)
        found: list[Latency] = []
        while not found or (len(found) < ATTEMPTS and not (found[-1].steady and found[-1].median < DISTURBED * seconds)):
            with turn("cpu", "a kernel"):
                found.append(Latency(tuple(map(float, timer(*self._arrays[place]).results)), number))
        calm = [latency for latency in found if latency.median < DISTURBED * seconds] or [min(found, key=lambda each: each.median)]
        return min(calm, key=lambda latency: latency.spread / latency.median)

    def handed_over(self, place: int, weights: Sequence[int]) -> tuple[float, float]:
        """Seconds of one run that follows another kernel's, on this thread: what it reads, save `weights`, was written just before.

        Both quartiles.

        Other threads have to fetch their share of that, and may have to be woken: what a loop of runs alone does not show.
        """
        function, own = self._function(place), self._arrays[place]
        values = [(array, _copied(array)) for position, array in enumerate(own[:-1]) if position not in weights]
        times: list[tuple[float, float]] = []
        with turn("cpu", "a kernel after another"):
            for _ in range(HANDOVERS):
                for array, copy in values:
                    copy.copyto(array)
                begin = time.perf_counter()
                function(*own)
                middle = time.perf_counter()
                self._nothing(*own)
                times.append((middle - begin, time.perf_counter() - middle))
        call = float(np.percentile([pair[1] for pair in times], 25))
        low, high = (max(float(np.percentile([pair[0] for pair in times], percent)) - call, 0.0) for percent in (25, 75))
        return low, high

    def _function(self, place: int) -> Any:
        name = self._names[place]
        return self._modules[name][name]

    def among(self, place: int, weights: Sequence[int]) -> tuple[tuple[int, float], ...]:
        """(bytes, seconds more that a run takes among so many bytes of other data): see `Record.caches`.

        With few bytes, what it reads was written just before. For more, the kernel goes round copies of its `weights` (positions of
        arguments): values are fresh from the kernel before, weights were last read a whole network ago.
        """
        function, own = self._function(place), self._arrays[place]
        sizes = [int(np.prod(array.shape)) * np.dtype(str(array.dtype)).itemsize for array in own]
        heavy = sum(sizes[position] for position in weights)
        fresh = max(0.0, self.handed_over(place, weights)[0] - self.best_of(place))
        found: list[tuple[int, float]] = [(FEW_BYTES, fresh)]
        for round_bytes in ROUNDS_BYTES:
            copies = min(MOST_COPIES, -(-round_bytes // max(1, heavy)))
            if not heavy or copies < 2:
                found.append((round_bytes, found[-1][1]))
                continue
            rings = [[_copied(array) for _ in range(copies)] if n in weights else [array] * copies for n, array in enumerate(own)]
            many = list(zip(*rings, strict=True))
            with turn("cpu", "a kernel among other data"):
                alone, among = _round(function, [own] * copies), _round(function, many)
            found.append((round_bytes, max(found[-1][1], among - alone)))
        return tuple(found)


def _copied(array: Any) -> Any:
    copy = tvm.runtime.empty(tuple(map(int, array.shape)), str(array.dtype), tvm.cpu())
    array.copyto(copy)
    return copy


def _round(function: Any, calls: Sequence[Sequence[Any]]) -> float:
    """Seconds of one call, in the best of some rounds of all of them."""
    best = float("inf")
    for _ in range(ROUNDS + 1):
        begin = time.perf_counter()
        for each in calls:
            function(*each)
        best = min(best, time.perf_counter() - begin)
    return best / len(calls)


def _arrays(function: Any, made: dict[Any, Any]) -> list[Any]:
    """Arrays for a function, its result included; functions share those of the same place, shape and dtype."""
    found = []
    for place, parameter in enumerate(function.params):
        kind = (place, tuple(int(size) for size in parameter.shape), str(parameter.dtype))
        if kind not in made:
            made[kind] = tvm.runtime.tensor(_noise(kind[1], kind[2]), tvm.cpu())
        found.append(made[kind])
    return found


def _ready(names: Sequence[str], compiled: Any) -> dict[str, Any]:
    """The module that has the functions of these names; asked for one, it makes the code of all."""
    module = compiled.jit()
    for name in names:
        module[name]
    return dict.fromkeys(names, module)


def _noise(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    # Normal numbers of double precision take four times as long to draw.
    return (np.random.default_rng(0).random(shape, np.float32) - 0.5).astype(dtype)
