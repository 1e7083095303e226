"""Networks of tokens: vision transformers (Dosovitskiy et al., 2021) and the MLP-Mixer (Tolstikhin et al., 2021).

Layer norms have epsilon 1e-6, positions start normal with deviation 0.02 and the class token at zero, as published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.op import ShapeMismatch
from synth.ops.activation import Dropout, Gelu
from synth.ops.attention import ClassToken, MultiHeadAttention, PositionEmbedding
from synth.ops.convolution import Conv
from synth.ops.dense import Dense
from synth.ops.layout import Reshape, Select, Transpose
from synth.ops.merge import Add
from synth.ops.normalization import LayerNorm


def patches(net: Net, width: int, patch: int) -> str:
    """One token for every patch of the picture; ShapeMismatch for a picture that patches do not fill."""
    height, breadth = net.value(net.input).spatial
    if height % patch or breadth % patch:
        raise ShapeMismatch(f"patches of {patch}×{patch} pixels do not fill {height}×{breadth}; wanted multiples of {patch}")
    conv = Conv(features=width, kernel=patch, stride=patch, padding="VALID", use_bias=True)
    x = net(conv, net.input, name="patches")
    return net(Reshape(shape=(height * breadth // patch**2, -1)), x, name="tokens")


def encoder_block(net: Net, x: str, *, heads: int, hidden: int, dropout: float = 0.0) -> str:
    """Self-attention and a two-layer perceptron, each after a layer norm and with a shortcut."""
    y = net(LayerNorm(), x, name="norm1")
    y = net(MultiHeadAttention(heads=heads), y, name="attention")
    y = net(Dropout(rate=dropout), y, name="dropout1") if dropout else y
    x = net(Add(), x, y, name="add1")
    y = perceptron(net, net(LayerNorm(), x, name="norm2"), hidden)
    y = net(Dropout(rate=dropout), y, name="dropout2") if dropout else y
    return net(Add(), x, y, name="add2")


def perceptron(net: Net, x: str, hidden: int) -> str:
    """Dense to `hidden`, gelu, dense back."""
    y = net(Gelu(), net(Dense(features=hidden), x, name="expand"), name="act")
    return net(Dense(features=net.channels(x)), y, name="project")


def transformer(shape: Sequence[int], classes: int, *, width: int, heads: int, depth: int = 12, patch: int = 16) -> Graph:
    """A vision transformer that classifies by its class token."""
    net = Net(shape)
    x = net(ClassToken(), patches(net, width, patch), name="class_token")
    x = net(PositionEmbedding(), x, name="positions")
    for index in range(depth):
        with net.scope(f"block{index + 1}"):
            x = encoder_block(net, x, heads=heads, hidden=4 * width)
    x = net(LayerNorm(), x, name="norm")
    x = net(Select(index=0), x, name="select")
    return net.graph(net(Dense(features=classes), x, name="head"))


def vit_ti16(shape: Sequence[int], classes: int) -> Graph:
    """ViT-Ti/16: 5,717,416 parameters on ImageNet."""
    return transformer(shape, classes, width=192, heads=3)


def vit_s16(shape: Sequence[int], classes: int) -> Graph:
    """ViT-S/16: 22,050,664 parameters on ImageNet."""
    return transformer(shape, classes, width=384, heads=6)


def vit_b16(shape: Sequence[int], classes: int) -> Graph:
    """ViT-B/16: 86,567,656 parameters on ImageNet."""
    return transformer(shape, classes, width=768, heads=12)


def vit_nano(shape: Sequence[int], classes: int) -> Graph:
    """Three blocks of width 48 with four heads on about eight patches a side, mean of the tokens."""
    net = Net(shape)
    side = math.gcd(*shape[:2])
    wanted = max(2.0, min(shape[:2]) / 8)
    patch = min((size for size in range(1, side + 1) if side % size == 0), key=lambda size: abs(size - wanted))
    x = patches(net, 48, patch)
    x = net(PositionEmbedding(), x, name="positions")
    for index in range(3):
        with net.scope(f"block{index + 1}"):
            x = encoder_block(net, x, heads=4, hidden=96, dropout=0.1)
    x = net(LayerNorm(), x, name="norm")
    return net.classifier(x, classes)


def mixer_block(net: Net, x: str, *, tokens_hidden: int, hidden: int) -> str:
    """A perceptron over the positions and one over the features, each after a layer norm and with a shortcut."""
    with net.scope("tokens"):
        y = net(Transpose(order=(2, 1)), net(LayerNorm(), x, name="norm"), name="transpose")
        y = net(Transpose(order=(2, 1)), perceptron(net, y, tokens_hidden), name="restore")
        x = net(Add(), x, y, name="add")
    with net.scope("channels"):
        y = perceptron(net, net(LayerNorm(), x, name="norm"), hidden)
        return net(Add(), x, y, name="add")


def mixer_b16(shape: Sequence[int], classes: int) -> Graph:
    """MLP-Mixer-B/16: 59,880,472 parameters on ImageNet."""
    net = Net(shape)
    x = patches(net, 768, 16)
    for index in range(12):
        with net.scope(f"block{index + 1}"):
            x = mixer_block(net, x, tokens_hidden=384, hidden=3072)
    x = net(LayerNorm(), x, name="norm")
    return net.classifier(x, classes)
