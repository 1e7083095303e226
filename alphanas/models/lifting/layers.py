"""What each Flax layer is in the op vocabulary. NNX and Linen name the attributes of their layers alike, so one table serves both.

A row gives the op, or the reason why the vocabulary has none. Weights that are absent in Flax and present in the op (a norm without
bias) are a reason, too: the layer's code is then traced as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alphanas.models.lifting.marks import Described
from synth.op import Op
from synth.ops import activation, attention, convolution, dense, normalization

Describe = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Described]


def _plain_types(layer: Any) -> str:
    """Why a layer's numbers are not plain 32-bit floats, or nothing."""
    for name in ("dtype", "param_dtype"):
        dtype = getattr(layer, name, None)
        if dtype is not None and np.dtype(dtype) != np.float32:
            return f"{name} {np.dtype(dtype).name}"
    return ""


def conv(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Convolutions; padding by name or in numbers."""
    rank = len(layer.kernel_size) if not isinstance(layer.kernel_size, int) else 1
    problem = _plain_types(layer)
    if problem or layer.mask is not None or len(inputs[0].shape) != rank + 2:
        return problem or "a masked kernel, or an input without batch"
    if layer.input_dilation not in (1, None) and set(np.ravel(layer.input_dilation)) != {1}:
        return "a dilated input"
    padding = _padding(layer.padding, rank)
    if padding is None:
        return f"padding {layer.padding!r}"
    kernel, stride, dilation = (_axes(axes, rank) for axes in (layer.kernel_size, layer.strides, layer.kernel_dilation))
    features = layer.out_features if hasattr(layer, "out_features") else layer.features
    channels, groups = inputs[0].shape[-1], layer.feature_group_count
    shared = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding, "use_bias": layer.use_bias}
    if groups == channels and groups > 1:
        return convolution.DepthwiseConv(multiplier=features // channels, **shared)
    return convolution.Conv(features=features, groups=groups, **shared)


def linear(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Dense layers."""
    features = layer.out_features if hasattr(layer, "out_features") else layer.features
    return _plain_types(layer) or dense.Dense(features=features, use_bias=layer.use_bias)


def batch_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Batch norm over all axes but the last."""
    if layer.axis not in (-1, len(inputs[0].shape) - 1) or call.get("mask") is not None:
        return "statistics over other axes, or masked ones"
    return _affine(layer) or normalization.BatchNorm(momentum=layer.momentum, epsilon=layer.epsilon)


def layer_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Layer norm over the features."""
    return _over_features(layer, inputs, call) or _affine(layer) or normalization.LayerNorm(epsilon=layer.epsilon)


def rms_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Root mean square norm over the features."""
    return _over_features(layer, inputs, call) or _affine(layer) or normalization.RmsNorm(epsilon=layer.epsilon)


def group_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Group norm over all axes but the batch."""
    channels = inputs[0].shape[-1]
    groups = layer.num_groups if layer.num_groups else channels // layer.group_size
    if getattr(layer, "reduction_axes", None) is not None or call.get("mask") is not None:
        return "statistics over other axes, or masked ones"
    return _affine(layer) or normalization.GroupNorm(groups=groups, epsilon=layer.epsilon)


def dropout(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Dropout of single elements, or of whole examples."""
    shared = tuple(sorted(layer.broadcast_dims))
    if shared == tuple(range(1, len(inputs[0].shape))):
        return activation.StochasticDepth(rate=float(layer.rate))
    return "a mask that some axes share" if shared else activation.Dropout(rate=float(layer.rate))


def multi_head_attention(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Self-attention with all heads of one size."""
    width = inputs[0].shape[-1]
    if len(inputs) > 1 and any(other is not None and other is not inputs[0] for other in inputs[1:]):
        return "attention to another sequence"
    if any(call.get(name) is not None for name in ("inputs_k", "inputs_v", "inputs_kv", "mask")):
        return "attention to another sequence, or a mask"
    widths = {getattr(layer, name, None) for name in ("qkv_features", "out_features")} - {None}
    if widths - {width} or getattr(layer, "num_kv_heads", None) not in (None, layer.num_heads):
        return "heads whose sizes do not add up to the features"
    if not layer.use_bias or layer.normalize_qk or layer.decode or layer.dropout_rate:
        return "no bias, normalized queries, decoding or dropout of scores"
    return _plain_types(layer) or attention.MultiHeadAttention(heads=layer.num_heads, causal=bool(call.get("is_causal", False)))


def _affine(layer: Any) -> str:
    scale, bias = getattr(layer, "use_scale", True), getattr(layer, "use_bias", True)
    return _plain_types(layer) or ("" if scale and bias else "a norm without scale or bias")


def _over_features(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> str:
    last = (-1, (-1,), len(inputs[0].shape) - 1)
    axes = (getattr(layer, "reduction_axes", -1), getattr(layer, "feature_axes", -1))
    return "" if all(axis in last for axis in axes) and call.get("mask") is None else "statistics over other axes"


def _axes(axes: Any, rank: int) -> convolution.Axes:
    sizes = (1,) * rank if axes is None else convolution.per_axis(axes if isinstance(axes, int) else tuple(axes), rank)
    return int(sizes[0]) if len(set(sizes)) == 1 else tuple(int(size) for size in sizes)


def _padding(padding: Any, rank: int) -> convolution.Padding | None:
    if isinstance(padding, str):
        return padding if padding in ("SAME", "VALID") else None
    if isinstance(padding, int):
        return ((padding, padding),) * rank
    return tuple((side, side) if isinstance(side, int) else (int(side[0]), int(side[1])) for side in padding)


ROWS: Mapping[str, Describe] = {
    "Conv": conv,
    "Linear": linear,
    "Dense": linear,
    "BatchNorm": batch_norm,
    "LayerNorm": layer_norm,
    "RMSNorm": rms_norm,
    "GroupNorm": group_norm,
    "Dropout": dropout,
    "MultiHeadAttention": multi_head_attention,
    "MultiHeadDotProductAttention": multi_head_attention,
    "SelfAttention": multi_head_attention,
}
"""Rows by the name that the layer's class has in flax.nnx or flax.linen."""

ATTENTION_PARTS = ("query", "key", "value", "out")


def describe(name: str, layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """The op that a layer of a class of flax is on these inputs, or why there is none."""
    return ROWS[name](layer, inputs, call)


def is_attention(op: Op) -> bool:
    """Whether an op's arrays belong to modules inside the layer's own."""
    return isinstance(op, attention.MultiHeadAttention)
