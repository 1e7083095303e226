"""What a network costs beside its kernels: one call from Python, and one step of the virtual machine a kernel.

Measured once a device on chains of kernels that do next to nothing. Imports TVM: only worker processes import this module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import relax

from alphanas.hardware import lowering, timing, tuning
from alphanas.hardware.contest import Contest
from alphanas.hardware.kernels import plan
from alphanas.hardware.machine import Machine
from alphanas.hardware.program import Writer
from alphanas.hardware.records import Records
from alphanas.hardware.schedules import scheduled

LENGTHS = (4, 64)
SIZE = 64


def known_overhead(store: Records, machine: Machine) -> dict[str, float]:
    """Seconds: `call` of one call of a network, `kernel` of every kernel in it; measured if no record tells.

    What was measured in a hubbub (`steady` is 0) is measured again whenever it is asked for.
    """
    here = tuning.device_of(machine)
    found = store.overhead(here)
    if found is None or not {"call", "kernel"} <= set(found) or not found.get("steady"):
        found = measured(machine)
        store.set_overhead(here, found)
    return dict(found)


def measured(machine: Machine) -> dict[str, float]:
    """The overhead, from chains of two lengths."""
    lowered = {length: lowering.lowered_plan(_chain(length), machine.lanes) for length in LENGTHS}
    runs = {str(length): _run(lowered[length], machine) for length in LENGTHS}
    found = timing.interleaved(runs)
    short, long = (found[str(length)].median for length in LENGTHS)
    each = (long - short) / (LENGTHS[1] - LENGTHS[0])
    task = lowered[LENGTHS[0]].tasks[0]
    own = Contest(task, [scheduled(task, tuning.untuned(lowered[LENGTHS[0]], machine).knobs[0])], machine).best()[0]
    steady = all(latency.steady for latency in found.values())
    return {"call": max(short - LENGTHS[0] * each, 0.0), "kernel": max(each - own, 0.0), "steady": float(steady)}


def _chain(length: int) -> Any:
    """A plan of so many kernels, each an addition that is stored."""
    writer = Writer()
    first = slot = writer.slot((SIZE,), "float32")
    one = writer.placeholder((SIZE,), "float32")
    for _ in range(length):
        slot = writer.step("add", [slot, one], (SIZE,), "float32")
    flat = writer.flat([first], [slot])
    return plan(flat, frozenset(step.output for step in flat.steps))


def _run(lowered: lowering.Lowered, machine: Machine) -> Callable[[], object]:
    module = lowering.build_module(lowered, tuning.untuned(lowered, machine).knobs)
    main = relax.VirtualMachine(tvm.compile(module, target=machine.target), tvm.cpu())["main"]
    argument = tvm.runtime.tensor(np.zeros(SIZE, np.float32))
    return lambda: main(argument)
