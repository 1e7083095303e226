"""An edited graph, analysed at the cost of the edit, against the analysis of the new graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from alphanas.models import zoo
from properties import Inference
from synth import Graph, GraphError, Node, Region, chain, infer, regions, splice
from synth.edits import Edits
from synth.ops import Conv, Dense, GlobalAvgPool, Relu, Softmax
from tests.strategies import random_graph


def edited(region: Region, kernel: int) -> Graph:
    """The region with other kernels, and an activation at its end."""
    piece = region.subgraph()
    nodes = [
        replace(node, op=replace(node.op, kernel=kernel)) if isinstance(node.op, Conv) and node.op.kernel > 1 else node
        for node in piece.nodes
    ]
    ends = [Node(f"end{k}", Relu() if k % 2 else Softmax(), (name,)) for k, name in enumerate(piece.outputs)]
    return Graph(piece.inputs, (*nodes, *ends), tuple(end.name for end in ends))


def agree(found: Inference, expected: Inference) -> None:
    """The order of execution is not `splice`'s, so memory may differ; the rank is bounded in another way."""
    assert (found.inputs, found.shape, found.unknown) == (expected.inputs, expected.shape, expected.unknown)
    assert replace(found.capacity, peak_bytes=0) == replace(expected.capacity, peak_bytes=0)
    for i in range(len(found.inputs)):
        for o in range(len(found.shape)):
            assert found.depth[i, o] == expected.depth[i, o]
            assert (found.mixing[i, o].matrix == expected.mixing[i, o].matrix).all()
            assert (found.rank[i, o] == 0) == (expected.rank[i, o] == 0)


@pytest.mark.parametrize("seed", range(20))
def test_an_edit_is_analysed_as_the_new_graph_is(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes=10)
    edits = Edits.of(graph)
    found = list(regions(graph, largest=4))
    for index in rng.choice(len(found), min(4, len(found)), replace=False):
        region = found[int(index)]
        piece = edited(region, 5)
        agree(edits.after(region, piece), infer(splice(graph, region, piece)))


def test_a_region_with_several_ends_and_others_beside_it() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    edits, names = Edits.of(graph), [node.name for node in graph.nodes]
    tried = 0
    for first in range(0, len(names), 3):
        for skipped in (0, 1, 2):
            try:
                region = Region(graph, frozenset({names[first], *names[first + 1 + skipped : first + 4]}))
            except GraphError:
                continue
            tried += 1
            agree(edits.after(region, edited(region, 5)), infer(splice(graph, region, edited(region, 5))))
    assert tried > 10


def test_memory_is_that_of_the_piece_where_the_region_ended() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    edits = Edits.of(graph)
    for place, node in enumerate(graph.nodes):
        region = Region(graph, frozenset({node.name}))
        piece = edited(region, 3)
        new = [Node(f"new.{each.name}", each.op, tuple(f"new.{name}" if name in piece.by_name else name for name in each.inputs))
               for each in piece.nodes]  # fmt: skip
        moved = {node.name: f"new.{piece.outputs[0]}"}
        rest = [Node(each.name, each.op, tuple(moved.get(name, name) for name in each.inputs)) for each in graph.nodes[place + 1 :]]
        outputs = tuple(moved.get(name, name) for name in graph.outputs)
        whole = Graph(graph.inputs, (*graph.nodes[:place], *new, *rest), outputs)
        assert edits.after(region, piece).capacity == infer(whole).capacity


def test_the_same_piece_changes_nothing() -> None:
    graph = random_graph(np.random.default_rng(3), nodes=10)
    edits = Edits.of(graph)
    for region in regions(graph, largest=3):
        found = edits.after(region, region.subgraph())
        agree(found, infer(graph))
        assert found.capacity.macs == infer(graph).capacity.macs


def test_a_piece_of_other_ends_is_an_error_that_says_what_to_do() -> None:
    graph = zoo.build("resnet8", input_shape=(16, 16, 3), num_classes=10)
    region = Region(graph, frozenset({graph.nodes[0].name}))
    piece = chain(graph.inputs[0].value, [GlobalAvgPool(), Dense(features=16)])
    with pytest.raises(GraphError, match=r"the piece's outputs are B×16; the region's are .* infer the properties of the spliced"):
        Edits.of(graph).after(region, piece)
