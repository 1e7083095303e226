"""Elementwise primitives: every element depends on the element at its own place; operand axes of size 1 are broadcast."""

from __future__ import annotations

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


def reaches_everything(context: Context, operand: int, output: int) -> Mixing:
    """Every element of the result can depend on every element of the operand."""
    return Mixing.top(context.equation.input_types[operand].shape, context.equation.output_types[output].shape)


RULES: Rules = rule(
    keeps_places, "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e",
    "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos", "cosh",
    "digamma", "div", "eq", "eq_to", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma",
    "igamma_grad_a", "igammac", "imag", "integer_pow", "is_finite", "le", "le_to", "lgamma", "log", "log1p", "logistic", "lt",
    "lt_to", "max", "min", "mul", "mulhi", "name", "ne", "neg", "nextafter", "not", "or", "polygamma", "population_count", "pow",
    "random_gamma_grad", "real", "reduce_precision", "regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n",
    "shift_left", "shift_right_arithmetic", "shift_right_logical", "sharding_constraint", "layout_constraint", "mesh_cast",
    "pvary", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor", "zeta",
)  # fmt: skip
