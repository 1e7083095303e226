"""Programs that work element by element, run with NumPy on a few numbers of any shape: nothing is compiled.

What comes out is near what JAX computes, and not to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from properties.jaxpr import Equation, Program

COMPUTED: Mapping[str, Callable[..., Any]] = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "ceil": np.ceil,
    "clamp": lambda low, x, high: np.clip(x, low, high),
    "cos": np.cos,
    "div": np.divide,
    "eq": np.equal,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "erfc": np.vectorize(math.erfc, otypes=[float]),
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": lambda x: 0.5 + 0.5 * np.tanh(0.5 * x),
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "pow": np.power,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "select_n": lambda which, *cases: np.choose(np.asarray(which, dtype=int), cases),
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
    "tanh": np.tanh,
}
"""What NumPy makes of the elements, by the primitive's name."""
_KEPT = frozenset({"broadcast_in_dim", "convert_element_type", "copy", "copy_p", "stop_gradient"})
"""Primitives that give their operand back, whatever its shape: numbers stay numbers, and what works element by element goes on."""


def evaluated(program: Program, numbers: np.ndarray) -> np.ndarray | None:
    """What a program of one input makes of numbers; None if it is not known to work on each of them by itself."""
    with np.errstate(all="ignore"):
        found = _run(program, [np.asarray(numbers, dtype=float)])
    return None if found is None else np.broadcast_to(found[0], numbers.shape)


def _run(program: Program, operands: list[Any]) -> list[Any] | None:
    if len(operands) != program.input_count:
        return None
    values: dict[int, Any] = dict(enumerate(operands))
    for slot, constant in program.constants.items():
        if np.size(constant) != 1:
            return None
        values[slot] = np.asarray(constant).reshape(())
    for equation in program.equations:
        found = _step(equation, [values[slot] for slot in equation.inputs])
        if found is None:
            return None
        values.update(zip(equation.outputs, found, strict=True))
    return [values[slot] for slot in program.outputs]


def _step(equation: Equation, operands: list[Any]) -> list[Any] | None:
    if equation.programs:
        return _run(equation.programs[0], operands) if len(equation.programs) == 1 else None
    if equation.primitive in _KEPT:
        return operands
    if equation.primitive == "integer_pow":
        return [operands[0] ** float(equation.params["y"])]
    computed = COMPUTED.get(equation.primitive)
    return None if computed is None else [computed(*operands)]
