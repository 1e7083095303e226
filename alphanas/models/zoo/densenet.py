"""Densely connected networks (Huang et al., 2017): every layer reads all layers of its stage before it."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.convolution import Conv
from synth.ops.merge import Concatenate
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import AvgPool, MaxPool


def dense_layer(net: Net, x: str, growth: int) -> str:
    """A 1×1 convolution to four times the growth, a 3×3 to the growth, both pre-activated, put behind the input."""
    y = net.norm_act_conv(x, 4 * growth, 1, suffix="1")
    y = net.norm_act_conv(y, growth, suffix="2")
    return net(Concatenate(), x, y, name="concat")


def densely_connected(shape: Sequence[int], classes: int, depths: Sequence[int], *, growth: int = 32) -> Graph:
    """Stages of dense layers; between them a 1×1 convolution halves the channels and a pool the resolution.

    The stem is a 7×7 convolution and a pool; on inputs up to 64 pixels one 3×3 convolution. Batch norm: momentum 0.9, epsilon 1e-5.
    """
    net = Net(shape)
    with net.scope("stem"):
        if net.small:
            x = net(Conv(features=2 * growth), net.input, name="conv")
        else:
            x = net(MaxPool(window=3, stride=2), net.conv_norm(net.input, 2 * growth, 7, stride=2), name="pool")
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"layer{index + 1}"):
                x = dense_layer(net, x, growth)
        if stage + 1 < len(depths):
            with net.scope(f"transition{stage + 1}"):
                x = net.norm_act_conv(x, net.channels(x) // 2, 1)
                x = net(AvgPool(window=2, stride=2), x, name="pool")
    x = net(Relu(), net(BatchNorm(), x, name="norm"), name="act")
    return net.classifier(x, classes)


def densenet121(shape: Sequence[int], classes: int) -> Graph:
    """DenseNet-121: 7,978,856 parameters on ImageNet."""
    return densely_connected(shape, classes, (6, 12, 24, 16))


def densenet161(shape: Sequence[int], classes: int) -> Graph:
    """DenseNet-161, which grows by 48: 28,681,000 parameters on ImageNet."""
    return densely_connected(shape, classes, (6, 12, 36, 24), growth=48)


def densenet169(shape: Sequence[int], classes: int) -> Graph:
    """DenseNet-169: 14,149,480 parameters on ImageNet."""
    return densely_connected(shape, classes, (6, 12, 32, 32))


def densenet201(shape: Sequence[int], classes: int) -> Graph:
    """DenseNet-201: 20,013,928 parameters on ImageNet."""
    return densely_connected(shape, classes, (6, 12, 48, 32))
