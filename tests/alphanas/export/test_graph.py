"""The graph export: what is written opens again as the same program with the same weights."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from alphanas.errors import UserError
from alphanas.export import export
from alphanas.export.graph import open_graph
from alphanas.models import weights, zoo
from synth.graph import FORMAT


def test_a_graph_opens_again_as_it_was(tmp_path):
    graph = zoo.build("mobilenet_nano", input_shape=(8, 8, 1), num_classes=10)
    variables = graph.init(jax.random.key(3))
    export(graph, variables, "graph", tmp_path)
    opened, arrays = open_graph(tmp_path)
    assert opened.hash == graph.hash
    inputs = np.ones((2, 8, 8, 1), np.float32)
    np.testing.assert_allclose(jax.jit(opened.apply)(arrays, inputs), jax.jit(graph.apply)(variables, inputs), atol=1e-6)


def test_wrong_files_are_one_error_each(tmp_path):
    with pytest.raises(UserError, match=r"graph\.json"):
        open_graph(tmp_path)
    graph = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=2)
    export(graph, graph.init(jax.random.key(0)), "graph", tmp_path)
    (tmp_path / "graph.json").write_text((tmp_path / "graph.json").read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(UserError, match="99"):
        open_graph(tmp_path)


def test_weights_of_another_graph_are_all_listed(tmp_path):
    graph = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=2)
    other = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=3)
    weights.save(other.init(jax.random.key(0)), tmp_path / "w.safetensors")
    with pytest.raises(UserError) as caught:
        weights.load(tmp_path / "w.safetensors", graph)
    assert {"params/head/kernel", "params/head/bias"} == {fault.thing.split(": ")[1] for fault in caught.value.faults}


def test_a_damaged_weights_file_is_one_error(tmp_path):
    graph = zoo.build("mlp", input_shape=(4, 4, 1), num_classes=2)
    path = tmp_path / "w.safetensors"
    weights.save(graph.init(jax.random.key(0)), path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="safetensors"):
        weights.load(path, graph)


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        weights.write_atomically(tmp_path / "file" / "weights", b"")


GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("form", range(1, FORMAT + 1))
def test_what_every_earlier_version_wrote_opens_and_computes_the_same(form):
    folder = GOLDEN / f"form{form}"
    assert json.loads((folder / "graph.json").read_text())["format"] == form
    graph, variables = open_graph(folder)
    example = load_file(folder / "example.safetensors")
    np.testing.assert_allclose(jax.jit(graph.apply)(variables, example["input"]), example["output"], atol=1e-5)


DAMAGES = [
    ({"format": FORMAT + 1}, f"form {FORMAT + 1}, of a newer version.*update alphanas"),
    ({"format": "x"}, "form 'x'"),
    ({"nodes": None}, "damaged"),
    ({"nodes": [{"name": "a"}]}, "lacks 'op'"),
    ({"inputs": [3]}, "damaged"),
    ({"outputs": ["nobody"]}, "nobody"),
]


@pytest.mark.parametrize(("change", "says"), DAMAGES)
def test_a_newer_or_damaged_graph_is_one_clear_error(change, says, tmp_path):
    text = (GOLDEN / "form1" / "graph.json").read_text()
    (tmp_path / "graph.json").write_text(json.dumps(json.loads(text) | change))
    with pytest.raises(UserError, match=says) as caught:
        open_graph(tmp_path)
    assert len(caught.value.faults) == 1 and str(tmp_path) in str(caught.value)
