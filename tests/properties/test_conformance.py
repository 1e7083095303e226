"""Matrices and depths that are known by other means, on the sizes of the ancestor's own cases."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import properties
from properties import DepthRequirement, MixingRequirement, ShapeRequirement
from tests.properties.programs import conv, gate, group_norm, layer_norm, pool

X = (4, 8, 8, 6)


def aval(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def inferred(function: Callable[..., Any], *params: tuple[int, ...], shape: tuple[int, ...] = X) -> properties.Inference:
    weights = tuple(aval(*each) for each in params)
    return properties.infer(lambda p, x: function(*p, x), aval(*shape), params=weights)


def average(window: int, stride: int, padding: str = "VALID") -> Callable[[Any], Any]:
    return lambda x: pool(lax.add, 0.0, window, stride, padding)(x) / window**2


def batch_norm(mean: Any, scale: Any, x: Any) -> Any:
    return (x - mean) * scale


POINT = "1000 0100 0010 0001"
DENSE = "1000 0100 0010 3333"
CONV = "1000 0200 0020 3333"
WINDOWED = "1000 0200 0020 0001"
MATRICES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], str]] = {
    "relu": (jax.nn.relu, (), POINT),
    "gelu": (jax.nn.gelu, (), POINT),
    "scalar multiple": (lambda x: 3 * x, (), POINT),
    "sum with itself": (lambda x: x + x, (), POINT),
    "batch norm": (batch_norm, ((6,), (6,)), POINT),
    "dense": (lambda w, x: x @ w, ((6, 5),), DENSE),
    "conv 1": (conv(), ((1, 1, 6, 5),), DENSE),
    "softmax": (jax.nn.softmax, (), DENSE),
    "layer norm": (layer_norm, (), DENSE),
    "dense and relu": (lambda w, x: jax.nn.relu(x @ w), ((6, 5),), DENSE),
    "conv 3": (conv(), ((3, 3, 6, 5),), CONV),
    "conv 5": (conv(), ((5, 5, 6, 5),), CONV),
    "conv 3 stride 2": (conv(2), ((3, 3, 6, 5),), CONV),
    "conv 3 dilation 2": (conv(rhs_dilation=(2, 2)), ((3, 3, 6, 5),), CONV),
    "conv 3 twice": (lambda a, b, x: conv()(b, conv()(a, x)), ((3, 3, 6, 5), (3, 3, 5, 4)), CONV),
    "depthwise": (conv(groups=6), ((3, 3, 1, 6),), WINDOWED),
    "grouped conv": (conv(groups=2), ((3, 3, 3, 6),), "1000 0200 0020 0002"),
    "group norm": (lambda x: group_norm(x, 2), (), "1000 3333 3333 0002"),
    "average pool": (average(2, 2), (), WINDOWED),
    "average pool 3 by 1": (average(3, 1), (), WINDOWED),
    "global pool, axes kept": (lambda x: x.mean((1, 2), keepdims=True), (), "1000 3333 3333 0001"),
    "global pool": (lambda x: x.mean((1, 2)), (), "10 33 33 01"),
    "height and width exchanged": (lambda x: x.swapaxes(1, 2), (), "1000 0010 0100 0001"),
    "max pool": (pool(lax.max, -jnp.inf, 2, 2), (), WINDOWED),
    "conv 1 stride 2": (conv(2), ((1, 1, 6, 5),), "1000 0000 0000 3333"),
    "flatten": (lambda x: x.reshape(4, -1), (), "10 01 01 01"),
    "squeeze and excite": (gate, ((6, 6),), "1000 3333 3333 3333"),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrix(name: str) -> None:
    function, params, rows = MATRICES[name]
    matrix = inferred(function, *params).mixing[0, 0].matrix
    assert [" ".join("".join(map(str, row)) for row in matrix)] == [rows]


def test_softmax_is_met_by_a_convolution_but_not_the_other_way_round() -> None:
    softmax = inferred(jax.nn.softmax, shape=(5, 5, 5))
    kernel = lambda w, x: lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))  # noqa: E731
    convolution = inferred(kernel, (3, 5, 5), shape=(5, 5, 5))
    assert softmax.mixing[0, 0].matrix.tolist() == [[1, 0, 0], [0, 1, 0], [3, 3, 3]]
    assert convolution.mixing[0, 0].matrix.tolist() == [[1, 0, 0], [0, 2, 0], [3, 3, 3]]
    assert MixingRequirement.of(softmax).met(convolution)
    assert not MixingRequirement.of(convolution).met(softmax)


def cifar_net(weights: Any, x: Any, last: int = 11) -> Any:
    """The ancestor's CNN up to operation `last`."""
    same = lambda w: lambda v: conv()(w, v)  # noqa: E731
    steps: list[Callable[[Any], Any]] = [
        same(weights[0]), same(weights[1]), jax.nn.relu, average(2, 2), same(weights[2]), jax.nn.relu, average(2, 2),
        lambda v: v.reshape(v.shape[0], -1), lambda v: v @ weights[3] + weights[4], jax.nn.relu, lambda v: v @ weights[5],
    ]  # fmt: skip
    for step in steps[:last]:
        x = step(x)
    return x


CIFAR = [aval(*s) for s in ((1, 1, 3, 32), (3, 3, 32, 64), (3, 3, 64, 128), (8192, 256), (256,), (256, 10))]


@pytest.fixture(scope="module")
def cifar() -> dict[int, properties.Inference]:
    x = aval(10, 32, 32, 3)
    return {last: properties.infer(functools.partial(cifar_net, last=last), x, params=CIFAR) for last in (10, 11)}


def test_the_cnn_as_a_whole(cifar: dict[int, properties.Inference]) -> None:
    whole = cifar[11]
    assert whole.shape[0].shape == (10, 10)
    assert whole.depth[0, 0] == 7
    assert whole.mixing[0, 0].matrix.tolist() == [[1, 0], [3, 3], [3, 3], [3, 3]]
    assert whole.rank[0, 0] == 100
    spatial = 3 * 32 + 9 * 32 * 64
    assert whole.capacity.macs == 10 * (32 * 32 * spatial + 16 * 16 * 9 * 64 * 128 + 8192 * 256 + 2560)
    # two activations of the first convolution, with and without its padding's batch of 10
    assert whole.capacity.peak_bytes == 2 * 4 * 10 * 32 * 32 * 64


def test_the_cnn_cut_short(cifar: dict[int, properties.Inference]) -> None:
    whole, cut = cifar[11], cifar[10]
    assert cut.depth[0, 0] == 6
    assert DepthRequirement.of(cut).met(whole) and not DepthRequirement.of(whole).met(cut)
    assert DepthRequirement.of(whole).distance(cut) == pytest.approx(1 / 7)
    assert ShapeRequirement.of(whole).met(whole) and not ShapeRequirement.of(whole).met(cut)


DEPTHS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], int]] = {
    "dense": (lambda w, x: x @ w, ((6, 5),), 1),
    "relu": (jax.nn.relu, (), 0),
    "dense and relu": (lambda w, x: jax.nn.relu(x @ w), ((6, 5),), 2),
    "two denses": (lambda a, b, x: x @ a @ b, ((6, 5), (5, 4)), 1),
    "gelu": (jax.nn.gelu, (), 0),
    "gelu exact": (lambda x: jax.nn.gelu(x, approximate=False), (), 0),
    "softmax": (jax.nn.softmax, (), 0),
    "softmax of a dense": (lambda w, x: jax.nn.softmax(x @ w), ((6, 5),), 2),
    "log-softmax": (jax.nn.log_softmax, (), 0),
    "log-sum-exp": (lambda x: jax.nn.logsumexp(x, axis=-1), (), 0),
    "silu": (jax.nn.silu, (), 0),
    "softplus": (jax.nn.softplus, (), 0),
    "square": (jnp.square, (), 0),
    "product with itself": (lambda x: x * x, (), 0),
    "max pool": (pool(lax.max, -jnp.inf, 2, 2), (), 0),
    "mean": (lambda x: x.mean((1, 2)), (), 1),
    "residual of relu": (lambda x: x + jax.nn.relu(x), (), 1),
    "batch norm": (batch_norm, ((6,), (6,)), 1),
    "conv, batch norm, relu": (lambda w, m, s, x: jax.nn.relu(batch_norm(m, s, conv()(w, x))), ((3, 3, 6, 5), (5,), (5,)), 2),
    "gate": (gate, ((6, 6),), 2),
    "loop of dense and relu": (lambda w, x: lax.fori_loop(0, 20, lambda _, v: jax.nn.relu(v @ w), x), ((6, 6),), 40),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_depth(name: str) -> None:
    function, params, depth = DEPTHS[name]
    assert inferred(function, *params).depth[0, 0] == depth


def test_depth_of_a_graph_with_two_outputs() -> None:
    def program(weights: Any, x: Any) -> Any:
        a, b, c = (jax.nn.relu(x[k] @ weights[k]) for k in range(3))
        return a + b, b + c

    inference = properties.infer(program, [aval(2, 3)] * 3, params=[aval(3, 3)] * 3)
    assert [[inference.depth[i, o] for o in range(2)] for i in range(3)] == [[3, 0], [3, 3], [0, 3]]
    dependent = [[inference.relation("mixing", i, o) is not None for o in range(2)] for i in range(3)]
    assert dependent == [[True, False], [True, True], [False, True]]


FIELDS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], tuple[int, int, int]]] = {
    "conv 3": (conv(padding="VALID"), ((3, 3, 6, 6),), (3, 1, 0)),
    "conv 3 stride 2, then conv 3": (
        lambda w, x: conv(padding="VALID")(w, conv(2, padding="VALID")(w, x)),
        ((3, 3, 6, 6),),
        (7, 2, 0),
    ),
    "conv 3, then pool 2": (lambda w, x: average(2, 2)(conv()(w, x)), ((3, 3, 6, 6),), (4, 2, -1)),
    "dilated": (conv(padding="VALID", rhs_dilation=(3, 3)), ((3, 3, 6, 6),), (7, 1, 0)),
}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_field(name: str) -> None:
    function, params, (size, stride, offset) = FIELDS[name]
    field = inferred(function, *params, shape=(1, 32, 32, 6)).mixing[0, 0].receptive_field(1)
    assert field == properties.ReceptiveField(size, stride, offset)


def test_windows_cover_the_axis_exactly_when_they_are_as_long() -> None:
    for depth in range(1, 6):
        for size in range(3, 12):

            def stack(w: Any, x: Any, depth: int = depth) -> Any:
                for _ in range(depth):
                    x = conv()(w, x)
                return x

            entry = inferred(stack, (3, 3, 1, 1), shape=(1, size, 4, 1)).mixing[0, 0].matrix[1, 1]
            assert entry == (3 if 2 * depth + 1 >= size else 2)


def test_memory_does_not_grow_with_sizes() -> None:
    small, large = (inferred(conv(), (3, 3, 6, 6), shape=(1, n, n, 6)).mixing[0, 0] for n in (224, 22400))
    assert small.axes[1:3] == large.axes[1:3]
    assert np.array_equal(small.matrix, large.matrix)
