"""A zoo model, written as Flax source, run and lifted, is the graph that it was: names aside."""

import dataclasses

import jax
import pytest
from flax import nnx

from alphanas.export.blocks import tidy
from alphanas.export.flax.export import source
from alphanas.models import lift_with_report, zoo
from synth.ops import AvgPool, MaxPool, Scale

QUICK = ("resnet8", "cifar_cnn", "vit_nano", "mobilenet_nano", "mlp")
SLOW = tuple(name for name in zoo.names() if name not in QUICK)
SHAPE = (32, 32, 3)


def said(graph):
    """The graph without what its program does not show: initial values, and which of two paddings gave no padding."""

    def plain(node):
        if isinstance(node.op, Scale):
            return dataclasses.replace(node, op=Scale())
        even = isinstance(node.op, AvgPool | MaxPool) and all(
            size % node.op.stride == 0 for size in graph.input_values(node)[0].spatial
        )
        bare = even and node.op.window == node.op.stride
        return dataclasses.replace(node, op=dataclasses.replace(node.op, padding="VALID")) if bare else node

    return dataclasses.replace(graph, nodes=tuple(map(plain, graph.nodes)))


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def test_lifting_exported_source_gives_the_graph(name):
    empty = {"params": {}, "state": {}}
    graph = tidy(zoo.build(name, input_shape=SHAPE, num_classes=10), empty)[0]
    module = {"__name__": "exported", "__file__": __file__}
    exec(compile(source(graph), "model.py", "exec"), module)
    model = nnx.eval_shape(lambda: module["Model"](rngs=nnx.Rngs(0)))
    lifted = lift_with_report(model, jax.ShapeDtypeStruct((1, *SHAPE), "float32"))
    assert not lifted.report.opaque and not lifted.report.frozen
    assert said(lifted.graph).hash == said(graph).hash
    assert set(lifted.report.origins) == {
        f"{c}/{n.name}/{w}" for n in lifted.graph.nodes for c, own in lifted.graph.owned(n).items() for w in own
    }
