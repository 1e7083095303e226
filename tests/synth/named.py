"""Published blocks, each with a plain block from which branch synthesis must reach it."""

from __future__ import annotations

from collections.abc import Mapping

from synth import Builder, Graph, Op, Value, chain
from synth.ops import (
    Add,
    Attention,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    Gelu,
    GlobalAvgPool,
    LayerNorm,
    MultiHeadAttention,
    Multiply,
    Relu,
    Sigmoid,
    Silu,
    SquaredRelu,
)

IMAGE, TOKENS = (8, 8, 16), (16, 32)
WIDTHS = (4, 8, 16, 32, 64, 128)


def _unit(features: int) -> list[Op]:
    return [Conv(features=features), BatchNorm(), Relu()]


PLAIN_CONV = chain(Value((None, *IMAGE)), [*_unit(16), *_unit(16)])
PLAIN_MLP = chain(Value((None, *TOKENS)), [Dense(features=64), Gelu(), Dense(features=32)])
PLAIN_ATTENTION = chain(Value((None, *TOKENS)), [LayerNorm(), MultiHeadAttention(heads=2)])


def _sequence(build: Builder, start: str, ops: list[Op], name: str) -> str:
    for index, op in enumerate(ops):
        start = build(op, start, name=f"{name}{index}")
    return start


def bottleneck() -> Graph:
    """A residual bottleneck (He et al., 2016): 1×1 down, 3×3, 1×1 up, added, rectified."""
    build = Builder(IMAGE)
    narrow = [Conv(features=8, kernel=1), BatchNorm(), Relu(), Conv(features=8), BatchNorm(), Relu()]
    last = _sequence(build, build.input, [*narrow, Conv(features=16, kernel=1), BatchNorm()], "body")
    return build.graph(build(Relu(), build(Add(), build.input, last, name="add"), name="relu"))


def mbconv() -> Graph:
    """An inverted residual with squeeze-and-excite (Tan and Le, 2019): 1×1 up, depthwise, gate, 1×1 down, added."""
    build = Builder(IMAGE)
    wide = [Conv(features=64, kernel=1), BatchNorm(), Silu(), DepthwiseConv(), BatchNorm(), Silu()]
    inner = _sequence(build, build.input, wide, "wide")
    excite = [GlobalAvgPool(keep_axes=True), Dense(features=4), Silu(), Dense(features=64), Sigmoid()]
    gated = build(Multiply(), inner, _sequence(build, inner, excite, "excite"), name="gate")
    last = _sequence(build, gated, [Conv(features=16, kernel=1), BatchNorm()], "narrow")
    return build.graph(build(Add(), build.input, last, name="add"))


def convnext() -> Graph:
    """A ConvNeXt block (Liu et al., 2022): depthwise 7×7, norm, 1×1 up, gelu, 1×1 down, added."""
    build = Builder(IMAGE)
    body = [DepthwiseConv(kernel=7), LayerNorm(), Dense(features=64), Gelu(), Dense(features=16)]
    return build.graph(build(Add(), build.input, _sequence(build, build.input, body, "body"), name="add"))


def gated_mlp() -> Graph:
    """A gated linear unit as feed-forward (Shazeer, 2020): a projection times an activated one, projected back."""
    build = Builder(TOKENS)
    gate = _sequence(build, build.input, [Dense(features=64), Gelu()], "gate")
    up = build(Dense(features=64), build.input, name="up")
    return build.graph(build(Dense(features=32), build(Multiply(), gate, up, name="product"), name="down"))


def primer_feed_forward() -> Graph:
    """Primer's feed-forward (So et al., 2021): a squared ReLU between two projections, with norm and residual."""
    build = Builder(TOKENS)
    body = [LayerNorm(), Dense(features=128), SquaredRelu(), Dense(features=32)]
    return build.graph(build(Add(), build.input, _sequence(build, build.input, body, "body"), name="add"))


def primer_attention() -> Graph:
    """Primer's attention (So et al., 2021): a depthwise convolution of width 3 after each projection of the input."""
    build = Builder(TOKENS)
    normal = build(LayerNorm(), build.input, name="norm")
    heads = [_sequence(build, normal, [Dense(features=32), DepthwiseConv()], name) for name in ("query", "key", "value")]
    mixed = build(Dense(features=32), build(Attention(heads=4), *heads, name="attend"), name="out")
    return build.graph(build(Add(), build.input, mixed, name="add"))


NAMED: Mapping[str, tuple[Graph, Graph]] = {
    "residual bottleneck": (PLAIN_CONV, bottleneck()),
    "inverted residual with squeeze-and-excite": (PLAIN_CONV, mbconv()),
    "ConvNeXt": (PLAIN_CONV, convnext()),
    "gated MLP": (PLAIN_MLP, gated_mlp()),
    "Primer feed-forward": (PLAIN_MLP, primer_feed_forward()),
    "Primer attention": (PLAIN_ATTENTION, primer_attention()),
}
"""A plain block and the block that must be reachable from it."""
