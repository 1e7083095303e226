"""The machine that kernels are compiled for, as far as schedules care. Imports TVM: only worker processes import this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from alphanas.errors import UserError, nearest

FLOAT_BITS = 32
VECTORS = {"avx512f": (512, 32), "avx": (256, 16), "sse2": (128, 16), "neon": (128, 32)}
NARROWEST = (128, 16)
"""(bits of a vector, vector registers) by feature, the widest first. A tile takes three quarters of the registers."""
SPREAD_OVER_CORES = 1
"""TVM's word for its threads on the fastest cores first."""


@dataclass(frozen=True)
class Machine:
    """A CPU: LLVM's name for it, float32 lanes of its vectors, registers that a tile may take, and threads to use."""

    cpu: str
    lanes: int
    registers: int
    threads: int

    @property
    def target(self) -> Any:
        """TVM's target. (It wants a mapping; it refuses the command-line form.)"""
        return tvm.target.Target({"kind": "llvm", "mcpu": self.cpu, "num-cores": self.threads})


def this_machine(threads: int, cpu: str | None = None) -> Machine:
    """The machine this runs on, or one of another `cpu`. Raises UserError for a name that LLVM does not know."""
    own = codegen.llvm_get_system_cpu()
    name = cpu or own
    generic = tvm.target.Target({"kind": "llvm"})
    known = [str(entry) for entry in codegen.llvm_get_cpu_archlist(generic)]
    # TVM logs an unknown name and compiles slow generic code, which would make every measurement a lie.
    if name not in known:
        raise UserError("target cpu", saw=name, wanted="a CPU that LLVM knows", remedy=nearest(name, known))
    target = tvm.target.Target({"kind": "llvm", "mcpu": name})
    # TVM's own vector width is 512 for every x86 CPU, so the features decide.
    features = {str(entry) for entry in codegen.llvm_get_cpu_features(target)}
    bits, registers = next((vectors for feature, vectors in VECTORS.items() if feature in features), NARROWEST)
    return Machine(name, bits // FLOAT_BITS, registers * 3 // 4, threads)


def use_threads(threads: int) -> None:
    """Holds TVM's runtime to this many threads; without this it may use one, whatever the machine has."""
    tvm.get_global_func("runtime.config_threadpool")(SPREAD_OVER_CORES, threads)
    running = int(tvm.get_global_func("runtime.NumThreads")())
    if running != threads:
        raise UserError("threads", saw=f"TVM runs {running}", wanted=str(threads), remedy="ask for no more than the machine has")
