"""Latency of a graph from what is on record of its kernels: nothing is compiled, nothing is run. Needs no TVM.

The sum of its kernels' seconds among as many bytes of other data as the network has, each brought to the machine's usual pace, and
the measured overhead of a call and of each kernel in it. `experiments/bench/records.py` measures how far it lies off.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphanas.hardware.identity import identify
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


def complete(record: Record | None) -> bool:
    """Whether a record tells all that a prediction wants."""
    return record is not None and bool(record.caches) and record.caches[0][0] <= FEW_BYTES and record.pace is not None


def usual_pace(records: Iterable[Record]) -> float | None:
    """The pace of most of the records of a device: the machine as it usually is. None if none tells."""
    found = [record.pace for record in records if record.pace is not None]
    return statistics.median(found) if found else None


def footprint(flat: Flat, outputs: Sequence[int]) -> int:
    """Bytes that one call of a network goes through: its weights, and the largest value that a kernel leaves, read and written."""
    weights = sum(array.size * array.itemsize for array in flat.constants.values())
    values = [flat.types[slot].size * np.dtype(flat.types[slot].dtype).itemsize for slot in outputs]
    return int(weights + 2 * max(values, default=0))


def seconds_of(records: Sequence[Record], size: int, overhead: Mapping[str, float], usual: float | None = None) -> float:
    """Seconds of one call of a network: the records of its kernels, one for each, in a network of so many bytes.

    Each is brought to the `usual` pace from that which was measured beside it.
    """
    faster = [usual / record.pace if usual and record.pace else 1.0 for record in records]
    own = sum(factor * (record.seconds + more(record, size)) for factor, record in zip(faster, records, strict=True))
    if _is_small(records) and all(record.how == TEMPLATE for record in records):
        alone = sum(factor * _alone(record, size) for factor, record in zip(faster, records, strict=True))
        own = min(own, alone)
    return own + overhead["call"] + overhead["kernel"] * len(records)


def _is_small(records: Sequence[Record]) -> bool:
    distinct = {record.kernel: record.seconds for record in records}
    return sum(distinct.values()) < SMALL_NETWORK_S


def _alone(record: Record, size: int) -> float:
    return record.seconds + more(record, size) if record.alone is None else record.alone


def more(record: Record, size: int) -> float:
    """Seconds that a kernel takes more among so many bytes of other data: on lines through its record's, by their logarithm."""
    sizes, extra = zip(*record.caches, strict=True)
    return float(np.interp(math.log2(max(size, 1)), [math.log2(each) for each in sizes], extra))


class Predictor:
    """Predictions for one device and batch size from one file of records, which it reads again when a kernel is missing."""

    def __init__(self, records: Records, device: Device, batch: int) -> None:
        self.device = device
        self._records = records
        self._batch = batch
        self._known: Mapping[str, Record] = {}
        self._overhead: Mapping[str, float] | None = None
        self._usual: float | None = None

    def __call__(self, graph: Graph) -> Prediction:
        """The prediction for a graph. Raises NotLowerable for what has no rule."""
        plan = outline(graph, self._batch)
        found = self._predicted(plan)
        if found.seconds is not None:
            return found
        self._known = self._records.known(self.device)
        self._overhead = self._records.overhead(self.device)
        self._usual = usual_pace(self._known.values())
        return self._predicted(plan)

    def _predicted(self, plan: Plan) -> Prediction:
        producers = {step.output: step for step in plan.flat.steps}
        storages: dict[int, Storage] = {}
        keys: list[str] = []
        for kernel in plan.kernels:
            key = identify(plan, producers, storages, kernel, self.device.lanes).key
            keys.append(key)
            if key in self._known:
                # What it leaves in memory is part of what its readers are.
                storages[kernel.output] = self._known[key].storage
        distinct = set(keys)
        known = [key for key in distinct if complete(self._known.get(key))]
        seconds = None
        if len(known) == len(distinct) and self._overhead is not None:
            size = footprint(plan.flat, [kernel.output for kernel in plan.kernels])
            seconds = seconds_of([self._known[key] for key in keys], size, self._overhead, self._usual)
        return Prediction(seconds, len(known), len(distinct) - len(known), len(plan.kernels))
