"""Plain convolutional networks without shortcuts."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Dropout, Relu
from synth.ops.convolution import Conv
from synth.ops.dense import Dense
from synth.ops.layout import Flatten
from synth.ops.pooling import AvgPool, MaxPool


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


def vgg16(shape: Sequence[int], classes: int) -> Graph:
    """VGG-16 without batch norm (Simonyan and Zisserman, 2014): 138,357,544 parameters on ImageNet."""
    net = Net(shape)
    x = net.input
    for stage, (depth, features) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))):
        with net.scope(f"stage{stage + 1}"):
            for index in range(depth):
                x = net(Conv(features=features, use_bias=True), x, name=f"conv{index + 1}")
                x = net(Relu(), x, name=f"act{index + 1}")
            x = net(MaxPool(window=2, stride=2), x, name="pool")
    x = net(Flatten(), x, name="flatten")
    for index in range(2):
        x = net(Dense(features=4096), x, name=f"dense{index + 1}")
        x = net(Relu(), x, name=f"act{index + 1}")
        x = net(Dropout(rate=0.5), x, name=f"dropout{index + 1}")
    return net.graph(net(Dense(features=classes), x, name="head"))
