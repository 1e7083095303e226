"""Ops run by NumPy from their programs, against the same ops compiled by XLA."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from alphanas.models import zoo
from alphanas.scoring import interpreted
from alphanas.scoring.compiled import every_training_value, training_value
from alphanas.scoring.interpreted import computed, of_training_values, training_program, training_values
from alphanas.scoring.naswot import log_determinant
from alphanas.scoring.shared import SharedValues, digest, remembered
from alphanas.scoring.taps import taps
from synth import Graph, Op, chain
from synth.graph import weights_of
from synth.op import Value, state_of
from synth.ops import AvgPool, BatchNorm, Conv, ConvTranspose, DepthwiseConv, Dropout, Embed, MaxPool, Relu, StochasticDepth
from tests.harnesses import OP_CASES, case_id, dtype_of
from tests.strategies import random_graph

KEY = jax.random.key(0)
COMPILED = (Dropout, StochasticDepth, ConvTranspose, Embed)
"""Ops that are left to XLA: they draw by chance, or take a step that is rare."""

WINDOWS: list[tuple[Op, tuple[tuple[int, ...], ...]]] = [
    (op, ((9, 8, 12),))
    for op in (
        Conv(features=6, kernel=3, stride=2),
        Conv(features=6, kernel=(1, 5), dilation=2, groups=3),
        Conv(features=4, kernel=4, stride=3, padding="VALID"),
        Conv(features=8, kernel=1, stride=2, groups=2),
        DepthwiseConv(kernel=5, stride=2),
        DepthwiseConv(kernel=3, multiplier=2),
        AvgPool(window=3, stride=2),
        AvgPool(window=3, stride=1, count_padding=False),
        MaxPool(window=3, stride=2),
        Conv(features=6, kernel=3, stride=4, dilation=3),
        Conv(features=6, kernel=(7, 3), groups=6, padding=((5, 0), (0, 4))),
        DepthwiseConv(kernel=(2, 3), stride=(1, 3), dilation=2, padding="VALID"),
    )
] + [
    (op, (shape,))
    for shape in ((11, 6), (5, 4, 6, 6))
    for op in (Conv(features=4, kernel=3, stride=2, groups=2), Conv(features=4, kernel=1), DepthwiseConv(kernel=3))
]


def drawn(op: Op, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return (
        rng.integers(0, 3, shape).astype(np.int32) if dtype_of(op) != "float32" else rng.standard_normal(shape).astype(np.float32)
    )


@pytest.mark.parametrize(("op", "shapes"), [*OP_CASES, *WINDOWS], ids=case_id)
def test_an_op_gives_what_it_gives_compiled(op: Op, shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(1)
    inputs = [drawn(op, rng, (5, *shape)) for shape in shapes]
    values = tuple(Value((None, *shape), dtype_of(op)) for shape in shapes)
    owned = {**op.weights(*values), **state_of(op, values)}
    weights = {name: np.asarray(rng.uniform(0.5, 1.5, weight.shape), weight.dtype) for name, weight in owned.items()}
    types = tuple((name, array.shape, str(array.dtype)) for name, array in sorted(weights.items()))
    program = training_program(op, types, *((array.shape, str(array.dtype)) for array in inputs))
    assert (program is None) == isinstance(op, COMPILED)
    if program is not None:
        found, wanted = computed(program, weights, inputs), np.asarray(training_value(op, weights, KEY, 0, *inputs))
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))


def agrees(graph: Graph, shape: tuple[int, ...], *, within: float = 1e-4) -> None:
    pictures = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    variables, names = graph.init(KEY), taps(graph)
    ours, theirs = training_values(graph, variables, KEY, pictures, names), every_training_value(graph, variables, KEY, pictures)
    for name in names:
        wanted = np.asarray(theirs[name])
        np.testing.assert_allclose(ours[name], wanted, atol=within * max(1.0, float(np.abs(wanted).max())))
    values, _ = Graph(graph.inputs, graph.nodes, names).apply(variables, pictures, train=True, rng=KEY)
    whole = log_determinant(values if isinstance(values, tuple) else (values,))
    assert log_determinant([ours[name] for name in names]) == pytest.approx(whole, abs=0.05)


def test_naswot_is_that_of_the_whole_network_compiled() -> None:
    agrees(zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10), (8, 8, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18_cifar:16", "mobilenet_v2", "vit_ti16"])
def test_naswot_of_larger_networks_is_that_of_the_whole(name: str) -> None:
    # Norms over the eight values of a channel, where 1×1 positions are left, make more of rounding with every layer.
    agrees(zoo.build(name, input_shape=(32, 32, 3), num_classes=10), (32, 32, 3), within=1e-3)


def test_values_of_any_graph_are_those_of_its_compiled_ops() -> None:
    rng = np.random.default_rng(3)
    for _ in range(5):
        graph = random_graph(rng, nodes=8)
        variables, pictures = graph.init(KEY), rng.standard_normal((3, 6, 5, 4)).astype(np.float32)
        names = [node.name for node in graph.nodes]
        ours, theirs = (
            training_values(graph, variables, KEY, pictures, names),
            every_training_value(graph, variables, KEY, pictures),
        )
        for name in names:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-4)


def test_what_stands_before_an_edit_is_computed_once_and_nothing_else_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    value, pictures = Value((None, 8, 8, 3)), np.random.default_rng(0).standard_normal((4, 8, 8, 3)).astype(np.float32)
    parent = chain(value, [Conv(features=4), BatchNorm(), Relu(), Conv(features=5), Relu()])
    child = chain(value, [Conv(features=4), BatchNorm(), Relu(), Conv(features=6), Relu()])
    counted: list[Op] = []
    compute = interpreted._value
    monkeypatch.setattr(interpreted, "SHARED", SharedValues())
    monkeypatch.setattr(interpreted, "_value", lambda op, *rest: (counted.append(op), compute(op, *rest))[1])

    def run(graph: Graph, key: jax.Array, pictures: np.ndarray) -> int:
        counted.clear()
        names = [node.name for node in graph.nodes]
        found, wanted = (
            each(graph, graph.init(key), key, *rest)
            for each, rest in ((training_values, (pictures, names)), (every_training_value, (pictures,)))
        )
        for name in names:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-4)
        return len(counted)

    assert [run(parent, KEY, pictures), run(child, KEY, pictures), run(parent, KEY, pictures)] == [5, 2, 0]
    assert run(child, jax.random.key(1), pictures) == run(child, KEY, pictures + 1) == 5


def test_a_function_of_values_asks_for_no_value_where_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the values themselves had to go: what comes after an edit is computed from what is left, or anew."""
    value, pictures = Value((None, 32, 32, 3)), np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    parent = chain(value, [Conv(features=4), Relu(), Conv(features=4), Relu(), Conv(features=5), Relu()])
    child = chain(value, [Conv(features=4), Relu(), Conv(features=4), Relu(), Conv(features=6), Relu()])
    asked: list[tuple[int, ...]] = []
    for kept, again in ((1 << 20, 0), (3 * 4 * 32 * 32 * 4 * 4, 4)):
        monkeypatch.setattr(interpreted, "SHARED", SharedValues(largest=kept))
        counted: list[Op] = []
        compute = interpreted._value
        monkeypatch.setattr(interpreted, "_value", lambda op, *rest, c=counted, f=compute: (c.append(op), f(op, *rest))[1])

        def norms(array: np.ndarray) -> np.ndarray:
            asked.append(array.shape)
            return np.array([np.linalg.norm(array)])

        for graph, computes in ((parent, 6), (parent, 0), (child, 2 + again)):
            counted.clear()
            names, variables = [node.name for node in graph.nodes], graph.init(KEY)
            found = of_training_values(norms, graph, variables, KEY, pictures, names)
            wanted = every_training_value(graph, variables, KEY, pictures)
            np.testing.assert_allclose(np.concatenate(found), [np.linalg.norm(wanted[name]) for name in names], rtol=1e-5)
            assert len(counted) == computes
        assert len(asked) == 8
        asked.clear()
        monkeypatch.setattr(interpreted, "_value", compute)


def test_initial_weights_that_are_remembered_are_those_that_are_drawn_and_digests_are_of_the_content() -> None:
    graph = chain(Value((None, 8, 8, 3)), [Conv(features=4), BatchNorm()])
    for _ in range(2):
        ours, wanted = graph.drawn(KEY, remembered), graph.drawn(KEY)
        for each, other in zip(jax.tree.leaves(ours), jax.tree.leaves(wanted), strict=True):
            assert not each.flags.writeable and (each == other).all()
    array = np.ones(3)
    array.flags.writeable = False
    first = digest({"a": array})
    assert first == digest({"a": array}) == digest({"a": np.ones(3)}) != digest({"b": array})
    changed = np.ones(3)
    before = digest({"a": changed})
    changed[0] = 2
    assert before == first != digest({"a": changed})


def test_shared_values_go_when_they_are_too_many_the_oldest_first() -> None:
    shared = SharedValues(largest=3 * 80)
    made: list[str] = []
    for name in ("a", "b", "c", "a", "d", "a", "b"):
        shared.of(shared.number(name), lambda name=name: (made.append(name), np.zeros(10))[1])  # type: ignore[misc]
    assert made == ["a", "b", "c", "d", "b"]  # b had to go for d
    assert [shared.number(name) for name in "abcd"] == [0, 1, 2, 3]
    assert [shared.get(number) is not None for number in range(4)] == [True, True, False, True]


def test_what_is_not_asked_for_is_not_computed() -> None:
    graph = chain(Value((None, 8, 8, 3)), [Conv(features=4), Conv(features=5), Conv(features=6)])
    first = graph.nodes[0].name
    found = training_values(graph, graph.init(KEY), KEY, np.ones((2, 8, 8, 3), np.float32), [first])
    assert set(found) == {graph.inputs[0].name, first} and weights_of(graph.init(KEY), graph.nodes[0])
