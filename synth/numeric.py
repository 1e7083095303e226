"""Programs run by NumPy: nothing is compiled, so that a program of new shapes costs what it computes.

XLA compiles a small op for 20 to 60 ms, for each shape anew. Products go to BLAS, as XLA's do. What comes out is near what JAX
computes, and not to the last bit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special  # type: ignore[import-untyped]

from properties.jaxpr import Equation, Program
from synth.evaluating import COMPUTED
from synth.windowed import convolved, is_plain_convolution, is_plain_window, windows

Array = np.ndarray[Any, Any]
Step = Callable[[Equation, Sequence[Array]], Array]


def is_known(program: Program) -> bool:
    """Whether every step that an output hangs on is in the table."""
    return all(
        is_known(equation.programs[0]) if equation.primitive in CALLS else _computes(equation) for equation in _needed(program)
    )


def run(program: Program, operands: Sequence[Array]) -> list[Array]:
    """The outputs of a program that is known; float32 as XLA computes it, to rounding."""
    with np.errstate(all="ignore"):
        return _run(program, operands)


def _computes(equation: Equation) -> bool:
    condition = CONDITIONS.get(equation.primitive)
    return equation.primitive in STEPS and (condition is None or condition(equation))


@functools.cache
def _needed(program: Program) -> tuple[Equation, ...]:
    """The equations that an output hangs on, in order: running statistics are not asked for."""
    wanted, found = set(program.outputs), list[Equation]()
    for equation in reversed(program.equations):
        if wanted.intersection(equation.outputs):
            wanted.update(equation.inputs)
            found.append(equation)
    return tuple(reversed(found))


def _run(program: Program, operands: Sequence[Array]) -> list[Array]:
    values: dict[int, Any] = dict(enumerate(operands))
    values.update({slot: np.asarray(constant, program.types[slot].dtype) for slot, constant in program.constants.items()})
    for equation in _needed(program):
        read = [values[slot] for slot in equation.inputs]
        if equation.primitive in CALLS:
            values.update(zip(equation.outputs, _run(equation.programs[0], read), strict=True))
            continue
        (output,) = equation.outputs
        values[output] = np.asarray(STEPS[equation.primitive](equation, read), equation.output_types[0].dtype)
    return [values[slot] for slot in program.outputs]


def _each(function: Callable[..., Any]) -> Step:
    def step(equation: Equation, operands: Sequence[Array]) -> Array:
        shape = equation.output_types[0].shape
        return np.asarray(function(*[_as_rows(operand, shape) for operand in operands]))

    return step


def _as_rows(operand: Array, shape: tuple[int, ...]) -> Array:
    """One number for each channel as one for each element of a row, so that NumPy goes through a row at once."""
    if len(shape) < 3 or operand.ndim != len(shape) or operand.size != shape[-1] or operand.shape == shape or shape[-1] == 1:
        return operand
    return np.ascontiguousarray(np.broadcast_to(operand, (*(1,) * (len(shape) - 2), *shape[-2:])))


def _power(equation: Equation, operands: Sequence[Array]) -> Array:
    return np.asarray(operands[0] ** equation.params["y"])


def _select(equation: Equation, operands: Sequence[Array]) -> Array:
    which, no, *yes = operands
    return np.where(which, yes[0], no) if yes else no


def _broadcast(equation: Equation, operands: Sequence[Array]) -> Array:
    shape, axes = equation.params["shape"], equation.params["broadcast_dimensions"]
    sides = [1] * len(shape)
    for side, axis in zip(operands[0].shape, axes, strict=True):
        sides[axis] = side
    return np.broadcast_to(operands[0].reshape(sides), shape)


def _counted(equation: Equation, operands: Sequence[Array]) -> Array:
    shape, axis = equation.params["shape"], equation.params["dimension"]
    return np.broadcast_to(np.arange(shape[axis]).reshape([-1 if place == axis else 1 for place in range(len(shape))]), shape)


def _reshaped(equation: Equation, operands: Sequence[Array]) -> Array:
    return operands[0].reshape(equation.output_types[0].shape)


def _transposed(equation: Equation, operands: Sequence[Array]) -> Array:
    return operands[0].transpose(equation.params["permutation"])


def _joined(equation: Equation, operands: Sequence[Array]) -> Array:
    return np.concatenate(operands, equation.params["dimension"])


def _cut(equation: Equation, operands: Sequence[Array]) -> Array:
    params = equation.params
    steps = params["strides"] or (1,) * operands[0].ndim
    return operands[0][tuple(slice(*ends) for ends in zip(params["start_indices"], params["limit_indices"], steps, strict=True))]


def _padded(equation: Equation, operands: Sequence[Array]) -> Array:
    edges = [(low, high) for low, high, _ in equation.params["padding_config"]]
    return np.pad(operands[0], edges, constant_values=operands[1].item())


def _total(equation: Equation, operands: Sequence[Array]) -> Array:
    """A sum; over all axes but the last ones it is a product with ones, which is fast and rounds less than adding up in turn."""
    (x,), axes = operands, tuple(equation.params["axes"])
    if x.dtype != np.float32 or axes != tuple(range(len(axes))) or x.ndim == len(axes):
        return np.asarray(x.sum(axes, dtype=x.dtype))
    rest = x.shape[len(axes) :]
    flat = x.reshape(-1, int(np.prod(rest)))
    return (np.ones(len(flat), np.float32) @ flat).reshape(rest)


def _extreme(function: Callable[..., Any]) -> Step:
    return lambda equation, operands: function(operands[0], axis=tuple(equation.params["axes"]))


def _product(equation: Equation, operands: Sequence[Array]) -> Array:
    (contracted, batched), (left, right) = equation.params["dimension_numbers"], operands
    frees = [
        [axis for axis in range(side.ndim) if axis not in (*inner, *outer)]
        for side, inner, outer in zip(operands, contracted, batched, strict=True)
    ]
    outer, inner = ([side.shape[axis] for axis in axes] for side, axes in ((left, batched[0]), (left, contracted[0])))
    one = left.transpose(*batched[0], *frees[0], *contracted[0]).reshape(*outer, -1, int(np.prod(inner)))
    two = right.transpose(*batched[1], *contracted[1], *frees[1]).reshape(*outer, int(np.prod(inner)), -1)
    return (one @ two).reshape(equation.output_types[0].shape)


def _plain_padding(equation: Equation) -> bool:
    return all(low >= 0 and high >= 0 and not inner for low, high, inner in equation.params["padding_config"])


CALLS = frozenset({"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"})
"""Primitives whose one program computes their results from their operands."""

ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    **COMPUTED,
    "and": np.logical_and,
    "convert_element_type": lambda x: x,
    "copy": lambda x: x,
    # Of arrays, and not of a few numbers.
    "erf": special.erf,
    "erfc": special.erfc,
    "logistic": special.expit,
    "stop_gradient": lambda x: x,
}
"""What works on each element; the result is then of the type that the program says."""

STEPS: Mapping[str, Step] = {
    **{name: _each(function) for name, function in ELEMENTWISE.items()},
    "broadcast_in_dim": _broadcast,
    "concatenate": _joined,
    "conv_general_dilated": convolved,
    "dot_general": _product,
    "expand_dims": _reshaped,
    "integer_pow": _power,
    "iota": _counted,
    "pad": _padded,
    "reduce_max": _extreme(np.max),
    "reduce_min": _extreme(np.min),
    "reduce_sum": _total,
    "reduce_window_max": windows(np.maximum, -np.inf),
    "reduce_window_sum": windows(np.add, 0.0),
    "reshape": _reshaped,
    "select_n": _select,
    "slice": _cut,
    "squeeze": _reshaped,
    "transpose": _transposed,
}
"""What one result of a primitive is, by its name."""

CONDITIONS: Mapping[str, Callable[[Equation], bool]] = {
    "and": lambda equation: equation.output_types[0].dtype == "bool",
    "conv_general_dilated": is_plain_convolution,
    "convert_element_type": lambda equation: equation.input_types[0].dtype in ("bool", "float32", "int32"),
    "pad": _plain_padding,
    "reduce_window_max": is_plain_window,
    "reduce_window_sum": is_plain_window,
    "reshape": lambda equation: equation.params["dimensions"] is None,
    "select_n": lambda equation: equation.input_types[0].dtype == "bool",
}
"""Where a step holds only for some parameters: which."""
