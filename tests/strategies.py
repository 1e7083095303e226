"""Random programs for laws: well-formed graphs of the vocabulary, with branches, from a NumPy generator."""

from __future__ import annotations

import dataclasses

import numpy as np

from synth.graph import Graph, Input, Node
from synth.op import Op, ShapeMismatch, Value, output_value
from synth.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    Multiply,
    Relu,
    Silu,
    Softmax,
)

UNARY: tuple[Op, ...] = (
    Conv(features=4),
    Conv(features=4, kernel=1),
    Conv(features=8, groups=2),
    Conv(features=4, stride=2),
    Conv(features=4, dilation=2),
    DepthwiseConv(),
    Dense(features=6),
    BatchNorm(),
    LayerNorm(),
    GroupNorm(groups=2),
    Relu(),
    Silu(),
    Softmax(),
    AvgPool(stride=1),
    MaxPool(),
    GlobalAvgPool(keep_axes=True),
)
BINARY: tuple[Op, ...] = (Add(), Multiply(), Concatenate())


def random_graph(rng: np.random.Generator, *, nodes: int, shape: tuple[int, ...] = (6, 5, 4)) -> Graph:
    """A connected graph with at most so many nodes, whose last node is the output; operands are drawn from all values so far."""
    values = {"x": Value((None, *shape))}
    made: list[Node] = []
    while len(made) < nodes:
        op = (*UNARY, *BINARY)[rng.integers(len(UNARY) + len(BINARY))]
        names = list(values)[-4:]
        reads = tuple(names[index] for index in rng.integers(len(names), size=1 if op.arity == 1 else 2))
        try:
            value = output_value(op, tuple(values[name] for name in reads))
        except ShapeMismatch:
            continue
        name = f"n{len(made)}"
        made.append(Node(name, op, reads))
        values[name] = value
    return Graph((Input("x", (None, *shape)),), tuple(made), (made[-1].name,)).pruned()


def renamed(graph: Graph, rng: np.random.Generator) -> Graph:
    """The same program under other names, in another topological order, with commuting operands turned round."""
    names = {item.name: f"r{index}" for index, item in enumerate(graph.inputs)}
    names |= {node.name: f"q{rng.integers(10**9)}_{index}" for index, node in enumerate(graph.nodes)}
    waiting = list(graph.nodes)
    done = {item.name for item in graph.inputs}
    ordered: list[Node] = []
    while waiting:
        ready = [node for node in waiting if done.issuperset(node.inputs)]
        node = ready[rng.integers(len(ready))]
        waiting.remove(node)
        done.add(node.name)
        reads = tuple(names[name] for name in node.inputs)
        ordered.append(Node(names[node.name], node.op, reads[::-1] if node.op.commutative else reads))
    inputs = tuple(dataclasses.replace(item, name=names[item.name]) for item in graph.inputs)
    return Graph(inputs, tuple(ordered), tuple(names[name] for name in graph.outputs))
