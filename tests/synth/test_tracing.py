"""Programs cut out of shared traces and put together again, against tracing each on its own; and what is kept of them on disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import properties
from synth import Problem, Value, chain, verify
from synth.effect import summary
from synth.exact import solution_space
from synth.formulas import Formula, Kind, formulas
from synth.op import Op, ShapeMismatch, alternatives, avals_of, output_value, state_of
from synth.ops import OPS, BatchNorm, Conv, MultiHeadAttention, Relu
from synth.product import Product
from synth.shelf import Shelf
from synth.tracing import infer_op, interpret, trace
from tests.harnesses import OP_CASES, case_id, dtype_of
from tests.strategies import random_graph

TYPES = [Value((None, 6, 5, 8)), Value((None, 6, 8)), Value((None, 12))]


@pytest.mark.parametrize("value", TYPES, ids=str)
def test_ops_that_share_a_trace_have_the_properties_of_their_own(value: Value) -> None:
    ops = [op for op_type in OPS.values() if op_type.arity == 1 and op_type.taste > 0 for op in alternatives(op_type, (8,))]
    trace(ops, (value,))
    fitting = 0
    for op in ops[:: 3 if len(ops) > 60 else 1]:
        try:
            found = infer_op(op, (value,))
        except ShapeMismatch:
            with pytest.raises((TypeError, ValueError)):
                op.check(value)
                _alone(op, value)
            continue
        fitting += 1
        assert found == _alone(op, value)
        assert output_value(op, (value,)).aval().shape == found.shape[0].shape
    assert fitting > 5


def _alone(op: Op, value: Value) -> properties.Inference:
    return properties.infer(
        lambda weights, state, x: op.apply({**weights, **state}, x),
        value.aval(),
        params=avals_of(op.weights(value)),
        state=avals_of(state_of(op, (value,))),
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_linked_program_has_the_properties_of_the_traced_one(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=8)
    assert interpret(graph) == verify(graph)


@pytest.mark.parametrize(("op", "shapes"), OP_CASES, ids=case_id)
def test_facts_survive_the_disk(op: Op, shapes: tuple[tuple[int, ...], ...], tmp_path: Path) -> None:
    value = Value((None, *shapes[0]), dtype_of(op))
    if op.arity != 1:
        return
    facts = {op: summary(op, (value,)), ("output", op): output_value(op, (value,)), Kind.of(op, value): _formula(op, value)}
    shelf = Shelf(tmp_path)
    for key, fact in facts.items():
        shelf.note(value, key, fact)
    shelf.keep()
    assert Shelf(tmp_path).recall(value) == facts


def _formula(op: Op, value: Value) -> Formula | None:
    kind = Kind.of(op, value)
    return None if kind is None else formulas([kind])[kind]


def test_what_is_damaged_or_foreign_counts_as_missing(tmp_path: Path) -> None:
    value, shelf = TYPES[0], Shelf(tmp_path)
    shelf.note(value, Relu(), value)
    shelf.keep()
    (file,) = tmp_path.iterdir()
    good = file.read_bytes()
    for bad in (good[:-3], good[:40] + b"x" + good[41:], b"", b"\0" * 80):
        file.write_bytes(bad)
        assert Shelf(tmp_path).recall(value) == {}
    again = Shelf(tmp_path)
    again.note(value, Relu(), value)
    again.keep()
    assert Shelf(tmp_path).recall(value) == {Relu(): value}


def test_writers_at_once_lose_nothing_that_stays_wrong(tmp_path: Path) -> None:
    value = TYPES[0]
    first, second = Shelf(tmp_path), Shelf(tmp_path)
    first.recall(value), second.recall(value)
    first.note(value, Relu(), value)
    second.note(value, BatchNorm(), value)
    first.keep(), second.keep()
    assert Shelf(tmp_path).recall(value) == {Relu(): value, BatchNorm(): value}


@pytest.mark.slow
def test_a_second_process_traces_nothing(tmp_path: Path) -> None:
    code = (
        "from tests.synth.test_tracing import run_once; import synth.tracing as t\n"
        "calls = []; plain = t._trace\n"
        "t._trace = lambda *a: (calls.append(1), plain(*a))\n"
        "print(run_once(), len(calls))"
    )
    env = {"ALPHANAS_CACHE": str(tmp_path), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/bin"}
    printed = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    ]
    assert printed[0][:-1] == printed[1][:-1] == run_once().split()
    assert int(printed[0][-1]) > 0 and int(printed[1][-1]) == 0


def run_once() -> str:
    """The size of a space over attention and convolution, built in a fresh process."""
    value = Value((None, 6, 8))
    found = solution_space(Problem.of(chain(value, [MultiHeadAttention(), Conv(features=8)])), prior=True)
    assert isinstance(found, Product)
    return " ".join(str(int(table[0])) for table in found.counts(False))
