"""The op vocabulary, one file per family. A new op is a class in its family's file and a name in its family's row here."""

from __future__ import annotations

from synth.op import Op
from synth.ops.activation import Dropout, Gelu, Relu, Scale, Sigmoid, Silu, Softmax, SquaredRelu
from synth.ops.attention import MultiHeadAttention, PositionEmbedding
from synth.ops.convolution import Conv, DepthwiseConv
from synth.ops.dense import Dense
from synth.ops.layout import Flatten, Reshape, Transpose
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
    *(Conv, DepthwiseConv),
    *(Dense,),
    *(BatchNorm, LayerNorm, RmsNorm, GroupNorm),
    *(Relu, Gelu, Silu, Sigmoid, SquaredRelu, Softmax, Scale, Dropout),
    *(AvgPool, MaxPool, GlobalAvgPool),
    *(Add, Multiply, Concatenate),
    *(MultiHeadAttention, PositionEmbedding),
    *(Flatten, Reshape, Transpose),
    *(Opaque,),
)
