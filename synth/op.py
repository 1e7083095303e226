"""What an op is: a JAX function with its parameters; everything else known about it is derived from its jaxpr.

A new op is one frozen dataclass in `synth/ops/<family>.py`: its fields are its attributes (and its JSON), `weights` says which
arrays it owns, `apply` says what it computes. Shape, properties, cost, sizes and printing follow from these.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from synth.memo import Memo

PROBE_BATCH = 2
"""Batch size at which ops are traced: a batch of one would make the batch axis look like a constant."""


class ShapeMismatch(ValueError):
    """An op was given inputs that it does not fit; the message names the op, what it saw and what it wants."""


@dataclasses.dataclass(frozen=True)
class Value:
    """The type of a value in a graph: its shape, with None for the free batch axis, and its dtype."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"

    @property
    def channels(self) -> int:
        """Size of the last axis, the feature axis of every op."""
        size = self.shape[-1] if self.shape else None
        if size is None:
            raise ShapeMismatch(f"{self} has no feature axis: its last axis must have a fixed size")
        return size

    @property
    def spatial(self) -> tuple[int, ...]:
        """Sizes of the axes between batch and features."""
        return tuple(size for size in self.shape[1:-1] if size is not None)

    def aval(self, batch: int = PROBE_BATCH) -> jax.ShapeDtypeStruct:
        """The JAX type of this value at a batch size."""
        return jax.ShapeDtypeStruct(tuple(batch if size is None else size for size in self.shape), np.dtype(self.dtype))

    def __str__(self) -> str:
        return "×".join("B" if size is None else str(size) for size in self.shape) or "scalar"


@dataclasses.dataclass(frozen=True)
class Weight:
    """An array that an op owns: its shape, its initialiser (a name in `synth.initializers`), the fan-in that scales it.

    `gain` is a factor on the initial values.
    """

    shape: tuple[int, ...]
    initializer: str = "he_normal"
    fan_in: int = 1
    dtype: str = "float32"
    gain: float = 1.0


def size() -> Any:
    """A field whose integer is solved for when a program is synthesized (features, heads, …)."""
    return dataclasses.field(metadata={"size": True})


def choice(default: Any, among: Sequence[Any]) -> Any:
    """A field with a default and the values that synthesis may choose among."""
    return dataclasses.field(default=default, metadata={"choices": tuple(among)})


def start(default: Any) -> Any:
    """A field that says how weights start: no part of what a program computes, and so none of its hash."""
    return dataclasses.field(default=default, metadata={"start": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Op(ABC):
    """A function of one or more arrays, the first axis of each being the batch, the last one the features."""

    arity: ClassVar[int | None] = 1
    """Number of inputs; None for any number of at least two."""
    commutative: ClassVar[bool] = False
    """Whether the order of the inputs does not matter; the canonical hash then ignores it."""
    taste: ClassVar[float] = 1.0
    """How often synthesis draws ops of this type, relative to others: 1 for the usual, 0 for never. A prior, not a rule."""
    normalizes: ClassVar[bool] = False
    """Whether training sees an output whose scale does not depend on the input's."""
    idempotent: ClassVar[bool] = False
    """Whether the op, applied once more to its own output, changes nothing."""
    nonnegative: ClassVar[bool] = False
    """Whether no element of an output is ever negative, in inference and in training."""
    keeps_nonnegative: ClassVar[bool] = False
    """Whether no element of an output is negative where none of the inputs is, in inference and in training."""
    fixes_nonnegative: ClassVar[bool] = False
    """Whether an input without negative elements comes out as it went in."""
    fitted: ClassVar[bool] = True
    """Whether costs may be fitted as polynomials in the channels and the size, by some traces; else each is traced."""

    @classmethod
    def kind(cls) -> str:
        """The op's name in JSON, in reports and on the command line."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def check(self, *inputs: Value) -> None:
        """Raise ShapeMismatch if the op does not fit these inputs. Most ops fit everything."""

    def weights(self, *inputs: Value) -> dict[str, Weight]:
        """The trained parameters; their shapes use only +, *, // and % on the inputs' sizes and the op's attributes."""
        return {}

    @abstractmethod
    def apply(self, weights: Mapping[str, jax.Array], *inputs: jax.Array) -> jax.Array:
        """What the op computes in inference: the meaning that every property is about."""

    def attributes(self) -> dict[str, Any]:
        """The op's fields by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __str__(self) -> str:
        shown = [
            f"{field.name}={getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"{self.kind()}({', '.join(shown)})"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModalOp(Op):
    """An op that training computes in another way: with state, with chance, or in a form that differentiates faster."""

    alike: ClassVar[bool] = False
    """Whether training computes the same values as inference all the same."""

    keeps_state: ClassVar[bool] = False
    """Whether the state is arrays that the model came with, which training leaves as they are."""

    def state(self, *inputs: Value) -> dict[str, Weight]:
        """Arrays that training updates without a gradient (running statistics)."""
        return {}

    @abstractmethod
    def train(self, weights: Mapping[str, jax.Array], *inputs: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """What the op computes in training, and the new values of its state."""


def state_of(op: Op, inputs: Sequence[Value]) -> dict[str, Weight]:
    """The state of an op on these inputs; empty for an op that has none."""
    return op.state(*inputs) if isinstance(op, ModalOp) else {}


def weight_avals(op: Op, inputs: Sequence[Value]) -> dict[str, jax.ShapeDtypeStruct]:
    """The JAX types of everything that `op.apply` reads beside its inputs."""
    return avals_of(op.weights(*inputs) | state_of(op, inputs))


def avals_of(owned: Mapping[str, Weight]) -> dict[str, jax.ShapeDtypeStruct]:
    """The JAX types of weights, by name."""
    return {name: jax.ShapeDtypeStruct(weight.shape, np.dtype(weight.dtype)) for name, weight in owned.items()}


OUTPUTS: Memo[tuple[Op, tuple[Value, ...]], Value | str] = Memo(1 << 17)
"""The type of an op's output on some inputs, or why they do not fit."""


def output_value(op: Op, inputs: tuple[Value, ...]) -> Value:
    """The type of an op's output, from its own trace; ShapeMismatch if the inputs do not fit."""
    found = OUTPUTS.get((op, inputs))
    if found is None:
        found = OUTPUTS.put((op, inputs), _traced_output(op, inputs))
    if isinstance(found, str):
        raise ShapeMismatch(found)
    return found


def _traced_output(op: Op, inputs: tuple[Value, ...]) -> Value | str:
    if (op.arity is None and len(inputs) < 2) or (op.arity is not None and len(inputs) != op.arity):
        return f"{op} takes {op.arity or 'at least two'} inputs, got {len(inputs)}"
    try:
        op.check(*inputs)
        out = jax.eval_shape(op.apply, weight_avals(op, inputs), *(value.aval() for value in inputs))
    except (TypeError, ValueError, ArithmeticError) as error:
        return misfit(op, inputs, error)
    return fitted_output(op, inputs, out)


def misfit(op: Op, inputs: Sequence[Value], error: Exception) -> str:
    """Why inputs do not fit an op, from what was raised."""
    if isinstance(error, ShapeMismatch):
        return str(error)
    return f"{op} does not fit {', '.join(map(str, inputs))}: {(str(error).splitlines() or [''])[0]}"


def fitted_output(op: Op, inputs: Sequence[Value], out: jax.ShapeDtypeStruct) -> Value | str:
    """The type of an output of this JAX type, or why it is none."""
    if any(size == 0 for size in out.shape):
        return f"{op} leaves nothing of {', '.join(map(str, inputs))}: its output would be {out.shape}"
    batched = any(value.shape[:1] == (None,) for value in inputs)
    shape: tuple[int | None, ...] = (None, *out.shape[1:]) if batched else out.shape
    return Value(shape, str(out.dtype))


@functools.cache
def size_fields(op_type: type[Op]) -> tuple[str, ...]:
    """The names of the fields that synthesis solves for."""
    return tuple(field.name for field in dataclasses.fields(op_type) if field.metadata.get("size"))


def size_of(op: Op) -> int:
    """The op's size; 0 for an op that has none."""
    names = size_fields(type(op))
    return getattr(op, names[0]) if names else 0


def with_size(op: Op, size: int) -> Op:
    """The op with every size field set."""
    return dataclasses.replace(op, **dict.fromkeys(size_fields(type(op)), size))


def alternatives(op_type: type[Op], sizes: Sequence[int]) -> Iterator[Op]:
    """Every op of a type over the declared choices of its fields, and over `sizes` for the fields that are sizes."""
    fields = dataclasses.fields(op_type)
    domains = [tuple(sizes) if field.metadata.get("size") else field.metadata.get("choices", (field.default,)) for field in fields]
    for values in itertools.product(*domains):
        yield op_type(**{field.name: value for field, value in zip(fields, values, strict=True)})
