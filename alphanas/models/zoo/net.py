"""A pencil for zoo models: a graph builder with scopes, and the few layer groups that many families share.

The scopes make the names of nodes: `stage1.block0.conv1`. Exporters write one class for a scope.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from synth.graph import Builder, Graph
from synth.op import Op, Value, output_value
from synth.ops.activation import Relu, Sigmoid
from synth.ops.convolution import Axes, Conv, DepthwiseConv
from synth.ops.dense import Dense
from synth.ops.merge import Multiply
from synth.ops.normalization import BatchNorm
from synth.ops.pooling import GlobalAvgPool


class Net:
    """Grows a graph; `with net.scope("block0"):` prefixes the names of what is added inside."""

    def __init__(self, input_shape: Sequence[int]) -> None:
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

    def classifier(self, x: str, classes: int) -> Graph:
        """Global average pool, one dense layer, and the finished graph."""
        x = self(GlobalAvgPool(), x, name="pool")
        return self.graph(self(Dense(features=classes), x, name="head"))
