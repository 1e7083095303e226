"""Tables that laws run over: one row for every op of the vocabulary, at least."""

from __future__ import annotations

from synth.op import Op
from synth.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    Gelu,
    GlobalAvgPool,
    GroupNorm,
    LayerNorm,
    MaxPool,
    MultiHeadAttention,
    Multiply,
    Opaque,
    PositionEmbedding,
    Relu,
    Reshape,
    RmsNorm,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SquaredRelu,
    Transpose,
)

IMAGE = (9, 8, 12)
TOKENS = (6, 8)

OP_CASES: list[tuple[Op, tuple[tuple[int, ...], ...]]] = [
    (Conv(features=8), (IMAGE,)),
    (Conv(features=8, kernel=1, use_bias=True), (IMAGE,)),
    (Conv(features=8, stride=2), (IMAGE,)),
    (Conv(features=8, kernel=5, padding="VALID"), (IMAGE,)),
    (Conv(features=8, dilation=2), (IMAGE,)),
    (Conv(features=8, padding=((1, 2), (0, 1))), (IMAGE,)),
    (Conv(features=8, groups=2), (IMAGE,)),
    (Conv(features=24, groups=4, stride=2, dilation=2), (IMAGE,)),
    (Conv(features=4, kernel=3), (TOKENS,)),
    (DepthwiseConv(), (IMAGE,)),
    (DepthwiseConv(kernel=5, stride=2), (IMAGE,)),
    (DepthwiseConv(dilation=2, use_bias=True, padding="VALID"), (IMAGE,)),
    (DepthwiseConv(multiplier=2), (IMAGE,)),
    (DepthwiseConv(), (TOKENS,)),
    (Dense(features=5), (IMAGE,)),
    (Dense(features=5, use_bias=False), ((7,),)),
    (BatchNorm(), (IMAGE,)),
    (LayerNorm(), (TOKENS,)),
    (RmsNorm(), (TOKENS,)),
    (GroupNorm(groups=4), (IMAGE,)),
    (Relu(), (IMAGE,)),
    (Gelu(), (IMAGE,)),
    (Gelu(approximate=True), (IMAGE,)),
    (Silu(), (IMAGE,)),
    (Sigmoid(), (IMAGE,)),
    (SquaredRelu(), (IMAGE,)),
    (Softmax(), (TOKENS,)),
    (Scale(initial=0.5), (IMAGE,)),
    (Dropout(rate=0.5), (IMAGE,)),
    (AvgPool(), (IMAGE,)),
    (AvgPool(window=3, stride=1), (IMAGE,)),
    (MaxPool(window=3, stride=2), (IMAGE,)),
    (MaxPool(window=2, stride=2, padding="VALID"), (IMAGE,)),
    (GlobalAvgPool(), (IMAGE,)),
    (GlobalAvgPool(keep_axes=True), (IMAGE,)),
    (Add(), (IMAGE, IMAGE)),
    (Add(), (IMAGE, IMAGE, IMAGE)),
    (Multiply(), (IMAGE, (1, 1, 12))),
    (Concatenate(), (IMAGE, (9, 8, 3))),
    (MultiHeadAttention(heads=2), (TOKENS,)),
    (MultiHeadAttention(heads=4, causal=True), (TOKENS,)),
    (PositionEmbedding(), (TOKENS,)),
    (Flatten(), (IMAGE,)),
    (Reshape(shape=(-1, 12)), (IMAGE,)),
    (Transpose(order=(3, 1, 2)), (IMAGE,)),
    (Opaque(), (IMAGE,)),
]


def case_id(case: object) -> str:
    """A readable test name for an op or its shapes."""
    return str(case) if isinstance(case, Op) else ""
