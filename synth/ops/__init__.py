"""The op vocabulary, one file per family. A new op is a class in its family's file and a name in its family's row here."""

from __future__ import annotations

from synth.op import Op
from synth.ops.activation import (
    Dropout,
    Gelu,
    HardSigmoid,
    HardSilu,
    Relu,
    Relu6,
    Scale,
    Sigmoid,
    Silu,
    Softmax,
    SquaredRelu,
    StochasticDepth,
)
from synth.ops.attention import Attention, ClassToken, MultiHeadAttention, PositionEmbedding
from synth.ops.convolution import Conv, ConvTranspose, DepthwiseConv
from synth.ops.dense import Dense
from synth.ops.embedding import Attend, Embed
from synth.ops.layout import Flatten, Reshape, Select, Slice, Transpose, Zero
from synth.ops.merge import Add, Concatenate, Multiply
from synth.ops.normalization import BatchNorm, GroupNorm, LayerNorm, RmsNorm
from synth.ops.opaque import Opaque
from synth.ops.pooling import AvgPool, GlobalAvgPool, MaxPool

Vocabulary = dict[str, type[Op]]


def vocabulary(*op_types: type[Op]) -> Vocabulary:
    """A table of op types by kind; two types of one kind are an error."""
    table: Vocabulary = {}
    for op_type in op_types:
        if op_type.kind() in table:
            raise ValueError(f"two ops are called {op_type.kind()!r}: {table[op_type.kind()]} and {op_type}")
        table[op_type.kind()] = op_type
    return table


OPS: Vocabulary = vocabulary(
    *(Conv, ConvTranspose, DepthwiseConv),
    *(Dense,),
    *(Embed, Attend),
    *(BatchNorm, LayerNorm, RmsNorm, GroupNorm),
    *(Relu, Relu6, Gelu, Silu, HardSilu, Sigmoid, HardSigmoid, SquaredRelu, Softmax, Scale, Dropout, StochasticDepth),
    *(AvgPool, MaxPool, GlobalAvgPool),
    *(Add, Multiply, Concatenate),
    *(MultiHeadAttention, Attention, PositionEmbedding, ClassToken),
    *(Flatten, Reshape, Transpose, Select, Slice, Zero),
    *(Opaque,),
)
