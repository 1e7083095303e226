"""Laws of equivalence: equal programs are caught in other words, unequal ones never merged."""

from __future__ import annotations

import numpy as np
import pytest

from synth import Builder, Graph, Input, Node, Op, Value, chain
from synth.canonical import canonical
from synth.equivalence import DRAWS, equivalent, fingerprint, signature
from synth.graph import Tie
from synth.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    MaxPool,
    Multiply,
    Opaque,
    Relu,
    RmsNorm,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
)
from tests.strategies import random_graph, renamed

IMAGE = Value((None, 5, 5, 4))
WIDE = Conv(features=8)

EQUAL: dict[str, tuple[list[Op], list[Op]]] = {
    "an activation before or after a maximum": ([WIDE, Relu(), MaxPool()], [WIDE, MaxPool(), Relu()]),
    "in the middle of layers": ([WIDE, Relu(), MaxPool(), WIDE], [WIDE, MaxPool(), Relu(), WIDE]),
    "a map before or after a mean": ([Dense(features=8), GlobalAvgPool()], [GlobalAvgPool(), Dense(features=8)]),
    "one group a channel, or depthwise": ([Conv(features=4, groups=4), Relu()], [DepthwiseConv(), Relu()]),
    "dropout beside an activation": ([WIDE, Dropout(), Relu()], [WIDE, Relu(), Dropout()]),
    "two activations in a row": ([WIDE, Sigmoid(), Relu()], [WIDE, Sigmoid()]),
}

UNEQUAL: dict[str, tuple[list[Op], list[Op]]] = {
    "an activation before or after a mean": ([WIDE, Relu(), AvgPool()], [WIDE, AvgPool(), Relu()]),
    "an activation that is not monotone": ([WIDE, Gelu(), MaxPool()], [WIDE, MaxPool(), Gelu()]),
    "near activations": ([WIDE, Gelu()], [WIDE, Gelu(approximate=True)]),
    "other activations": ([WIDE, Relu()], [WIDE, Silu()]),
    "a norm whose training sees other statistics": ([WIDE, BatchNorm(), AvgPool()], [WIDE, AvgPool(), BatchNorm()]),
    "other epsilons": ([WIDE, LayerNorm()], [WIDE, LayerNorm(epsilon=1e-5)]),
    "other momentum": ([WIDE, BatchNorm()], [WIDE, BatchNorm(momentum=0.99)]),
    "dropout or none": ([WIDE, Relu()], [WIDE, Dropout(), Relu()]),
    "other rates": ([WIDE, Dropout()], [WIDE, Dropout(rate=0.2)]),
    "other initial weights": ([Conv(features=8, kernel=1)], [Dense(features=8, use_bias=False)]),
    "what a tiny factor hides": ([WIDE, Scale(initial=1e-5)], [WIDE, Relu(), Scale(initial=1e-5)]),
    "layers that do not commute": ([DepthwiseConv(), Relu(), Dense(features=4)], [Dense(features=4), Relu(), DepthwiseConv()]),
    "other groups": ([Conv(features=8, groups=2)], [Conv(features=8, groups=4)]),
    "windows and strides": ([WIDE, MaxPool(window=2)], [WIDE, MaxPool(window=3)]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_programs_are_caught(name: str) -> None:
    first, second = (chain(IMAGE, ops) for ops in EQUAL[name])
    assert first.hash != second.hash
    assert equivalent(first, second) and equivalent(second, first)


@pytest.mark.parametrize("name", UNEQUAL)
def test_unequal_programs_are_told_apart(name: str) -> None:
    first, second = (chain(IMAGE, ops) for ops in UNEQUAL[name])
    assert not equivalent(first, second) and not equivalent(second, first)
    # Not because they cannot be compared: each of them is known to equal itself.
    assert equivalent(first, first) and equivalent(second, second)


@pytest.mark.parametrize("seed", range(6))
def test_other_names_orders_and_sides_are_the_same_program(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes=6)
    other = renamed(graph, rng)
    assert signature(graph) == signature(other)
    if all(fingerprint(graph, draw) is not None for draw in range(DRAWS)):
        assert equivalent(graph, other)


def branches(merge: Op, left: list[Op], right: list[Op]) -> Graph:
    build = Builder((5, 5, 4))
    ends = []
    for side, ops in enumerate((left, right)):
        last = build.input
        for index, op in enumerate(ops):
            last = build(op, last, name=f"{side}_{index}")
        ends.append(last)
    return build.graph(build(merge, *ends, name="end"))


def test_branches_may_change_sides_only_where_the_merge_commutes() -> None:
    left: list[Op] = [Conv(features=4), Relu()]
    right: list[Op] = [Conv(features=4, kernel=1), Silu()]
    for merge, commutes in ((Add(), True), (Multiply(), True), (Concatenate(), False)):
        assert equivalent(branches(merge, left, right), branches(merge, right, left)) == commutes


def test_a_plain_op_on_both_branches_may_move_behind_a_merge_that_it_passes() -> None:
    left, right = Conv(features=4), Conv(features=4, kernel=1)
    inside = branches(Concatenate(), [left, Relu()], [right, Relu()])
    plain = branches(Concatenate(), [left], [right])
    behind = Graph(plain.inputs, (*plain.nodes, *chain(Value((None, 5, 5, 8)), [Relu()], "end").nodes), ("relu0",))
    assert equivalent(inside, behind)
    assert not equivalent(branches(Add(), [left, Relu()], [right, Relu()]), branches(Add(), [left], [right]))


def test_layers_that_share_their_arrays_are_not_those_that_do_not() -> None:
    layer = Dense(features=4)

    def stacked(names: tuple[str, ...], *ops: Op, tied: bool = True) -> Graph:
        nodes, last = [], "input"
        for name, op in zip(names, ops, strict=True):
            ties = (Tie("kernel", names[0], "kernel"),) if tied and op == layer and name != names[0] else ()
            nodes.append(Node(name, op, (last,), ties))
            last = name
        return Graph((Input("input", (None, 5, 5, 4)),), tuple(nodes), (last,))

    once, twice = stacked(("a", "b", "c"), layer, Relu(), layer), stacked(("a", "b", "c"), layer, Relu(), layer, tied=False)
    assert not equivalent(once, twice)
    before, behind = (stacked(("u", "v", "w", "x"), layer, *ops, layer) for ops in ((Relu(), MaxPool()), (MaxPool(), Relu())))
    assert equivalent(before, behind)
    assert canonical(once).params == once.params < twice.params


@pytest.mark.parametrize("op", [Softmax(), RmsNorm()])
def test_what_says_too_little_is_not_merged(op: Op) -> None:
    # Of one feature a softmax is always one, and a norm only a sign.
    graph = chain(Value((None, 3)), [Dense(features=1), op, Dense(features=2)])
    other = chain(Value((None, 3)), [Dense(features=1), op, Relu(), Dense(features=2)])
    assert not equivalent(graph, other)


def test_arrays_that_a_model_came_with_are_not_exchanged() -> None:
    held = Opaque(program='{"inputs": 2, "steps": [], "outputs": [0]}', held=(("table", (4,), "float32"),))
    graph, same, other = (chain(IMAGE, [held, Relu()][:length]) for length in (1, 1, 2))
    assert signature(graph) == signature(same)
    moved = chain(IMAGE, [Relu(), held])
    assert signature(moved) != signature(other)
