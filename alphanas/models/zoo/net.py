"""A pencil for zoo models: a graph builder with scopes, and the few layer groups that many families share.

The scopes make the names of nodes: `stage1.block0.conv1`. Exporters write one class for a scope.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from synth.graph import Builder, Graph
from synth.op import Op, ShapeMismatch, Value, output_value
from synth.ops.activation import Dropout, Relu, Sigmoid, StochasticDepth
from synth.ops.convolution import Axes, Conv, DepthwiseConv
from synth.ops.dense import Dense
from synth.ops.merge import Add, Multiply
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import GlobalAvgPool

LARGEST_SMALL_INPUT = 64
"""Pixels up to which a residual or dense network keeps its input's resolution in the stem, as on CIFAR."""


class Net:
    """Grows a graph; `with net.scope("block0"):` prefixes the names of what is added inside.

    Raises ShapeMismatch for an input that is no picture (height, width, channels), unless `rank` says otherwise.
    """

    def __init__(self, input_shape: Sequence[int], *, rank: int | None = 3) -> None:
        if rank is not None and len(input_shape) != rank:
            raise ShapeMismatch("it reads pictures: height, width, channels")
        self.small = max(input_shape[:-1], default=0) <= LARGEST_SMALL_INPUT
        self._builder = Builder(tuple(input_shape))
        self._values = {self._builder.input: self._builder.inputs[0].value}
        self._scopes: list[str] = []

    @property
    def input(self) -> str:
        """The name of the input."""
        return self._builder.input

    @contextlib.contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Names inside are prefixed with `name` and a dot."""
        self._scopes.append(name)
        yield
        self._scopes.pop()

    def __call__(self, op: Op, *inputs: str, name: str) -> str:
        """Adds a node and returns its name; raises ShapeMismatch where the op does not fit."""
        full = ".".join([*self._scopes, name])
        self._values[full] = output_value(op, tuple(self._values[read] for read in inputs))
        return self._builder(op, *inputs, name=full)

    def value(self, name: str) -> Value:
        """The type of a value."""
        return self._values[name]

    def channels(self, name: str) -> int:
        """Features of a value."""
        return self._values[name].channels

    def graph(self, *outputs: str) -> Graph:
        """The finished graph."""
        return self._builder.graph(*outputs)

    def conv_norm(
        self,
        x: str,
        features: int,
        kernel: Axes = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        act: Op | None = Relu(),  # noqa: B008 - ops are frozen values
        suffix: str = "",
        norm: BatchNorm = BatchNorm(),  # noqa: B008
    ) -> str:
        """Convolution without bias, batch norm, activation; depthwise where every channel is a group."""
        conv: Op
        if groups > 1 and groups == self.channels(x) == features:
            conv = DepthwiseConv(kernel=kernel, stride=stride)
        else:
            conv = Conv(features=features, kernel=kernel, stride=stride, groups=groups)
        x = self(conv, x, name=f"conv{suffix}")
        x = self(norm, x, name=f"norm{suffix}")
        return x if act is None else self(act, x, name=f"act{suffix}")

    def squeeze_excite(self, x: str, hidden: int, *, act: Op = Relu(), gate: Op = Sigmoid(), name: str = "se") -> str:  # noqa: B008
        """A gate on every channel from the means of all channels (Hu et al., 2018)."""
        with self.scope(name):
            weights = self(GlobalAvgPool(keep_axes=True), x, name="pool")
            weights = self(Conv(features=hidden, kernel=1, use_bias=True), weights, name="reduce")
            weights = self(act, weights, name="act")
            weights = self(Conv(features=self.channels(x), kernel=1, use_bias=True), weights, name="expand")
            weights = self(gate, weights, name="gate")
            return self(Multiply(), x, weights, name="scale")

    def norm_act_conv(self, x: str, features: int, kernel: Axes = 3, *, stride: int = 1, suffix: str = "") -> str:
        """Batch norm, relu, convolution without bias: the order of pre-activation networks (He et al., 2016)."""
        x = self(Relu(), self(BatchNorm(), x, name=f"norm{suffix}"), name=f"act{suffix}")
        return self(Conv(features=features, kernel=kernel, stride=stride), x, name=f"conv{suffix}")

    def shortcut(self, x: str, y: str, *, drop: float = 0.0, name: str = "add") -> str:
        """The sum of a block's input and its result, whose examples are dropped in training at a rate."""
        y = self(StochasticDepth(rate=round(drop, 4)), y, name="drop") if drop else y
        return self(Add(), x, y, name=name)

    def classifier(self, x: str, classes: int, *, dropout: float = 0.0) -> Graph:
        """Global average pool, dropout if any, one dense layer, and the finished graph."""
        x = self(GlobalAvgPool(), x, name="pool")
        x = self(Dropout(rate=dropout), x, name="dropout") if dropout else x
        return self.graph(self(Dense(features=classes), x, name="head"))
