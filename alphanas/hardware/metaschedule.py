"""TVM's own tuner for the kernels that our schedules leave room in: MetaSchedule within a number of trials.

Builder and runner work in this process, which is a worker with a time limit already: no process, linker or C compiler a trial.
Imports TVM: only worker processes import this module.
"""

from __future__ import annotations

import base64
import dataclasses
import logging
import os
import sys
import tempfile
import types
import zlib
from collections.abc import Mapping
from typing import Any

import tvm
from tvm.ir.utils import derived_object

from alphanas.hardware import tuning
from alphanas.hardware.contest import Contest
from alphanas.hardware.emit import Emitted
from alphanas.hardware.lowering import Lowered
from alphanas.hardware.machine import Machine
from alphanas.hardware.records import METASCHEDULE, Record, Records
from alphanas.hardware.schedules import TUNED_KINDS
from alphanas.hardware.timing import settled_number

TRIALS_AT_ONCE = 8
REPEATS = 3
TRIAL_S = 0.002

# Their import takes 15 to 29 s, and none of them is for this CPU.
_VENDORS = ("cuda", "rocm", "hexagon", "arm_cpu", "riscv_cpu")
for _vendor in _VENDORS:
    sys.modules.setdefault(f"tvm.s_tir.tensor_intrin.{_vendor}", types.ModuleType(_vendor))

from tvm.s_tir import meta_schedule  # noqa: E402
from tvm.s_tir.meta_schedule.builder import BuilderResult, PyBuilder  # noqa: E402
from tvm.s_tir.meta_schedule.runner import PyRunner  # noqa: E402
from tvm.s_tir.meta_schedule.runner.local_runner import LocalRunnerFuture  # noqa: E402
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock  # noqa: E402


def fill(store: Records, lowered: Lowered, machine: Machine, trials: Mapping[int, int]) -> dict[int, Record]:
    """The records of so many trials by task: those that are there with as many, else new ones. Tasks that none fits are missing.

    A task that another process spends trials on now is left to it.
    """
    here = tuning.device_of(machine)
    found: dict[int, Record] = {}
    for number, wanted in trials.items():
        task, key = lowered.tasks[number], lowered.keys[number]
        with store.claim(here, f"{key} {METASCHEDULE}") as mine:
            record = store.find(here, key, METASCHEDULE)
            wants_more = (0 if record is None else record.trials) < wanted and task.geometry.kind in TUNED_KINDS
            if mine and wants_more:
                record = _searched(task, key, lowered.exacts[number], machine, wanted, record)
            if record is None:
                continue
            store.add(here, record)
            found[number] = record
    return found


def _searched(task: Emitted, key: str, exact: str, machine: Machine, wanted: int, before: Record | None) -> Record | None:
    """The record once so many trials were spent: of what they found, or of what was known before if that is faster."""
    had = 0 if before is None else before.trials
    function = search(task, machine, wanted - had, seed=had)
    if function is None:
        return before
    contest = Contest(task, [function], machine)
    latency, paced = tuning.beside(machine, lambda: contest.steady(0, contest.best()[0]))
    record = tuning.recorded(task, key, METASCHEDULE, {"function": _packed(function), "exact": exact}, latency, wanted)
    if before is not None and before.seconds < record.seconds:
        return dataclasses.replace(before, trials=wanted)
    weights = [place for place, argument in enumerate(task.arguments) if argument.block]
    return tuning.with_others(dataclasses.replace(record, pace=paced.alone, exchange=paced.exchange), contest, 0, weights)


def function_of(record: Record) -> Any:
    """The scheduled function of a record: for the kernel of that `exact` form alone, since its numbers are in it."""
    return tvm.ir.load_json(zlib.decompress(base64.b85decode(record.schedule["function"])).decode())


def _packed(function: Any) -> str:
    return base64.b85encode(zlib.compress(tvm.ir.save_json(function).encode(), 9)).decode()


def search(task: Emitted, machine: Machine, trials: int, *, seed: int = 0) -> Any:
    """The task's function under the best schedule that so many trials found; None if none runs."""
    return search_function(task.function, machine, trials, seed=seed)


def search_function(function: Any, machine: Machine, trials: int, *, seed: int = 0) -> Any:
    """The same for any function of TVM's, one that it lowered by itself too."""
    module = tvm.IRModule({"main": function.with_attr("global_symbol", "main")})
    artifacts: dict[str, Any] = {}
    for name in ("tvm.s_tir.meta_schedule", "tvm.s_tir.meta_schedule.logging"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        database = meta_schedule.tune_tasks(
            tasks=[_context(module, machine, seed)],
            task_weights=[1.0],
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(TRIALS_AT_ONCE, trials),
            builder=InProcessBuilder(artifacts, folder),
            runner=InProcessRunner(artifacts),
            database="memory",
            cost_model="xgb",
        )
    best = database.query_schedule(module, machine.target, "main")
    return None if best is None else _runnable(best.mod)["main"]


def _context(module: Any, machine: Machine, seed: int) -> Any:
    return meta_schedule.TuneContext(
        module,
        target=machine.target,
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        task_name="kernel",
        rand_state=seed + 1,
        num_threads=machine.threads,
    ).clone()


def _runnable(module: Any) -> Any:
    return RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(module)


@derived_object
class InProcessBuilder(PyBuilder):
    """Compiles into memory; an artifact's path is its key. (MetaSchedule removes the path's folder, so there must be one.)"""

    def __init__(self, artifacts: dict[str, Any], folder: str) -> None:
        super().__init__()
        self.artifacts = artifacts
        self.folder = folder

    def build(self, build_inputs: list[Any]) -> list[Any]:
        return [self.one(item) for item in build_inputs]

    def one(self, item: Any) -> Any:
        """One trial; a schedule that TVM cannot compile is a result like any other."""
        key = os.path.join(tempfile.mkdtemp(dir=self.folder), "in_memory")
        try:
            self.artifacts[key] = tvm.compile(_runnable(item.mod), target=item.target).jit()
        except RuntimeError as error:
            return BuilderResult(None, str(error))
        return BuilderResult(key, None)


@derived_object
class InProcessRunner(PyRunner):
    """Times what the builder left in memory."""

    def __init__(self, artifacts: dict[str, Any]) -> None:
        super().__init__()
        self.artifacts = artifacts

    def run(self, runner_inputs: list[Any]) -> list[Any]:
        return [self.one(item) for item in runner_inputs]

    def one(self, item: Any) -> Any:
        """One trial's seconds."""
        compiled = self.artifacts.pop(str(item.artifact_path))
        device = tvm.cpu()
        arrays = [tvm.runtime.empty([int(s) for s in info.shape], str(info.dtype), device) for info in item.args_info]
        first = float(compiled.time_evaluator("main", device, number=1, repeat=1)(*arrays).mean)
        number = settled_number(first, TRIAL_S)
        timer = compiled.time_evaluator("main", device, number=number, repeat=REPEATS)
        return LocalRunnerFuture([float(seconds) for seconds in timer(*arrays).results], None)
