"""JAX programs as our own JSON: names of primitives and their parameters through codecs, never pickle.

A program is {"inputs": n, "steps": [[primitive, parameters, operands, results], …], "outputs": [slot, …]}. Slots number its values,
inputs first; an operand is a slot or a constant. An integer that depends on the batch is {"batch": [a, c]}: a · batch + c.
"""

from __future__ import annotations

import base64
import enum
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from properties.jaxpr import PRIMITIVES

Json = Any

_LARGEST_INLINE = 16
"""Constants of more elements are written as bytes."""


class NotEncodable(ValueError):
    """A primitive or a parameter that has no JSON form; the message names it."""


def encode_value(value: Any) -> Json:
    """A primitive's parameter as JSON. Raises NotEncodable."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else {"float": str(float(value))}
    if isinstance(value, enum.Enum):
        return {"enum": type(value).__name__, "name": value.name}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {"type": type(value).__name__, "fields": {name: encode_value(getattr(value, name)) for name in value._fields}}
    if isinstance(value, tuple | list):
        return [encode_value(item) for item in value]
    if type(value).__name__ in ("GatherDimensionNumbers", "ScatterDimensionNumbers", "ConvDimensionNumbers"):
        return {"type": type(value).__name__, "fields": {name: encode_value(item) for name, item in vars(value).items()}}
    try:
        return {"dtype": np.dtype(value).name}
    except TypeError:
        raise NotEncodable(f"a parameter of type {type(value).__name__}") from None


def encode_constant(value: Any) -> Json:
    """An array as JSON. Raises NotEncodable for arrays of keys."""
    if jax.dtypes.issubdtype(getattr(value, "dtype", np.dtype(float)), jax.dtypes.extended):
        raise NotEncodable("a random key, which is drawn anew in every call")
    array = np.asarray(value)
    if array.size <= _LARGEST_INLINE and array.dtype.kind in "fiub" and np.all(np.isfinite(array)):
        return {"value": array.tolist(), "dtype": array.dtype.name, "shape": list(array.shape)}
    return {"bytes": base64.b64encode(array.tobytes()).decode(), "dtype": array.dtype.name, "shape": list(array.shape)}


def decode_constant(data: Mapping[str, Any]) -> np.ndarray:
    """The array that `encode_constant` wrote."""
    dtype = np.dtype(data["dtype"])
    if "bytes" in data:
        return np.frombuffer(base64.b64decode(data["bytes"]), dtype).reshape(data["shape"])
    return np.asarray(data["value"], dtype).reshape(data["shape"])


def decode_value(data: Json, batch: int) -> Any:
    """The parameter that a JSON value stands for at a batch size."""
    if isinstance(data, list):
        return tuple(decode_value(item, batch) for item in data)
    if not isinstance(data, Mapping):
        return data
    if "batch" in data:
        factor, rest = data["batch"]
        return factor * batch + rest
    if "float" in data:
        return float(data["float"])
    if "enum" in data:
        return getattr(jax.lax, data["enum"])[data["name"]]
    if "dtype" in data:
        return np.dtype(data["dtype"])
    if "type" in data:
        return getattr(jax.lax, data["type"])(**{name: decode_value(item, batch) for name, item in data["fields"].items()})
    return data


def known(primitive: str) -> bool:
    """Whether a step of this primitive can be run from JSON."""
    return primitive in PRIMITIVES or primitive in _SPECIAL


def run(program: Mapping[str, Any], arguments: Sequence[Any], batch: int) -> list[Any]:
    """The outputs of a program on its inputs."""
    env: dict[int, Any] = dict(enumerate(arguments))
    for primitive, parameters, operands, results in program["steps"]:
        values = [env[operand] if isinstance(operand, int) else decode_constant(operand) for operand in operands]
        out = _bind(primitive, parameters, values, batch)
        env.update(zip(results, out, strict=True))
    return [env[slot] if isinstance(slot, int) else decode_constant(slot) for slot in program["outputs"]]


def _bind(primitive: str, parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    special = _SPECIAL.get(primitive)
    if special is not None:
        return special(parameters, values, batch)
    bound = PRIMITIVES[primitive]
    out = bound.bind(*map(jax.numpy.asarray, values), **{name: decode_value(item, batch) for name, item in parameters.items()})
    return out if bound.multiple_results else [out]


def _scan(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    consts, carry = parameters["num_consts"], parameters["num_carry"]

    def body(state: Any, xs: Any) -> tuple[Any, Any]:
        out = run(parameters["jaxpr"]["program"], [*values[:consts], *state, *xs], batch)
        return tuple(out[:carry]), tuple(out[carry:])

    state, ys = jax.lax.scan(
        body,
        tuple(map(jax.numpy.asarray, values[consts : consts + carry])),
        tuple(values[consts + carry :]),
        length=decode_value(parameters["length"], batch),
        reverse=parameters["reverse"],
        unroll=parameters["unroll"],
    )
    return [*state, *ys]


def _while(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    first = parameters["cond_nconsts"]
    second = first + parameters["body_nconsts"]

    def go_on(state: Any) -> Any:
        return run(parameters["cond_jaxpr"]["program"], [*values[:first], *state], batch)[0]

    def body(state: Any) -> Any:
        return tuple(run(parameters["body_jaxpr"]["program"], [*values[first:second], *state], batch))

    return jax.lax.while_loop(go_on, body, tuple(map(jax.numpy.asarray, values[second:])))


def _cond(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    def branch(program: Mapping[str, Any]) -> Callable[..., Any]:
        return lambda *operands: tuple(run(program, operands, batch))

    branches = [branch(item["program"]) for item in parameters["branches"]]
    index = jax.numpy.asarray(values[0]).astype("int32")
    return jax.lax.switch(index, branches, *values[1:])


def _call(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    return run(parameters["program"], values, batch)


def _split(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    return jax.lax.split(values[0], decode_value(parameters["sizes"], batch), parameters["axis"])


def _tile(parameters: Mapping[str, Any], values: list[Any], batch: int) -> Sequence[Any]:
    return [jax.numpy.tile(values[0], decode_value(parameters["reps"], batch))]


_SPECIAL: Mapping[str, Callable[[Mapping[str, Any], list[Any], int], Sequence[Any]]] = {
    "call": _call,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "split": _split,
    "tile": _tile,
}
