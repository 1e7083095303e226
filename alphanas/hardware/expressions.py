"""Element-wise steps as TVM expressions: one small function per primitive, from the operands' elements to the result's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import te, tirx

from alphanas.hardware import approximations
from alphanas.hardware.program import Flat, NotLowerable, Step

Element = Any
"""An expression of TVM for one element."""
Rule = Callable[[Sequence[Element], Mapping[str, Any], str], Element]
"""(operands, the step's parameters, dtype of the result) → the result's element."""


def known(step: Step) -> Rule:
    """The rule of an element-wise step. Raises NotLowerable where the primitive has none."""
    rule = RULES.get(step.primitive)
    if rule is None:
        raise NotLowerable(step.primitive, "no rule for this primitive")
    return rule


def element(flat: Flat, step: Step, operands: Sequence[Element]) -> Element:
    """The result's element of an element-wise step. Raises NotLowerable where the primitive has no rule."""
    rule = known(step)
    types = [flat.types[slot].dtype for slot in step.inputs]
    # TVM takes a number for equal to itself, which NaN is not.
    alone = len(set(step.inputs)) == 1
    return rule(operands, {**step.params, "_inputs": types, "_alone": alone}, flat.types[step.output].dtype)


def _polynomial(coefficients: Sequence[float], x: Element) -> Element:
    total = tirx.const(coefficients[-1], "float32")
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + tirx.const(coefficient, "float32")
    return total


def _polynomial_at(coefficients: Sequence[float], x: Element) -> Element:
    return _named(x, lambda value: _polynomial(coefficients, value))


def _named(x: Element, function: Callable[[Element], Element], dtype: str = "float32") -> Element:
    """`function(x)` with x computed once: an expression that is used many times would be written out as often."""
    variable = tirx.Var("value", dtype)
    return tirx.Let(variable, x, function(variable))


TO_WHOLE = float(3 << 22)
"""Added to a number below 2 to the 21, it leaves a float32 whose last bits are that number, rounded to a whole one."""
LOG2_E = 1.4426950408889634


def exp(x: Element) -> Element:
    """e to the x in float32: 2 to the n by its bits, times a polynomial in what is left."""
    low, high = approximations.EXP_RANGE

    def of_shifted(held: Element, shifted: Element) -> Element:
        return _named(shifted - _f(TO_WHOLE), lambda n: _times_power(_polynomial_at(approximations.exp(), rest(held, n)), shifted))

    def rest(held: Element, n: Element) -> Element:
        return held - n * _f(approximations.LN2_HIGH) - n * _f(approximations.LN2_LOW)

    def of_held(held: Element) -> Element:
        return _named(held * _f(LOG2_E) + _f(TO_WHOLE), lambda shifted: of_shifted(held, shifted))

    return _named(te.max(te.min(x, _f(high)), _f(low)), of_held)


def _times_power(value: Element, shifted: Element) -> Element:
    """A number near 1 times 2 to the n, added to its exponent; `shifted` is n plus TO_WHOLE."""
    return tirx.reinterpret("float32", tirx.reinterpret("int32", value) + (tirx.reinterpret("int32", shifted) << 23))


def erf(x: Element) -> Element:
    """The error function in float32."""
    return _odd(approximations.erf(), approximations.ERF_END, x)


def tanh(x: Element) -> Element:
    """The hyperbolic tangent in float32."""
    return _odd(approximations.tanh(), approximations.TANH_END, x)


def _odd(quotient: tuple[Sequence[float], Sequence[float]], end: float, x: Element) -> Element:
    """x held within its end, times a quotient of polynomials in its square."""
    above, below = quotient

    def of_square(held: Element, square: Element) -> Element:
        return held * _polynomial(above, square) / _polynomial(below, square)

    def of_held(held: Element) -> Element:
        return _named(held * held, lambda square: of_square(held, square))

    return _named(te.max(te.min(x, _f(end)), _f(-end)), of_held)


def expm1(x: Element) -> Element:
    """exp(x) - 1 in float32; near zero a polynomial, where the difference would lose what matters."""

    def of_value(value: Element) -> Element:
        held = te.max(te.min(value, _f(approximations.EXPM1_SPLIT)), _f(-approximations.EXPM1_SPLIT))
        near = value * _polynomial_at(approximations.expm1_near(), held)
        return tirx.Select(te.abs(value) < _f(approximations.EXPM1_SPLIT), near, exp(value) - _f(1.0))

    return _named(x, of_value)


ROOT_OF_HALF = 0x3F3504F3
"""The bits of the float32 next to the root of 1/2."""


def log(x: Element) -> Element:
    """The natural logarithm in float32: the exponent by its bits, and a polynomial of what is left."""

    def of_value(value: Element) -> Element:
        return _named(tirx.reinterpret("int32", value) - ROOT_OF_HALF, lambda bits: of_bits(value, bits), "int32")

    def of_bits(value: Element, bits: Element) -> Element:
        rest = tirx.reinterpret("float32", (bits & 0x7FFFFF) + ROOT_OF_HALF) - _f(1.0)
        exponent = (bits >> 23).astype("float32")
        finite = _named(rest, lambda t: _named(exponent, lambda n: of_parts(t, n)))
        outside = tirx.Select(value < _f(0.0), _f(math.nan), _f(-math.inf))
        positive = tirx.Select(value < _f(math.inf), finite, value)
        return tirx.Select(value > _f(0.0), positive, tirx.Select(te.isnan(value), value, outside))

    def of_parts(t: Element, n: Element) -> Element:
        cube = t * t * t * _polynomial_at(approximations.log_near(), t)
        return n * _f(approximations.LN2_HIGH) + (t + (cube - _f(0.5) * t * t + n * _f(approximations.LN2_LOW)))

    return _named(x, of_value)


def log1p(x: Element) -> Element:
    """log(1 + x) in float32, corrected by what the sum lost."""

    def of_value(value: Element) -> Element:
        return _named(value + _f(1.0), lambda total: corrected(value, total))

    def corrected(value: Element, total: Element) -> Element:
        known = tirx.And(total > _f(0.0), total < _f(math.inf))
        return log(total) + tirx.Select(known, (value - (total - _f(1.0))) / total, _f(0.0))

    return _named(x, of_value)


def logistic(x: Element) -> Element:
    """1 / (1 + exp(-x)) in float32. The power is one of 2: what a large one loses by that is nothing beside the largest result."""
    end = approximations.LOGISTIC_END

    def of_shifted(held: Element, shifted: Element) -> Element:
        return _named(shifted - _f(TO_WHOLE), lambda n: _polynomial_at(approximations.exp2(), held * _f(-LOG2_E) - n))

    def of_held(held: Element) -> Element:
        return _named(held * _f(-LOG2_E) + _f(TO_WHOLE), lambda shifted: _times_power(of_shifted(held, shifted), shifted))

    return _f(1.0) / (_f(1.0) + _named(te.max(te.min(x, _f(end)), _f(-end)), of_held))


def _f(value: float) -> Element:
    return tirx.const(value, "float32")


def _single(name: str, function: Callable[[Element], Element]) -> Rule:
    """A function of one float32; shorter numbers go through it."""

    def rule(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
        if dtype in ("float16", "bfloat16"):
            return function(operands[0].astype("float32")).astype(dtype)
        if dtype != "float32":
            raise NotLowerable(name, f"on {dtype}; only float32 and shorter have a rule")
        return function(operands[0])

    return rule


def _plain(function: Callable[..., Element]) -> Rule:
    """A rule that needs the operands alone."""
    return lambda operands, params, dtype: function(*operands)


def _integer_power(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    exponent = int(params["y"])
    result = tirx.const(1, dtype)
    for _ in range(abs(exponent)):
        result = result * operands[0]
    return result if exponent >= 0 else tirx.const(1, dtype) / result


def _power(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    x, y = operands
    return te.power(x, y if params["_inputs"][1] == dtype else y.astype(dtype))


def _select(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    which, *cases = operands
    if params["_inputs"][0] == "bool":
        return tirx.Select(which, cases[1], cases[0])
    result = cases[-1]
    for index in reversed(range(len(cases) - 1)):
        result = tirx.Select(which == tirx.const(index, "int32"), cases[index], result)
    return result


def _clamp(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    low, x, high = operands
    return te.min(te.max(x, low), high)


def _convert(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    if dtype == "bool":
        return x != tirx.const(0, params["_inputs"][0])
    return x.astype(dtype)


def _sign(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    zero, one = tirx.const(0, dtype), tirx.const(1, dtype)
    if dtype.startswith("uint"):
        return tirx.Select(x > zero, one, zero)
    return tirx.Select(x > zero, one, tirx.Select(x < zero, zero - one, x))


def _negative(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    # Zero less zero would lose the sign.
    return tirx.const(-1, dtype) * operands[0] if dtype.startswith("float") else tirx.const(0, dtype) - operands[0]


def _divide(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    x, y = operands
    return x / y if dtype.startswith("float") else tirx.truncdiv(x, y)


def _remainder(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    x, y = operands
    # LLVM has no vector form of fmod.
    return x - te.trunc(x / y) * y if dtype.startswith("float") else tirx.truncmod(x, y)


def _logical(on_bool: Callable[..., Element], on_bits: Callable[..., Element]) -> Rule:
    return lambda operands, params, dtype: (on_bool if dtype == "bool" else on_bits)(*operands)


def _differ(x: Element, y: Element) -> Element:
    """Whether two truth values differ; LLVM's comparison takes none."""
    return tirx.Or(tirx.And(x, tirx.Not(y)), tirx.And(tirx.Not(x), y))


def _equal(*, same: bool) -> Rule:
    def rule(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
        if params["_inputs"][0] == "bool":
            return tirx.Not(_differ(*operands)) if same else _differ(*operands)
        if params["_alone"] and params["_inputs"][0].startswith("float"):
            return tirx.Not(te.isnan(operands[0])) if same else te.isnan(operands[0])
        return tirx.EQ(*operands) if same else tirx.NE(*operands)

    return rule


def _round(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    if "EVEN" in str(params["rounding_method"]):
        return te.nearbyint(x)
    # LLVM has no vector form of rounding halves away from zero.
    return te.trunc(x + tirx.Select(x < tirx.const(0, dtype), tirx.const(-0.5, dtype), tirx.const(0.5, dtype)))


def _shift(*, left: bool = False, signed: bool = False) -> Rule:
    """Bits moved out are lost; a shift by the width or more leaves nothing, or the sign."""

    def rule(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
        x, by = operands
        bits = int(dtype.removeprefix("u").removeprefix("int"))
        width, none = tirx.const(bits, dtype), tirx.const(0, dtype)
        inside = by < width if dtype.startswith("u") else tirx.And(by >= none, by < width)
        held = tirx.Select(inside, by, none)
        if signed:
            return tirx.shift_right(x, tirx.Select(inside, by, tirx.const(bits - 1, dtype)))
        if left:
            return tirx.Select(inside, tirx.shift_left(x, held), none)
        plain = dtype if dtype.startswith("u") else f"u{dtype}"
        moved = tirx.shift_right(x.astype(plain), held.astype(plain)).astype(dtype)
        return tirx.Select(inside, moved, none)

    return rule


def _bits_of(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    (own,) = params["_inputs"]
    if np.dtype(own).itemsize != np.dtype(dtype).itemsize:
        raise NotLowerable("bitcast_convert_type", f"from {own} to {dtype}, which is of another width")
    return tirx.reinterpret(dtype, x)


def _leading_zeros(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    bits = 8 * np.dtype(dtype).itemsize
    if bits >= 32:
        return tirx.Select(x == tirx.const(0, dtype), tirx.const(bits, dtype), tirx.clz(x).astype(dtype))
    wide = x.astype(f"uint{bits}").astype("int32")
    return tirx.Select(wide == 0, tirx.const(bits, dtype), (tirx.clz(wide) - (32 - bits)).astype(dtype))


def _ones(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    (x,) = operands
    bits = 8 * np.dtype(dtype).itemsize
    return tirx.popcount(x if bits >= 32 else x.astype(f"uint{bits}").astype("uint32")).astype(dtype)


def _rsqrt(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    return tirx.const(1, dtype) / te.sqrt(operands[0])


ARITHMETIC: Mapping[str, Rule] = {
    "add": _plain(lambda x, y: x + y),
    "add_any": _plain(lambda x, y: x + y),
    "sub": _plain(lambda x, y: x - y),
    "mul": _plain(lambda x, y: x * y),
    "div": _divide,
    "rem": _remainder,
    "neg": _negative,
    "abs": _plain(te.abs),
    "sign": _sign,
    "max": _plain(te.max),
    "min": _plain(te.min),
    "clamp": _clamp,
    "square": _plain(lambda x: x * x),
    "integer_pow": _integer_power,
    "sqrt": _plain(te.sqrt),
    "rsqrt": _rsqrt,
    "floor": _plain(te.floor),
    "ceil": _plain(te.ceil),
    "convert_element_type": _convert,
    "round": _round,
    "bitcast_convert_type": _bits_of,
    "shift_left": _shift(left=True),
    "shift_right_logical": _shift(),
    "shift_right_arithmetic": _shift(signed=True),
    "clz": _leading_zeros,
    "population_count": _ones,
}
TRANSCENDENTAL: Mapping[str, Rule] = {
    "exp": _single("exp", exp),
    "exp2": _single("exp2", lambda x: exp(x * _f(0.6931471805599453))),
    "expm1": _single("expm1", expm1),
    "log": _single("log", log),
    "log1p": _single("log1p", log1p),
    "pow": _power,
    "tanh": _single("tanh", tanh),
    "logistic": _single("logistic", logistic),
    "erf": _single("erf", erf),
    "erfc": _single("erfc", lambda x: _f(1.0) - erf(x)),
    "sin": _plain(te.sin),
    "cos": _plain(te.cos),
}
COMPARISON: Mapping[str, Rule] = {
    "eq": _equal(same=True),
    "ne": _equal(same=False),
    "lt": _plain(lambda x, y: tirx.LT(x, y)),
    "le": _plain(lambda x, y: tirx.LE(x, y)),
    "gt": _plain(lambda x, y: tirx.GT(x, y)),
    "ge": _plain(lambda x, y: tirx.GE(x, y)),
    "and": _logical(tirx.And, lambda x, y: x & y),
    "or": _logical(tirx.Or, lambda x, y: x | y),
    "xor": _logical(_differ, lambda x, y: x ^ y),
    "not": _logical(tirx.Not, lambda x: ~x),
    "is_finite": _plain(te.isfinite),
    "select_n": _select,
}
RULES: Mapping[str, Rule] = {**ARITHMETIC, **TRANSCENDENTAL, **COMPARISON}
