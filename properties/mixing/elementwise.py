"""Elementwise primitives: every element depends on the element at its own place; operand axes of size 1 are broadcast."""

from __future__ import annotations

import numpy as np

from properties.interpreter import Context
from properties.mixing.affine import Term, at
from properties.mixing.lattice import Mixing, mixing
from properties.rules import Rules, rule


def keeps_places(context: Context, operand: int, output: int) -> Mixing | None:
    """Element to element; a scalar operand reaches every element, an axis of size 1 every position."""
    before = context.equation.input_types[operand].shape
    after = context.equation.output_types[output].shape
    if before == after:
        return Mixing.identity(after)
    if not before:
        return Mixing.of((), after, ())
    axes = tuple([(at(axis),) if size == after[axis] else (Term(),) for axis, size in enumerate(before)])
    return mixing(before, after, axes)


def keeps_places_where_chosen(context: Context, operand: int, output: int) -> Mixing | None:
    """A choice: where it is a known constant, a case reaches no further than the box in which it is chosen."""
    shape = context.equation.output_types[output].shape
    known = None if operand == 0 or context.data[0] else context.constant(0)
    if known is None or known.shape != shape:
        return keeps_places(context, operand, output)
    chosen = known == operand - 1
    if chosen.all() or not chosen.any():
        return Mixing.identity(shape) if chosen.all() else None
    spans = [np.flatnonzero(chosen.any(axis=tuple(k for k in range(chosen.ndim) if k != axis))) for axis in range(chosen.ndim)]
    guards = tuple([(axis, int(span[0]), int(span[-1]) + 1) for axis, span in enumerate(spans)])
    return mixing(shape, shape, tuple([(at(axis)._replace(guards=guards),) for axis in range(len(shape))]))


def reaches_everything(context: Context, operand: int, output: int) -> Mixing:
    """Every element of the result can depend on every element of the operand."""
    return Mixing.top(context.equation.input_types[operand].shape, context.equation.output_types[output].shape)


RULES: Rules = rule(keeps_places_where_chosen, "select_n") | rule(
    keeps_places, "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos", "cosh",
    "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma",
    "igamma_grad_a", "igammac", "imag", "integer_pow", "is_finite", "le", "le_to", "lgamma", "log", "log1p", "logistic", "lt",
    "lt_to", "max", "min", "mul", "mulhi", "name", "ne", "neg", "nextafter", "not", "or", "polygamma", "population_count", "pow",
    "random_gamma_grad", "real", "reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sharding_constraint", "layout_constraint", "mesh_cast",
    "pvary", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor", "zeta",
)  # fmt: skip
