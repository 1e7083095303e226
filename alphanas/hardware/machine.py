"""The machine that kernels are compiled for, as far as schedules care. Imports TVM: only worker processes import this module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from alphanas.errors import UserError, nearest

FLOAT_BITS = 32
SPARE_REGISTERS = 8
"""Vector registers that a tile leaves to weights and inputs (half as many where there are but 16)."""
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
    bits = int(codegen.llvm_get_vector_width(tvm.target.Target({"kind": "llvm", "mcpu": name})))
    lanes = max(4, bits // FLOAT_BITS)
    few = bits < 512 and "x86_64" in str(codegen.llvm_get_system_triple())
    return Machine(name, lanes, 16 - SPARE_REGISTERS // 2 if few else 32 - SPARE_REGISTERS, threads)


def use_threads(threads: int) -> None:
    """Holds TVM's runtime to this many threads; without this it may use one, whatever the machine has."""
    tvm.get_global_func("runtime.config_threadpool")(SPREAD_OVER_CORES, threads)
    running = int(tvm.get_global_func("runtime.NumThreads")())
    if running != threads:
        raise UserError("threads", saw=f"TVM runs {running}", wanted=str(threads), remedy="ask for no more than the machine has")
