"""Blocks as ops, and programs with branches."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from synth import Found, Infeasible, Op, Problem, Target, Value, chain, infer, synthesize, verify, vocabulary
from synth.block import Block, assembled, opened
from synth.effect import macs, params, summary
from synth.ops import (
    Add,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    Multiply,
    Relu,
    Sigmoid,
    SquaredRelu,
)

IMAGE = Value((None, 8, 8, 16))
TOKENS = Value((None, 6, 16))
EXCITE = Block(
    merge=Multiply(),
    branches=((), (GlobalAvgPool(keep_axes=True), Dense(features=0), Relu(), Dense(features=32), Sigmoid())),
    inner=8,
)
KNOWN: dict[str, tuple[Value, Block]] = {
    "residual bottleneck": (
        IMAGE,
        Block(
            merge=Add(),
            branches=((), (Conv(features=0, kernel=1), BatchNorm(), Relu(), Conv(features=0), Conv(features=16, kernel=1))),
            inner=8,
        ),
    ),
    "inverted residual with squeeze-and-excite": (
        IMAGE,
        Block(
            merge=Add(),
            branches=(
                (),
                (Conv(features=32, kernel=1), BatchNorm(), DepthwiseConv(), BatchNorm(), EXCITE, Conv(features=16, kernel=1)),
            ),
            inner=8,
        ),
    ),
    "ConvNeXt-like": (
        IMAGE,
        Block(
            merge=Add(),
            branches=((), (DepthwiseConv(kernel=5), LayerNorm(), Dense(features=0), Gelu(), Dense(features=16))),
            inner=64,
        ),
    ),
    "gated MLP": (
        TOKENS,
        Block(merge=Multiply(), branches=((Dense(features=16), Gelu()), (Dense(features=16),)), inner=16),
    ),
    "squared-ReLU feed-forward": (
        TOKENS,
        Block(merge=Add(), branches=((), (LayerNorm(), Dense(features=0), SquaredRelu(), Dense(features=16))), inner=64),
    ),
    "parallel halves": (
        IMAGE,
        Block(merge=Concatenate(), branches=((Conv(features=8),), (DepthwiseConv(), Dense(features=8))), inner=8),
    ),
    "projected residual": (
        IMAGE,
        Block(
            merge=Add(), branches=((Conv(features=32, kernel=1, stride=2),), (Conv(features=32, stride=2), BatchNorm())), inner=8
        ),
    ),
}
known = pytest.mark.parametrize("name", KNOWN)


@known
def test_a_block_as_an_op_is_the_graph_it_is_taken_apart_into(name: str) -> None:
    value, block = KNOWN[name]
    graph = assembled(value, (block,))
    own, whole = summary(block, (value,)), verify(graph)
    assert own.shape == whole.shape and own.relations == whole.relations
    assert params(block, (value,)) == graph.params
    assert macs(block, (value,)) == sum(macs(node.op, graph.input_values(node)) for node in graph.nodes)
    assert not any(isinstance(node.op, Block) for node in graph.nodes)


@known
def test_a_block_computes_and_trains(name: str) -> None:
    value, block = KNOWN[name]
    graph = chain(value, [block])
    x = jax.numpy.asarray(np.random.default_rng(0).standard_normal(value.aval(3).shape), "float32")
    variables = graph.init(jax.random.key(0))
    out, updated = graph.apply(variables, x, train=True, rng=jax.random.key(1))
    assert out.shape == graph.apply(updated, x).shape
    assert np.isfinite(np.asarray(out)).all()


def test_the_inner_width_is_open_and_the_outer_one_is_not() -> None:
    body: tuple[Op, ...] = (Conv(features=16), Relu(), Conv(features=16), BatchNorm(), Relu())
    assert [getattr(op, "features", None) for op in opened(body)] == [0, None, 16, None, None]


@pytest.mark.slow
def test_what_is_found_has_branches_and_meets_the_target() -> None:
    small = vocabulary(Conv, DepthwiseConv, Relu, BatchNorm, Sigmoid, GlobalAvgPool, Add, Multiply, Concatenate)
    asked = Problem.of(chain(Value((None, 4, 4, 8)), [Conv(features=8), Relu()]), max_length=3, widths=(4, 8), vocabulary=small)
    result = synthesize(asked, "branches", rng=np.random.default_rng(0), count=6, time_limit=60)
    assert isinstance(result, Found)
    for graph in result.graphs:
        assert any(len(set(node.inputs)) > 1 for node in graph.nodes)
        assert asked.target.distance(graph) == 0
        assert infer(graph).shape == verify(graph).shape


def test_contradictory_shapes_stay_infeasible() -> None:
    shapes = Target((*Target.asking((None, 8, 8, 16)).requirements, *Target.asking((None, 4, 4, 16)).requirements))
    assert isinstance(synthesize(Problem(IMAGE, shapes, 2, (16,)), "branches"), Infeasible)
