"""Lift and apply equal the original in inference and in training: outputs, gradients and new batch statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from alphanas.models import lift_with_report
from tests.alphanas.models import architectures as made
from tests.alphanas.models.test_lift import ResNet, assert_same

RATE_ZERO = "dropout draws with other keys than Flax; in training both are compared at rate 0"


def numbers(shape, seed=0):
    return np.random.default_rng(seed).standard_normal((4, *shape)).astype(np.float32)


def tokens():
    return np.random.default_rng(0).integers(0, 11, (4, 6)).astype(np.int32)


NNX = {
    "resnet": (ResNet, (numbers(made.PICTURE),), 0),
    "mbconv": (made.NnxMbConv, (numbers(made.PICTURE),), 0),
    "unet": (made.NnxUNet, (numbers(made.PICTURE),), 0),
    "vit": (made.NnxViT, (numbers(made.PICTURE),), 0),
    "two_inputs": (made.NnxTwoInputs, (numbers((4,)), numbers((6,))), 1),
    "tied": (made.NnxTied, (tokens(),), 0),
    "lstm": (made.NnxLstm, (numbers((5, 6)),), 1),
}
LINEN = {
    "resnet": (made.LinenResNet, (numbers(made.PICTURE),), {"train": False}, {"train": True}, 0),
    "mbconv": (made.LinenMbConv, (numbers(made.PICTURE),), {"train": False}, {"train": True}, 0),
    "unet": (made.LinenUNet, (numbers(made.PICTURE),), {}, {}, 2),
    "vit": (made.LinenViT, (numbers(made.PICTURE),), {}, {"deterministic": False}, 0),
    "two_inputs": (made.LinenTwoInputs, (numbers((4,)), numbers((6,))), {}, {}, 0),
    "tied": (made.LinenTied, (tokens(),), {}, {}, 0),
    "lstm": (made.LinenLstm, (numbers((5, 6)),), {}, {}, 1),
}
QUICK = {"vit", "tied", "unet"}


def rows(table):
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in table]


def still(graph):
    """The graph with dropout at rate 0."""
    import dataclasses

    from synth.ops import Dropout

    nodes = [dataclasses.replace(n, op=Dropout(rate=0.0)) if isinstance(n.op, Dropout) else n for n in graph.nodes]
    return dataclasses.replace(graph, nodes=tuple(nodes))


def ours(lifted, inputs):
    """Outputs, new state and gradients of the sum of squares in training, with dropout at rate 0."""
    graph = still(lifted.graph)

    def loss(params):
        out, new = graph.apply({**lifted.variables, "params": params}, *inputs, train=True, rng=jax.random.key(0))
        return jnp.square(out).sum(), (out, new["state"])

    gradients, (out, state) = jax.jit(jax.grad(loss, has_aux=True))(lifted.variables["params"])
    return out, _by_origin(lifted, {"params": gradients, "state": state})


def _by_origin(lifted, collections):
    found = {}
    for key, origin in lifted.report.origins.items():
        collection, node, name = key.split("/")
        found[origin] = collections[collection][node][name]
    return found


def assert_near(seen, wanted, names):
    assert set(names) <= set(wanted), "every array of the graph is an array of the model"
    for name in names:
        array = np.asarray(wanted[name]).reshape(seen[name].shape)
        scale = max(1.0, float(np.abs(array).max()))
        np.testing.assert_allclose(seen[name] / scale, array / scale, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("name", rows(NNX))
def test_an_nnx_model_and_its_graph_are_one(name):
    kind, inputs, opaque = NNX[name]
    model = kind(nnx.Rngs(0))
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.mean.set_value(module.mean[...] + 0.1)
    lifted = lift_with_report(model, *inputs)
    assert len(lifted.report.opaque) == opaque, lifted.report
    assert lifted.graph.params == sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    model.eval()
    run = nnx.jit(lambda net, *inputs: net(*inputs))
    assert_same(lifted, lambda *inputs: run(model, *inputs), *inputs)
    model.train()
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.Dropout):
            module.rate = 0.0

    @nnx.jit
    def theirs(net, *inputs):
        return nnx.grad(lambda net: (jnp.square(out := net(*inputs)).sum(), out), has_aux=True)(net)

    gradients, wanted = theirs(model, *inputs)
    flat = {**_paths(gradients), **_paths(nnx.state(model, nnx.BatchStat))}
    out, found = ours(lifted, inputs)
    np.testing.assert_allclose(out, wanted, atol=2e-5, rtol=2e-5)
    assert_near(found, flat, found)


def _paths(state):
    from alphanas.models.lifting.sources import _dotted

    return {_dotted(path): variable[...] for path, variable in nnx.to_flat_state(state)}


@pytest.mark.parametrize("name", rows(LINEN))
def test_a_linen_model_and_its_graph_are_one(name):
    kind, inputs, inference, training, opaque = LINEN[name]
    module = kind()
    variables = module.init(jax.random.key(0), *inputs, **inference)
    lifted = lift_with_report((module, variables), *inputs)
    assert len(lifted.report.opaque) == opaque, lifted.report
    run = jax.jit(lambda *inputs: module.apply(variables, *inputs, **inference))
    assert_same(lifted, run, *inputs)

    def intercept(following, args, kwargs, context):
        if isinstance(context.module, linen.Dropout):
            return args[0]
        return following(*args, **kwargs)

    def loss(params):
        with linen.intercept_methods(intercept):
            out, new = module.apply({**variables, "params": params}, *inputs, **training, mutable=["batch_stats"])
        return jnp.square(out).sum(), (out, new)

    gradients, (wanted, new) = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    flat = {
        ".".join(key.key for key in keys): array
        for keys, array in jax.tree_util.tree_flatten_with_path({**gradients, **new.get("batch_stats", {})})[0]
    }
    for keys, array in jax.tree_util.tree_flatten_with_path(new.get("batch_stats", {}))[0]:
        flat[".".join(key.key for key in keys)] = array
    for keys, array in jax.tree_util.tree_flatten_with_path(gradients)[0]:
        flat[".".join(key.key for key in keys)] = array
    out, found = ours(lifted, inputs)
    np.testing.assert_allclose(out, wanted, atol=2e-5, rtol=2e-5)
    assert_near(found, flat, found)


def test_a_transformer_in_plain_jax_numpy_is_understood():
    params, x = made.handwritten_params(), numbers((6, 8))
    lifted = lift_with_report((made.handwritten, params), x)
    assert not lifted.report.opaque
    assert lifted.report.ops == {"layer_norm": 2, "dense": 6, "attention": 1, "gelu": 1, "add": 2}
    (attention,) = [node.op for node in lifted.graph.nodes if node.op.kind() == "attention"]
    assert (attention.heads, attention.causal) == (2, True)
    assert {node.op.epsilon for node in lifted.graph.nodes if node.op.kind() == "layer_norm"} == {1e-5}
    assert_same(lifted, jax.jit(lambda x: made.handwritten(params, x)), x)
    seen = jax.jit(jax.grad(lambda p: jnp.square(lifted.graph.apply({"params": p, "state": {}}, x)).sum()))(
        lifted.variables["params"]
    )
    wanted = jax.jit(jax.grad(lambda p: jnp.square(made.handwritten(p, x)).sum()))(params)
    found = _by_origin(lifted, {"params": seen})
    assert found.keys() == wanted.keys()
    assert_near(found, wanted, found)
