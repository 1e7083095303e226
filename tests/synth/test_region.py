"""Laws of regions: convexity against brute force, splicing against identity and meaning."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from synth import Graph, GraphError, Input, Region, ShapeMismatch, chain, regions, span, splice
from synth.graph import Node
from synth.ops import Add, Conv, Dense, Relu
from tests.strategies import random_graph

SEEDS = range(12)


def reaches(graph: Graph) -> dict[str, set[str]]:
    """For every node, the nodes below it, by plain transitive closure."""
    below: dict[str, set[str]] = {}
    for node in graph.nodes:
        below[node.name] = set().union(*({name} | below[name] for name in node.inputs if name in below))
    return below


def convex(graph: Graph, names: frozenset[str]) -> bool:
    below = reaches(graph)
    return not any(middle not in names and below[middle] & names and any(middle in below[end] for end in names) for middle in below)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_region_is_accepted_exactly_if_it_is_convex(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=7)
    names = [node.name for node in graph.nodes]
    for count in range(1, len(names) + 1):
        for subset in map(frozenset, itertools.combinations(names, count)):
            if convex(graph, subset):
                assert Region(graph, subset).names == subset
                continue
            with pytest.raises(GraphError, match="not convex"):
                Region(graph, subset)


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_are_all_single_entry_single_exit_pieces_between_two_nodes(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=7)
    found = {region.names for region in regions(graph, largest=5)}
    names = [node.name for node in graph.nodes]
    expected = set()
    for first, last in itertools.product(names, names):
        below = reaches(graph)
        between = frozenset(n for n in names if (n == first or first in below[n]) and (n == last or n in below[last]))
        if not {first, last} <= between or len(between) > 5:
            continue
        region = Region(graph, between)
        if len(region.inputs) == 1 and region.outputs == (last,):
            expected.add(between)
    assert found == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_regions_of_several_ends_are_all_between_two_nodes_and_give_back_what_they_were_cut_from(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=7)
    found = list(regions(graph, largest=5, inputs=2, outputs=2))
    below = reaches(graph)
    for region in found:
        assert 1 <= len(region.inputs) <= 2 and 1 <= len(region.outputs) <= 2
        assert any(region.names <= {end} | below[end] and end in region.outputs for end in region.names)
        assert splice(graph, region, region.subgraph()).hash == graph.hash
        assert set(region.readers) == set(region.outputs) and all(region.readers.values())
    assert {region.names for region in regions(graph, largest=5)} <= {region.names for region in found}


@pytest.mark.parametrize("seed", SEEDS)
def test_splicing_a_region_by_itself_changes_nothing(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=8)
    for region in regions(graph, largest=6):
        assert splice(graph, region, region.subgraph()).hash == graph.hash


@pytest.mark.parametrize("seed", SEEDS)
def test_a_region_computes_what_the_graph_computes_there(seed: int) -> None:
    graph = random_graph(np.random.default_rng(seed), nodes=6)
    variables = graph.init(jax.random.key(0))
    x = np.random.default_rng(seed).standard_normal((2, 6, 5, 4)).astype(np.float32)
    values = graph.run(variables, {"x": x})
    for region in regions(graph, largest=4):
        out = region.subgraph().apply(variables, values[region.inputs[0]])
        np.testing.assert_allclose(out, values[region.outputs[0]], rtol=1e-5, atol=1e-5)


def line() -> Graph:
    return chain(Input("input", (None, 6, 6, 4)).value, [Conv(features=8), Relu(), Conv(features=4), Relu()])


def test_splicing_keeps_the_names_outside_and_follows_the_shapes() -> None:
    graph = line()
    region = span(graph, "conv0", "relu1")
    wider = splice(graph, region, chain(graph.values["input"], [Conv(features=16, stride=2)]))
    assert [node.name for node in wider.nodes] == ["conv0", "conv2", "relu3"]
    assert wider.values["conv2"].shape == (None, 3, 3, 4)


def test_splicing_nothing_drops_the_region() -> None:
    graph = line()
    assert [n.name for n in splice(graph, span(graph, "relu1", "relu1"), chain(graph.values["conv0"], [])).nodes] == [
        "conv0",
        "conv2",
        "relu3",
    ]


def test_a_replacement_that_does_not_fit_what_follows_is_refused() -> None:
    x = Input("x", (None, 6))
    graph = Graph((x,), (Node("a", Dense(features=6), ("x",)), Node("s", Add(), ("a", "x"))), ("s",))
    with pytest.raises(ShapeMismatch, match="'s'"):
        splice(graph, span(graph, "a", "a"), chain(x.value, [Dense(features=5)]))


def test_bad_regions_say_what_is_wrong() -> None:
    graph = line()
    for make, says in (
        (lambda: span(graph, "conv0", "nowhere"), "nowhere"),
        (lambda: span(graph, "relu3", "conv0"), "no path"),
        (lambda: Region(graph, frozenset()), "empty"),
        (lambda: splice(graph, span(graph, "conv0", "conv0"), Graph((Input("a", (None, 2)),) * 1, (), ("a", "a"))), "outputs"),
    ):
        with pytest.raises(GraphError, match=says):
            make()


def branching() -> Graph:
    x = Input("x", (None, 6))
    nodes = [Node("a", Dense(features=6), ("x",)), Node("b", Relu(), ("a",)), Node("c", Dense(features=6), ("b",))]
    return Graph((x,), (*nodes, Node("s", Add(), ("a", "c")), Node("t", Relu(), ("s",))), ("t",))


def test_the_shortest_way_out_and_back_is_named() -> None:
    with pytest.raises(GraphError, match="the path a → b → c leaves it and comes back; take in b, or leave out a or c"):
        Region(branching(), frozenset({"a", "c", "s"}))


def test_outputs_that_escape_are_named_with_who_reads_them() -> None:
    graph = branching()
    region = Region(graph, frozenset({"a", "b"}))
    assert region.ends() == "1 input: x; 2 outputs: a (read by s), b (read by c)"
    before = graph.to_json()
    with pytest.raises(GraphError, match=r"2 outputs: a \(read by s\), b \(read by c\); its replacement has 1 input and 1 output"):
        splice(graph, region, chain(graph.inputs[0].value, [Relu()]))
    assert graph.to_json() == before
