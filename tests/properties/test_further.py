"""Causality, equivariance and scale, each against programs that are run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import properties
from properties.causality import CausalityRequirement, is_causal, lookahead
from properties.equivariance import symmetry
from properties.scale import UNLIMITED, scale
from tests.properties.oracle import Program, claim, observed
from tests.properties.programs import PROGRAMS, attention, conv, gate, group_norm, layer_norm, pool, recurrent


def linen(name: str, layer: nn.Module, shape: tuple[int, ...]) -> Program:
    """A layer of Flax Linen as a program of its parameters."""
    with jax.enable_x64(True):
        leaves, tree = jax.tree.flatten(jax.eval_shape(layer.init, jax.random.key(0), jnp.ones(shape)))
    return Program(name, lambda *given: layer.apply(jax.tree.unflatten(tree, given[:-1]), given[-1]), shape, shapes_of(leaves))


def nnx_program(name: str, make: Callable[[nnx.Rngs], Any], shape: tuple[int, ...]) -> Program:
    """A layer of Flax NNX as a program of its parameters."""
    with jax.enable_x64(True):
        graph, params, rest = nnx.split(make(nnx.Rngs(0)), nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)

    def run(*given: Any) -> Any:
        return nnx.merge(graph, jax.tree.unflatten(tree, given[:-1]), rest, copy=True)(given[-1])

    return Program(name, run, shape, shapes_of(leaves))


def shapes_of(leaves: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(leaf.shape) for leaf in leaves)


MASK = np.tri(6, dtype=bool)
DOUBLE: Any = {"param_dtype": jnp.float64}  # the oracle's precision, which the state that is carried must have
SEQUENCES = [
    Program("causal attention", lambda w, x: attention(w, x, MASK), (1, 6, 4), ((4, 12),)),
    Program("strictly causal", lambda w, x: jnp.pad(x[:, :-1], ((0, 0), (1, 0), (0, 0))) @ w, (1, 6, 4), ((4, 4),)),
    Program("full attention", attention, (1, 6, 4), ((4, 12),)),
    Program("cumulative", lambda x: jnp.cumsum(x, 1), (1, 6, 4)),
    Program("causal convolution", lambda w, x: lax.conv_general_dilated(
        x, w, (1,), [(4, 0)], rhs_dilation=(2,), dimension_numbers=("NWC", "WIO", "NWC")), (1, 6, 4), ((3, 4, 4),)),
    Program("convolution", lambda w, x: lax.conv_general_dilated(
        x, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")), (1, 6, 4), ((3, 4, 4),)),
    Program("two causal layers", lambda a, b, x: attention(b, x + attention(a, x, MASK), MASK), (1, 6, 4), ((4, 12), (4, 12))),
    Program("pointwise", lambda w, x: jnp.tanh(x @ w), (1, 6, 4), ((4, 4),)),
    Program("reversed", lambda x: x[:, ::-1], (1, 6, 4)),
    Program("recurrent", recurrent, (1, 6, 4), ((4, 4), (4, 4))),
    Program("two recurrent layers", lambda w, u, x: recurrent(w, u, recurrent(w, u, x)), (1, 6, 4), ((4, 4), (4, 4))),
    Program("recurrent, backwards", lambda w, u, x: recurrent(w, u, x, reverse=True), (1, 6, 4), ((4, 4), (4, 4))),
    Program("recurrent on the reversed", lambda w, u, x: recurrent(w, u, x[:, ::-1])[:, ::-1], (1, 6, 4), ((4, 4), (4, 4))),
    Program("recurrent both ways", lambda w, u, x: recurrent(w, u, x) + recurrent(w, u, x, reverse=True), (1, 6, 4),
            ((4, 4), (4, 4))),
    Program("states before", lambda w, u, x: recurrent(w, u, x, before=True), (1, 6, 4), ((4, 4), (4, 4))),
    Program("mapped", lambda w, x: lax.map(lambda v: jnp.tanh(v @ w), x.swapaxes(0, 1)).swapaxes(0, 1), (1, 6, 4), ((4, 4),)),
    linen("GRU", nn.RNN(nn.GRUCell(3, **DOUBLE)), (1, 6, 4)),
    linen("reversed GRU", nn.RNN(nn.GRUCell(3, **DOUBLE), reverse=True, keep_order=True), (1, 6, 4)),
]  # fmt: skip


@pytest.mark.parametrize("program", SEQUENCES, ids=str)
def test_lookahead_is_the_largest_that_a_jacobian_shows(program: Program) -> None:
    agrees_with_its_jacobian(program)


LSTM, NNX_LSTM = nn.LSTMCell(3, **DOUBLE), lambda rngs: nnx.LSTMCell(4, 3, **DOUBLE, rngs=rngs)
RECURRENT: dict[str, Callable[[], Program]] = {
    "LSTM": lambda: linen("", nn.RNN(LSTM), (1, 6, 4)),
    "optimized LSTM": lambda: linen("", nn.RNN(nn.OptimizedLSTMCell(3, **DOUBLE)), (1, 6, 4)),
    "reversed LSTM": lambda: linen("", nn.RNN(LSTM, reverse=True, keep_order=True), (1, 6, 4)),
    "bidirectional": lambda: linen("", nn.Bidirectional(nn.RNN(LSTM), nn.RNN(LSTM)), (1, 6, 4)),
    "NNX LSTM": lambda: nnx_program("", lambda rngs: nnx.RNN(NNX_LSTM(rngs), rngs=rngs), (1, 6, 4)),
    "NNX LSTM, backwards": lambda: nnx_program(
        "", lambda rngs: nnx.RNN(NNX_LSTM(rngs), reverse=True, keep_order=True, rngs=rngs), (1, 6, 4)),
    "NNX GRU": lambda: nnx_program("", lambda rngs: nnx.RNN(nnx.GRUCell(4, 3, **DOUBLE, rngs=rngs), rngs=rngs), (1, 6, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in list(RECURRENT)[:-1]), "NNX GRU"])
def test_lookahead_of_recurrent_layers(name: str) -> None:
    agrees_with_its_jacobian(RECURRENT[name]())


def agrees_with_its_jacobian(program: Program) -> None:
    pattern, _ = observed(program)
    full = pattern.reshape(*claim(program).shape[0].shape, *program.shape)
    output, position = np.nonzero(full.any(axis=(0, 2, 3, 5)))
    inference = claim(program)
    assert lookahead(inference.mixing[0, 0], 1) == (position - output).max()
    assert is_causal(inference.mixing[0, 0], 1) == ((position - output).max() <= 0)
    assert CausalityRequirement(1).met(inference) == is_causal(inference.mixing[0, 0], 1)


def test_the_last_state_of_a_recurrent_net_reads_all_steps() -> None:
    last = Program("last state", lambda w, u, x: recurrent(w, u, x)[:, -1], (2, 5, 3), ((3, 4), (4, 4)))
    assert claim(last).mixing[0, 0].matrix.tolist() == [[1, 0], [3, 3], [3, 3]]


W = (6, 6)
K = (3, 3, 6, 6)
KK = (1, 1, 6, 6)
MOVES: list[tuple[str, Callable[..., Any], tuple[tuple[int, ...], ...], str, dict[int, int] | None]] = [
    ("dense", lambda w, x: x @ w, (W,), "permutation", {1: 1}),
    ("dense", lambda w, x: x @ w, (W,), "translation", {1: 1}),
    ("bias", lambda b, x: jax.nn.relu(x + b), ((6,),), "permutation", {1: 1}),
    ("position embedding", lambda p, x: x + p, ((12, 12, 6),), "permutation", None),
    ("position embedding", lambda p, x: x + p, ((12, 12, 6),), "translation", None),
    ("row embedding", lambda p, x: x + p, ((1, 12, 6),), "permutation", {1: 1}),
    ("conv 3", conv(), (K,), "permutation", None),
    ("conv 3", conv(), (K,), "translation", {1: 1}),
    ("conv 1", conv(), (KK,), "permutation", {1: 1}),
    ("conv stride 2", conv(2), (K,), "translation", {1: 2}),
    ("conv stride 2 and mean", lambda w, x: conv(2)(w, x).mean((1, 2)), (K,), "translation", {}),
    ("mean", lambda x: x.mean((1, 2)), (), "permutation", {}),
    ("max pool", pool(lax.max, -jnp.inf, 2, 2), (), "translation", {1: 2}),
    ("max pool", pool(lax.max, -jnp.inf, 2, 2), (), "permutation", None),
    ("gate", gate, (W,), "permutation", {1: 1}),
    ("layer norm", layer_norm, (), "permutation", {1: 1}),
    ("group norm", group_norm, (), "translation", {1: 1}),
    ("row attention", lambda w, x: jax.vmap(lambda v: attention(w, v), 2, 2)(x), ((6, 18),), "permutation", {1: 1}),
    ("row attention", lambda w, x: jax.vmap(lambda v: attention(w, v), 2, 2)(x), ((6, 18),), "translation", {1: 1}),
    ("causal rows", lambda w, x: jax.vmap(lambda v: attention(w, v, np.tri(12, dtype=bool)), 2, 2)(x), ((6, 18),),
     "permutation", None),
    ("mixer", lambda w, x: jnp.einsum("bhwc,hk->bkwc", x, w), ((12, 12),), "permutation", None),
    ("sum over rows", lambda x: x + x.sum(1, keepdims=True), (), "permutation", {1: 1}),
    ("turned", lambda x: x.swapaxes(1, 2), (), "permutation", {2: 1}),
    ("flipped", lambda x: x[:, ::-1], (), "translation", None),
    ("cropped", lambda x: x[:, 2:], (), "translation", {1: 1}),
    ("every third", lambda x: x[:, ::3], (), "translation", {1: 3}),
    ("padded", lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 0), (0, 0))), (), "translation", {1: 1}),
    ("flattened", lambda x: x.reshape(1, 144, 6), (), "permutation", None),
    ("sorted", lambda x: jnp.sort(x, 1), (), "permutation", None),
    ("sorted features", lambda x: jnp.sort(x, 3), (), "permutation", {1: 1}),
    ("cumulative", lambda x: jnp.cumsum(x, 1), (), "translation", None),
    ("concatenated", lambda x: jnp.concatenate([x, 2 * x], -1), (), "permutation", {1: 1}),
    ("gram", lambda x: jnp.einsum("bhwc,bkwc->bhk", x, x), (), "permutation", {1: 1, 2: 1}),
    ("gram of a mean", lambda x: jnp.einsum("bhwc,bkwc->bhk", x, x).sum(2), (), "permutation", {1: 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "shapes", "group", "moving"), MOVES)
def test_what_is_claimed_to_move_moves(
    name: str, function: Callable[..., Any], shapes: Any, group: Any, moving: dict[int, int] | None
) -> None:
    rng = np.random.default_rng(0)
    params = [rng.normal(size=shape) for shape in shapes]
    x = np.zeros((1, 12, 12, 6))
    if group == "permutation":
        x[:] = rng.normal(size=x.shape)
    else:
        x[:, 4:6] = rng.normal(size=(1, 2, 12, 6))  # the content, on a constant background
    with jax.enable_x64(True):
        (found,) = symmetry(lambda p, v: function(*p, v), x, axis=1, group=group, params=params)
        assert (dict(found.moving) if found.known else None) == moving
        if moving is None:
            return
        order = rng.permutation(12) if group == "permutation" else np.roll(np.arange(12), found.period)
        before, after = (np.asarray(function(*params, v)) for v in (x, x[:, order]))
    for axis, stride in found.moving:
        order = order if group == "permutation" else np.roll(np.arange(before.shape[axis]), found.period // stride)
        before = np.take(before, order, axis=axis)
    inner = tuple(slice(2, -2) if axis in moving and group == "translation" and before.shape[axis] > 6 else slice(None)
                  for axis in range(before.ndim))  # fmt: skip
    np.testing.assert_allclose(before[inner], after[inner], atol=1e-9)


def test_further_properties_are_read_like_the_others() -> None:
    """By input and output, the other inputs staying; as the functions of these names find them for one input."""

    def net(w: Any, x: Any, y: Any) -> Any:
        return jax.nn.relu(x @ w) + y, x * y.sum(1, keepdims=True)

    w, x = jnp.ones((6, 6)), jnp.ones((2, 5, 6))
    found = properties.infer(net, x, x, params=w, properties=("depth", "mixing", "causality", "scale", properties.EQUIVARIANCE))
    assert [[found.scale[i, o].degree for o in range(2)] for i in range(2)] == [[None, 1], [None, 1]]
    assert [[found.scale[i, o].growth for o in range(2)] for i in range(2)] == [[1, 1], [1, 1]]
    moved = found.equivariance[0, 0].translation
    assert [dict(each.moving) if each.known else None for each in moved] == [None, None, None]  # y stays where it is
    alone = properties.infer(lambda w, x: jax.nn.relu(x @ w) + 1, x, params=w, properties=[properties.EQUIVARIANCE])
    assert [dict(each.moving) for each in alone.equivariance[0, 0].permutation[:2]] == [{0: 1}, {1: 1}]
    assert lookahead(found.causality[0, 1], 1) == lookahead(found.mixing[0, 1], 1) == 0
    with pytest.raises(AttributeError, match=r"no property 'skale' was inferred; .* did you mean 'scale'"):
        _ = found.skale
    with pytest.raises(KeyError, match=r"no property 'rank' was inferred; there are causality, depth, .* ask for it"):
        _ = found.rank


def test_an_axis_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="axis 3 of input 0"):
        symmetry(jnp.sin, jnp.ones((2, 3)), axis=3)


SCALES: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...], Fraction | None, Fraction]] = {
    "identity": (lambda x: x, (), Fraction(1), Fraction(1)),
    "dense": (lambda w, x: x @ w, (W,), Fraction(1), Fraction(1)),
    "biased dense": (lambda w, b, x: x @ w + b, (W, (6,)), None, Fraction(1)),
    "relu net": (lambda w, x: jax.nn.relu(x @ w) @ w, (W,), Fraction(1), Fraction(1)),
    "residual": (lambda w, x: x + jax.nn.relu(x @ w), (W,), Fraction(1), Fraction(1)),
    "square": (jnp.square, (), Fraction(2), Fraction(2)),
    "norm of features": (lambda x: jnp.sqrt(jnp.square(x).sum(-1)), (), Fraction(1), Fraction(1)),
    "layer norm": (layer_norm, (), Fraction(0), Fraction(0)),
    "group norm": (group_norm, (), Fraction(0), Fraction(0)),
    "linear attention": (lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x) @ x, (), Fraction(3), Fraction(3)),
    "attention": (lambda w, x: attention(w, x[:, 0]), ((6, 18),), None, Fraction(1)),
    "normalized branch": (lambda w, x: x + layer_norm(x) @ w, (W,), None, Fraction(1)),
    "tanh": (jnp.tanh, (), None, Fraction(0)),
    "gelu": (jax.nn.gelu, (), None, Fraction(1)),
    "exponential": (jnp.exp, (), None, UNLIMITED),
    "sign": (jnp.sign, (), Fraction(0), Fraction(0)),
    "argmax": (lambda x: jnp.argmax(x, -1), (), Fraction(0), Fraction(0)),
    "max pool": (pool(lax.max, -jnp.inf, 2, 2), (), Fraction(1), Fraction(1)),
    "leaky relu": (jax.nn.leaky_relu, (), Fraction(1), Fraction(1)),
    "gate": (gate, (W,), None, Fraction(1)),
    "multiplied by itself in a loop": (lambda x: lax.fori_loop(0, 3, lambda _, v: v * x, x), (), None, Fraction(4)),
    "unknown": (lambda x: lax.lgamma(x), (), None, UNLIMITED),
}


@pytest.mark.parametrize("name", SCALES)
def test_scale(name: str) -> None:
    function, shapes, degree, growth = SCALES[name]
    rng = np.random.default_rng(1)
    params = [rng.normal(size=shape) for shape in shapes]
    x = 10 * rng.normal(size=(1, 4, 4, 6))
    with jax.enable_x64(True):
        (found,) = scale(lambda p, v: function(*p, v), x, params=params)
        one, many = (np.asarray(function(*params, c * x), dtype=float) for c in (1.0, 1000.0))
    assert (found.degree, found.growth) == (degree, growth)
    if degree is not None:
        np.testing.assert_allclose(many, one * 1000.0 ** float(degree), rtol=1e-3, atol=1e-9)
    elif growth < UNLIMITED:
        assert np.abs(many).max() <= 10 * np.abs(one).max() * 1000.0 ** float(growth)


def test_all_programs_have_a_scale() -> None:
    """Every program of the harness can be asked; what is claimed of its degree holds where it is run."""
    rng = np.random.default_rng(2)
    for program in PROGRAMS[::3]:
        params = [rng.normal(size=shape) for shape in program.params]
        x = rng.normal(size=program.shape)
        found = scale(lambda p, v, f=program.function: f(*p, v), x, params=params)[0]
        assert found.growth <= UNLIMITED
