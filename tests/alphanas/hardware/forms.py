"""Run in a process of its own: writes the kernels of every case, compares those of one form; prints JSON on the last line."""

from __future__ import annotations

import functools
import json
from collections import Counter
from typing import Any

import jax
import numpy as np
from tvm_ffi import structural_equal

from alphanas.hardware import rows
from alphanas.hardware.bodies import emit
from alphanas.hardware.canonical import canonical
from alphanas.hardware.emit import Emitted
from alphanas.hardware.flattening import flatten
from alphanas.hardware.identity import identify
from alphanas.hardware.kernels import Plan
from alphanas.hardware.lowering import lower, lowered_plan
from alphanas.hardware.outline import outline
from alphanas.hardware.program import Storage
from alphanas.models import zoo
from synth.graph import Graph
from tests.alphanas.hardware.cases import array, cases
from tests.strategies import random_graph

LANES = 8


def written(plan: Plan, known: dict[str, Emitted]) -> list[bool]:
    """Whether each kernel of a plan, written anew, is the function that others of its form are."""
    producers = {step.output: step for step in plan.flat.steps}
    storages: dict[int, Storage] = {}
    agree = []
    for kernel in plan.kernels:
        identity = identify(plan, producers, storages, kernel, LANES)
        emitted = emit(plan, producers, storages, kernel, LANES)
        storages[kernel.output] = emitted.storage
        twin = known.setdefault(identity.exact, emitted)
        same = twin.geometry == emitted.geometry and twin.storage == emitted.storage
        inside = {argument.slot for argument in emitted.arguments} <= set(identity.leaves)
        agree.append(same and inside and bool(structural_equal(twin.function, emitted.function)))
    return agree


def all_written() -> dict[str, Any]:
    """Kernels of the cases and of some models, by whether those of one form agree."""
    known: dict[str, Emitted] = {}
    some = [case for number, case in enumerate(cases()) if number % 3 == 0 or not case.name.startswith("op")]
    flats = [flatten(lambda *x, f=case.function: jax.tree.leaves(f(*x)), *case.inputs) for case in some]
    plans = [rows.planned(canonical(flat)) for flat in flats]
    plans += [outline(zoo.build(name, input_shape=(32, 32, 3), num_classes=10), 1) for name in ("resnet18",)]
    agree = [one for plan in plans for one in written(plan, known)]
    return {"kernels": len(agree), "forms": len(known), "agree": sum(agree)}


def with_number(factor: float) -> tuple[str, str]:
    """(key, code) of a kernel that multiplies by a number."""
    lowered = lower(lambda x: (x * factor).sum(-1), array(3, 40), lanes=LANES)
    return lowered.keys[0], lowered.tasks[0].function.script()


def numbers() -> dict[str, Any]:
    """How many keys and codes there are with numbers that differ."""
    plain = [with_number(factor) for factor in (0.3, 0.4)]
    special = [with_number(factor) for factor in (0.3, 0.0, 1.0, -1.0, float("inf"))]
    keys, codes = ({pair[place] for pair in plain} for place in (0, 1))
    return {"keys": len(keys), "codes": len(codes), "special": len({key for key, _ in special})}


def differs(graph: Graph) -> int:
    """Kernels of a graph with weights that its outline has not, or the other way round."""
    # Weights of nought would be special numbers where an array has one element.
    variables = jax.tree.map(lambda array: array + 0.3, graph.init(jax.random.key(1)))
    inputs = [np.zeros([2 if size is None else size for size in item.shape], item.dtype) for item in graph.inputs]
    whole = lower(functools.partial(graph.apply, variables), *inputs, lanes=LANES)
    plain = lowered_plan(outline(graph, 2), LANES)
    with_weights, without = (Counter(one.keys[call.task] for call in one.calls) for one in (whole, plain))
    return ((with_weights - without) + (without - with_weights)).total()


def outlines() -> dict[str, int]:
    graphs = {name: zoo.build(name, input_shape=(32, 32, 3), num_classes=10) for name in ("resnet8", "mobilenet_nano", "vit_nano")}
    graphs |= {f"random{seed}": random_graph(np.random.default_rng(seed), nodes=10) for seed in range(3)}
    return {name: differs(graph) for name, graph in graphs.items()}


def met_again() -> list[bool]:
    """Whether lowering twice writes every kernel once, and calls it with the values of each program."""
    x = array(2, 16, 15, 3)
    case = next(case for case in cases() if case.name == "tiny_cnn")
    first, again = (lower(case.function, x, lanes=LANES) for _ in range(2))
    once = all(one.function is other.function for one, other in zip(first.tasks, again.tasks, strict=True))
    return [once, [call.arguments for call in first.calls] == [call.arguments for call in again.calls]]


if __name__ == "__main__":
    print(json.dumps({"written": all_written(), "numbers": numbers(), "outlines": outlines(), "again": met_again()}))
