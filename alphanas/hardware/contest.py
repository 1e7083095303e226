"""Functions that compute one task, timed in turns on data of their own. Imports TVM: only worker processes import this module."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import tvm
from tvm import s_tir, te

from alphanas.execution.turns import turn
from alphanas.hardware.compiled import in_parts
from alphanas.hardware.emit import Emitted
from alphanas.hardware.machine import Machine
from alphanas.hardware.records import FEW_BYTES
from alphanas.hardware.timing import ATTEMPTS, Latency, settled_number

ROUNDS = 3
ROUND_MS = 2
"""Each candidate is timed in so many rounds of at least so long, in turns with the others; its best round counts."""
ROUNDS_BYTES = (1 << 22, 1 << 23, 1 << 24, 1 << 26)
"""Beyond a core's own caches, within those that cores share, and beyond all."""
MOST_COPIES = 1024
HANDOVERS, FEWEST_HANDOVERS, HANDOVERS_S = 40, 12, 0.05
"""Runs after another kernel's; of slow kernels as many as take so long, and no fewer than the second."""
NOTHING = "testing.nop"
"""TVM's function that does nothing: what a call from Python costs by itself."""
DISTURBED = 1.2
"""Repeats that took so many times the best round were disturbed."""
REPEATS = 7
"""Repeats that a record's median and spread are taken over."""


Reader = Literal["one", "all"]


class Contest:
    """Functions that compute the same task, compiled together."""

    def __init__(self, task: Emitted, functions: Sequence[Any], machine: Machine) -> None:
        self._names = [f"choice{n}" for n in range(len(functions))]
        self._modules: dict[str, Any] = {}
        for part in in_parts(dict(zip(self._names, functions, strict=True)), machine, _ready):
            self._modules |= part
        self._machine = machine
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

    def handed_over(
        self, place: int, weights: Sequence[int], *, by_all: bool = False, left_to: Reader | None = None
    ) -> tuple[float, float]:
        """Seconds of one run that follows another kernel's: what it reads, save `weights`, was written just before.

        Both quartiles. Written by this thread; with `by_all`, by every thread its share. With `left_to`, what it wrote the last
        time was read by this thread ("one") or by every thread its share ("all") since.

        Whoever reads or overwrites what another thread holds has to fetch it, and threads may have to be woken: what a loop of runs
        alone does not show.
        """
        function, own = self._function(place), self._arrays[place]
        shares = _shares(self._machine) if by_all or left_to == "all" else _by_one
        given = [(_bytes(_copied(array)), _bytes(array)) for position, array in enumerate(own[:-1]) if position not in weights]
        result, kept = _bytes(own[-1]), _bytes(_copied(own[-1]))
        times: list[tuple[float, float]] = []
        with turn("cpu", "a kernel after another"):
            end = time.perf_counter() + HANDOVERS_S
            while len(times) < FEWEST_HANDOVERS or (len(times) < HANDOVERS and time.perf_counter() < end):
                if left_to is not None:
                    (shares if left_to == "all" else _by_one)(result, kept)
                for source, target in given:
                    (shares if by_all else _by_one)(source, target)
                begin = time.perf_counter()
                function(*own)
                middle = time.perf_counter()
                self._nothing(*own)
                times.append((middle - begin, time.perf_counter() - middle))
        call = float(np.percentile([pair[1] for pair in times], 25))
        low, high = (max(float(np.percentile([pair[0] for pair in times], percent)) - call, 0.0) for percent in (25, 75))
        return low, high

    def handovers(self, place: int, weights: Sequence[int], *, shares: bool) -> tuple[float, ...]:
        """Seconds more than in a loop of its own that a run takes after other kernels: see `Record.handed`.

        `shares` is whether threads share the function's work.
        """
        alone = self.best_of(place)
        others: tuple[Reader | None, ...] = (None, "one" if shares else "all")
        states = itertools.product((False, True), others) if self._machine.threads > 1 else [(False, None)]
        return tuple(self.handed_over(place, weights, by_all=by_all, left_to=left)[0] - alone for by_all, left in states)

    def _function(self, place: int) -> Any:
        name = self._names[place]
        return self._modules[name][name]

    def among(self, place: int, weights: Sequence[int]) -> tuple[tuple[int, float], ...]:
        """(bytes, seconds more that a run takes whose weights were last read so many bytes of other weights ago).

        `weights` are positions of arguments. The kernel goes round copies of them.
        """
        function, own = self._function(place), self._arrays[place]
        sizes = [int(np.prod(array.shape)) * np.dtype(str(array.dtype)).itemsize for array in own]
        heavy = sum(sizes[position] for position in weights)
        found: list[tuple[int, float]] = [(FEW_BYTES, 0.0)]
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


def _by_one(source: Any, target: Any) -> None:
    source.copyto(target)


def _bytes(array: Any) -> Any:
    """The same memory as a row of bytes."""
    return tvm.runtime.from_dlpack(np.from_dlpack(array).reshape(-1).view(np.uint8))


@functools.lru_cache(maxsize=4)
def _shares(machine: Machine) -> Any:
    """A function that copies bytes, every thread its share of them."""
    size = te.var("size")
    source = te.placeholder((size,), "uint8", "source")
    schedule = s_tir.Schedule(te.create_prim_func([source, te.compute((size,), lambda place: source[place], "target")]))
    (place,) = schedule.get_loops(schedule.get_sblock("target"))
    share, _ = schedule.split(place, [machine.threads, None])
    schedule.parallel(share)
    function = schedule.mod["main"].with_attr("tirx.is_scheduled", True).with_attr("global_symbol", "shares")
    return tvm.compile(tvm.IRModule({"shares": function}), target=machine.target).jit()["shares"]


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
