"""The machine that kernels are compiled for, as far as schedules care. Imports TVM: only worker processes import this module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import tvm
from tvm.target import codegen

from alphanas.errors import UserError, nearest
from alphanas.study.environment import instructions

FLOAT_BITS = 32
VECTORS = {"avx512f": (512, 32), "avx": (256, 16), "sse2": (128, 16), "neon": (128, 32)}
NARROWEST = (128, 16)
"""(bits of a vector, vector registers) by feature, the widest first. A tile takes three quarters of the registers."""
OF_VECTORS = re.compile(r"avx.*|amx.*|fma|f16c|gfni|vaes|vpclmulqdq")
"""Features of x86 CPUs that instructions on vectors need."""
SPREAD_OVER_CORES = 1
"""TVM's word for its threads on the fastest cores first."""


@dataclass(frozen=True)
class Machine:
    """A CPU: LLVM's name for it, float32 lanes of its vectors, registers that a tile may take, threads to use.

    `triple` is LLVM's name of the system, empty for this one; `here` says whether what is compiled for it can run on this one.
    `withheld` are features of such a CPU that it has not here: a virtual machine may hide them.
    """

    cpu: str
    lanes: int
    registers: int
    threads: int
    triple: str = ""
    here: bool = True
    withheld: tuple[str, ...] = ()

    @property
    def target(self) -> Any:
        """TVM's target. (It wants a mapping; it refuses the command-line form.)"""
        return _target(self.triple, mcpu=self.cpu, **{"num-cores": self.threads}, **_without(self.withheld))

    @property
    def name(self) -> str:
        """LLVM's name of the CPU, and what it has not."""
        return f"{self.cpu} without {', '.join(self.withheld)}" if self.withheld else self.cpu


def this_machine(threads: int, cpu: str | None = None) -> Machine:
    """The machine this runs on, or one of another `cpu`. Raises UserError for a name that LLVM does not know."""
    own = codegen.llvm_get_system_cpu()
    return _machine(cpu or own, "", threads, _withheld(own) if cpu is None else ())


def machine_for(target: str | None, threads: int) -> Machine:
    """The machine of a target: None for this one, CPU for another of this system, TRIPLE/CPU to cross-compile.

    Raises UserError for a system or a CPU that LLVM does not know.
    """
    if target is None:
        return this_machine(threads)
    triple, slash, cpu = target.partition("/")
    if not slash and "-" in target and target not in _cpus(""):
        raise UserError(
            f"target {target!r}",
            saw="no CPU",
            wanted="CPU or TRIPLE/CPU, such as aarch64-linux-gnu/cortex-a72",
            remedy=_near(target),
        )
    return _machine(cpu, triple, threads) if slash else _machine(target, "", threads)


def _near(target: str) -> str:
    triple = target.partition("/")[0]
    return f"CPUs of {triple}: {', '.join(_cpus(triple))}" if _known_system(triple) else nearest(target, _cpus(""))


def _machine(cpu: str, triple: str, threads: int, withheld: tuple[str, ...] = ()) -> Machine:
    if triple and not _known_system(triple):
        systems = sorted(_systems())
        raise UserError(
            f"target system {triple!r}", saw="no system that LLVM compiles for", remedy=nearest(_system(triple), systems)
        )
    # TVM logs an unknown name and compiles slow generic code, which would make every measurement a lie.
    if cpu not in _cpus(triple):
        near, known = nearest(cpu, _cpus(triple)), f"known: {', '.join(_cpus(triple))}"
        remedy = known if near.startswith("known") else f"{near} {known}"
        raise UserError("target cpu", saw=cpu or "none", wanted="a CPU that LLVM knows", remedy=remedy)
    host = codegen.llvm_get_system_cpu()
    own = _features(host, "", _withheld(host))
    # TVM's own vector width is 512 for every x86 CPU, so the features decide.
    features = _features(cpu, triple, withheld)
    bits, registers = next((vectors for feature, vectors in VECTORS.items() if feature in features), NARROWEST)
    # A CPU's list also holds what tunes its code and changes no instruction; of the vectors none may be missing here.
    runs = _same_system(triple) and all(feature in own for feature in VECTORS if feature in features)
    return Machine(cpu, bits // FLOAT_BITS, registers * 3 // 4, threads, triple, runs, withheld)


def _withheld(cpu: str) -> tuple[str, ...]:
    """Features of vectors that this system hides of its CPU: code that used them would be killed. The fewest that imply the others.

    Empty where the system does not say what it has.
    """
    offered = instructions()
    found: list[str] = []
    if offered is None:
        return ()
    for feature in sorted(filter(OF_VECTORS.fullmatch, _features(cpu, "")), key=lambda name: (len(name), name)):
        hidden = re.sub(r"[^a-z0-9]", "", feature) not in offered
        if hidden and feature in _features(cpu, "", tuple(found)):
            found.append(feature)
    return tuple(found)


def _without(features: tuple[str, ...]) -> dict[str, list[str]]:
    return {"mattr": [f"-{feature}" for feature in features]} if features else {}


def _target(triple: str, **more: Any) -> Any:
    return tvm.target.Target({"kind": "llvm", **({"mtriple": triple} if triple else {}), **more})


def _cpus(triple: str) -> list[str]:
    return [str(entry) for entry in codegen.llvm_get_cpu_archlist(_target(triple))]


def _features(cpu: str, triple: str, withheld: tuple[str, ...] = ()) -> set[str]:
    return {str(entry) for entry in codegen.llvm_get_cpu_features(_target(triple, mcpu=cpu, **_without(withheld)))}


def _systems() -> set[str]:
    return {str(entry) for entry in codegen.llvm_get_targets()}


def _system(triple: str) -> str:
    return triple.partition("-")[0]


def _known_system(triple: str) -> bool:
    return _system(triple) in _systems()


def _same_system(triple: str) -> bool:
    """Whether a triple names this architecture and this kind of operating system."""
    own = str(codegen.llvm_get_system_triple())
    return not triple or (_system(triple) == _system(own) and ("linux" in triple) == ("linux" in own))


def use_threads(threads: int) -> None:
    """Holds TVM's runtime to this many threads; without this it may use one, whatever the machine has."""
    tvm.get_global_func("runtime.config_threadpool")(SPREAD_OVER_CORES, threads)
    running = int(tvm.get_global_func("runtime.NumThreads")())
    if running != threads:
        raise UserError("threads", saw=f"TVM runs {running}", wanted=str(threads), remedy="ask for no more than the machine has")
