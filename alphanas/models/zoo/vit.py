"""Vision transformers (Dosovitskiy et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from alphanas.models.zoo.net import Net
from synth.graph import Graph
from synth.ops.activation import Dropout, Gelu
from synth.ops.attention import MultiHeadAttention, PositionEmbedding
from synth.ops.convolution import Conv
from synth.ops.dense import Dense
from synth.ops.layout import Reshape
from synth.ops.merge import Add
from synth.ops.normalization import LayerNorm
from synth.ops.pooling import GlobalAvgPool


def encoder_block(net: Net, x: str, *, heads: int, hidden: int, dropout: float = 0.0) -> str:
    """Self-attention and a two-layer perceptron, each after a layer norm and with a shortcut."""
    y = net(LayerNorm(), x, name="norm1")
    y = net(MultiHeadAttention(heads=heads), y, name="attention")
    y = net(Dropout(rate=dropout), y, name="dropout1") if dropout else y
    x = net(Add(), x, y, name="add1")
    y = net(LayerNorm(), x, name="norm2")
    y = net(Dense(features=hidden), y, name="expand")
    y = net(Gelu(), y, name="act")
    y = net(Dense(features=net.channels(x)), y, name="project")
    y = net(Dropout(rate=dropout), y, name="dropout2") if dropout else y
    return net(Add(), x, y, name="add2")


def patches(net: Net, width: int, patch: int) -> str:
    """One token for every patch of the picture."""
    conv = Conv(features=width, kernel=patch, stride=patch, padding="VALID", use_bias=True)
    x = net(conv, net.input, name="patches")
    height, breadth = net.value(x).spatial
    return net(Reshape(shape=(height * breadth, width)), x, name="tokens")


def vit_nano(shape: Sequence[int], classes: int) -> Graph:
    """Three blocks of width 48 with four heads, patches of an eighth of the picture's side (at least 2), mean of the tokens."""
    net = Net(shape)
    x = patches(net, 48, max(2, min(shape[:-1], default=16) // 8))
    x = net(PositionEmbedding(), x, name="positions")
    for index in range(3):
        with net.scope(f"block{index + 1}"):
            x = encoder_block(net, x, heads=4, hidden=96, dropout=0.1)
    x = net(LayerNorm(), x, name="norm")
    x = net(GlobalAvgPool(), x, name="pool")
    return net.graph(net(Dense(features=classes), x, name="head"))
