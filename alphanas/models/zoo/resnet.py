"""Residual networks (He et al., 2015). Inputs up to 64 pixels get the CIFAR stem: one 3×3 convolution and no pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.merge import Add
from synth.ops.pooling import MaxPool

LARGEST_SMALL_INPUT = 64
"""Pixels up to which a model keeps its input's resolution in the stem."""

Block = Callable[[Net, str, int, int], str]


def basic_block(net: Net, x: str, width: int, stride: int) -> str:
    """Two 3×3 convolutions and a shortcut, projected where its shape changes."""
    y = net.conv_norm(x, width, stride=stride, suffix="1")
    y = net.conv_norm(y, width, act=None, suffix="2")
    return _join(net, x, y, stride)


def bottleneck_block(net: Net, x: str, width: int, stride: int) -> str:
    """1×1, 3×3, 1×1 convolutions and a shortcut; the stride is in the 3×3, as in torchvision's ResNet v1.5."""
    y = net.conv_norm(x, width, 1, suffix="1")
    y = net.conv_norm(y, width, stride=stride, suffix="2")
    y = net.conv_norm(y, 4 * width, 1, act=None, suffix="3")
    return _join(net, x, y, stride)


def _join(net: Net, x: str, y: str, stride: int) -> str:
    if stride > 1 or net.channels(x) != net.channels(y):
        with net.scope("shortcut"):
            x = net.conv_norm(x, net.channels(y), 1, stride=stride, act=None)
    return net(Relu(), net(Add(), y, x, name="add"), name="act")


def residual(shape: Sequence[int], classes: int, block: Block, depths: Sequence[int], width: int = 64) -> Graph:
    """A residual network of stages; the width doubles and the resolution halves from each to the next."""
    net = Net(shape)
    with net.scope("stem"):
        small = max(shape[:-1], default=0) <= LARGEST_SMALL_INPUT
        x = net.conv_norm(net.input, width, 3 if small else 7, stride=1 if small else 2)
        x = x if small else net(MaxPool(window=3, stride=2), x, name="pool")
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                x = block(net, x, width * 2**stage, 2 if stage and not index else 1)
    return net.classifier(x, classes)


def resnet8(shape: Sequence[int], classes: int) -> Graph:
    """Three stages of one basic block, widths 16, 32, 64: 78,042 parameters on CIFAR-10."""
    return residual(shape, classes, basic_block, (1, 1, 1), width=16)


def resnet18(shape: Sequence[int], classes: int) -> Graph:
    """ResNet-18: 11,689,512 parameters on ImageNet."""
    return residual(shape, classes, basic_block, (2, 2, 2, 2))


def resnet34(shape: Sequence[int], classes: int) -> Graph:
    """ResNet-34: 21,797,672 parameters on ImageNet."""
    return residual(shape, classes, basic_block, (3, 4, 6, 3))


def resnet50(shape: Sequence[int], classes: int) -> Graph:
    """ResNet-50: 25,557,032 parameters on ImageNet."""
    return residual(shape, classes, bottleneck_block, (3, 4, 6, 3))


def resnet101(shape: Sequence[int], classes: int) -> Graph:
    """ResNet-101: 44,549,160 parameters on ImageNet."""
    return residual(shape, classes, bottleneck_block, (3, 4, 23, 3))
