"""Convolutions over the axes between batch and features: dense, grouped, depthwise, strided, dilated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from synth.op import ModalOp, ShapeMismatch, Value, Weight, choice, size
from synth.ops import formulations
from synth.ops.formulations import LAYOUTS, Formulated, Question

Axes = int | tuple[int, ...]
Padding = str | tuple[tuple[int, int], ...]


def per_axis(attribute: Axes, rank: int) -> tuple[int, ...]:
    """An attribute given once for all spatial axes, or once for each, as one number for each."""
    return (attribute,) * rank if isinstance(attribute, int) else tuple(attribute)


@dataclass(frozen=True, kw_only=True)
class _Convolution(ModalOp, Formulated):
    """What dense, grouped and depthwise convolutions share; subclasses say how many channels go in and come out of a group."""

    alike = True

    kernel: Axes = choice(3, among=(1, 3, 5))
    stride: Axes = choice(1, among=(1, 2))
    dilation: Axes = 1
    padding: Padding = "SAME"
    use_bias: bool = False

    @abstractmethod
    def _groups(self, channels: int) -> tuple[int, int]:
        """(number of groups, output channels) on an input of so many channels."""

    def check(self, *inputs: Value) -> None:
        (x,) = inputs
        if len(x.shape) - 2 not in LAYOUTS:
            raise ShapeMismatch(f"{self} wants batch, one to three spatial axes and features; got {x}")
        groups, features = self._groups(x.channels)
        if x.channels % groups or features % groups:
            raise ShapeMismatch(f"{self} has {groups} groups, which must divide its {x.channels} inputs and {features} features")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        (x,) = inputs
        groups, features = self._groups(x.channels)
        window = per_axis(self.kernel, len(x.shape) - 2)
        fan_in = x.channels // groups
        for side in window:
            fan_in = fan_in * side
        kernel = Weight((*window, x.channels // groups, features), "he_normal", fan_in)
        return {"kernel": kernel, "bias": Weight((features,), "zeros")} if self.use_bias else {"kernel": kernel}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        groups, _ = self._groups(x.shape[-1])
        return self._biased(weights, self._convolve(x, weights["kernel"], groups))

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same function, in the formulation that is fast: XLA's grouped gradients are 20 to 50 times slow on CPU."""
        (x,) = inputs
        kernel = weights["kernel"]
        if jax.default_backend() != "cpu":
            return self._biased(weights, self._convolve(x, kernel, self._groups(x.shape[-1])[0])), {}
        question = self.question(x.shape, dtype=str(x.dtype))
        return self._biased(weights, formulations.convolve(question, x, kernel)), {}

    def question(self, *inputs: tuple[int, ...], dtype: str) -> Question:
        """What is to be planned for an input of this shape."""
        (shape,) = inputs
        groups, features = self._groups(shape[-1])
        rank = len(shape) - 2
        window, stride, dilation = (per_axis(axes, rank) for axes in (self.kernel, self.stride, self.dilation))
        reach = tuple((side - 1) * step + 1 for side, step in zip(window, dilation, strict=True))
        padding = self.padding
        pads = jax.lax.padtype_to_pads(shape[1:-1], reach, stride, padding) if isinstance(padding, str) else padding
        pairs = tuple((int(low), int(high)) for low, high in pads)
        return Question(tuple(shape), (*window, shape[-1] // groups, features), stride, dilation, pairs, groups, dtype)

    def _biased(self, weights: Mapping[str, jax.Array], out: jax.Array) -> jax.Array:
        return out + weights["bias"] if self.use_bias else out

    def _convolve(self, x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
        rank = x.ndim - 2
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=per_axis(self.stride, rank),
            padding=self.padding,
            rhs_dilation=per_axis(self.dilation, rank),
            dimension_numbers=LAYOUTS[rank],
            feature_group_count=groups,
        )


@dataclass(frozen=True, kw_only=True)
class Conv(_Convolution):
    """Convolution to `features` channels, in `groups` groups."""

    taste = 3.0

    features: int = size()
    groups: int = choice(1, among=(1, 2, 4, 8))

    def _groups(self, channels: int) -> tuple[int, int]:
        return self.groups, self.features


@dataclass(frozen=True, kw_only=True)
class DepthwiseConv(_Convolution):
    """Convolution of every channel on its own, keeping or multiplying the number of channels."""

    taste = 1.5

    kernel: Axes = choice(3, among=(1, 3, 5, 7))
    multiplier: int = 1

    def _groups(self, channels: int) -> tuple[int, int]:
        return channels, channels * self.multiplier


def transposed_pads(op: ConvTranspose, rank: int) -> tuple[tuple[int, int], ...]:
    """What a transposed convolution pads its spread input with, in numbers: SAME gives `stride` times the input's size."""
    if not isinstance(op.padding, str):
        return op.padding
    pads = []
    for side, stride, dilation in zip(*(per_axis(axes, rank) for axes in (op.kernel, op.stride, op.dilation)), strict=True):
        reach = (side - 1) * dilation
        total = reach + stride - 1 if op.padding == "SAME" else reach + max(reach + 1, stride) - 1
        low = reach if op.padding == "VALID" or stride > reach else -(-total // 2)
        pads.append((low, total - low))
    return tuple(pads)


@dataclass(frozen=True, kw_only=True)
class ConvTranspose(ModalOp):
    """Transposed convolution to `features` channels, as `jax.lax.conv_transpose` pads it: `stride` times as large with SAME."""

    alike = True
    taste = 0.0

    features: int = size()
    kernel: Axes = 2
    stride: Axes = 2
    dilation: Axes = 1
    padding: Padding = "SAME"
    use_bias: bool = True

    def check(self, *inputs: Value) -> None:
        if len(inputs[0].shape) - 2 not in LAYOUTS:
            raise ShapeMismatch(f"{self} wants batch, one to three spatial axes and features; got {inputs[0]}")

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        (x,) = inputs
        window = per_axis(self.kernel, len(x.shape) - 2)
        kernel = Weight((*window, x.channels, self.features), "lecun_normal", x.channels)
        return {"kernel": kernel, "bias": Weight((self.features,), "zeros")} if self.use_bias else {"kernel": kernel}

    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        (x,) = inputs
        rank = x.ndim - 2
        out = jax.lax.conv_transpose(
            x,
            weights["kernel"],
            per_axis(self.stride, rank),
            transposed_pads(self, rank),
            rhs_dilation=per_axis(self.dilation, rank),
            dimension_numbers=LAYOUTS[rank],
        )
        return out + weights["bias"] if self.use_bias else out

    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The same function: where windows do not overlap, one matrix product, whose slopes are matrix products too."""
        (x,) = inputs
        rank = x.ndim - 2
        window, stride, dilation = (per_axis(axes, rank) for axes in (self.kernel, self.stride, self.dilation))
        apart = window == stride and max(dilation) == 1 and isinstance(self.padding, str)
        if not apart or jax.default_backend() != "cpu":
            return self.apply(weights, x), {}
        out = _tiled(x, weights["kernel"], window)
        return out + weights["bias"] if self.use_bias else out, {}


def _tiled(x: jax.Array, kernel: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Every position of the input as a tile of the output: its features times the kernel, turned around in each spatial axis."""
    batch, *sides, channels = x.shape
    rank, features = len(window), kernel.shape[-1]
    turned = jnp.moveaxis(jnp.flip(kernel, range(rank)), -2, 0).reshape(channels, -1)
    tiles = (x.reshape(-1, channels) @ turned).reshape(batch, *sides, *window, features)
    pairs = [axis for place in range(rank) for axis in (1 + place, 1 + rank + place)]
    whole = [side * within for side, within in zip(sides, window, strict=True)]
    return tiles.transpose(0, *pairs, 1 + 2 * rank).reshape(batch, *whole, features)
