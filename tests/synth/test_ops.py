"""Laws of every op, over one table, against oracles that are not JAX."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from synth import OPS, GraphError, Op, ShapeMismatch, Value, alternatives, vocabulary
from synth.graph import Graph, Input, Node, op_from_json, op_to_json
from synth.op import ModalOp, output_value
from synth.ops import (
    AvgPool,
    BatchNorm,
    ClassToken,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GroupNorm,
    MaxPool,
    MultiHeadAttention,
    Relu,
    Reshape,
    Scale,
    Select,
    StochasticDepth,
    Transpose,
    Zero,
)
from tests import oracles
from tests.harnesses import IMAGE, OP_CASES, TOKENS, case_id, dtype_of

cases = pytest.mark.parametrize(("op", "shapes"), OP_CASES, ids=case_id)


def single(op: Op, shapes: tuple[tuple[int, ...], ...]) -> Graph:
    inputs = tuple(Input(f"x{index}", (None, *shape), dtype_of(op)) for index, shape in enumerate(shapes))
    return Graph(inputs, (Node("op", op, tuple(item.name for item in inputs)),), ("op",))


def example(op: Op, shapes: tuple[tuple[int, ...], ...], batch: int = 3) -> tuple[Graph, dict[str, Any], list[np.ndarray]]:
    graph = single(op, shapes)
    rng = np.random.default_rng(7)
    variables = jax.tree.map(lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype), graph.init(jax.random.key(0)))
    return graph, variables, [_numbers(rng, (batch, *shape), dtype_of(op)) for shape in shapes]


def _numbers(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return (rng.standard_normal(shape) if dtype == "float32" else rng.integers(0, 5, shape)).astype(dtype)


def test_every_op_of_the_vocabulary_has_a_case() -> None:
    assert {type(op) for op, _ in OP_CASES} == set(OPS.values())


@cases
def test_json_gives_the_op_back(op: Op, shapes: Any) -> None:
    assert op_from_json(op_to_json(op)) == op


@cases
def test_the_inferred_type_is_the_type_of_the_result(op: Op, shapes: Any) -> None:
    graph, variables, inputs = example(op, shapes)
    out = graph.apply(variables, *inputs)
    assert (None, *out.shape[1:]) == graph.values["op"].shape
    assert out.shape[0] == 3
    assert str(out.dtype) == graph.values["op"].dtype


@cases
def test_examples_of_a_batch_do_not_see_each_other(op: Op, shapes: Any) -> None:
    graph, variables, inputs = example(op, shapes, batch=4)
    whole = graph.apply(variables, *inputs)
    part = graph.apply(variables, *(x[:2] for x in inputs))
    np.testing.assert_allclose(whole[:2], part, rtol=1e-5, atol=1e-5)


@cases
def test_training_has_finite_gradients_for_every_parameter_and_input(op: Op, shapes: Any) -> None:
    graph, variables, inputs = example(op, shapes)

    def loss(params: Any, xs: Any) -> jax.Array:
        out, new = graph.apply({**variables, "params": params}, *xs, train=True, rng=jax.random.key(1))
        assert jax.tree.structure(new) == jax.tree.structure(variables)
        return jnp.sum(out * jnp.cos(jnp.arange(out.size).reshape(out.shape)))

    # Integers have no gradient.
    wanted = (0, 1) if dtype_of(op) == "float32" else (0,)
    grads = jax.jit(jax.grad(loss, argnums=wanted))(variables["params"], inputs)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(grads))
    assert all((float(jnp.abs(leaf).max()) > 0) != isinstance(op, Zero) for leaf in jax.tree.leaves(grads[1:]))


@cases
def test_vmap_over_weights_equals_a_loop(op: Op, shapes: Any) -> None:
    graph, variables, inputs = example(op, shapes)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 1.5]), variables)
    axes = jax.tree.map(lambda leaf: 0, stacked)
    if not jax.tree.leaves(stacked):
        return
    both = jax.vmap(graph.apply, in_axes=(axes, *(None for _ in inputs)))(stacked, *inputs)
    second = graph.apply(jax.tree.map(lambda leaf: leaf[1], stacked), *inputs)
    np.testing.assert_allclose(both[1], second, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("op", "shapes"), [case for case in OP_CASES if isinstance(case[0], Conv | DepthwiseConv)], ids=case_id)
def test_convolutions_are_the_sums_that_define_them(op: Any, shapes: Any) -> None:
    graph, variables, (x,) = example(op, shapes)
    weights = variables["params"]["op"]
    kernel = np.asarray(weights["kernel"])
    groups = x.shape[-1] // kernel.shape[-2]
    expected = oracles.convolve(x, kernel, stride=op.stride, dilation=op.dilation, groups=groups, padding=op.padding)
    expected += np.asarray(weights.get("bias", 0.0))
    np.testing.assert_allclose(graph.apply(variables, x), expected, rtol=1e-4, atol=1e-4)
    trained, _ = graph.apply(variables, x, train=True, rng=jax.random.key(0))
    np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "op",
    [Conv(features=64, groups=4), Conv(features=32, groups=32, kernel=5), DepthwiseConv(), DepthwiseConv(stride=2)],
    ids=case_id,
)
def test_fast_training_forms_have_the_gradients_of_the_plain_convolution(op: Any) -> None:
    graph, variables, (x,) = example(op, ((7, 6, 64),))
    key = jax.random.key(0)

    def loss(variables: Any, train: bool) -> jax.Array:
        out = graph.apply(variables, x, train=True, rng=key)[0] if train else graph.apply(variables, x)
        return jnp.sum(jnp.sin(out))

    plain, fast = (jax.grad(loss)(variables, train)["params"]["op"]["kernel"] for train in (False, True))
    np.testing.assert_allclose(fast, plain, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("op", "shapes"), [case for case in OP_CASES if isinstance(case[0], AvgPool | MaxPool)], ids=case_id)
def test_pools_reduce_their_windows(op: Any, shapes: Any) -> None:
    graph, variables, (x,) = example(op, shapes)
    counted = op.attributes().get("count_padding", True)
    largest = isinstance(op, MaxPool)
    expected = oracles.pool(x, window=op.window, stride=op.stride, padding=op.padding, largest=largest, counted=counted)
    np.testing.assert_allclose(graph.apply(variables, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_a_weighted_mean_of_values(causal: bool) -> None:
    graph, variables, (x,) = example(MultiHeadAttention(heads=2, causal=causal), (TOKENS,))
    expected = oracles.attention(x, variables["params"]["op"], causal=causal)
    np.testing.assert_allclose(graph.apply(variables, x), expected, rtol=1e-4, atol=1e-4)


CLOSED_FORMS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_silu": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "squared_relu": lambda x: np.maximum(x, 0) ** 2,
    "gelu": lambda x: 0.5 * x * (1 + special.erf(x / math.sqrt(2))),
    "silu": lambda x: x * special.expit(x),
    "sigmoid": special.expit,
    "softmax": oracles.softmax,
}


@pytest.mark.parametrize("kind", CLOSED_FORMS)
def test_activations_are_their_closed_forms(kind: str) -> None:
    graph, variables, (x,) = example(OPS[kind](), (TOKENS,))
    x = x * 4
    np.testing.assert_allclose(graph.apply(variables, x), CLOSED_FORMS[kind](x.astype(np.float64)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("op", "shape", "axes"),
    [(OPS["layer_norm"](), TOKENS, (-1,)), (GroupNorm(groups=4), IMAGE, (1, 2, 4)), (GroupNorm(groups=1), IMAGE, (1, 2, 3, 4))],
    ids=case_id,
)
def test_norms_standardise_their_groups(op: Op, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    graph, _, (x,) = example(op, (shape,))
    out = np.asarray(graph.apply(graph.init(jax.random.key(0)), x * 3 + 1))
    if isinstance(op, GroupNorm):
        out = out.reshape(*out.shape[:-1], op.groups, -1)
    np.testing.assert_allclose(out.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(axes), 1, atol=1e-3)


def test_batch_norm_trains_on_the_batch_and_infers_on_the_running_statistics() -> None:
    graph, variables, (x,) = example(BatchNorm(momentum=0.8), (IMAGE,), batch=8)
    own = variables["params"]["op"]
    out, new = graph.apply(variables, x * 2 + 3, train=True, rng=jax.random.key(0))
    mean, var = (x * 2 + 3).mean((0, 1, 2)), (x * 2 + 3).var((0, 1, 2))
    np.testing.assert_allclose(out, (x * 2 + 3 - mean) / np.sqrt(var + 1e-5) * own["scale"] + own["bias"], rtol=1e-3, atol=1e-3)
    old = variables["state"]["op"]
    np.testing.assert_allclose(new["state"]["op"]["mean"], 0.8 * old["mean"] + 0.2 * mean, rtol=1e-4)
    np.testing.assert_allclose(new["state"]["op"]["var"], 0.8 * old["var"] + 0.2 * var, rtol=1e-3)
    inferred = graph.apply(variables, x)
    np.testing.assert_allclose(
        inferred, (x - old["mean"]) / np.sqrt(np.asarray(old["var"]) + 1e-5) * own["scale"] + own["bias"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("shape", "shift"), [((6, 5, 4, 3), 0.0), ((6, 5, 4, 3), 10.0), ((16, 7), -3.0), ((3, 9, 2), 1.0)])
def test_batch_norm_has_the_slopes_of_what_it_computes(shape: tuple[int, ...], shift: float) -> None:
    rng = np.random.default_rng(0)
    axes, op = tuple(range(len(shape) - 1)), BatchNorm(epsilon=1e-2)
    x = jnp.asarray(rng.standard_normal(shape) * 2 + shift, jnp.float32)
    slope = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    scale, bias = (jnp.asarray(rng.standard_normal(shape[-1:]), jnp.float32) for _ in range(2))
    statistics = {"mean": jnp.zeros(shape[-1]), "var": jnp.ones(shape[-1])}

    def plain(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        centered = x - x.mean(axes)
        return centered / jnp.sqrt(jnp.square(centered).mean(axes) + op.epsilon) * scale + bias

    def trained(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return op.train({"scale": scale, "bias": bias, **statistics}, x, key=jax.random.key(0))[0]

    wanted, back = jax.vjp(plain, x, scale, bias)
    found, mine = jax.vjp(trained, x, scale, bias)
    for got, want in zip((found, *mine(slope)), (wanted, *back(slope)), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=2e-4)


def test_dropout_keeps_the_mean_and_drops_at_its_rate() -> None:
    graph = single(Dropout(rate=0.25), ((64, 64, 4),))
    out, _ = graph.apply(graph.init(jax.random.key(0)), jnp.ones((2, 64, 64, 4)), train=True, rng=jax.random.key(1))
    assert abs(float((out == 0).mean()) - 0.25) < 0.02
    assert abs(float(out.mean()) - 1) < 0.02


def test_stochastic_depth_keeps_or_drops_whole_examples() -> None:
    graph = single(StochasticDepth(rate=0.25), ((3, 4),))
    out, _ = graph.apply(graph.init(jax.random.key(0)), jnp.ones((4000, 3, 4)), train=True, rng=jax.random.key(1))
    kept = np.asarray(out).reshape(4000, -1)
    assert np.all(kept == kept[:, :1])
    assert set(np.unique(kept)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(kept.mean()) - 1) < 0.04


@pytest.mark.parametrize("initial", [1.0, 1e-6])
def test_a_scale_starts_at_its_initial_value_and_trains_from_there(initial: float) -> None:
    graph, _, (x,) = example(Scale(initial=initial), (TOKENS,))
    variables = graph.init(jax.random.key(0))
    np.testing.assert_allclose(graph.apply(variables, x), x * initial, rtol=1e-6)
    doubled = jax.tree.map(lambda leaf: leaf + 1, variables)
    np.testing.assert_allclose(graph.apply(doubled, x), x * (initial + 1), rtol=1e-6)


def test_a_class_token_stands_in_front_and_select_takes_it_out() -> None:
    graph, variables, (x,) = example(ClassToken(tokens=2), (TOKENS,))
    out = np.asarray(graph.apply(variables, x))
    np.testing.assert_array_equal(out[:, 2:], x)
    np.testing.assert_array_equal(out[1, :2], variables["params"]["op"]["token"])
    assert not np.any(graph.init(jax.random.key(0))["params"]["op"]["token"])
    np.testing.assert_array_equal(Select(index=-1).apply({}, jnp.asarray(out)), x[:, -1])


@pytest.mark.parametrize(
    ("op", "shape", "says"),
    [
        (Conv(features=8, groups=5), IMAGE, "5 groups, which must divide"),
        (Conv(features=8), (12,), "spatial axes"),
        (Conv(features=8, kernel=11, padding="VALID"), IMAGE, "leaves nothing"),
        (GroupNorm(groups=5), IMAGE, "must divide"),
        (MultiHeadAttention(heads=3), TOKENS, "must divide"),
        (MultiHeadAttention(heads=2), IMAGE, "positions and features"),
        (Reshape(shape=(5, -1)), (7,), "does not hold"),
        (Transpose(order=(1, 1)), TOKENS, "must permute"),
        (AvgPool(), (12,), "spatial axes"),
        (Select(index=6), TOKENS, "no position 6"),
        (Select(axis=2), TOKENS, "between the batch and the features"),
        (ClassToken(), IMAGE, "positions and features"),
    ],
    ids=case_id,
)
def test_what_does_not_fit_says_so(op: Op, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ShapeMismatch, match=says):
        output_value(op, (Value((None, *shape)),))


@pytest.mark.parametrize("data", [{"kind": "no_such_op"}, {"kind": "relu", "slope": 1}, {"kind": "dense"}])
def test_json_of_no_op_is_an_error(data: dict[str, Any]) -> None:
    with pytest.raises(GraphError):
        op_from_json(data)


def test_alternatives_are_the_product_of_the_declared_choices() -> None:
    found = list(alternatives(Conv, [4, 8]))
    assert len(found) == len(set(found)) == 3 * 2 * 4 * 2
    assert {op.features for op in found if isinstance(op, Conv)} == {4, 8}
    assert list(alternatives(Relu, [4])) == [Relu()]


def test_two_ops_of_one_kind_are_an_error() -> None:
    with pytest.raises(ValueError, match="dense"):
        vocabulary(Dense, Dense)


def test_stateless_ops_are_not_modal() -> None:
    assert not isinstance(Dense(features=3), ModalOp)
    assert isinstance(BatchNorm(), ModalOp)
