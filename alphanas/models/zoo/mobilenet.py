"""Networks of inverted bottlenecks with depthwise convolutions: MobileNetV2 and V3, EfficientNet, and a small one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.op import Op
from synth.ops.activation import Dropout, HardSigmoid, HardSilu, Relu, Relu6, Sigmoid, Silu
from synth.ops.dense import Dense
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import GlobalAvgPool


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """What the inverted bottlenecks of one network have in common."""

    act: Op
    squeeze_act: Op = Relu()
    gate: Op = Sigmoid()
    norm: BatchNorm = BatchNorm()


PLAIN = Flavour(act=Relu())
MOBILE_2 = Flavour(act=Relu6())
MOBILE_3 = Flavour(act=HardSilu(), gate=HardSigmoid(), norm=BatchNorm(momentum=0.99, epsilon=1e-3))
EFFICIENT = Flavour(act=Silu(), squeeze_act=Silu(), norm=BatchNorm(momentum=0.99, epsilon=1e-3))


def inverted_bottleneck(
    net: Net,
    x: str,
    features: int,
    flavour: Flavour,
    *,
    hidden: int,
    stride: int = 1,
    kernel: int = 3,
    squeeze: int = 0,
    act: Op | None = None,
    drop: float = 0.0,
) -> str:
    """Expansion to `hidden`, depthwise convolution, squeeze-excite of width `squeeze` if any, linear projection, shortcut."""
    act = act or flavour.act
    y = x
    if hidden != net.channels(x):
        with net.scope("expand"):
            y = net.conv_norm(y, hidden, 1, act=act, norm=flavour.norm)
    with net.scope("depthwise"):
        y = net.conv_norm(y, hidden, kernel, stride=stride, groups=hidden, act=act, norm=flavour.norm)
    if squeeze:
        y = net.squeeze_excite(y, squeeze, act=flavour.squeeze_act, gate=flavour.gate)
    with net.scope("project"):
        y = net.conv_norm(y, features, 1, act=None, norm=flavour.norm)
    return net.shortcut(x, y, drop=drop) if stride == 1 and net.channels(x) == features else y


def mobilenet_nano(shape: Sequence[int], classes: int) -> Graph:
    """Five inverted bottlenecks with squeeze-excite, widths 16 to 48: small enough for tests and for the digits."""
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 16)
    for index, (features, stride) in enumerate(((16, 1), (24, 2), (24, 1), (48, 2), (48, 1))):
        with net.scope(f"block{index + 1}"):
            hidden, squeeze = 3 * net.channels(x), net.channels(x) // 2
            x = inverted_bottleneck(net, x, features, PLAIN, hidden=hidden, stride=stride, squeeze=squeeze)
    return net.classifier(x, classes)


def mobilenet_v2(shape: Sequence[int], classes: int) -> Graph:
    """MobileNetV2 at width 1 (Sandler et al., 2018): 3,504,872 parameters on ImageNet."""
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 32, stride=2, act=Relu6())
    for stage, (expansion, features, depth, stride) in enumerate(rows):
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                hidden = expansion * net.channels(x)
                x = inverted_bottleneck(net, x, features, MOBILE_2, hidden=hidden, stride=1 if index else stride)
    with net.scope("top"):
        x = net.conv_norm(x, 1280, 1, act=Relu6())
    return net.classifier(x, classes, dropout=0.2)


MOBILENET_V3_LARGE: tuple[tuple[tuple[int, int, int, int, int, bool], ...], ...] = (
    ((3, 16, 16, 1, 0, False),),
    ((3, 64, 24, 2, 0, False), (3, 72, 24, 1, 0, False)),
    ((5, 72, 40, 2, 24, False), (5, 120, 40, 1, 32, False), (5, 120, 40, 1, 32, False)),
    ((3, 240, 80, 2, 0, True), (3, 200, 80, 1, 0, True), (3, 184, 80, 1, 0, True), (3, 184, 80, 1, 0, True)),
    ((3, 480, 112, 1, 120, True), (3, 672, 112, 1, 168, True)),
    ((5, 672, 160, 2, 168, True), (5, 960, 160, 1, 240, True), (5, 960, 160, 1, 240, True)),
)
"""Stages of blocks: kernel, hidden channels, features, stride, width of the squeeze (0: none), hard swish (else relu)."""


def mobilenet_v3_large(shape: Sequence[int], classes: int) -> Graph:
    """MobileNetV3-Large at width 1 (Howard et al., 2019): 5,483,032 parameters on ImageNet.

    Batch norm as published and as in torchvision: momentum 0.99, epsilon 1e-3.
    """
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 16, stride=2, act=HardSilu(), norm=MOBILE_3.norm)
    for stage, blocks in enumerate(MOBILENET_V3_LARGE):
        for index, (kernel, hidden, features, stride, squeeze, hard) in enumerate(blocks):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                act = None if hard else Relu()
                x = inverted_bottleneck(
                    net, x, features, MOBILE_3, hidden=hidden, stride=stride, kernel=kernel, squeeze=squeeze, act=act
                )
    with net.scope("top"):
        x = net.conv_norm(x, 960, 1, act=HardSilu(), norm=MOBILE_3.norm)
    x = net(GlobalAvgPool(), x, name="pool")
    x = net(HardSilu(), net(Dense(features=1280), x, name="dense"), name="act")
    x = net(Dropout(rate=0.2), x, name="dropout")
    return net.graph(net(Dense(features=classes), x, name="head"))


def efficientnet_b0(shape: Sequence[int], classes: int) -> Graph:
    """EfficientNet-B0 (Tan and Le, 2019): 5,288,548 parameters on ImageNet.

    Batch norm: momentum 0.99, epsilon 1e-3. Stochastic depth rises from 0 to 0.2 × 15/16 along the sixteen blocks.
    """
    rows = (
        *((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3)),
        *((6, 5, 1, 112, 3), (6, 5, 2, 192, 4), (6, 3, 1, 320, 1)),
    )
    blocks, done = sum(row[-1] for row in rows), 0
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 32, stride=2, act=Silu(), norm=EFFICIENT.norm)
    for stage, (expansion, kernel, stride, features, depth) in enumerate(rows):
        for index in range(depth):
            with net.scope(f"stage{stage + 1}"), net.scope(f"block{index + 1}"):
                channels = net.channels(x)
                x = inverted_bottleneck(
                    net,
                    x,
                    features,
                    EFFICIENT,
                    hidden=expansion * channels,
                    stride=1 if index else stride,
                    kernel=kernel,
                    squeeze=channels // 4,
                    drop=0.2 * done / blocks,
                )
            done += 1
    with net.scope("top"):
        x = net.conv_norm(x, 1280, 1, act=Silu(), norm=EFFICIENT.norm)
    return net.classifier(x, classes, dropout=0.2)
