"""Functions that compute one task, timed in turns on data of their own. Imports TVM: only worker processes import this module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm

from alphanas.execution.turns import turn
from alphanas.hardware.emit import Emitted
from alphanas.hardware.machine import Machine
from alphanas.hardware.timing import ATTEMPTS, Latency, settled_number

ROUNDS = 3
ROUND_MS = 2
"""Each candidate is timed in so many rounds of at least so long, in turns with the others; its best round counts."""
REPEATS = 7
"""Repeats that a record's median and spread are taken over."""


class Contest:
    """Functions that compute the same task, compiled together."""

    def __init__(self, task: Emitted, functions: Sequence[Any], machine: Machine) -> None:
        self._names = [f"choice{n}" for n in range(len(functions))]
        named = zip(self._names, functions, strict=True)
        module = tvm.IRModule({name: function.with_attr("global_symbol", name) for name, function in named})
        self._compiled = tvm.compile(module, target=machine.target).jit()
        self._arrays = [[tvm.runtime.tensor(array, tvm.cpu()) for array in arguments(function)] for function in functions]

    def best(self) -> list[float]:
        """Seconds of one run of each function, in its best round."""
        best = dict.fromkeys(self._names, float("inf"))
        with turn("cpu", "kernels"):
            for _ in range(ROUNDS):
                for name, arrays in zip(self._names, self._arrays, strict=True):
                    timer = self._compiled.time_evaluator(name, tvm.cpu(), number=1, repeat=1, min_repeat_ms=ROUND_MS)
                    best[name] = min(best[name], float(timer(*arrays).mean))
        return list(best.values())

    def steady(self, place: int, seconds: float) -> Latency:
        """The latency of one function, which takes about so many seconds: repeats above 5% spread are taken again."""
        number = settled_number(seconds, ROUND_MS / 1e3)
        timer = self._compiled.time_evaluator(self._names[place], tvm.cpu(), number=number, repeat=REPEATS)
        found: list[Latency] = []
        while not found or (not found[-1].steady and len(found) < ATTEMPTS):
            with turn("cpu", "a kernel"):
                found.append(Latency(tuple(map(float, timer(*self._arrays[place]).results)), number))
        return min(found, key=lambda latency: latency.spread / latency.median)


def arguments(function: Any) -> list[np.ndarray]:
    """Arrays for a function, its result included."""
    rng = np.random.default_rng(0)
    shapes = [tuple(int(size) for size in parameter.shape) for parameter in function.params]
    return [rng.standard_normal(shape).astype(str(each.dtype)) for shape, each in zip(shapes, function.params, strict=True)]
