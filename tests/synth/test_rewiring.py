"""Laws of rewiring: the same ends, one merge changed, every way and no other."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from synth import Builder, Graph
from synth.ops import Add, Conv, GlobalAvgPool, Multiply, Relu
from synth.rewiring import joined, reattached, rewired
from tests.strategies import random_graph


def residual() -> Graph:
    build = Builder((4, 4, 8))
    a = build(Conv(features=8), build.input, name="a")
    b = build(Conv(features=8), build(Relu(), a, name="r"), name="b")
    gate = build(GlobalAvgPool(keep_axes=True), b, name="g")
    return build.graph(build(Add(), build(Multiply(), b, gate, name="m"), build.input, name="s"))


def test_every_operand_is_attached_to_every_value_that_fits() -> None:
    graph = residual()
    found = {(each.node, each.before, each.after) for each in reattached(graph, graph.by_name["s"])}
    assert found == {("s", "input", name) for name in ("a", "r", "b", "g")} | {("s", "m", name) for name in ("a", "r", "b", "g")}
    left = next(each.graph for each in reattached(graph, graph.by_name["s"]) if (each.before, each.after) == ("m", "a"))
    assert set(left.by_name) == {"a", "s"}


def test_a_merge_is_made_with_every_earlier_value_that_fits() -> None:
    graph = residual()
    found = {(each.after, each.graph.by_name[each.node].op.kind()) for each in joined(graph, graph.by_name["b"])}
    assert found == {(name, kind) for name in ("input", "a", "r") for kind in ("add", "multiply")}
    assert all(each.graph.by_name["g"].inputs == (each.node,) for each in joined(graph, graph.by_name["b"]))


@pytest.mark.parametrize("seed", range(10))
def test_ends_stay_and_the_graph_computes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, nodes=7)
    found = rewired(graph, rng)
    if found is None:
        return
    assert found.graph.inputs == graph.inputs and found.graph.hash != graph.hash
    assert [found.graph.values[name] for name in found.graph.outputs] == [graph.values[name] for name in graph.outputs]
    x = rng.standard_normal(graph.inputs[0].value.aval(2).shape).astype(np.float32)
    assert np.isfinite(found.graph.apply(found.graph.init(jax.random.key(0)), x)).all()
