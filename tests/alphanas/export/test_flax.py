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
from alphanas.models import weights, zoo
from synth import OPS, Graph, Input, Node, Region, chain, splice, vocabulary
from synth.op import Op, Value
from synth.ops.activation import Gelu
from synth.ops.convolution import Conv
from synth.ops.dense import Dense

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


def trained_variables(graph: Graph, seed: int = 0):
    """Variables in which no weight and no statistic has its initial value."""
    rng = np.random.default_rng(seed)
    variables = graph.init(jax.random.key(seed))
    return jax.tree.map(lambda array: array + jnp.asarray(0.1 * rng.random(array.shape), array.dtype), variables)


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


OPERATIONS = [op_type for op_type in OPS.values() if op_type.kind() not in {"opaque"}]


def _example(op_type: type[Op]) -> Graph:
    """A graph of one op on inputs that it fits."""
    ranks = {"multi_head_attention": (6, 4), "causal_attention": (6, 4)}
    for shape in (ranks.get(op_type.kind(), (6, 6, 4)), (6, 4), (4,)):
        sized = {name: 4 for name, field in op_type.__dataclass_fields__.items() if field.metadata.get("size")}
        special = {"reshape": {"shape": (-1, 4)}, "transpose": {"order": tuple(range(len(shape), 0, -1))}}
        op = op_type(**sized, **special.get(op_type.kind(), {}))
        value = Value((None, *shape))
        try:
            return chain(value, [op]) if op.arity == 1 else _merging(op, value)
        except ValueError:
            continue
    raise AssertionError(f"no example of {op_type}")


def _merging(op: Op, value: Value) -> Graph:
    """A graph in which an op of several inputs reads the graph's input and maps of it."""
    maps = tuple(Node(f"map{k}", Dense(features=4), ("images",)) for k in range((op.arity or 2) - 1))
    merged = Node("merged", op, ("images", *(node.name for node in maps)))
    return Graph((Input("images", value.shape),), (*maps, merged), ("merged",))


@pytest.mark.parametrize("op_type", OPERATIONS, ids=lambda op_type: op_type.kind())
def test_every_op_exports(op_type, tmp_path):
    graph = _example(op_type)
    assert export(graph, trained_variables(graph), "flax", tmp_path).max_error < 1e-5


def test_an_edited_block_stays_one_block(tmp_path):
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    region = Region(graph, frozenset({"stage1.block1.conv1", "stage1.block1.norm1"}))
    edited = splice(graph, region, chain(Value((None, 8, 8, 16)), [Conv(features=12, kernel=1), Gelu()]))
    tidied, _ = tidy(edited, edited.init(jax.random.key(0)))
    assert {"stage1_block1.conv0", "stage1_block1.gelu1"} <= set(tidied.by_name)
    assert tidied.hash == edited.hash
    assert export(edited, trained_variables(edited), "flax", tmp_path).max_error < 1e-5


def test_an_op_without_a_flax_form_is_refused_by_name(tmp_path):
    import dataclasses

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Cube(Op):
        def apply(self, weights, *inputs):
            return inputs[0] ** 3

    assert "cube" in vocabulary(Cube)
    graph = chain(Value((None, 4)), [Cube()])
    with pytest.raises(UserError, match=r"node cube0.*no Flax form"):
        export(graph, graph.init(jax.random.key(0)), "flax", tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_format_names_the_nearest(tmp_path):
    graph = chain(Value((None, 4)), [Dense(features=2)])
    with pytest.raises(UserError, match="flax"):
        export(graph, graph.init(jax.random.key(0)), "flx", tmp_path)
    assert "graph" in FORMATS
    assert literal("SAME") == '"SAME"'
