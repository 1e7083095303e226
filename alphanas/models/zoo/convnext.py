"""ConvNeXt (Liu et al., 2022): depthwise 7×7 convolutions and perceptrons, in the order of a transformer."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from alphanas.models.zoo.vit import perceptron
from synth.graph import Graph
from synth.op import ShapeMismatch
from synth.ops.activation import Scale
from synth.ops.convolution import Conv, DepthwiseConv
from synth.ops.dense import Dense
from synth.ops.normalization import LayerNorm
from synth.ops.pooling import GlobalAvgPool

STRIDE = 32


def convnext_block(net: Net, x: str, *, drop: float) -> str:
    """Depthwise 7×7, layer norm, a perceptron four times as wide, a layer scale that starts at 1e-6, shortcut."""
    y = net(DepthwiseConv(kernel=7, use_bias=True), x, name="depthwise")
    y = perceptron(net, net(LayerNorm(), y, name="norm"), 4 * net.channels(x))
    y = net(Scale(initial=1e-6), y, name="scale")
    return net.shortcut(x, y, drop=drop)


def convnext_t(shape: Sequence[int], classes: int) -> Graph:
    """ConvNeXt-T: 28,589,128 parameters on ImageNet.

    Layer norms have epsilon 1e-6; stochastic depth rises from 0 to 0.1 along the blocks.
    """
    depths, widths = (3, 3, 9, 3), (96, 192, 384, 768)
    net = Net(shape)
    height, breadth = shape[:2]
    if min(height, breadth) < STRIDE or height % 4 or breadth % 4:
        raise ShapeMismatch(f"4×4 patches, halved three times, do not fit {height}×{breadth}; wanted multiples of 4 from {STRIDE}")
    rates = [0.1 * done / (sum(depths) - 1) for done in range(sum(depths))]
    with net.scope("stem"):
        x = net(Conv(features=widths[0], kernel=4, stride=4, padding="VALID", use_bias=True), net.input, name="conv")
        x = net(LayerNorm(), x, name="norm")
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            with net.scope(f"downsample{stage}"):
                x = net(LayerNorm(), x, name="norm")
                x = net(Conv(features=width, kernel=2, stride=2, padding="VALID", use_bias=True), x, name="conv")
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                x = convnext_block(net, x, drop=rates.pop(0))
    x = net(LayerNorm(), net(GlobalAvgPool(), x, name="pool"), name="norm")
    return net.graph(net(Dense(features=classes), x, name="head"))
