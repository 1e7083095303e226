"""Latency of a graph from what is on record of its kernels: nothing is compiled, nothing is run. Needs no TVM.

The sum of its kernels' seconds, each with weights as cold as a network of that size leaves them and among neighbours that share
threads or do not, as the network's do, brought to the machine's usual pace; and the measured overhead of a call and of each kernel
in it. `experiments/bench/records.py` measures how far it lies off.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphanas.hardware.identity import Texts, identify
from alphanas.hardware.kernels import Plan
from alphanas.hardware.outline import outline
from alphanas.hardware.program import Flat, Storage
from alphanas.hardware.records import FEW_BYTES, TEMPLATE, Device, Record, Records
from synth.graph import Graph


@dataclass(frozen=True)
class Prediction:
    """`seconds` of one call, None where a kernel is not on record; how many distinct kernels are `known` and `unknown`."""

    seconds: float | None
    known: int
    unknown: int
    calls: int


SMALL_NETWORK_S = 0.001
"""Networks whose kernels take less together are also built with every kernel on one thread, and run as what is faster."""


@dataclass(frozen=True)
class Pace:
    """How fast a machine is: seconds of `hardware.pace`'s fixed kernels, one thread's and all threads' exchange (0 with one)."""

    alone: float
    exchange: float


@dataclass(frozen=True)
class Run:
    """One kernel of a network: its record, and which runs before it (by number) wrote what it reads."""

    record: Record
    reads: tuple[int, ...] = ()


def complete(record: Record | None) -> bool:
    """Whether a record tells all that a prediction wants."""
    if record is None or record.pace is None or record.exchange is None:
        return False
    return bool(record.handed) and bool(record.caches) and record.caches[0][0] <= FEW_BYTES


def usual_pace(records: Iterable[Record]) -> Pace | None:
    """The pace of most of the records of a device: the machine as it usually is. None if none tells."""
    found = [(record.pace, record.exchange) for record in records if record.pace is not None and record.exchange is not None]
    return Pace(*(statistics.median(column) for column in zip(*found, strict=True))) if found else None


def footprint(flat: Flat, outputs: Sequence[int]) -> int:
    """Bytes that one call of a network goes through: its weights, and the largest value that a kernel leaves, read and written."""
    weights = sum(array.size * array.itemsize for array in flat.constants.values())
    values = [flat.types[slot].size * np.dtype(flat.types[slot].dtype).itemsize for slot in outputs]
    return int(weights + 2 * max(values, default=0))


def seconds_of(runs: Sequence[Run], size: int, overhead: Mapping[str, float], threads: int, pace: Pace | None = None) -> float:
    """Seconds of one call of a network of so many bytes (see `footprint`) on a machine of this pace.

    Each record is brought to that pace from the one that was measured beside it.
    """
    states = _states(runs)
    own = sum(_seconds(run.record, *state, size, threads, pace) for run, state in zip(runs, states, strict=True))
    if _is_small(runs) and all(run.record.how == TEMPLATE for run in runs):
        own = min(own, sum(_alone(run.record, size, threads, pace) for run in runs))
    return own + overhead["call"] + overhead["kernel"] * len(runs)


def _states(runs: Sequence[Run]) -> list[tuple[float, bool]]:
    """Of each run: which part of what it reads was written by all threads; whether others read its result than wrote it."""
    sizes, shares = [_bytes_of(run.record) for run in runs], [run.record.shares for run in runs]
    away = [False] * len(runs)
    parts = []
    for run, mine in zip(runs, shares, strict=True):
        read = sum([sizes[source] for source in run.reads])
        shared = sum([sizes[source] for source in run.reads if shares[source]])
        parts.append(shared / read if read else float(mine))
        for source in run.reads:
            away[source] |= shares[source] != mine
    return list(zip(parts, away, strict=True))


def _bytes_of(record: Record) -> int:
    return math.prod(record.storage.filled) * np.dtype(record.storage.dtype).itemsize


def _seconds(record: Record, by_all: float, away: bool, size: int, threads: int, pace: Pace | None) -> float:
    """Seconds of one run as its schedule has it; `by_all` and `away` are its state."""
    slower, exchange = _changes(record, pace)
    swapped = _swapped(record, threads)
    # Of what other kernels cost it, with one thread there is the first alone.
    one, all_ = (record.handed[away], record.handed[2 + away]) if threads > 1 else (record.handed[0],) * 2
    handed = (1 - by_all) * one + by_all * all_
    fetches = handed > 0 and (record.shares or away or by_all > 0)
    computing = record.seconds - swapped + more(record, size)
    return slower * computing + exchange * swapped + (exchange if fetches else slower) * handed


def _swapped(record: Record, threads: int) -> float:
    """Seconds that threads spend on each other: what a run takes more than its share of one thread's work."""
    if not record.shares or record.alone is None:
        return 0.0
    return min(max(record.seconds - record.alone / threads, 0.0), record.seconds)


def _alone(record: Record, size: int, threads: int, pace: Pace | None) -> float:
    """Seconds of one run on one thread, in a network of such runs; every thread reads its share of cold weights."""
    slower, _ = _changes(record, pace)
    if record.alone is not None:
        return slower * (record.alone + threads * more(record, size))
    return slower * (record.seconds + record.handed[0] + more(record, size))


def _changes(record: Record, pace: Pace | None) -> tuple[float, float]:
    """How many times as long as beside the record one thread takes at this pace, and an exchange between threads."""
    slower = pace.alone / record.pace if pace is not None and record.pace else 1.0
    return slower, pace.exchange / record.exchange if pace is not None and pace.exchange and record.exchange else 1.0


def _is_small(runs: Sequence[Run]) -> bool:
    distinct = {run.record.kernel: run.record.seconds for run in runs}
    return sum(distinct.values()) < SMALL_NETWORK_S


def more(record: Record, size: int) -> float:
    """Seconds that a kernel takes more whose weights were last read so many bytes ago: on lines through its record's, by their
    logarithm."""
    for (below, low), (above, high) in itertools.pairwise(record.caches):
        if size < above:
            return low + (high - low) * max(math.log2(max(size, 1) / below), 0.0) / math.log2(above / below)
    return record.caches[-1][1]


class Predictor:
    """Predictions for one device and batch size from one file of records, which it reads again when a kernel is missing."""

    def __init__(self, records: Records, device: Device, batch: int) -> None:
        self.device = device
        self._records = records
        self._batch = batch
        self._known: Mapping[str, Record] = {}
        self._overhead: Mapping[str, float] | None = None
        self._usual: Pace | None = None

    @property
    def usual(self) -> Pace | None:
        """The machine's usual pace, at which predictions are unless another is asked for; None before the first prediction."""
        return self._usual

    def __call__(self, graph: Graph, *, pace: Pace | None = None) -> Prediction:
        """The prediction for a graph. Raises NotLowerable for what has no rule."""
        plan = outline(graph, self._batch)
        found = self._predicted(plan, pace)
        if found.seconds is not None:
            return found
        self._known = self._records.known(self.device)
        self._overhead = self._records.overhead(self.device)
        self._usual = usual_pace(self._known.values())
        return self._predicted(plan, pace)

    def _predicted(self, plan: Plan, pace: Pace | None) -> Prediction:
        keys, reads = self._kernels(plan)
        distinct = set(keys)
        known = [key for key in distinct if complete(self._known.get(key))]
        seconds = None
        if len(known) == len(distinct) and self._overhead is not None:
            runs = [Run(self._known[key], sources) for key, sources in zip(keys, reads, strict=True)]
            size = footprint(plan.flat, [kernel.output for kernel in plan.kernels])
            seconds = seconds_of(runs, size, self._overhead, self.device.threads, pace or self._usual)
        return Prediction(seconds, len(known), len(distinct) - len(known), len(plan.kernels))

    def _kernels(self, plan: Plan) -> tuple[list[str], list[tuple[int, ...]]]:
        """Of each kernel in order: its key, and which kernels before it (by number) wrote what it reads."""
        producers = {step.output: step for step in plan.flat.steps}
        storages: dict[int, Storage] = {}
        keys: list[str] = []
        reads: list[tuple[int, ...]] = []
        wrote: dict[int, int] = {}
        texts = Texts()
        for number, kernel in enumerate(plan.kernels):
            identity = identify(plan, producers, storages, kernel, self.device.lanes, texts)
            keys.append(identity.key)
            reads.append(tuple([wrote[slot] for slot in identity.leaves if slot in wrote]))
            wrote[kernel.output] = number
            if identity.key in self._known:
                # What it leaves in memory is part of what its readers are.
                storages[kernel.output] = self._known[identity.key].storage
        return keys, reads
