"""Plain convolutional networks without shortcuts."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.convolution import Conv
from synth.ops.dense import Dense
from synth.ops.layout import Flatten
from synth.ops.pooling import AvgPool


def cifar_cnn(shape: Sequence[int], classes: int) -> Graph:
    """The plain CNN of the αNAS paper's examples: 2,192,458 parameters on CIFAR-10."""
    net = Net(shape)
    x = net(Conv(features=32, kernel=1, use_bias=True), net.input, name="project")
    for index, features in enumerate((64, 128)):
        with net.scope(f"block{index + 1}"):
            x = net(Conv(features=features, use_bias=True), x, name="conv")
            x = net(Relu(), x, name="act")
            x = net(AvgPool(window=2, stride=2, padding="VALID"), x, name="pool")
    x = net(Flatten(), x, name="flatten")
    x = net(Dense(features=256), x, name="dense")
    x = net(Relu(), x, name="act")
    return net.graph(net(Dense(features=classes), x, name="head"))
