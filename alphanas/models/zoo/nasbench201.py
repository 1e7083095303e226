"""The networks of NAS-Bench-201 (Dong and Yang, 2020): three stages of five equal cells, named by the cell's string."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.errors import UserError, nearest
from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.convolution import Conv
from synth.ops.layout import Zero
from synth.ops.merge import Add
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import AvgPool

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
NODES = 3
RESNET_CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|skip_connect~0|none~1|skip_connect~2|"
"""The cell that is a residual block, for a network whose cell is not named."""

Cell = tuple[tuple[str, ...], ...]
"""For each node after the input, the operations on its edges from the input and the nodes before it."""


def parse_cell(text: str) -> Cell:
    """The cell of a string such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|`.

    An edge is `operation~source`, a node its edges between bars, sources in order. Raises UserError that says where it is wrong.
    """
    thing, nodes = f"cell {text!r}", text.split("+")
    if len(nodes) != NODES:
        raise UserError(thing, saw=f"{len(nodes)} nodes", wanted=f"three with + between them, such as {RESNET_CELL}")
    return tuple(_edges(thing, node, index) for index, node in enumerate(nodes))


def _edges(thing: str, node: str, index: int) -> tuple[str, ...]:
    edges = node.strip("|").split("|")
    pairs = [edge.partition("~") for edge in edges]
    wanted = [str(source) for source in range(index + 1)]
    if not (node.startswith("|") and node.endswith("|")) or [source for _, _, source in pairs] != wanted:
        form = "|" + "|".join(f"operation~{source}" for source in wanted) + "|"
        raise UserError(thing, saw=f"{node} as node {index + 1}", wanted=form)
    for operation, _, _ in pairs:
        if operation not in OPERATIONS:
            raise UserError(thing, saw=f"no operation {operation!r}", remedy=nearest(operation, OPERATIONS))
    return tuple(operation for operation, _, _ in pairs)


def nasbench201(shape: Sequence[int], classes: int, cell: str = RESNET_CELL) -> Graph:
    """The network of a cell: 16 channels, doubled by a residual block after each five cells.

    Batch norm: momentum 0.9, epsilon 1e-5. Average pools leave their padding out. Edges `none` are left out; a node with no other
    edge is zero. Parameters that nothing reads are kept, as in the benchmark's counts.
    """
    parsed = parse_cell(cell)
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 16, act=None)
    for stage in range(3):
        if stage:
            with net.scope(f"reduction{stage}"):
                x = _reduction(net, x, 16 * 2**stage)
        for index in range(5):
            with net.scope(f"stage{stage + 1}"), net.scope(f"cell{index + 1}"):
                x = _cell(net, x, parsed)
    x = net(Relu(), net(BatchNorm(), x, name="norm"), name="act")
    return net.classifier(x, classes)


def _cell(net: Net, x: str, cell: Cell) -> str:
    values = [x]
    for node, edges in enumerate(cell, start=1):
        arriving = [
            _edge(net, operation, values[source], name=f"edge{source}{node}")
            for source, operation in enumerate(edges)
            if operation != "none"
        ]
        values.append(_sum(net, arriving, name=f"node{node}") if arriving else net(Zero(), x, name=f"node{node}"))
    return values[-1]


def _sum(net: Net, values: Sequence[str], *, name: str) -> str:
    total = values[0]
    for number, value in enumerate(values[1:], start=2):
        total = net(Add(), total, value, name=name if number == len(values) else f"{name}_{number}")
    return total


def _edge(net: Net, operation: str, x: str, *, name: str) -> str:
    match operation:
        case "skip_connect":
            return x
        case "avg_pool_3x3":
            return net(AvgPool(window=3, stride=1, count_padding=False), x, name=name)
        case _:
            with net.scope(name):
                return _act_conv_norm(net, x, net.channels(x), 3 if operation == "nor_conv_3x3" else 1)


def _act_conv_norm(net: Net, x: str, features: int, kernel: int, *, stride: int = 1, suffix: str = "") -> str:
    x = net(Relu(), x, name=f"act{suffix}")
    return net.conv_norm(x, features, kernel, stride=stride, act=None, suffix=suffix)


def _reduction(net: Net, x: str, features: int) -> str:
    y = _act_conv_norm(net, x, features, 3, stride=2, suffix="1")
    y = _act_conv_norm(net, y, features, 3, suffix="2")
    with net.scope("shortcut"):
        x = net(AvgPool(window=2, stride=2), x, name="pool")
        x = net(Conv(features=features, kernel=1), x, name="conv")
    return net(Add(), x, y, name="add")
