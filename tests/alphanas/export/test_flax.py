"""The Flax export: source that a stranger can run, equal to the graph in inference and in training."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from alphanas.errors import UserError
from alphanas.export import FORMATS, export
from alphanas.export.blocks import tidy
from alphanas.export.flax.classes import literal
from alphanas.export.flax.export import source
from alphanas.export.flax.layers import WRITERS
from alphanas.models import weights, zoo
from synth import OPS, Graph, Input, Node, Region, chain, splice
from synth.op import Value
from synth.ops.activation import Gelu
from synth.ops.convolution import Conv
from synth.ops.dense import Dense
from tests.alphanas.export.graphs import trained_variables

STRANGER = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"alphanas", "synth", "properties", "safetensors"}:
            raise ImportError(f"{name} is not at hand")
sys.meta_path.insert(0, Wall())
import numpy as np, jax
sys.path.insert(0, ".")
from model import load
model = load()
inputs = np.load("inputs.npy")
evaluated = model(inputs)
model.train()
trained = model(inputs)
np.savez("outputs.npz", evaluated=evaluated, trained=trained)
"""


@pytest.mark.parametrize("name", ["resnet8"])
def test_the_source_runs_without_us_and_trains_as_the_graph_does(name, tmp_path):
    graph = zoo.build(name, input_shape=(8, 8, 1), num_classes=10)
    variables = trained_variables(graph)
    export(graph, variables, "flax", tmp_path)
    inputs = np.random.default_rng(1).standard_normal((4, 8, 8, 1)).astype(np.float32)
    np.save(tmp_path / "inputs.npy", inputs)
    subprocess.run([sys.executable, "-I", "-c", STRANGER], cwd=tmp_path, check=True, timeout=120)
    seen = np.load(tmp_path / "outputs.npz")
    trained, _ = jax.jit(lambda v, x: graph.apply(v, x, train=True, rng=jax.random.key(0)))(variables, inputs)
    np.testing.assert_allclose(seen["evaluated"], jax.jit(graph.apply)(variables, inputs), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(seen["trained"], trained, atol=2e-5, rtol=2e-5)


def _module(directory):
    import importlib.util

    spec = importlib.util.spec_from_file_location("exported", directory / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_batch_statistics_and_gradients_are_the_graphs(tmp_path):
    graph = zoo.build("resnet8", input_shape=(6, 6, 1), num_classes=3)
    variables = trained_variables(graph)
    export(graph, variables, "flax", tmp_path)
    model = _module(tmp_path).load()
    model.train()
    inputs = np.random.default_rng(1).standard_normal((4, 6, 6, 1)).astype(np.float32)

    @nnx.jit
    def gradient(net, x):
        return nnx.grad(lambda net: jnp.square(net(x)).sum())(net)

    theirs = gradient(model, inputs)

    @jax.jit
    def ours(params):
        def loss(params):
            out, new = graph.apply({**variables, "params": params}, inputs, train=True, rng=jax.random.key(0))
            return jnp.square(out).sum(), new["state"]

        return jax.grad(loss, has_aux=True)(params)

    wanted, state = ours(variables["params"])
    for key, array in weights.flatten({"params": wanted, "state": state}).items():
        collection, node, weight = key.split("/")
        found = theirs if collection == "params" else nnx.state(model)
        for part in (*tidy_names(graph)[node].split("."), weight):
            found = found[part]
        # The gradients of this sum are up to a thousand; the error counts against the largest.
        scale = max(1.0, float(jnp.abs(array).max()))
        np.testing.assert_allclose(found[...] / scale, array / scale, atol=1e-4, err_msg=key)


def tidy_names(graph):
    return {old.name: new.name for old, new in zip(graph.nodes, tidy(graph, {"params": {}, "state": {}})[0].nodes, strict=True)}


SMALL = {"cifar_cnn": (8, 8, 1), "mlp": (4, 4, 1), "mobilenet_nano": (8, 8, 1), "vit_nano": (8, 8, 1)}


@pytest.mark.parametrize("name", SMALL)
def test_zoo_models_export(name, tmp_path):
    graph = zoo.build(name, input_shape=SMALL[name], num_classes=3)
    exported = export(graph, trained_variables(graph), "flax", tmp_path)
    assert exported.max_error < 1e-5
    assert json.loads((tmp_path / "export.json").read_text())["flax"]["max_error"] == exported.max_error


def test_blocks_of_a_deep_network_share_classes():
    graph = zoo.build("resnet50", input_shape=(224, 224, 3), num_classes=1000)
    text = source(tidy(graph, {"params": {}, "state": {}})[0])
    assert text.count("\nclass ") < 15
    assert len(text.splitlines()) < 300
    assert max(map(len, text.splitlines())) <= 88


def test_an_op_without_a_row_is_written_from_its_jaxpr(tmp_path, monkeypatch):
    rows = {kind: row for kind, row in WRITERS.items() if kind.kind() in {"dense", "multi_head_attention"}}
    monkeypatch.setattr("alphanas.export.flax.classes.WRITERS", rows)
    nodes = [
        Node("conv", OPS["conv"](features=8, groups=2), ("x",)),
        Node("norm", OPS["batch_norm"](), ("conv",)),
        Node("gelu", OPS["gelu"](), ("norm",)),
        Node("pool", OPS["max_pool"](window=3), ("gelu",)),
        Node("mean", OPS["avg_pool"](window=3), ("pool",)),
        Node("groups", OPS["group_norm"](groups=2), ("mean",)),
        Node("layer", OPS["layer_norm"](), ("groups",)),
        Node("sum", OPS["add"](), ("layer", "mean")),
        Node("flat", OPS["flatten"](), ("sum",)),
    ]
    graph = Graph((Input("x", (None, 6, 6, 4)),), tuple(nodes), ("flat", "groups"))
    assert export(graph, trained_variables(graph), "flax", tmp_path).max_error < 1e-5


def test_what_stands_before_a_method_or_an_index_has_its_brackets(tmp_path):
    nodes = [
        Node("sum", OPS["add"](), ("images", "images")),
        Node("shaped", OPS["reshape"](shape=(8, 2)), ("sum",)),
        Node("twice", OPS["add"](), ("shaped", "shaped")),
        Node("last", OPS["select"](index=3), ("twice",)),
    ]
    graph = Graph((Input("images", (None, 4, 4)),), tuple(nodes), ("last",))
    assert export(graph, graph.init(jax.random.key(0)), "flax", tmp_path).max_error == 0


def test_an_edited_block_stays_one_block(tmp_path):
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    region = Region(graph, frozenset({"stage1.block1.conv1", "stage1.block1.norm1"}))
    edited = splice(graph, region, chain(Value((None, 8, 8, 16)), [Conv(features=12, kernel=1), Gelu()]))
    tidied, _ = tidy(edited, edited.init(jax.random.key(0)))
    assert {"stage1_block1.conv0", "stage1_block1.gelu1"} <= set(tidied.by_name)
    assert tidied.hash == edited.hash
    assert export(edited, trained_variables(edited), "flax", tmp_path).max_error < 1e-5


def test_a_node_may_have_the_name_of_a_block():
    nodes = [Node("a", Gelu(), ("x",)), Node("a.first", Gelu(), ("a",)), Node("a.second", Gelu(), ("a.first",))]
    graph = Graph((Input("x", (None, 4)),), tuple(nodes), ("a.second",))
    tidied, _ = tidy(graph, {"params": {}, "state": {}})
    assert tidied.hash == graph.hash
    assert {"a.first", "a.second"} < set(tidied.by_name)


def test_an_unknown_format_names_the_nearest(tmp_path):
    graph = chain(Value((None, 4)), [Dense(features=2)])
    with pytest.raises(UserError, match="flax"):
        export(graph, graph.init(jax.random.key(0)), "flx", tmp_path)
    assert "graph" in FORMATS
    assert literal("SAME") == '"SAME"'
