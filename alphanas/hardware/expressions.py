"""Element-wise steps as TVM expressions: one small function per primitive, from the operands' elements to the result's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    return rule(operands, {**step.params, "_inputs": types}, flat.types[step.output].dtype)


def _polynomial(coefficients: Sequence[float], x: Element) -> Element:
    total = tirx.const(coefficients[-1], "float32")
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + tirx.const(coefficient, "float32")
    return total


def _polynomial_at(coefficients: Sequence[float], x: Element) -> Element:
    return _named(x, lambda value: _polynomial(coefficients, value))


def _named(x: Element, function: Callable[[Element], Element]) -> Element:
    """`function(x)` with x computed once: an expression that is used many times would be written out as often."""
    variable = tirx.Var("value", "float32")
    return tirx.Let(variable, x, function(variable))


def exp(x: Element) -> Element:
    """e to the x in float32: 2 to the n by its bits, times a polynomial in what is left."""
    low, high = approximations.EXP_RANGE

    def of_exponent(held: Element, n: Element) -> Element:
        rest = held - n * _f(approximations.LN2_HIGH) - n * _f(approximations.LN2_LOW)
        power = tirx.reinterpret("float32", (n.astype("int32") + 127) << 23)
        return _polynomial_at(approximations.exp(), rest) * power

    def of_held(held: Element) -> Element:
        return _named(te.floor(held * _f(1.4426950408889634) + _f(0.5)), lambda n: of_exponent(held, n))

    return _named(te.max(te.min(x, _f(high)), _f(low)), of_held)


def erf(x: Element) -> Element:
    """The error function in float32."""

    def of_value(value: Element) -> Element:
        size = te.min(te.abs(value), _f(approximations.ERF_END))
        square = te.min(value * value, _f(approximations.ERF_SPLIT**2))
        near = value * _polynomial_at(approximations.erf_near(), square)
        at = te.max(size, _f(approximations.ERF_SPLIT))
        far = _f(1.0) - exp(_f(0.0) - at * at) * _polynomial_at(approximations.erf_far(), at - _f(2.5))
        return tirx.Select(size < _f(approximations.ERF_SPLIT), near, _signed(value, far))

    return _named(x, of_value)


def tanh(x: Element) -> Element:
    """The hyperbolic tangent in float32."""

    def of_value(value: Element) -> Element:
        size = te.abs(value)
        square = te.min(value * value, _f(approximations.TANH_SPLIT**2))
        near = value * _polynomial_at(approximations.tanh_near(), square)
        far = _f(1.0) - _f(2.0) / (exp(_f(2.0) * te.min(size, _f(10.0))) + _f(1.0))
        return tirx.Select(size < _f(approximations.TANH_SPLIT), near, _signed(value, far))

    return _named(x, of_value)


def _signed(sign: Element, size: Element) -> Element:
    return _named(size, lambda value: tirx.Select(sign < _f(0.0), _f(0.0) - value, value))


def logistic(x: Element) -> Element:
    """1 / (1 + exp(-x)) in float32."""
    return _f(1.0) / (_f(1.0) + exp(_f(0.0) - x))


def _f(value: float) -> Element:
    return tirx.const(value, "float32")


def _single(name: str, function: Callable[[Element], Element]) -> Rule:
    """A function of one float32 that has no other dtype."""

    def rule(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
        if dtype != "float32":
            raise NotLowerable(name, f"on {dtype}; only float32 has a rule")
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
    return tirx.Select(x > zero, one, tirx.Select(x < zero, zero - one, x))


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
        return tirx.EQ(*operands) if same else tirx.NE(*operands)

    return rule


def _rsqrt(operands: Sequence[Element], params: Mapping[str, Any], dtype: str) -> Element:
    return tirx.const(1, dtype) / te.sqrt(operands[0])


ARITHMETIC: Mapping[str, Rule] = {
    "add": _plain(lambda x, y: x + y),
    "add_any": _plain(lambda x, y: x + y),
    "sub": _plain(lambda x, y: x - y),
    "mul": _plain(lambda x, y: x * y),
    "div": _divide,
    "rem": _remainder,
    "neg": lambda operands, params, dtype: tirx.const(0, dtype) - operands[0],
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
    "reduce_precision": _plain(lambda x: x),
}
TRANSCENDENTAL: Mapping[str, Rule] = {
    "exp": _single("exp", exp),
    "exp2": _single("exp2", lambda x: exp(x * _f(0.6931471805599453))),
    "expm1": _single("expm1", lambda x: exp(x) - _f(1.0)),
    "log": _plain(te.log),
    "log1p": _single("log1p", lambda x: te.log(x + _f(1.0))),
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
