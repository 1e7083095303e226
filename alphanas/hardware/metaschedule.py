"""TVM's own tuner for the kernels that our schedules leave room in: MetaSchedule within a number of trials.

Builder and runner work in this process, which is a worker with a time limit already: no process, linker or C compiler a trial.
Imports TVM: only worker processes import this module.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import types
from typing import Any

import tvm
from tvm.ir.utils import derived_object

from alphanas.hardware.lowering import Lowered
from alphanas.hardware.machine import Machine
from alphanas.hardware.timing import settled_number

TUNED_KINDS = ("contraction", "depthwise")
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


def tuned(lowered: Lowered, machine: Machine, trials: int, *, seed: int = 0) -> dict[int, Any]:
    """The best functions that so many trials found, by task; the heaviest tasks get the trials. Tasks without one are missing."""
    calls = [call.task for call in lowered.calls]
    chosen = [n for n, task in enumerate(lowered.tasks) if task.geometry.kind in TUNED_KINDS]
    weights = {n: float(lowered.tasks[n].geometry.work * calls.count(n)) for n in chosen}
    # A task needs some trials to be worth any.
    chosen = sorted(chosen, key=lambda n: -weights[n])[: max(1, trials // TRIALS_AT_ONCE)]
    if not chosen or trials < 1:
        return {}
    contexts = [_context(lowered, n, machine, seed) for n in chosen]
    artifacts: dict[str, Any] = {}
    for name in ("tvm.s_tir.meta_schedule", "tvm.s_tir.meta_schedule.logging"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        database = meta_schedule.tune_tasks(
            tasks=contexts,
            task_weights=[float(calls.count(n)) for n in chosen],
            work_dir=folder,
            max_trials_global=trials,
            num_trials_per_iter=min(TRIALS_AT_ONCE, trials),
            builder=InProcessBuilder(artifacts, folder),
            runner=InProcessRunner(artifacts),
            database="memory",
            cost_model="xgb",
        )
    found = {n: database.query_schedule(_module(lowered, n), machine.target, "main") for n in chosen}
    return {n: _runnable(schedule.mod)["main"] for n, schedule in found.items() if schedule is not None}


def _context(lowered: Lowered, number: int, machine: Machine, seed: int) -> Any:
    return meta_schedule.TuneContext(
        _module(lowered, number),
        target=machine.target,
        space_generator="post-order-apply",
        search_strategy="evolutionary",
        task_name=f"kernel{number}",
        rand_state=seed + 1,
        num_threads=machine.threads,
    ).clone()


def _module(lowered: Lowered, number: int) -> Any:
    return tvm.IRModule({"main": lowered.tasks[number].function.with_attr("global_symbol", "main")})


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
