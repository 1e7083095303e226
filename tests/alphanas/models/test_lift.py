"""Lifted models compute what the originals compute, in inference and in training; what is not understood is opaque and runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from alphanas.errors import UserError
from alphanas.models import lift, lift_with_report
from synth import Graph
from synth.ops.opaque import Opaque


def pictures(batch=4, size=8, channels=3, seed=0):
    return np.random.default_rng(seed).standard_normal((batch, size, size, channels)).astype(np.float32)


def assert_same(lifted, wanted, *inputs, tolerance=1e-5):
    """At the batch of the inputs, at another one, and after a trip through JSON."""
    again = Graph.from_json(lifted.graph.to_json())
    assert again == lifted.graph
    for count in (len(inputs[0]), 2):
        some = [array[:count] for array in inputs]
        seen = jax.jit(again.apply)(lifted.variables, *some)
        np.testing.assert_allclose(seen, wanted(*some), atol=tolerance, rtol=tolerance)


class Block(nnx.Module):
    def __init__(self, width, features, stride, rngs):
        self.conv1 = nnx.Conv(width, features, (3, 3), strides=stride, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(features, momentum=0.8, epsilon=1e-3, rngs=rngs)
        self.conv2 = nnx.Conv(features, features, (3, 3), feature_group_count=2, rngs=rngs)
        self.norm2 = nnx.BatchNorm(features, rngs=rngs)
        self.shortcut = nnx.Conv(width, features, (1, 1), strides=stride, rngs=rngs) if stride > 1 else None

    def __call__(self, x):
        y = self.norm2(self.conv2(nnx.relu(self.norm1(self.conv1(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    def __init__(self, rngs):
        self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
        self.blocks = nnx.List([Block(8, 8, 1, rngs), Block(8, 16, 2, rngs)])
        self.head = nnx.Linear(16, 5, rngs=rngs)

    def __call__(self, x):
        x = nnx.max_pool(self.stem(x), (2, 2), strides=(2, 2))
        for block in self.blocks:
            x = block(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


def test_an_nnx_resnet_becomes_ops_alone():
    model = ResNet(nnx.Rngs(0))
    lifted = lift_with_report(model, pictures())
    assert not lifted.report.opaque
    norm = lifted.graph.by_name["blocks0.norm1"].op
    assert (norm.momentum, norm.epsilon) == (0.8, 1e-3)
    assert model.blocks[0].norm1.use_running_average is False, "the caller's model stays as it was"
    model.eval()
    assert_same(lifted, model, pictures())


@pytest.mark.slow
def test_training_of_a_lifted_model_is_the_models_own():
    model = ResNet(nnx.Rngs(0))
    lifted = lift_with_report(model, pictures())
    x = pictures(seed=3)

    def ours(params):
        out, new = lifted.graph.apply({**lifted.variables, "params": params}, x, train=True, rng=jax.random.key(0))
        return jnp.square(out).sum(), (out, new["state"])

    gradients, (out, state) = jax.jit(jax.grad(ours, has_aux=True))(lifted.variables["params"])

    @nnx.jit
    def theirs(net):
        return nnx.grad(lambda net: (jnp.square(net(x)).sum(), net(x)), has_aux=True)(net)

    model.train()
    expected = nnx.jit(lambda net: net(x))(model)
    np.testing.assert_allclose(out, expected, atol=2e-5, rtol=2e-5)
    np.testing.assert_allclose(state["blocks0.norm1"]["mean"], model.blocks[0].norm1.mean[...], atol=1e-5)
    np.testing.assert_allclose(state["blocks1.norm2"]["var"], model.blocks[1].norm2.var[...], atol=1e-5, rtol=1e-5)
    wanted = nnx.jit(nnx.grad(lambda net: jnp.square(net(x)).sum()))(model)
    for node, path in (("stem", ("stem",)), ("blocks1.conv2", ("blocks", 1, "conv2")), ("head", ("head",))):
        found = wanted
        for part in path:
            found = found[part]
        scale = float(jnp.abs(found["kernel"][...]).max())
        np.testing.assert_allclose(gradients[node]["kernel"] / scale, found["kernel"][...] / scale, atol=2e-4)


class TokenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Conv(16, (4, 4), strides=(4, 4), name="patches")(x)
        x = x.reshape(x.shape[0], -1, 16)
        x = x + self.param("positions", linen.initializers.normal(0.02), (1, x.shape[1], 16))
        y = linen.LayerNorm()(x)
        y = linen.SelfAttention(4)(y)
        x = x + linen.Dropout(0.1)(y, deterministic=not train)
        y = linen.Dense(16)(linen.gelu(linen.Dense(32)(linen.LayerNorm()(x))))
        return linen.Dense(5)((x + y).mean(axis=1))


def test_a_linen_pair_lifts():
    module = TokenNet()
    variables = module.init(jax.random.key(0), pictures(), train=False)
    lifted = lift_with_report((module, variables), pictures())
    assert lifted.report.ops["multi_head_attention"] == 1
    assert lifted.report.ops["dropout"] == 1
    assert_same(lifted, lambda x: module.apply(variables, x, train=False), pictures())


def test_a_plain_function_lifts():
    rng = np.random.default_rng(0)
    params = {
        "conv": {"w": rng.standard_normal((3, 3, 3, 8)).astype(np.float32) * 0.2, "b": np.ones(8, np.float32)},
        "head": [rng.standard_normal((8, 5)).astype(np.float32), np.zeros(5, np.float32)],
    }

    def function(params, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = jax.lax.conv_general_dilated(x, params["conv"]["w"], (2, 2), "SAME", dimension_numbers=numbers) + params["conv"]["b"]
        x = jnp.maximum(x, 0)
        return jax.nn.log_softmax(x.mean((1, 2)) @ params["head"][0] + params["head"][1])

    lifted = lift_with_report((function, params), pictures())
    assert lifted.report.ops == {"conv": 1, "relu": 1, "global_avg_pool": 1, "dense": 1}
    assert len(lifted.report.opaque) == 1
    assert lifted.graph.params == 3 * 3 * 3 * 8 + 8 + 8 * 5 + 5
    assert_same(lifted, lambda x: function(params, x), pictures())


SPELLED = {
    "relu": [lambda x: jnp.maximum(x, 0), jax.nn.relu, lambda x: jnp.where(x > 0, x, 0)],
    "gelu": [jax.nn.gelu, lambda x: jax.nn.gelu(x, approximate=False), lambda x: x * 0.5 * (1 + jax.lax.erf(x / np.sqrt(2.0)))],
    "silu": [jax.nn.silu, lambda x: x * jax.nn.sigmoid(x), lambda x: jax.nn.sigmoid(x) * x],
    "softmax": [jax.nn.softmax, lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True)],
    "squared_relu": [lambda x: jax.nn.relu(x) ** 2, lambda x: jnp.square(jnp.maximum(x, 0))],
    "sigmoid": [jax.nn.sigmoid, lambda x: 1 / (1 + jnp.exp(-x))],
}


@pytest.mark.parametrize(("kind", "function"), [(kind, function) for kind, spellings in SPELLED.items() for function in spellings])
def test_activations_are_recognised_however_they_are_written(kind, function):
    lifted = lift_with_report(function, np.ones((2, 6), np.float32))
    assert lifted.report.ops == {kind: 1}
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    assert_same(lifted, function, x)


UNKNOWN = {
    "cumsum": lambda x: jnp.cumsum(x, axis=1),
    "sort": lambda x: jnp.sort(x, axis=1),
    "scan": lambda x: jax.lax.scan(lambda c, t: (c * 0.5 + t, jnp.tanh(c)), x[:, 0], x.transpose(1, 0, 2))[1].transpose(1, 0, 2),
    "while": lambda x: jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * 0.5 + x), (0, x))[1],
    "cond": lambda x: jax.lax.cond(jnp.array(True), jnp.sin, jnp.cos, x),
    "fori": lambda x: jax.lax.fori_loop(0, 3, lambda i, s: s + i * x, x),
    "gather": lambda x: jnp.take(x, np.array([2, 0, 1]), axis=1),
    "top_k": lambda x: jax.lax.top_k(x, 2)[0],
    "split": lambda x: (lambda a, b: a * jnp.tanh(b))(*jnp.split(x, 2, axis=1)),
    "table": lambda x: x * np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6),
    "vmap": lambda x: jax.vmap(lambda row: row @ row.T)(x),
    "merged_batch": lambda x: jnp.tanh(x.reshape(-1, 6)).reshape(x.shape),
    "einsum": lambda x: jnp.einsum("btc,bsc->bts", x, x),
    "linalg": lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
    "roll": lambda x: jnp.roll(x, 1, axis=1) + jnp.flip(x, 1) + jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, 1:],
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_no_op_computes_is_opaque_and_runs(name):
    function = UNKNOWN[name]
    x = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)
    lifted = lift_with_report(function, x)
    assert all(lifted.report.opaque.values())
    assert any(isinstance(node.op, Opaque) for node in lifted.graph.nodes)
    assert_same(lifted, function, x)


@pytest.mark.parametrize("name", ["scan", "gather", "split", "linalg"])
def test_opaque_nodes_differentiate(name):
    function = UNKNOWN[name]
    x = np.random.default_rng(0).standard_normal((5, 4, 6)).astype(np.float32)
    graph, variables = lift(function, x)
    seen = jax.grad(lambda x: jnp.square(graph.apply(variables, x)).sum())(x)
    np.testing.assert_allclose(seen, jax.grad(lambda x: jnp.square(function(x)).sum())(x), atol=1e-4, rtol=1e-4)


class Recurrent(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.LSTMCell(6, 8, rngs=rngs))
        self.head = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


@pytest.mark.slow
def test_a_recurrent_network_is_an_opaque_node_and_a_head():
    model = Recurrent(nnx.Rngs(0))
    x = np.random.default_rng(0).standard_normal((5, 7, 6)).astype(np.float32)
    lifted = lift_with_report(model, x)
    assert lifted.report.ops["dense"] == 1
    assert sum(array.size for arrays in lifted.variables["params"].values() for array in arrays.values()) == sum(
        array.size for array in jax.tree.leaves(nnx.state(model, nnx.Param))
    )
    model.eval()
    assert_same(lifted, model, x)


def test_tied_weights_stay_one():
    rng = np.random.default_rng(0)
    params = {"w": rng.standard_normal((6, 6)).astype(np.float32), "v": rng.standard_normal((6, 6)).astype(np.float32)}

    def function(params, x):
        x = jax.nn.relu(x @ params["v"])
        return jax.nn.relu(x @ params["w"]) @ params["w"].T @ params["v"]

    x = rng.standard_normal((4, 6)).astype(np.float32)
    lifted = lift_with_report((function, params), x)
    assert lifted.graph.params == 72
    assert lifted.report.ops == {"dense": 3, "relu": 2, "attend": 1} and not lifted.report.opaque
    assert_same(lifted, lambda x: function(params, x), x)
    seen = jax.grad(lambda p: jnp.square(lifted.graph.apply({"params": p, "state": {}}, x)).sum())(lifted.variables["params"])
    wanted = jax.grad(lambda p: jnp.square(function(p, x)).sum())(params)
    origins = {lifted.report.origins[f"params/{node}/{name}"]: seen[node][name] for node in seen for name in seen[node]}
    for name in ("v", "w"):
        np.testing.assert_allclose(origins[name], wanted[name], rtol=1e-4, atol=1e-2)


def test_a_weight_that_is_read_in_two_shapes_is_one_opaque_node():
    weight = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)

    def function(params, x):
        return jnp.tanh(x @ params["w"]).reshape(-1, 6, 6) + params["w"].reshape(1, 6, 6).transpose(0, 2, 1) * params["w"][0, 0]

    x = np.random.default_rng(1).standard_normal((4, 6, 6)).astype(np.float32)
    lifted = lift_with_report((function, {"w": weight}), x)
    assert lifted.graph.params == 36
    assert_same(lifted, lambda x: function({"w": weight}, x), x)


def test_two_inputs_and_two_outputs():
    def function(params, x, y):
        both = jnp.concatenate([x @ params["a"], y], axis=-1)
        return jax.nn.relu(both), jax.nn.sigmoid(y)

    params = {"a": np.ones((3, 4), np.float32)}
    x, y = np.ones((2, 3), np.float32), np.ones((2, 5), np.float32)
    graph, variables = lift((function, params), x, y)
    for seen, wanted in zip(graph.apply(variables, x, y), function(params, x, y), strict=True):
        np.testing.assert_allclose(seen, wanted, atol=1e-6)


def test_the_arrays_are_the_models_own():
    model = ResNet(nnx.Rngs(0))
    _, variables = lift(model, pictures())
    assert variables["params"]["head"]["kernel"] is model.head.kernel.get_value()


def test_what_cannot_be_lifted_is_one_error():
    with pytest.raises(UserError, match="an object of type int"):
        lift(3, np.ones((1, 2)))
    with pytest.raises(UserError, match="no inputs"):
        lift(lambda x: x)
    with pytest.raises(UserError, match="does not run on inputs of shape"):
        lift(ResNet(nnx.Rngs(0)), np.ones((1, 8, 8, 7), np.float32))
    with pytest.raises(UserError, match="another batch size"):
        lift(lambda x: x / x.shape[0], np.ones((4, 2), np.float32))
    with pytest.raises(UserError, match="random"):
        lift(lambda x: x + jax.random.normal(jax.random.key(0), x.shape), np.ones((4, 2), np.float32))
    with pytest.raises(UserError, match=r"missing 1 required positional argument: 'y'"):
        lift(lambda x, y: x + y, np.ones((4, 2), np.float32))
    for nothing in ("picture", None, 3.0, [object()]):
        with pytest.raises(UserError, match=r"input 0: .*first axis is the batch"):
            lift(lambda x: x, nothing)


def test_an_attribute_that_no_row_knows_keeps_a_layer_as_it_is():
    model = nnx.Linear(
        3, 4, dot_general=lambda x, y, *rest, **named: 2 * jax.lax.dot_general(x, y, *rest, **named), rngs=nnx.Rngs(0)
    )
    x = np.ones((2, 3), np.float32)
    lifted = lift_with_report(model, x)
    assert any("dot_general" in reason for reason in lifted.report.refused.values())
    assert_same(lifted, model, x)


class Cells(nnx.Module):
    def __init__(self, rngs):
        self.norm = nnx.BatchNorm(6, axis=1, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, dropout_rate=0.1, decode=False, rngs=rngs)

    def __call__(self, x):
        return self.attention(self.norm(x))


def test_what_is_lost_of_training_is_said():
    lifted = lift_with_report(Cells(nnx.Rngs(0)), np.ones((2, 6, 6), np.float32))
    assert "dropout at rate 0.1" in lifted.report.frozen["attention"]
    assert "statistics" in lifted.report.frozen["norm"]
    assert "frozen norm" in str(lifted.report)
    plain = lift_with_report(ResNet(nnx.Rngs(0)), pictures())
    assert not plain.report.frozen


def test_a_mean_over_windows_may_leave_its_padding_out():
    def pooled(params, x):
        return nnx.avg_pool(x, (3, 3), strides=(1, 1), padding="SAME", count_include_pad=False) * params["scale"]

    lifted = lift_with_report((pooled, {"scale": jnp.ones(3)}), pictures())
    assert not lifted.report.opaque
    assert any(getattr(node.op, "count_padding", True) is False for node in lifted.graph.nodes)
    assert_same(lifted, lambda x: pooled({"scale": jnp.ones(3)}, x), pictures())
