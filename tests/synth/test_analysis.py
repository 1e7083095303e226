"""Properties composed from op summaries against properties of the whole jaxpr."""

from __future__ import annotations

import numpy as np
import pytest

from synth import Builder, Graph, Value, chain, infer, macs, verify
from synth.ops import Add, BatchNorm, Concatenate, Conv, Dense, DepthwiseConv, GlobalAvgPool, MaxPool, Multiply, Relu, Sigmoid
from tests.strategies import random_graph


def blocks() -> list[Graph]:
    residual = Builder((8, 8, 16))
    x = residual(Conv(features=16), residual.input, name="conv")
    x = residual(BatchNorm(), x, name="norm")
    x = residual(Add(), x, residual.input, name="sum")
    gate = Builder((8, 8, 16))
    y = gate(GlobalAvgPool(keep_axes=True), gate.input, name="squeeze")
    y = gate(Sigmoid(), gate(Dense(features=16), y, name="excite"), name="gate")
    return [
        residual.graph(residual(Relu(), x, name="out")),
        gate.graph(gate(Multiply(), gate.input, y, name="out")),
        chain(Value((None, 9, 9, 8)), [DepthwiseConv(), Dense(features=32), Relu(), MaxPool(), Conv(features=8, groups=2)]),
    ]


@pytest.mark.parametrize("graph", blocks(), ids=["residual", "squeeze-excite", "chain"])
def test_composition_equals_interpreting_the_whole(graph: Graph) -> None:
    composed, whole = infer(graph), verify(graph)
    assert composed.shape == whole.shape
    assert composed.relations == whole.relations
    for figure in ("macs", "params", "state", "elementwise", "bytes_moved", "peak_bytes"):
        assert getattr(composed.capacity, figure) == getattr(whole.capacity, figure), figure


def test_capacity_is_that_of_one_example_and_keeps_state_apart() -> None:
    graph = blocks()[0]
    found = infer(graph).capacity
    assert found.params == graph.params == 9 * 16 * 16 + 2 * 16
    assert found.state == 2 * 16
    assert found.macs == macs(graph) == 64 * 9 * 16 * 16
    # the input, which the sum needs, what the norm reads and what it makes
    assert found.peak_bytes == 3 * 4 * 64 * 16


@pytest.mark.parametrize("seed", range(25))
def test_composition_claims_nothing_that_the_whole_does_not(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=8)
    composed, whole = infer(graph), verify(graph)
    assert composed.shape == whole.shape
    if whole.relation("mixing", 0, 0) is None:
        return
    assert composed.depth[0, 0] >= whole.depth[0, 0]
    assert (composed.mixing[0, 0].matrix >= whole.mixing[0, 0].matrix).all()
    assert composed.rank[0, 0] >= whole.rank[0, 0]


def test_multiply_adds_are_counted_for_one_example() -> None:
    graph = chain(Value((None, 4, 4, 3)), [Conv(features=5), Dense(features=2)])
    assert macs(graph) == 16 * 9 * 3 * 5 + 16 * 5 * 2


def test_branches_that_meet_are_joined() -> None:
    builder = Builder((6, 6, 4))
    a = builder(Conv(features=4), builder.input, name="a")
    graph = builder.graph(builder(Concatenate(), a, builder.input, name="both"))
    assert infer(graph).mixing[0, 0].matrix.tolist() == [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [3, 3, 3, 3]]
