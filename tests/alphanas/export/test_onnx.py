"""The ONNX export: a file that onnxruntime alone runs, at any batch, with names that a person knows and few transpositions."""

import importlib.util
import itertools

import jax
import numpy as np
import pytest

from alphanas.errors import UserError
from alphanas.export import export
from alphanas.export.onnx.export import written
from alphanas.export.onnx.layouts import Demand, channels_first
from alphanas.export.onnx.ops import EMITTERS
from alphanas.models import zoo
from synth import OPS, Graph, Input, Node, chain
from synth.op import Value
from tests.alphanas.export.graphs import branches, tied, trained_variables
from tests.strategies import random_graph

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def test_the_file_says_what_it_is(tmp_path):
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=4)
    variables = trained_variables(graph)
    exported = export(graph, variables, "onnx", tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    assert [(item.domain, item.version) for item in model.opset_import] == [("", exported.details["opset"])]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "stage1.block1.conv1" in {node.name for node in model.graph.node}
    assert "stage1.block1.conv1/kernel" in {array.name for array in model.graph.initializer}
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for batch in (1, 7):
        x = np.random.default_rng(batch).standard_normal((batch, 8, 8, 1)).astype(np.float32)
        (seen,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(seen, jax.jit(graph.apply)(variables, x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "shape", "changes"),
    [("resnet18", (64, 64, 3), 1), ("mobilenet_nano", (16, 16, 3), 1), ("vit_nano", (16, 16, 3), 2), ("mlp", (4, 4, 1), 0)],
)
def test_a_network_of_one_kind_changes_layout_once(name, shape, changes):
    graph = zoo.build(name, input_shape=shape, num_classes=4)
    assert written(graph, graph.init(jax.random.key(0))).transpositions == changes


def _crossings(graph: Graph, first: set[str]) -> int:
    """Values whose producer and readers are not all of one layout."""
    count = 0
    for name, value in graph.values.items():
        ends = {end in first for end in (name, *graph.consumers[name])} | ({False} if name in graph.outputs else set())
        count += len(value.shape) > 2 and len(ends) > 1
    return count


def _fewest(graph: Graph) -> int:
    demands = {node.name: EMITTERS[type(node.op)].demand for node in graph.nodes}
    bound = {name for name, demand in demands.items() if demand is Demand.FIRST}
    free = [name for name, demand in demands.items() if demand is Demand.EITHER]
    choices = (set(chosen) for size in range(len(free) + 1) for chosen in itertools.combinations(free, size))
    return min(_crossings(graph, bound | chosen) for chosen in choices)


def small_graphs():
    yield branches()[0]
    image = Value((None, 6, 6, 4))
    mixed = [OPS["conv"](features=4), OPS["layer_norm"](), OPS["relu"](), OPS["conv"](features=4), OPS["relu"](), OPS["gelu"]()]
    yield chain(image, mixed)
    for seed in range(6):
        yield random_graph(np.random.default_rng(seed), nodes=9, shape=(6, 6, 4))


@pytest.mark.parametrize("graph", small_graphs())
def test_no_choice_of_layouts_changes_fewer_values(graph):
    first = channels_first(graph, lambda node: EMITTERS[type(node.op)].demand)
    assert _crossings(graph, set(first)) == _fewest(graph)


def test_weights_too_large_for_one_file_lie_beside_it(tmp_path, monkeypatch):
    monkeypatch.setattr("alphanas.export.onnx.export.EXTERNAL_BYTES", 1000)
    graph = chain(Value((None, 40)), [OPS["dense"](features=30)])
    variables = graph.init(jax.random.key(0))
    assert export(graph, variables, "onnx", tmp_path).files == ("model.onnx", "model.onnx.data")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = np.ones((2, 40), np.float32)
    np.testing.assert_allclose(session.run(None, {"input": x})[0], graph.apply(variables, x), atol=1e-5)


def test_a_shared_table_is_written_once():
    graph, variables = tied()
    assert [name for name in written(graph, variables).initializers if "embedding" in name] == ["embed/embedding"]


def test_without_the_package_the_error_says_which_extra(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name.startswith("onnx") else found(name, *more))
    graph = chain(Value((None, 4)), [OPS["dense"](features=2)])
    with pytest.raises(UserError, match=r"onnx and onnxruntime not installed.*alphanas\[onnx\]"):
        export(graph, graph.init(jax.random.key(0)), "onnx", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_op_without_a_row_is_written_from_its_jaxpr(tmp_path, monkeypatch):
    rows = {kind: row for kind, row in EMITTERS.items() if kind.kind() in {"conv", "dense"}}
    monkeypatch.setattr("alphanas.export.onnx.export.EMITTERS", rows)
    nodes = [
        Node("conv", OPS["conv"](features=8), ("x",)),
        Node("norm", OPS["batch_norm"](), ("conv",)),
        Node("gelu", OPS["gelu"](), ("norm",)),
        Node("pool", OPS["max_pool"](window=3), ("gelu",)),
        Node("groups", OPS["group_norm"](groups=2), ("pool",)),
        Node("tokens", OPS["reshape"](shape=(-1, 8)), ("groups",)),
        Node("attention", OPS["multi_head_attention"](heads=2), ("tokens",)),
        Node("layer", OPS["layer_norm"](), ("attention",)),
        Node("mean", OPS["global_avg_pool"](), ("layer",)),
    ]
    graph = Graph((Input("x", (None, 6, 6, 3)),), tuple(nodes), ("mean", "groups"))
    assert export(graph, trained_variables(graph), "onnx", tmp_path).max_error < 1e-5


def test_importing_the_product_loads_no_onnx():
    import subprocess
    import sys

    code = "import sys, alphanas.export; sys.exit('onnx' in sys.modules or 'onnxruntime' in sys.modules or 'tvm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
