"""Laws of graphs: values, names, hashes, JSON, application."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from synth import Builder, Graph, GraphError, Input, Node, Region, ShapeMismatch, Tie, Value, chain, regions, splice
from synth.graph import FORMAT
from synth.ops import Add, BatchNorm, Conv, Dense, Dropout, GlobalAvgPool, Relu, Scale
from tests.strategies import random_graph, renamed

SEEDS = range(25)


def residual() -> Graph:
    build = Builder((8, 8, 3))
    x = build(Conv(features=6), build.input, name="stem")
    y = build(BatchNorm(), x, name="block.norm")
    y = build(Dropout(rate=0.5), build(Relu(), y, name="block.relu"), name="block.drop")
    x = build(Add(), build(Conv(features=6, kernel=1), y, name="block.conv"), x, name="block.add")
    return build.graph(build(Dense(features=4), build(GlobalAvgPool(), x, name="pool"), name="head"))


@pytest.mark.parametrize("seed", SEEDS)
def test_json_gives_the_graph_back(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=8)
    assert Graph.from_json(graph.to_json()) == graph
    assert Graph.from_json(json.loads(graph.to_json())).hash == graph.hash


@pytest.mark.parametrize("seed", SEEDS)
def test_the_hash_ignores_names_order_and_commuting_operands(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes=8)
    other = renamed(graph, rng)
    assert other.hash == graph.hash
    assert other != graph


def test_different_programs_have_different_hashes() -> None:
    graphs = [random_graph(np.random.default_rng(seed), nodes=6) for seed in range(150)]
    assert len({graph.hash for graph in graphs}) == len({str(json.loads(graph.to_json())) for graph in graphs})


def test_how_weights_start_is_no_part_of_the_program() -> None:
    small, plain = (chain(Value((None, 4)), [Scale(initial=initial)]) for initial in (1e-6, 1.0))
    assert small.hash == plain.hash
    assert small != plain and Graph.from_json(small.to_json()) == small


def test_a_shared_node_is_not_two_equal_nodes() -> None:
    value = (Input("x", (None, 4)),)
    shared = Graph(value, (Node("a", Dense(features=4), ("x",)), Node("s", Add(), ("a", "a"))), ("s",))
    apart = Graph(
        value, (Node("a", Dense(features=4), ("x",)), Node("b", Dense(features=4), ("x",)), Node("s", Add(), ("a", "b"))), ("s",)
    )
    assert shared.hash != apart.hash


def tied(owner: str = "first", other: str = "second") -> Graph:
    """Two dense layers of one kernel, a bias each, and a batch norm that is read twice."""
    norm = tuple(Tie(name, "norm", name) for name in ("scale", "bias", "mean", "var"))
    ties = {other: (Tie("kernel", owner, "kernel"),)}
    nodes = (
        Node("first", Dense(features=4), ("x",), ties.get("first", ())),
        Node("norm", BatchNorm(), ("first",)),
        Node("second", Dense(features=4), ("norm",), ties.get("second", ())),
        Node("again", BatchNorm(), ("second",), norm),
    )
    return Graph((Input("x", (None, 4)),), nodes, ("again",))


def test_tied_arrays_have_one_owner_and_the_sum_of_the_gradients() -> None:
    graph = tied()
    variables = graph.init(jax.random.key(0))
    assert graph.params == 16 + 4 + 4 + 8 == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert (Graph.from_json(graph.to_json()), json.loads(graph.to_json())["format"]) == (graph, FORMAT)
    assert json.loads(residual().to_json())["format"] == 1, "what older versions can read they may read"
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)

    def plain(kernel: jax.Array, x: jax.Array) -> jax.Array:
        norm = 1 / np.sqrt(np.float32(1 + 1e-5))
        return ((x @ kernel) * norm @ kernel) * norm

    kernel = variables["params"]["first"]["kernel"]
    np.testing.assert_allclose(graph.apply(variables, x), plain(kernel, x), rtol=1e-5, atol=1e-5)
    seen = jax.grad(lambda params: jnp.sum(graph.apply({**variables, "params": params}, x) ** 2))(variables["params"])
    np.testing.assert_allclose(seen["first"]["kernel"], jax.grad(lambda k: jnp.sum(plain(k, x) ** 2))(kernel), rtol=1e-4, atol=1e-4)
    _, new = graph.apply(variables, x, train=True, rng=jax.random.key(0))
    assert set(new["state"]) == {"norm"}
    first = (x @ kernel).mean(0)
    second = jax.nn.standardize(x @ kernel, axis=0, epsilon=1e-5) @ kernel
    np.testing.assert_allclose(new["state"]["norm"]["mean"], 0.9 * 0.1 * first + 0.1 * second.mean(0), rtol=1e-4, atol=1e-4)


def test_ties_are_part_of_the_hash_whoever_owns_the_array() -> None:
    apart = dataclasses.replace(tied(), nodes=tuple(dataclasses.replace(node, ties=()) for node in tied().nodes))
    assert tied().hash == tied("second", "first").hash != apart.hash


def test_a_tie_is_kept_whole() -> None:
    graph = tied()
    with pytest.raises(GraphError, match="shares weights with second"):
        splice(graph, Region(graph, frozenset({"first"})), chain(Value((None, 4)), [Relu()]))
    assert all(not region.cut_ties for region in regions(graph, largest=4))
    whole = Region(graph, frozenset(graph.by_name))
    assert splice(graph, whole, whole.subgraph()).hash == graph.hash
    assert Region(graph, frozenset({"second"})).subgraph().params == 20, "alone, it owns what it reads"


@pytest.mark.parametrize(
    ("tie", "error"),
    [
        (Tie("kernel", "nobody", "kernel"), "does not own"),
        (Tie("kernel", "first", "mean"), "no array"),
        (Tie("kernel", "first", "bias"), "shape"),
        (Tie("scale", "first", "kernel"), "does not own"),
    ],
)
def test_ties_that_hold_nothing_are_errors(tie: Tie, error: str) -> None:
    nodes = tuple(dataclasses.replace(node, ties=(tie,)) if node.name == "second" else node for node in tied().nodes)
    with pytest.raises((GraphError, ShapeMismatch), match=error):
        dataclasses.replace(tied(), nodes=nodes)


def test_the_hash_is_the_same_in_another_process() -> None:
    code = "import sys; from synth import Graph; print(Graph.from_json(sys.stdin.read()).hash)"
    out = subprocess.run([sys.executable, "-c", code], input=residual().to_json(), capture_output=True, text=True, check=True)
    assert out.stdout.strip() == residual().hash


def test_what_is_remembered_of_a_graph_stays_in_its_process() -> None:
    """Hashes of texts are others in another process, where an equal graph must be found by its hash all the same."""
    graph = residual()
    told = f"import pickle; from synth import Graph; graph = pickle.loads({pickle.dumps((graph, hash(graph))[0])!r}); "
    told += f"assert graph in {{Graph.from_json({graph.to_json()!r})}}"
    subprocess.run([sys.executable, "-c", told], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    assert pickle.loads(pickle.dumps(graph)) == graph and hash(pickle.loads(pickle.dumps(graph))) == hash(graph)


def test_jit_gives_what_eager_gives_and_any_batch_size() -> None:
    graph = residual()
    variables = graph.init(jax.random.key(0))
    x = np.random.default_rng(0).standard_normal((5, 8, 8, 3)).astype(np.float32)
    out = jax.jit(graph.apply)(variables, x)
    assert out.shape == (5, 4)
    np.testing.assert_allclose(out, graph.apply(variables, x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(out[:2], graph.apply(variables, x[:2]), rtol=1e-5, atol=1e-5)


def test_training_returns_new_state_and_leaves_the_old_alone() -> None:
    graph = residual()
    variables = graph.init(jax.random.key(0))
    x = jnp.ones((4, 8, 8, 3)) * 3
    before = jax.tree.map(np.asarray, variables)
    _, new = graph.apply(variables, x, train=True, rng=jax.random.key(1))
    assert new["params"] is variables["params"]
    assert not np.allclose(new["state"]["block.norm"]["mean"], before["state"]["block.norm"]["mean"])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(variables), strict=True))


def test_chance_in_training_is_the_key() -> None:
    graph = residual()
    variables = graph.init(jax.random.key(0))
    x = jnp.ones((4, 8, 8, 3))
    one, same, other = (graph.apply(variables, x, train=True, rng=jax.random.key(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_weights_of_a_node_depend_on_its_name_and_the_key_alone() -> None:
    graph, key = residual(), jax.random.key(3)
    smaller = Graph(graph.inputs, graph.nodes[:1], ("stem",))
    assert np.array_equal(graph.init(key)["params"]["stem"]["kernel"], smaller.init(key)["params"]["stem"]["kernel"])
    assert not np.array_equal(
        graph.init(key)["params"]["stem"]["kernel"], graph.init(jax.random.key(4))["params"]["stem"]["kernel"]
    )


def test_variables_are_in_the_order_of_nodes_and_weights() -> None:
    graph = residual()
    variables = graph.init(jax.random.key(0))
    for collection in ("params", "state"):
        wanted = [(node.name, list(graph.owned(node)[collection])) for node in graph.nodes if graph.owned(node)[collection]]
        assert [(node, list(own)) for node, own in variables[collection].items()] == wanted


def test_initial_weights_have_the_variance_of_their_initialiser() -> None:
    graph = chain(Value((None, 256)), [Dense(features=512)])
    kernel = np.asarray(graph.init(jax.random.key(0))["params"]["dense0"]["kernel"])
    assert abs(kernel.var() * 256 - 1) < 0.02


def test_parameters_are_counted() -> None:
    graph = residual()
    assert graph.params == 3 * 3 * 3 * 6 + 2 * 6 + 6 * 6 + 6 * 4 + 4
    assert graph.params == sum(leaf.size for leaf in jax.tree.leaves(graph.init(jax.random.key(0))["params"]))


def test_pruning_drops_what_no_output_needs() -> None:
    graph = residual()
    cut = Graph(graph.inputs, graph.nodes, ("block.relu",)).pruned()
    assert [node.name for node in cut.nodes] == ["stem", "block.norm", "block.relu"]


def test_a_graph_shows_itself_as_text_and_html() -> None:
    graph = residual()
    assert "block.conv" in str(graph) and f"{graph.params:,}" in str(graph)
    assert "block.conv" in graph._repr_html_()


X = (Input("x", (None, 4)),)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Graph(X, (Node("x", Relu(), ("x",)),), ("x",)), GraphError, "repeated"),
        (lambda: Graph(X, (Node("a/b", Relu(), ("x",)),), ("a/b",)), GraphError, "slash"),
        (lambda: Graph(X, (Node("a", Relu(), ("b",)),), ("a",)), GraphError, "reads b"),
        (lambda: Graph(X, (), ("y",)), GraphError, "outputs"),
        (lambda: Graph(X, (Node("a", Add(), ("x",)),), ("a",)), ShapeMismatch, "'a'.*at least two"),
        (lambda: Graph(X, (Node("a", Conv(features=3), ("x",)),), ("a",)), ShapeMismatch, "'a'"),
        (lambda: residual().apply(residual().init(jax.random.key(0))), GraphError, "takes 1 inputs"),
        (lambda: residual().apply({"params": {}, "state": {}}, jnp.ones((1, 8, 8, 3)), train=True), GraphError, "random key"),
        (lambda: Graph.from_json("{"), GraphError, "not JSON"),
        (lambda: Graph.from_json('{"format": ' + "9" * 6000 + "}"), GraphError, "not JSON"),
        (lambda: Graph.from_json("[]"), GraphError, "no graph"),
        (lambda: Graph.from_json(residual().to_json().replace('"format": 1', '"format": 99')), GraphError, "form 99"),
    ],
)
def test_bad_graphs_say_what_is_wrong(make: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()  # type: ignore[operator]
