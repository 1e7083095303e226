"""Latency of a graph from what is on record of its kernels: nothing is compiled, nothing is run. Needs no TVM.

The sum of its kernels' seconds, and the measured overhead of a call and of each kernel in it. A kernel that runs for microseconds
finds its data in another state in a network than alone; `experiments/bench/records.py` measures how far the sum lies off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alphanas.hardware.identity import identify
from alphanas.hardware.kernels import Plan
from alphanas.hardware.outline import outline
from alphanas.hardware.program import Storage
from alphanas.hardware.records import Device, Record, Records
from synth.graph import Graph


@dataclass(frozen=True)
class Prediction:
    """`seconds` of one call, None where a kernel is not on record; how many distinct kernels are `known` and `unknown`."""

    seconds: float | None
    known: int
    unknown: int
    calls: int


class Predictor:
    """Predictions for one device and batch size from one file of records, which it reads again when a kernel is missing."""

    def __init__(self, records: Records, device: Device, batch: int) -> None:
        self.device = device
        self._records = records
        self._batch = batch
        self._known: Mapping[str, Record] = {}
        self._overhead: Mapping[str, float] | None = None

    def __call__(self, graph: Graph) -> Prediction:
        """The prediction for a graph. Raises NotLowerable for what has no rule."""
        plan = outline(graph, self._batch)
        found = self._predicted(plan)
        if found.seconds is not None:
            return found
        self._known = self._records.known(self.device)
        self._overhead = self._records.overhead(self.device)
        return self._predicted(plan)

    def _predicted(self, plan: Plan) -> Prediction:
        producers = {step.output: step for step in plan.flat.steps}
        storages: dict[int, Storage] = {}
        counts: dict[str, int] = {}
        for kernel in plan.kernels:
            key = identify(plan, producers, storages, kernel, self.device.lanes).key
            counts[key] = counts.get(key, 0) + 1
            if key in self._known:
                # What it leaves in memory is part of what its readers are.
                storages[kernel.output] = self._known[key].storage
        known = [key for key in counts if key in self._known]
        seconds = None
        if len(known) == len(counts) and self._overhead is not None:
            own = sum(self._known[key].seconds * count for key, count in counts.items())
            seconds = own + self._overhead["call"] + self._overhead["kernel"] * len(plan.kernels)
        return Prediction(seconds, len(known), len(counts) - len(known), len(plan.kernels))
