"""Graphs that every export format is held to, each with what makes it worth a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import alphanas
from alphanas.models import zoo
from synth import OPS, Graph, Input, Node, Region, chain, splice
from synth.graph import Tie, Variables
from synth.op import Value
from tests.harnesses import OP_CASES, dtype_of

Row = tuple[Graph, Variables]


def trained_variables(graph: Graph, seed: int = 0) -> Variables:
    """Variables in which no weight and no statistic has its initial value."""
    rng = np.random.default_rng(seed)
    variables = graph.init(jax.random.key(seed))
    return jax.tree.map(lambda array: array + jnp.asarray(0.2 * (rng.random(array.shape) - 0.5), array.dtype), variables)


def with_weights(graph: Graph) -> Row:
    return graph, trained_variables(graph)


def every_op() -> Row:
    """Every case of every op, side by side: one input for each shape, one output for each case."""
    inputs: dict[tuple[object, ...], Input] = {}
    nodes = []
    for number, (op, shapes) in enumerate(OP_CASES):
        places = [(shape, shapes[:index].count(shape)) for index, shape in enumerate(shapes)]
        for shape, copy in places:
            inputs.setdefault((*shape, -copy, dtype_of(op)), Input(f"x{len(inputs)}", (None, *shape), dtype_of(op)))
        read = tuple(inputs[(*shape, -copy, dtype_of(op))].name for shape, copy in places)
        nodes.append(Node(f"{op.kind()}_{number}", op, read))
    return with_weights(Graph(tuple(inputs.values()), tuple(nodes), tuple(node.name for node in nodes)))


def edited() -> Row:
    """A block of a residual network with another piece in its middle, as a search leaves it."""
    graph = zoo.build("resnet8", input_shape=(8, 8, 1), num_classes=10)
    region = Region(graph, frozenset({"stage1.block1.conv1", "stage1.block1.norm1"}))
    piece = chain(Value((None, 8, 8, 16)), [OPS["conv"](features=12, kernel=1), OPS["gelu"]()])
    return with_weights(splice(graph, region, piece))


def pruned() -> Row:
    """A network whose branch nobody reads any more."""
    graph = zoo.build("cifar_cnn", input_shape=(8, 8, 1), num_classes=3)
    unread = Node("unread", OPS["dense"](features=4), (graph.inputs[0].name,))
    return with_weights(Graph(graph.inputs, (unread, *graph.nodes), graph.outputs))


def branches() -> Row:
    """Branches that join by sum, product and concatenation, in both layouts, with a value that several read."""
    nodes = (
        Node("stem", OPS["conv"](features=8), ("image",)),
        Node("norm", OPS["batch_norm"](), ("stem",)),
        Node("left.conv", OPS["depthwise_conv"](kernel=5, stride=2), ("norm",)),
        Node("left.norm", OPS["layer_norm"](), ("left.conv",)),
        Node("right.pool", OPS["max_pool"](window=3), ("norm",)),
        Node("right.dense", OPS["dense"](features=8), ("right.pool",)),
        Node("sum", OPS["add"](), ("left.norm", "right.dense", "right.pool")),
        Node("gate.mean", OPS["global_avg_pool"](keep_axes=True), ("sum",)),
        Node("gate.dense", OPS["dense"](features=8), ("gate.mean",)),
        Node("gate.sigmoid", OPS["sigmoid"](), ("gate.dense",)),
        Node("gated", OPS["multiply"](), ("sum", "gate.sigmoid")),
        Node("joined", OPS["concatenate"](), ("gated", "left.conv")),
        Node("scaled", OPS["scale"](initial=0.5), ("joined",)),
        Node("mean", OPS["global_avg_pool"](), ("scaled",)),
        Node("head", OPS["dense"](features=3), ("mean",)),
    )
    return with_weights(Graph((Input("image", (None, 8, 8, 3)),), nodes, ("head",)))


def tokens() -> Row:
    """A transformer."""
    return with_weights(zoo.build("vit_nano", input_shape=(8, 8, 1), num_classes=3))


def several() -> Row:
    """Two inputs, one of them handed on as it is, and outputs that read each other."""
    inputs = (Input("image", (None, 6, 6, 2)), Input("more", (None, 5)))
    nodes = (
        Node("conv", OPS["conv"](features=4), ("image",)),
        Node("relu", OPS["relu"](), ("conv",)),
        Node("flat", OPS["flatten"](), ("relu",)),
        Node("both", OPS["concatenate"](), ("flat", "more")),
        Node("head", OPS["dense"](features=2), ("both",)),
    )
    return with_weights(Graph(inputs, nodes, ("head", "conv", "more")))


def tied() -> Row:
    """A language model whose last layer shares the table of its first; its input is of whole numbers."""
    nodes = (
        Node("embed", OPS["embed"](entries=7, features=4), ("tokens",)),
        Node("attention", OPS["multi_head_attention"](heads=2, causal=True), ("embed",)),
        Node("norm", OPS["layer_norm"](), ("attention",)),
        Node("attend", OPS["attend"](features=7), ("norm",), (Tie("embedding", "embed", "embedding"),)),
    )
    return with_weights(Graph((Input("tokens", (None, 5), "int32"),), nodes, ("attend",)))


def heir() -> Row:
    """A shared array whose first owner no output needs any more."""
    nodes = (
        Node("unread", OPS["dense"](features=6), ("x",)),
        Node("left", OPS["dense"](features=6), ("x",), (Tie("kernel", "unread", "kernel"),)),
        Node("right", OPS["dense"](features=6), ("left",), (Tie("kernel", "unread", "kernel"),)),
    )
    return with_weights(Graph((Input("x", (None, 6)),), nodes, ("right",)))


def opaque() -> Row:
    """A plain function that holds what the vocabulary has no word for: a minimum, a running sum, powers, a choice."""
    rng = np.random.default_rng(0)
    params = {"kernel": rng.standard_normal((6, 5)).astype(np.float32), "bias": rng.standard_normal(5).astype(np.float32)}

    def apply(params: Any, x: jax.Array) -> jax.Array:
        x = jnp.cumsum(jnp.minimum(x @ params["kernel"], 0.5) ** 3, axis=1)
        x = jnp.where(x > params["bias"], jnp.sin(x), x[:, ::-1])
        return jnp.concatenate([x, jnp.ones_like(x[:, :2])], axis=-1) / (1.0 + jnp.abs(x).max(-1, keepdims=True))

    graph, variables = alphanas.lift((apply, params), jax.ShapeDtypeStruct((1, 6), "float32"))
    return graph, variables


ROWS = (every_op, edited, pruned, branches, tokens, several, tied, heir, opaque)
GRAPHS: dict[str, Callable[[], Row]] = {row.__name__: row for row in ROWS}
