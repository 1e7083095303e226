"""Layers that are recognised while a model is traced: each becomes one call in the trace, named for its place in this record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax

from alphanas.models.lifting.flat import MARK
from synth.op import Op, ShapeMismatch, Value, state_of

Described = Op | str
"""What a layer is: an op, or why no op of the vocabulary computes the same."""


@dataclass(frozen=True)
class Layer:
    """A recognised layer: its op, the path of its module, and the names of the op's arrays in the order of the call's operands."""

    op: Op
    path: str
    weights: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]


@dataclass
class Record:
    """The layers of one trace, and the modules that were not recognised with the reason."""

    layers: list[Layer] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)

    def call(self, op: Described, path: str, weight: Callable[[str], Any], *inputs: Any, training: str = "") -> Any:
        """The layer's output as one named call; NotImplemented if the layer is not recognised: its code is then traced as it is.

        `weight` gives the array that the layer has under a name of the op's, or None; `training` says what else the layer does in
        training, which is lost if it is not recognised.
        """
        arrays = _fitting(op, weight, inputs) if isinstance(op, Op) else op
        if isinstance(op, str) or isinstance(arrays, str):
            self.refused[path] = str(arrays)
            if training:
                self.frozen[path] = training
            return NotImplemented
        names, index = tuple(arrays), len(self.layers)
        shapes = tuple(tuple(array.shape) for array in (*inputs, *arrays.values()))
        self.layers.append(Layer(op, path, names, shapes))

        def layer(*operands: jax.Array) -> jax.Array:
            return op.apply(dict(zip(names, operands[len(inputs) :], strict=True)), *operands[: len(inputs)])

        layer.__name__ = f"{MARK}{index}"
        return jax.jit(layer)(*inputs, *arrays.values())


def _fitting(op: Op, weight: Callable[[str], Any], inputs: tuple[Any, ...]) -> dict[str, Any] | str:
    """The arrays that an op reads, by name, or why the op does not fit this call."""
    if not all(isinstance(array, jax.Array) and array.ndim for array in inputs):
        return f"{op.kind()} of something that is no array"
    values = [Value((None, *array.shape[1:]), str(array.dtype)) for array in inputs]
    try:
        op.check(*values)
        wanted = op.weights(*values) | state_of(op, values)
    except ShapeMismatch as error:
        return str(error)
    arrays = {name: weight(name) for name in wanted}
    for name, wants in wanted.items():
        array = arrays[name]
        if array is None or tuple(array.shape) != wants.shape or str(array.dtype) != wants.dtype:
            seen = "absent" if array is None else f"{array.dtype}{tuple(array.shape)}"
            return f"{op.kind()} whose {name} is {seen}"
    return arrays
