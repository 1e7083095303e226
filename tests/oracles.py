"""Independent oracles: the same functions written naively in NumPy, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np


def same_pads(size: int, reach: int, stride: int) -> tuple[int, int]:
    """Padding before and after an axis so that its output has ceil(size / stride) positions."""
    total = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
    return total // 2, total - total // 2


def convolve(x: np.ndarray, kernel: np.ndarray, *, stride: int, dilation: int, groups: int, padding: object) -> np.ndarray:
    """A convolution over the middle axes of (batch, …, channels), one output element at a time."""
    window, rank = kernel.shape[:-2], x.ndim - 2
    reach = [(side - 1) * dilation + 1 for side in window]
    if padding == "SAME":
        pads = [same_pads(n, r, stride) for n, r in zip(x.shape[1:-1], reach, strict=True)]
    else:
        pads = [(0, 0)] * rank if padding == "VALID" else list(padding)  # type: ignore[call-overload]
    padded = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)])
    sizes = [(n - r) // stride + 1 for n, r in zip(padded.shape[1:-1], reach, strict=True)]
    features, inner = kernel.shape[-1], kernel.shape[-2]
    out = np.zeros((x.shape[0], *sizes, features))
    for place in itertools.product(*map(range, sizes)):
        for corner in itertools.product(*map(range, window)):
            at = tuple(p * stride + c * dilation for p, c in zip(place, corner, strict=True))
            pixel = padded[(slice(None), *at)]
            for feature in range(features):
                group = feature // (features // groups)
                channels = pixel[:, group * inner : (group + 1) * inner]
                out[(slice(None), *place, feature)] += channels @ kernel[(*corner, slice(None), feature)].astype(np.float64)
    return out


def pool(x: np.ndarray, *, window: int, stride: int, padding: str, largest: bool, counted: bool = True) -> np.ndarray:
    """Max pooling, or average pooling that counts padding as zeros or, not `counted`, leaves it out."""
    rank = x.ndim - 2
    pads = [same_pads(n, window, stride) if padding == "SAME" else (0, 0) for n in x.shape[1:-1]]
    padded = np.pad(x.astype(np.float64), [(0, 0), *pads, (0, 0)], constant_values=-np.inf if largest else 0.0)
    sizes = [(n - window) // stride + 1 for n in padded.shape[1:-1]]
    out = np.zeros((x.shape[0], *sizes, x.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        spans = tuple(slice(p * stride, p * stride + window) for p in place)
        piece = padded[(slice(None), *spans)]
        axes = tuple(range(1, rank + 1))
        inside = np.pad(np.ones(x.shape[1:-1]), pads)[spans].sum()
        out[(slice(None), *place)] = piece.max(axes) if largest else piece.sum(axes) / (window**rank if counted else inside)
    return out


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax over the last axis."""
    shifted = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def attention(x: np.ndarray, weights: dict[str, np.ndarray], *, causal: bool) -> np.ndarray:
    """Multi-head self-attention, one head and one query at a time."""
    weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    out = np.zeros(x.shape) + weights["out_bias"]
    for head in range(weights["query_kernel"].shape[1]):
        query, key, value = (
            x.astype(np.float64) @ weights[f"{name}_kernel"][:, head] + weights[f"{name}_bias"][head]
            for name in ("query", "key", "value")
        )
        for example, position in itertools.product(range(x.shape[0]), range(x.shape[1])):
            end = position + 1 if causal else x.shape[1]
            scores = key[example, :end] @ query[example, position] / math.sqrt(query.shape[-1])
            out[example, position] += softmax(scores) @ value[example, :end] @ weights["out_kernel"][head]
    return out
