"""What each Flax layer is in the op vocabulary. NNX and Linen name the attributes of their layers alike, so one table serves both.

A row gives the op, or the reason why the vocabulary has none. Weights that are absent in Flax and present in the op (a norm without
bias) are a reason, too: the layer's code is then traced as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from alphanas.models.lifting.marks import Described
from synth.ops import activation, attention, convolution, dense, embedding, normalization

Describe = Callable[[Any, tuple[Any, ...], Mapping[str, Any]], Described]


def _plain_types(layer: Any) -> str:
    """Why a layer's numbers are not plain 32-bit floats, or nothing."""
    for name in ("dtype", "param_dtype"):
        dtype = getattr(layer, name, None)
        if dtype is not None and np.dtype(dtype) != np.float32:
            return f"{name} {np.dtype(dtype).name}"
    return ""


_FREE = frozenset(
    {"name", "parent", "rngs", "metadata", "scope", "dtype", "param_dtype", "in_features", "num_features", "out_features"}
)
"""Attributes that change no number of a layer whose arrays are given, or that every row looks at."""


def _unknown(layer: Any, *known: str) -> str:
    """The attribute that no row knows and that has another value than by default, or nothing."""
    for name, default in _defaults(type(layer).__init__).items():
        if name in known or name in _FREE or name.endswith(("_init", "_metadata")):
            continue
        value = getattr(layer, name, default)
        if value is not default and value != default:
            return f"{name} is {getattr(value, '__name__', value)}"
    return ""


@functools.cache
def _defaults(constructor: Callable[..., None]) -> Mapping[str, Any]:
    parameters = inspect.signature(constructor).parameters
    return {name: each.default for name, each in parameters.items() if each.default is not inspect.Parameter.empty}


def conv(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Convolutions; padding by name or in numbers."""
    rank = len(layer.kernel_size) if not isinstance(layer.kernel_size, int) else 1
    problem = _plain_types(layer)
    known = ("strides", "padding", "input_dilation", "kernel_dilation", "feature_group_count", "use_bias")
    problem = problem or _unknown(layer, *known)
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


def conv_transpose(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Transposed convolutions whose kernel is not turned."""
    rank = len(layer.kernel_size) if not isinstance(layer.kernel_size, int) else 1
    problem = _plain_types(layer) or _unknown(layer, "strides", "padding", "kernel_dilation", "use_bias", "transpose_kernel")
    if problem or layer.transpose_kernel or layer.mask is not None or len(inputs[0].shape) != rank + 2:
        return problem or "a turned or masked kernel, or an input without batch"
    padding = _padding(layer.padding, rank)
    kernel, stride, dilation = (_axes(axes, rank) for axes in (layer.kernel_size, layer.strides, layer.kernel_dilation))
    if padding is None:
        return f"padding {layer.padding!r}"
    features = layer.out_features if hasattr(layer, "out_features") else layer.features
    return convolution.ConvTranspose(
        features=features, kernel=kernel, stride=stride, dilation=dilation, padding=padding, use_bias=layer.use_bias
    )


def embed(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Rows of a table by token."""
    # Flax reads out of one row's bounds in another way.
    problem = _plain_types(layer) or ("a table of one row" if layer.num_embeddings == 1 else "")
    return problem or embedding.Embed(entries=layer.num_embeddings, features=layer.features)


def linear(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Dense layers."""
    features = layer.out_features if hasattr(layer, "out_features") else layer.features
    return _plain_types(layer) or _unknown(layer, "use_bias") or dense.Dense(features=features, use_bias=layer.use_bias)


def batch_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Batch norm over all axes but the last."""
    if layer.axis not in (-1, len(inputs[0].shape) - 1) or call.get("mask") is not None:
        return "statistics over other axes, or masked ones"
    if not (layer.use_running_average if call.get("use_running_average") is None else call["use_running_average"]):
        return "it uses the statistics of the batch in inference"
    unknown = _unknown(layer, "axis", "momentum", "epsilon", "use_bias", "use_scale", "use_running_average", "use_fast_variance")
    return unknown or _affine(layer) or normalization.BatchNorm(momentum=layer.momentum, epsilon=layer.epsilon)


def layer_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Layer norm over the features."""
    return _over_features(layer, inputs, call) or _norm(layer) or normalization.LayerNorm(epsilon=layer.epsilon)


def rms_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Root mean square norm over the features."""
    return _over_features(layer, inputs, call) or _norm(layer) or normalization.RmsNorm(epsilon=layer.epsilon)


def group_norm(layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """Group norm over all axes but the batch."""
    channels = inputs[0].shape[-1]
    groups = layer.num_groups if layer.num_groups else channels // layer.group_size
    if getattr(layer, "reduction_axes", None) is not None or call.get("mask") is not None:
        return "statistics over other axes, or masked ones"
    return _norm(layer, "num_groups", "group_size", "reduction_axes") or normalization.GroupNorm(
        groups=groups, epsilon=layer.epsilon
    )


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


def _norm(layer: Any, *known: str) -> str:
    own = ("epsilon", "use_bias", "use_scale", "use_fast_variance", "reduction_axes", "feature_axes")
    return _unknown(layer, *own, *known) or _affine(layer)


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
    "ConvTranspose": conv_transpose,
    "Embed": embed,
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


def describe(name: str, layer: Any, inputs: tuple[Any, ...], call: Mapping[str, Any]) -> Described:
    """The op that a layer of a class of flax is on these inputs, or why there is none."""
    return ROWS[name](layer, inputs, call)


def training_of(name: str, layer: Any) -> str:
    """What a layer of a class of flax does in training and not in inference; empty if nothing."""
    if name == "BatchNorm":
        return "normalized by its running statistics in training, too, and they stay as they are"
    rate = getattr(layer, "rate", 0) if name == "Dropout" else getattr(layer, "dropout_rate", 0)
    return f"dropout at rate {float(rate)} is not applied in training" if rate else ""
