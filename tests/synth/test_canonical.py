"""Laws of canonical forms: the same function, no dearer, found again from any rewriting."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import Builder, Graph, Node, Op, Value, chain, infer, macs
from synth.canonical import canonical, collapsible, neutral
from synth.op import ModalOp, output_value
from synth.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    MaxPool,
    Relu,
    Reshape,
    Scale,
    Softmax,
    SquaredRelu,
    Transpose,
)
from tests.harnesses import OP_CASES, case_id, dtype_of
from tests.strategies import random_graph, renamed

IMAGE = Value((None, 5, 5, 6))
KEY = jax.random.key(0, impl="unsafe_rbg")  # compiles at once
UNARY_CASES = [(op, shapes[0]) for op, shapes in OP_CASES if len(shapes) == 1 and dtype_of(op) == "float32"]


def random_variables(graph: Graph, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype), graph.init(jax.random.key(0)))


def padded(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same program with detours: windows of one, transpositions there and back, activations twice, nodes of no use."""
    nodes: list[Node] = []
    names = {item.name: item.name for item in graph.inputs}
    types = dict(graph.values)

    def add(op: Op, read: str) -> str:
        name = f"extra{len(nodes)}"
        nodes.append(Node(name, op, (read,)))
        types[name] = output_value(op, (types[read],))
        return name

    for node in graph.nodes:
        nodes.append(Node(node.name, node.op, tuple(names[read] for read in node.inputs)))
        last = node.name
        if node.op == Relu():
            last = add(MaxPool(stride=1), add(Relu(), last)) and add(Relu(), last)
        if len(types[last].shape) == 4 and rng.random() < 0.5:
            last = add(Transpose(order=(2, 1, 3)), add(Transpose(order=(2, 1, 3)), last))
        if len(types[last].shape) > 2 and rng.random() < 0.5:
            last = add(AvgPool(window=1, stride=1), last)
        names[node.name] = last
    return Graph(graph.inputs, tuple(nodes), tuple(names[name] for name in graph.outputs))


@pytest.mark.parametrize("seed", range(8))
def test_a_canonical_graph_computes_the_same_with_the_same_weights_in_inference_and_training(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = padded(random_graph(rng, nodes=7), rng)
    small = canonical(graph)
    variables = random_variables(graph)
    x = rng.standard_normal((2, 6, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(small.apply(variables, x), graph.apply(variables, x), rtol=1e-5, atol=1e-5)
    before, after = (each.apply(variables, x, train=True, rng=jax.random.key(1)) for each in (graph, small))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), after, before)


@pytest.mark.parametrize("seed", range(12))
def test_canonical_forms_do_not_depend_on_how_a_program_is_written(seed: int) -> None:
    rng = np.random.default_rng(100 + seed)
    graph = random_graph(rng, nodes=8)
    form = canonical(graph)
    assert canonical(form) == form
    assert canonical(padded(graph, rng)).hash == form.hash
    assert canonical(renamed(graph, rng)).hash == form.hash


@pytest.mark.parametrize("seed", range(8))
def test_a_canonical_graph_has_the_same_mixing_and_is_no_deeper_and_no_dearer(seed: int) -> None:
    rng = np.random.default_rng(200 + seed)
    graph = padded(random_graph(rng, nodes=6), rng)
    small = canonical(graph)
    had, has = infer(graph), infer(small)
    assert small.params == graph.params and macs(small) <= macs(graph) and len(small.nodes) <= len(graph.nodes)
    assert has.depth[0, 0] <= had.depth[0, 0]
    assert has.rank[0, 0] <= had.rank[0, 0]
    np.testing.assert_array_equal(has.mixing[0, 0].matrix, had.mixing[0, 0].matrix)


@pytest.mark.parametrize(("op", "shape"), UNARY_CASES, ids=case_id)
def test_what_an_op_declares_of_signs_and_repetition_holds(op: Op, shape: tuple[int, ...]) -> None:
    graph = chain(Value((None, *shape)), [op])
    variables = random_variables(graph)
    weights = {**variables["params"].get(graph.nodes[0].name, {}), **variables["state"].get(graph.nodes[0].name, {})}
    x = np.random.default_rng(3).standard_normal((4, *shape)).astype(np.float32)

    def results(given: Any) -> list[np.ndarray]:
        found = [op.apply(weights, given)]
        return found + ([op.train(weights, given, key=KEY)[0]] if isinstance(op, ModalOp) else [])

    if op.nonnegative:
        assert all((np.asarray(out) >= 0).all() for out in results(x))
    if op.keeps_nonnegative:
        assert all((np.asarray(out) >= 0).all() for out in results(np.abs(x)))
    if op.fixes_nonnegative:
        assert all(np.array_equal(out, np.abs(x)) for out in results(np.abs(x)))
    if op.idempotent:
        assert all(np.array_equal(op.apply(weights, out), out) for out in results(x))


@pytest.mark.parametrize(("op", "shape"), UNARY_CASES, ids=case_id)
def test_an_op_is_neutral_exactly_where_it_gives_its_input_back_whatever_it_owns(op: Op, shape: tuple[int, ...]) -> None:
    graph = chain(Value((None, *shape)), [op])
    x = np.random.default_rng(4).standard_normal((3, *shape)).astype(np.float32)
    trained, _ = graph.apply(random_variables(graph), x, train=True, rng=KEY)
    unchanged = trained.shape == x.shape and np.array_equal(trained, x)
    # An opaque op may have any program, so it stays even where that is the identity.
    assert neutral(op, Value((None, *shape))) == (unchanged and not isinstance(op, ModalOp))


REDUNDANT: dict[str, tuple[list[Op], list[Op]]] = {
    "an activation twice": ([Relu(), Relu()], [Relu()]),
    "the positive part of a square": ([SquaredRelu(), Relu()], [SquaredRelu()]),
    "the positive part of probabilities, pooled": ([Softmax(), AvgPool(), Relu()], [Softmax(), AvgPool()]),
    "the positive part after dropout": ([Relu(), Dropout(), Relu()], [Relu(), Dropout()]),
    "windows of one": ([MaxPool(window=1, stride=1), AvgPool(window=1, stride=1)], []),
    "a flat flattened": ([Flatten(), Flatten()], [Flatten()]),
    "a reshape to the same shape": ([Flatten(), Reshape(shape=(-1,))], [Flatten()]),
    "there and back": ([Transpose(order=(3, 1, 2)), Transpose(order=(2, 3, 1))], []),
    "a mean of what is one": ([GlobalAvgPool(keep_axes=True)] * 2, [GlobalAvgPool(keep_axes=True)]),
    "a largest of one": ([GlobalAvgPool(keep_axes=True), MaxPool(stride=1)], [GlobalAvgPool(keep_axes=True)]),
}


@pytest.mark.parametrize("name", REDUNDANT)
def test_what_changes_nothing_is_left_out(name: str) -> None:
    long, short = (chain(IMAGE, ops) for ops in REDUNDANT[name])
    assert canonical(long).hash == short.hash


KEPT: dict[str, list[Op]] = {
    "an activation that is not idempotent": [Gelu(), Gelu()],
    "a square of a square": [SquaredRelu(), SquaredRelu()],
    "dropout, which training sees": [Dropout(), Dropout()],
    "a learned scale": [Scale(), Scale()],
    "normalization, which training sees": [BatchNorm(), BatchNorm()],
    "the positive part of a sum with a bias": [Relu(), Dense(features=6), Relu()],
    "one transposition": [Transpose(order=(2, 1, 3))],
    "a window of two": [MaxPool(stride=1), MaxPool(stride=1)],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_changes_something_stays(name: str) -> None:
    assert canonical(chain(IMAGE, KEPT[name])) == chain(IMAGE, KEPT[name])


def test_equal_plain_nodes_are_one_and_equal_layers_are_two() -> None:
    build = Builder((5, 5, 6))
    first, second = (build(Relu(), build.input, name=name) for name in ("a", "b"))
    left, right = build(Conv(features=6), first, name="c"), build(Conv(features=6), second, name="d")
    form = canonical(build.graph(build(Add(), left, right, name="sum")))
    assert [type(node.op) for node in form.nodes] == [Relu, Conv, Conv, Add]
    assert form.by_name["c"].inputs == form.by_name["d"].inputs == ("a",)


LINEAR: dict[str, tuple[list[Op], list[bool]]] = {
    "two maps that one would do": ([Dense(features=32), Dense(features=6)], [False]),
    "a bottleneck": ([Dense(features=1), Dense(features=6)], [True]),
    "two windows": ([Conv(features=6), Conv(features=6)], [True]),
    "a window and a map": ([Conv(features=6), BatchNorm(), Conv(features=6, kernel=1)], [False]),
    "depthwise and pointwise": ([DepthwiseConv(), Conv(features=6, kernel=1)], [True]),
    "with a non-linearity between": ([Conv(features=6), Relu(), Conv(features=6)], []),
    "three in a row": ([Dense(features=6, use_bias=False)] * 3, [False, False]),
}


@pytest.mark.parametrize("name", LINEAR)
def test_layers_that_could_be_one_are_flagged_with_what_that_would_cost(name: str) -> None:
    ops, factored = LINEAR[name]
    assert [each.factored for each in collapsible(chain(IMAGE, ops))] == factored


def test_a_merged_layer_is_counted_like_the_layer_it_is() -> None:
    (found,) = collapsible(chain(IMAGE, [Conv(features=4), Conv(features=6)]))
    assert found.merged == chain(IMAGE, [Conv(features=6, kernel=5)]).params
    (found,) = collapsible(chain(IMAGE, [Dense(features=4, use_bias=False), Dense(features=3, use_bias=False)]))
    assert found.merged == chain(IMAGE, [Dense(features=3, use_bias=False)]).params
