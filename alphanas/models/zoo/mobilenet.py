"""Networks of inverted bottlenecks with depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.op import Op
from synth.ops.activation import Relu, Sigmoid
from synth.ops.merge import Add
from synth.ops.normalization import BatchNorm


def inverted_bottleneck(
    net: Net,
    x: str,
    features: int,
    *,
    hidden: int,
    stride: int = 1,
    kernel: int = 3,
    squeeze: int = 0,
    act: Op,
    squeeze_act: Op = Relu(),  # noqa: B008 - ops are frozen values
    gate: Op = Sigmoid(),  # noqa: B008
    norm: BatchNorm = BatchNorm(),  # noqa: B008
) -> str:
    """Expansion to `hidden`, depthwise convolution, squeeze-excite of width `squeeze` if any, linear projection, shortcut."""
    y = x
    if hidden != net.channels(x):
        with net.scope("expand"):
            y = net.conv_norm(y, hidden, 1, act=act, norm=norm)
    with net.scope("depthwise"):
        y = net.conv_norm(y, hidden, kernel, stride=stride, groups=hidden, act=act, norm=norm)
    if squeeze:
        y = net.squeeze_excite(y, squeeze, act=squeeze_act, gate=gate)
    with net.scope("project"):
        y = net.conv_norm(y, features, 1, act=None, norm=norm)
    return net(Add(), y, x, name="add") if stride == 1 and net.channels(x) == features else y


def mobilenet_nano(shape: Sequence[int], classes: int) -> Graph:
    """Five inverted bottlenecks with squeeze-excite, widths 16 to 48: small enough for tests and for the digits."""
    net = Net(shape)
    with net.scope("stem"):
        x = net.conv_norm(net.input, 16)
    for index, (features, stride) in enumerate(((16, 1), (24, 2), (24, 1), (48, 2), (48, 1))):
        with net.scope(f"block{index + 1}"):
            hidden = 3 * net.channels(x)
            x = inverted_bottleneck(net, x, features, hidden=hidden, stride=stride, squeeze=net.channels(x) // 2, act=Relu())
    return net.classifier(x, classes)
