"""How each op reads in ONNX. A new op is a row here; one without a row is written primitive by primitive, as its jaxpr has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from alphanas.export.onnx.layouts import Demand
from alphanas.export.onnx.primitives import NoOnnx
from alphanas.export.onnx.writer import Site
from synth.op import Op, Value
from synth.ops import activation, attention, convolution, dense, embedding, layout, merge, normalization, pooling

Emit = Callable[[Any, Site], str]
"""Writes an op at its site and returns the name of its output."""


@dataclass(frozen=True)
class Emitter:
    """How an op is written, and in which layout."""

    emit: Emit
    demand: Demand = Demand.EITHER


def _pads(window: tuple[int, ...], strides: tuple[int, ...], padding: Any, sizes: tuple[int, ...]) -> list[int]:
    """Padding in numbers, starts of all axes before their ends."""
    pairs = jax.lax.padtype_to_pads(sizes, window, strides, padding) if isinstance(padding, str) else padding
    return [int(low) for low, _ in pairs] + [int(high) for _, high in pairs]


def conv(op: Any, site: Site) -> str:
    """Dense, grouped and depthwise convolutions: HWIO kernels become OIHW."""
    (x,) = site.values
    rank = site.rank - 2
    window, strides, dilation = (convolution.per_axis(sizes, rank) for sizes in (op.kernel, op.stride, op.dilation))
    reach = tuple((side - 1) * step + 1 for side, step in zip(window, dilation, strict=True))
    kernel = site.array("kernel", np.moveaxis(site.weights["kernel"], (-1, -2), (0, 1)))
    return site.add(
        "Conv",
        site.inputs[0],
        kernel,
        *([site.weight("bias")] if op.use_bias else []),
        kernel_shape=window,
        strides=strides,
        dilations=dilation,
        pads=_pads(reach, strides, op.padding, x.spatial),
        group=op._groups(x.channels)[0],
    )


def conv_transpose(op: convolution.ConvTranspose, site: Site) -> str:
    """Transposed convolutions: ONNX turns the kernel round and pads what comes out, JAX what goes in."""
    rank = site.rank - 2
    window, strides, dilation = (convolution.per_axis(sizes, rank) for sizes in (op.kernel, op.stride, op.dilation))
    reach = [(side - 1) * step for side, step in zip(window, dilation, strict=True)]
    pads = convolution.transposed_pads(op, rank)
    low, high = ([reach[axis] - pads[axis][side] for axis in range(rank)] for side in (0, 1))
    if min(low) < 0:
        raise NoOnnx("a transposed convolution that is padded by more than its kernel")
    turned = np.flip(site.weights["kernel"], tuple(range(rank)))
    return site.add(
        "ConvTranspose",
        site.inputs[0],
        site.array("kernel", np.moveaxis(turned, (-2, -1), (0, 1))),
        *([site.weight("bias")] if op.use_bias else []),
        kernel_shape=window,
        strides=strides,
        dilations=dilation,
        pads=[*low, *(max(side, 0) for side in high)],
        output_padding=[max(-side, 0) for side in high],
    )


def embed(op: embedding.Embed, site: Site) -> str:
    """Rows of a table by token."""
    return site.add("Gather", site.weight("embedding"), site.inputs[0], axis=0)


def attend(op: embedding.Attend, site: Site) -> str:
    """Products with the rows of a table."""
    return site.add("MatMul", site.inputs[0], site.add("Transpose", site.weight("embedding"), name="table", perm=[1, 0]))


def feature_slice(op: layout.Slice, site: Site) -> str:
    """A part of the features."""
    bounds = (site.sizes(name, [value]) for name, value in (("start", op.start), ("stop", op.stop), ("axis", -1)))
    return site.add("Slice", site.inputs[0], *bounds)


def linear(op: dense.Dense, site: Site) -> str:
    """Gemm on vectors, a product on tokens, and a convolution of one pixel where the features come first."""
    if site.axis == 1 and site.rank > 2:
        kernel = site.array("kernel", site.weights["kernel"].T.reshape(op.features, -1, *(1,) * (site.rank - 2)))
        return site.add("Conv", site.inputs[0], kernel, *([site.weight("bias")] if op.use_bias else []))
    kernel = site.weight("kernel")
    if not op.use_bias:
        return site.add("MatMul", site.inputs[0], kernel)
    if site.rank == 2:
        return site.add("Gemm", site.inputs[0], kernel, site.weight("bias"))
    return site.add("Add", site.add("MatMul", site.inputs[0], kernel, name="product"), site.weight("bias"))


def batch_norm(op: normalization.BatchNorm, site: Site) -> str:
    """BatchNormalization where the features come first, else the multiplication and addition that it is."""
    if site.axis == 1:
        names = [site.weight(name) for name in ("scale", "bias", "mean", "var")]
        return site.add("BatchNormalization", site.inputs[0], *names, epsilon=op.epsilon)
    factor = site.weights["scale"] / np.sqrt(site.weights["var"] + np.float32(op.epsilon))
    shift = site.weights["bias"] - site.weights["mean"] * factor
    scaled = site.add("Mul", site.inputs[0], site.array("scale", factor), name="scaled")
    return site.add("Add", scaled, site.array("bias", shift))


def layer_norm(op: normalization.LayerNorm, site: Site) -> str:
    """LayerNormalization over the features."""
    return site.add("LayerNormalization", site.inputs[0], site.weight("scale"), site.weight("bias"), axis=-1, epsilon=op.epsilon)


def rms_norm(op: normalization.RmsNorm, site: Site) -> str:
    """The division by the root mean square, written out: ONNX has an op for it from version 23 on."""
    (x,) = site.inputs
    square = site.add("ReduceMean", site.add("Mul", x, x, name="square"), site.sizes("axes", [site.axis]), name="mean", keepdims=1)
    root = site.add("Sqrt", site.add("Add", square, site.number("epsilon", op.epsilon), name="shifted"), name="root")
    return site.add("Mul", site.add("Div", x, root, name="normal"), site.per_feature("scale", site.weights["scale"]))


def group_norm(op: normalization.GroupNorm, site: Site) -> str:
    """Groups as channels of an instance normalization."""
    grouped = site.add("Reshape", site.inputs[0], site.sizes("groups", [0, op.groups, -1]), name="grouped")
    ones, zeros = (site.array(name, np.full(op.groups, value, np.float32)) for name, value in (("ones", 1), ("zeros", 0)))
    normal = site.add("InstanceNormalization", grouped, ones, zeros, name="normal", epsilon=op.epsilon)
    (x,) = site.values
    back = site.add("Reshape", normal, site.sizes("shape", [0, x.channels, *x.spatial]), name="ungrouped")
    scaled = site.add("Mul", back, site.per_feature("scale", site.weights["scale"]), name="scaled")
    return site.add("Add", scaled, site.per_feature("bias", site.weights["bias"]))


def _plain(kind: str, **attributes: Any) -> Emit:
    return lambda op, site: site.add(kind, *site.inputs, **attributes)


def gelu(op: activation.Gelu, site: Site) -> str:
    """Gelu, exact or with tanh."""
    return site.add("Gelu", site.inputs[0], approximate="tanh" if op.approximate else "none")


def silu(op: activation.Silu, site: Site) -> str:
    """The input times its sigmoid."""
    return site.add("Mul", site.inputs[0], site.add("Sigmoid", site.inputs[0], name="sigmoid"))


def squared_relu(op: activation.SquaredRelu, site: Site) -> str:
    """The square of the positive part."""
    positive = site.add("Relu", site.inputs[0], name="relu")
    return site.add("Mul", positive, positive)


def scale(op: activation.Scale, site: Site) -> str:
    """The learned number of a feature."""
    return site.add("Mul", site.inputs[0], site.per_feature("scale", site.weights["scale"]))


def relu6(op: activation.Relu6, site: Site) -> str:
    """The positive part, capped."""
    return site.add("Clip", site.inputs[0], site.number("low", 0.0), site.number("high", 6.0))


def max_pool(op: pooling.MaxPool, site: Site) -> str:
    """The largest of every window."""
    return _pooled("MaxPool", op, site)


def avg_pool(op: pooling.AvgPool, site: Site) -> str:
    """The mean of every window, padding counted or not."""
    return _pooled("AveragePool", op, site, count_include_pad=int(op.count_padding))


def _pooled(kind: str, op: Any, site: Site, **attributes: Any) -> str:
    rank = site.rank - 2
    window, strides = (op.window,) * rank, (op.stride,) * rank
    pads = _pads(window, strides, op.padding, site.values[0].spatial)
    return site.add(kind, site.inputs[0], kernel_shape=window, strides=strides, pads=pads, **attributes)


def global_avg_pool(op: pooling.GlobalAvgPool, site: Site) -> str:
    """The mean over the spatial axes."""
    if site.axis == 1 and op.keep_axes:
        return site.add("GlobalAveragePool", site.inputs[0])
    spatial = [axis for axis in range(1, site.rank) if axis != site.axis]
    return site.add("ReduceMean", site.inputs[0], site.sizes("axes", spatial), keepdims=int(op.keep_axes))


def add(op: merge.Add, site: Site) -> str:
    """The sum of two inputs or of more."""
    return site.add("Add" if len(site.inputs) == 2 else "Sum", *site.inputs)


def multiply(op: merge.Multiply, site: Site) -> str:
    """Products one after the other: ONNX multiplies two."""
    product, *others = site.inputs
    for number, factor in enumerate(others, start=2):
        product = site.add("Mul", product, factor, name="" if number == len(site.inputs) else f"of{number}")
    return product


def concatenate(op: merge.Concatenate, site: Site) -> str:
    """The inputs one after the other along the features."""
    return site.add("Concat", *site.inputs, axis=site.axis)


def multi_head_attention(op: attention.MultiHeadAttention, site: Site) -> str:
    """Projections, scaled dot products in heads, and a projection back, as the op computes them."""
    features = site.values[0].channels

    def projected(name: str) -> str:
        kernel = site.array(f"{name}_kernel", site.weights[f"{name}_kernel"].reshape(features, features))
        bias = site.array(f"{name}_bias", site.weights[f"{name}_bias"].reshape(features))
        return site.add("Add", site.add("MatMul", site.inputs[0], kernel, name=f"{name}_product"), bias, name=name)

    query, key, value = (_Projected(projected(name), site.values[0]) for name in ("query", "key", "value"))
    mixed = _attended(site, op, query, key, value, name="joined")
    kernel = site.array("out_kernel", site.weights["out_kernel"].reshape(features, features))
    return site.add("Add", site.add("MatMul", mixed, kernel, name="out"), site.weight("out_bias"))


def given_attention(op: attention.Attention, site: Site) -> str:
    """Scaled dot products of given queries, keys and values."""
    query, key, value = (_Projected(name, kind) for name, kind in zip(site.inputs, site.values, strict=True))
    return _attended(site, op, query, key, value)


@dataclass(frozen=True)
class _Projected:
    """An input of attention: its ONNX name and its type."""

    name: str
    value: Value

    @property
    def positions(self) -> int:
        """The size of the axis behind the batch."""
        return self.value.shape[1] or -1


def _attended(site: Site, op: Any, query: _Projected, key: _Projected, value: _Projected, *, name: str = "") -> str:
    def heads(part: str, given: _Projected, order: list[int]) -> str:
        shape = site.sizes(f"{part}_shape", [0, given.positions, op.heads, given.value.channels // op.heads])
        return site.add("Transpose", site.add("Reshape", given.name, shape, name=f"{part}_split"), name=f"{part}_heads", perm=order)

    size = query.value.channels // op.heads
    scaled = site.add("Div", heads("query", query, [0, 2, 1, 3]), site.number("scale", float(np.sqrt(size))), name="scaled")
    scores = site.add("MatMul", scaled, heads("key", key, [0, 2, 3, 1]), name="scores")
    if op.causal:
        mask = np.where(np.tri(query.positions, dtype=bool), 0.0, -1e30).astype(query.value.dtype)
        scores = site.add("Add", scores, site.array("mask", mask), name="masked")
    weights = site.add("Softmax", scores, name="weights", axis=-1)
    mixed = site.add("MatMul", weights, heads("value", value, [0, 2, 1, 3]), name="mixed")
    together = site.add("Transpose", mixed, name="by_position", perm=[0, 2, 1, 3])
    return site.add("Reshape", together, site.sizes("joined_shape", [0, query.positions, value.value.channels]), name=name)


def position_embedding(op: attention.PositionEmbedding, site: Site) -> str:
    """The learned positions, in the layout of the input."""
    embedding = site.weights["embedding"]
    return site.add("Add", site.inputs[0], site.array("embedding", np.moveaxis(embedding, -1, 0) if site.axis == 1 else embedding))


def reshape(op: layout.Reshape, site: Site) -> str:
    """Another shape behind the batch."""
    return site.add("Reshape", site.inputs[0], site.sizes("shape", [0, *op.shape]))


def transpose(op: layout.Transpose, site: Site) -> str:
    """The axes behind the batch in another order."""
    return site.add("Transpose", site.inputs[0], perm=[0, *op.order])


def select(op: layout.Select, site: Site) -> str:
    """One position along an axis, which is dropped."""
    return site.add("Gather", site.inputs[0], site.array("index", np.asarray(op.index, np.int64)), axis=op.axis)


def identity(op: Op, site: Site) -> str:
    """Nothing: inference keeps every element."""
    return site.inputs[0]


def softmax(op: activation.Softmax, site: Site) -> str:
    """Softmax over the features."""
    return site.add("Softmax", site.inputs[0], axis=site.axis)


EMITTERS: Mapping[type[Op], Emitter] = {
    convolution.Conv: Emitter(conv, Demand.FIRST),
    convolution.DepthwiseConv: Emitter(conv, Demand.FIRST),
    convolution.ConvTranspose: Emitter(conv_transpose, Demand.FIRST),
    dense.Dense: Emitter(linear),
    embedding.Embed: Emitter(embed, Demand.LAST),
    embedding.Attend: Emitter(attend, Demand.LAST),
    normalization.BatchNorm: Emitter(batch_norm),
    normalization.LayerNorm: Emitter(layer_norm, Demand.LAST),
    normalization.RmsNorm: Emitter(rms_norm),
    normalization.GroupNorm: Emitter(group_norm, Demand.FIRST),
    activation.Relu: Emitter(_plain("Relu")),
    activation.Gelu: Emitter(gelu),
    activation.Silu: Emitter(silu),
    activation.Sigmoid: Emitter(_plain("Sigmoid")),
    activation.SquaredRelu: Emitter(squared_relu),
    activation.Softmax: Emitter(softmax),
    activation.Scale: Emitter(scale),
    activation.Relu6: Emitter(relu6),
    activation.HardSilu: Emitter(_plain("HardSwish")),
    activation.HardSigmoid: Emitter(_plain("HardSigmoid", alpha=1 / 6, beta=0.5)),
    activation.Dropout: Emitter(identity),
    activation.StochasticDepth: Emitter(identity),
    pooling.AvgPool: Emitter(avg_pool, Demand.FIRST),
    pooling.MaxPool: Emitter(max_pool, Demand.FIRST),
    pooling.GlobalAvgPool: Emitter(global_avg_pool),
    merge.Add: Emitter(add),
    merge.Multiply: Emitter(multiply),
    merge.Concatenate: Emitter(concatenate),
    attention.MultiHeadAttention: Emitter(multi_head_attention, Demand.LAST),
    attention.Attention: Emitter(given_attention, Demand.LAST),
    attention.PositionEmbedding: Emitter(position_embedding),
    layout.Flatten: Emitter(_plain("Flatten", axis=1), Demand.LAST),
    layout.Reshape: Emitter(reshape, Demand.LAST),
    layout.Transpose: Emitter(transpose, Demand.LAST),
    layout.Select: Emitter(select, Demand.LAST),
    layout.Slice: Emitter(feature_slice, Demand.LAST),
}
