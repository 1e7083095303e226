"""Residual networks (He et al., 2015), their grouped form (Xie et al., 2017) and their wide one (Zagoruyko and Komodakis, 2016).

Batch norm has momentum 0.9 and epsilon 1e-5; convolutions start he-normal. A ResNet's stem is a 7×7 convolution and a pool; on
inputs up to 64 pixels, and always in the models called `_cifar`, it is one 3×3 convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alphanas.errors import UserError
from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Relu
from synth.ops.convolution import Conv
from synth.ops.merge import Add
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import MaxPool

Block = Callable[[Net, str, int, int], str]
"""(net, input, width of the stage, stride) → the block's output."""


def basic_block(net: Net, x: str, width: int, stride: int) -> str:
    """Two 3×3 convolutions and a shortcut, projected where its shape changes."""
    y = net.conv_norm(x, width, stride=stride, suffix="1")
    y = net.conv_norm(y, width, act=None, suffix="2")
    return _join(net, x, y, stride)


def bottleneck_block(net: Net, x: str, width: int, stride: int) -> str:
    """1×1, 3×3, 1×1 convolutions and a shortcut; the stride is in the 3×3, as in torchvision's ResNet v1.5."""
    return grouped_block(net, x, width, stride, groups=1, features=4 * width)


def grouped_block(net: Net, x: str, inner: int, stride: int, *, groups: int, features: int) -> str:
    """1×1 to `inner` channels, 3×3 in groups, 1×1 to `features`, and a shortcut."""
    y = net.conv_norm(x, inner, 1, suffix="1")
    y = net.conv_norm(y, inner, stride=stride, groups=groups, suffix="2")
    y = net.conv_norm(y, features, 1, act=None, suffix="3")
    return _join(net, x, y, stride)


def _join(net: Net, x: str, y: str, stride: int) -> str:
    if stride > 1 or net.channels(x) != net.channels(y):
        with net.scope("shortcut"):
            x = net.conv_norm(x, net.channels(y), 1, stride=stride, act=None)
    return net(Relu(), net(Add(), y, x, name="add"), name="act")


def residual(
    shape: Sequence[int], classes: int, block: Block, depths: Sequence[int], *, width: int = 64, small: bool = False
) -> Graph:
    """A residual network of stages; the width doubles and the resolution halves from each to the next."""
    net = Net(shape)
    with net.scope("stem"):
        if small or net.small:
            x = net.conv_norm(net.input, width)
        else:
            x = net(MaxPool(window=3, stride=2), net.conv_norm(net.input, width, 7, stride=2), name="pool")
    return net.classifier(stages(net, x, block, depths, width), classes)


def stages(net: Net, x: str, block: Block, depths: Sequence[int], width: int) -> str:
    """The stages of a residual network: `stage1.block1`, …"""
    for stage, depth in enumerate(depths):
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                x = block(net, x, width * 2**stage, 2 if stage and not index else 1)
    return x


def first_width(text: str) -> int:
    """The channels of the first stage that a variant `resnet18:16` asks for; 64 where it asks for none."""
    if not text:
        return 64
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise UserError(
            f"width {text}", saw="no width of a first stage", wanted="a whole number from 1 to 4096, as in zoo:resnet18:16"
        )
    return int(text)


def resnet8(shape: Sequence[int], classes: int) -> Graph:
    """Three stages of one basic block, widths 16, 32, 64: 78,042 parameters on CIFAR-10."""
    return residual(shape, classes, basic_block, (1, 1, 1), width=16)


def resnet18(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-18: 11,689,512 parameters on ImageNet."""
    return residual(shape, classes, basic_block, (2, 2, 2, 2), width=first_width(width))


def resnet34(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-34: 21,797,672 parameters on ImageNet."""
    return residual(shape, classes, basic_block, (3, 4, 6, 3), width=first_width(width))


def resnet50(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-50: 25,557,032 parameters on ImageNet."""
    return residual(shape, classes, bottleneck_block, (3, 4, 6, 3), width=first_width(width))


def resnet101(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-101: 44,549,160 parameters on ImageNet."""
    return residual(shape, classes, bottleneck_block, (3, 4, 23, 3), width=first_width(width))


def resnet18_cifar(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-18 with the CIFAR stem at every resolution: 11,173,962 parameters on CIFAR-10."""
    return residual(shape, classes, basic_block, (2, 2, 2, 2), width=first_width(width), small=True)


def resnet34_cifar(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-34 with the CIFAR stem at every resolution: 21,282,122 parameters on CIFAR-10."""
    return residual(shape, classes, basic_block, (3, 4, 6, 3), width=first_width(width), small=True)


def resnet50_cifar(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-50 with the CIFAR stem at every resolution: 23,520,842 parameters on CIFAR-10."""
    return residual(shape, classes, bottleneck_block, (3, 4, 6, 3), width=first_width(width), small=True)


def resnet101_cifar(shape: Sequence[int], classes: int, width: str = "") -> Graph:
    """ResNet-101 with the CIFAR stem at every resolution: 42,512,970 parameters on CIFAR-10."""
    return residual(shape, classes, bottleneck_block, (3, 4, 23, 3), width=first_width(width), small=True)


def resnext50_32x4d(shape: Sequence[int], classes: int) -> Graph:
    """ResNeXt-50 with 32 groups of 4 channels: 25,028,904 parameters on ImageNet."""

    def block(net: Net, x: str, width: int, stride: int) -> str:
        return grouped_block(net, x, 2 * width, stride, groups=32, features=4 * width)

    return residual(shape, classes, block, (3, 4, 6, 3))


def resnext29_2x64d(shape: Sequence[int], classes: int) -> Graph:
    """ResNeXt-29 for CIFAR with 2 groups of 64 channels, and a stem of one 1×1 convolution: 9,128,778 parameters on CIFAR-10."""

    def block(net: Net, x: str, width: int, stride: int) -> str:
        return grouped_block(net, x, width, stride, groups=2, features=2 * width)

    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 64, 1)
    return net.classifier(stages(net, x, block, (3, 3, 3), 128), classes)


def wide_block(net: Net, x: str, width: int, stride: int) -> str:
    """Two pre-activated 3×3 convolutions; where the shape changes, the shortcut is a convolution of the activated input."""
    activated = net(Relu(), net(BatchNorm(), x, name="norm1"), name="act1")
    y = net(Conv(features=width, stride=stride), activated, name="conv1")
    y = net.norm_act_conv(y, width, suffix="2")
    if stride > 1 or net.channels(x) != width:
        x = net(Conv(features=width, kernel=1, stride=stride), activated, name="shortcut")
    return net.shortcut(x, y)


def wrn_40_2(shape: Sequence[int], classes: int) -> Graph:
    """WRN-40-2: three stages of six wide blocks, widths 32, 64, 128: 2,243,546 parameters on CIFAR-10."""
    net = Net(shape)
    x = net(Conv(features=16), net.input, name="stem")
    x = stages(net, x, wide_block, (6, 6, 6), 32)
    x = net(Relu(), net(BatchNorm(), x, name="norm"), name="act")
    return net.classifier(x, classes)
