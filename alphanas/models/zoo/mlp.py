"""Multi-layer perceptrons."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.dense import Dense
from synth.ops.layout import Flatten


def mlp(shape: Sequence[int], classes: int) -> Graph:
    """Two hidden layers of 128 features on the flattened input."""
    net = Net(shape, rank=None)
    x = net(Flatten(), net.input, name="flatten") if len(shape) > 1 else net.input
    for index in range(2):
        x = net(Dense(features=128), x, name=f"dense{index + 1}")
        x = net(Relu(), x, name=f"act{index + 1}")
    return net.graph(net(Dense(features=classes), x, name="head"))
