"""Run in a process of its own: lowers every case, runs it, compares with JAX; prints JSON on the last line."""

from __future__ import annotations

import dataclasses
import json
from typing import Any
from unittest import mock

import jax
import numpy as np
import tvm
from tvm import relax
from tvm.target import codegen

from alphanas.errors import UserError
from alphanas.hardware import canonical, decompositions, expressions, flattening, indexing, lowering, schedules, tuning
from alphanas.hardware.machine import OF_VECTORS, Machine, this_machine, use_threads
from alphanas.hardware.tasks import difference
from alphanas.study.environment import instructions
from properties import jaxpr
from tests.alphanas.hardware.cases import Case, array, cases, convolution, expanded

RULES = (flattening.RULES, decompositions.DECOMPOSITIONS, canonical.RULES, expressions.RULES, indexing.RULES)


def outputs(lowered: Any, knobs: Any, machine: Machine, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """What the lowered program computes."""
    module = lowering.build_module(lowered, knobs)
    compiled = relax.VirtualMachine(tvm.compile(module, target=machine.target), tvm.cpu())
    result = compiled["main"](*(tvm.runtime.tensor(x) for x in inputs))
    return [item.numpy() for item in result] if len(lowered.flat.outputs) > 1 else [result.numpy()]


def expected(case: Case) -> list[np.ndarray]:
    return [np.asarray(output) for output in jax.tree.leaves(jax.jit(case.function)(*case.inputs))]


def of_case(case: Case, machine: Machine) -> float:
    """Largest error relative to the output."""

    def flat(*inputs: Any) -> list[Any]:
        return jax.tree.leaves(case.function(*inputs))

    lowered = lowering.lower(flat, *case.inputs, lanes=machine.lanes)
    got = outputs(lowered, tuning.untuned(lowered, machine).knobs, machine, case.inputs)
    return difference(got, expected(case))


def of_knobs(case: Case, machine: Machine) -> list[float]:
    """Errors of one kernel under all its knobs, on one thread and on several in turn."""
    lowered = lowering.lower(case.function, *case.inputs, lanes=machine.lanes)
    (task,) = lowered.tasks
    tiles = schedules.choices(task, machine.registers, machine.threads)
    tried = [dataclasses.replace(knobs, parallel=bool(n % 2)) for n, knobs in enumerate(tiles)]
    wanted = expected(case)
    return [difference(outputs(lowered, [knobs], machine, case.inputs), wanted) for knobs in tried]


def asks_ahead(features: int, machine: Machine) -> bool:
    """Whether a 1×1 convolution of so many features asks for weights before it needs them."""
    lowered = lowering.lower(convolution(256, features, kernel=1), array(1, 9, 7, 256), lanes=machine.lanes)
    (task,), (knobs,) = lowered.tasks, tuning.untuned(lowered, machine).knobs
    return "prefetch" in schedules.scheduled(task, knobs).script()


def primitives(program: jaxpr.Program) -> set[str]:
    """The names of all primitives of a program and of those that it calls."""
    inner = [primitives(called) for equation in program.equations for called in equation.programs]
    return {equation.primitive for equation in program.equations}.union(*inner)


def vectors(cpu: str) -> list[int] | str:
    """(lanes, registers of a tile) for a CPU, or why there are none."""
    try:
        machine = this_machine(1, cpu)
    except UserError as error:
        return str(error)
    return [machine.lanes, machine.registers]


def where_all_wide_vectors_are_hidden() -> list[Any]:
    """(lanes, registers of a tile, whether anything for them is still allowed) of this CPU under a system that hides them."""
    offered = instructions()
    narrow = frozenset(word for word in offered or () if not OF_VECTORS.fullmatch(word))
    with mock.patch("alphanas.hardware.machine.instructions", lambda: narrow):
        machine = this_machine(1)
    allowed = {str(feature) for feature in codegen.llvm_get_cpu_features(machine.target)}
    return [machine.lanes, machine.registers, any(map(OF_VECTORS.fullmatch, allowed))]


def main() -> None:
    use_threads(2)
    machine = this_machine(2)
    table = cases()
    steps = {name for case in table for name in primitives(jaxpr.program(jaxpr.trace(case.function, *case.inputs)[0]))}
    dense = Case("dense", lambda x: x @ array(24, 40), (array(48, 24),))
    depthwise = Case("depthwise", convolution(40, 40, groups=40), (array(1, 16, 16, 40),))
    turning = Case("turning", lambda x: jax.nn.relu(convolution(32, 32, groups=16)(x)), (array(1, 16, 16, 32),))
    report = {
        "errors": {case.name: of_case(case, machine) for case in table},
        "knobs": {
            "convolution": of_knobs(Case("convolution", convolution(8, 40), (array(1, 16, 16, 8),)), machine),
            "dense": of_knobs(dense, machine),
            "winograd": of_knobs(Case("winograd", convolution(20, 33), (array(2, 17, 14, 20),)), machine),
            "depthwise": of_knobs(depthwise, machine),
            "turning": of_knobs(turning, machine),
            "expanded": of_knobs(Case("expanded", expanded(8, 64), (array(2, 33, 14, 8),)), machine),
        },
        "widths": [
            of_case(case, dataclasses.replace(machine, lanes=lanes, registers=registers, threads=1))
            for case in (Case("dense", convolution(12, 20), (array(1, 8, 8, 12),)), turning)
            for lanes, registers in ((4, 12), (16, 24))
        ],
        "asked": [asks_ahead(features, machine) for features in (64, 512)],
        "vectors": {cpu: vectors(cpu) for cpu in ("znver4", "haswell", "core2", "znver9")},
        "hidden": where_all_wide_vectors_are_hidden(),
        "rules": sorted({name for table in RULES for name in table}),
        "seen": sorted(steps),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
