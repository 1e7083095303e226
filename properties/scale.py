"""Scale: what becomes of the output when the input is multiplied by a constant.

A value of degree k is multiplied by cᵏ when all inputs are multiplied by c > 0; degree 0 is unchanged. A value that is not
homogeneous may still be known to grow no faster than some power: its growth. This tells a normalized residual stream (growth 1 at
the sum, 0 after its norm) from one that multiplies itself up. Constants of at most `EPSILON` that are added count as zero, because
that is how norms avoid dividing by zero. Both figures err upwards: a degree is claimed only if it holds, growth is never below the
true one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import numpy as np

from properties.inference import Inference, traced
from properties.interpreter import Context, interpret
from properties.property import Property
from properties.shape import Shape
from properties.walked import Question, WalkedProperty

EPSILON = 1e-3
UNLIMITED = Fraction(10**6)
"""Growth that no power bounds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Degree of homogeneity (None: not homogeneous), and the power that growth does not exceed."""

    degree: Fraction | None
    growth: Fraction
    data: bool = True

    def __str__(self) -> str:
        if self.degree is None:
            return "grows without bound" if self.growth >= UNLIMITED else f"not homogeneous, grows at most by power {self.growth}"
        return (
            {0: "none", 1: "linear"}.get(int(self.degree), f"degree {self.degree}")
            if self.degree.denominator == 1
            else (f"degree {self.degree}")
        )


NO_DATA = Scale(Fraction(0), Fraction(0), data=False)
NOTHING_KNOWN = Scale(None, UNLIMITED)


def of_degree(degree: Fraction) -> Scale:
    return Scale(degree, degree)


def scale(function: Callable[..., Any], *arguments: Any, params: Any = None) -> tuple[Scale, ...]:
    """For every output how it scales when all data arguments are multiplied by one constant."""
    program, held = traced(function, *arguments, params=params)
    inputs = [NO_DATA] * held + [of_degree(Fraction(1))] * (program.input_count - held)
    return tuple(interpret(program, ScaleAnalysis(), inputs))


def _sum(operands: Sequence[Scale]) -> Scale:
    """Parts of one degree keep it; others grow as the fastest."""
    degrees = {operand.degree for operand in operands}
    growth = max(operand.growth for operand in operands)
    return Scale(degrees.pop() if len(degrees) == 1 else None, growth)


def _product(operands: Sequence[Scale]) -> Scale:
    growth = min(UNLIMITED, sum((operand.growth for operand in operands), Fraction(0)))
    known = [operand.degree for operand in operands if operand.degree is not None]
    return Scale(sum(known, Fraction(0)) if len(known) == len(operands) else None, growth)


def _power(operand: Scale, exponent: Fraction) -> Scale:
    if operand.degree is not None:
        return of_degree(operand.degree * exponent)
    return Scale(None, min(UNLIMITED, operand.growth * exponent)) if exponent >= 0 else NOTHING_KNOWN


def _quotient(operands: Sequence[Scale]) -> Scale:
    above, below = operands
    if below.degree is None:
        return NOTHING_KNOWN
    degree = None if above.degree is None else above.degree - below.degree
    return Scale(degree, above.growth if above.growth >= UNLIMITED else above.growth - below.degree)


def _function(operand: Scale, growth: Fraction) -> Scale:
    """A function without degree, such as tanh: unchanged where its argument is."""
    if operand.degree == 0:
        return of_degree(Fraction(0))
    return Scale(None, growth)


BOUNDED = frozenset({"tanh", "logistic", "sin", "cos", "erf", "erfc", "atan", "atan2", "is_finite", "eq", "ne", "and", "or", "not"})
SLOW = frozenset({"log1p", "asinh", "round", "floor", "ceil", "log"})
POWERS = {"sqrt": Fraction(1, 2), "rsqrt": Fraction(-1, 2), "square": Fraction(2), "cbrt": Fraction(1, 3)}
KEPT = frozenset(
    {"neg", "abs", "reduce_sum", "reduce_max", "reduce_min", "reduce_window_sum", "reduce_window_max", "cumsum", "cummax", "cummin",
     "reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev", "split", "tile", "copy", "copy_p",
     "stop_gradient", "convert_element_type", "real", "imag", "conj", "fft", "sort", "reduce_precision", "unstack"}
)  # fmt: skip
SUMS = frozenset({"add", "sub", "add_any", "max", "min", "concatenate", "pad", "clamp", "complex", "stack", "reduce_window_min"})
PRODUCTS = frozenset({"mul", "dot_general", "conv_general_dilated"})
INDEXED = {"gather": 1, "dynamic_slice": 1}
CALLS: dict[str, Scale] = {
    **dict.fromkeys(("layer_norm", "group_norm", "rms_norm", "instance_norm", "standardize"), of_degree(Fraction(0))),
    **dict.fromkeys(("softmax", "_softmax", "sigmoid", "hard_sigmoid", "hard_tanh", "soft_sign"), Scale(None, Fraction(0))),
    **dict.fromkeys(("gelu", "silu", "swish", "softplus", "elu", "celu", "selu", "mish", "log_softmax", "logsumexp", "hard_silu"),
                    Scale(None, Fraction(1))),
}  # fmt: skip
"""Named functions: what they do to an argument of degree 1; to one of degree 0, nothing."""


@dataclass(frozen=True)
class ScaleAnalysis:
    """The walker's view of scale."""

    def constant(self) -> Scale:
        return NO_DATA

    def depends(self, value: Scale) -> bool:
        return value.data

    def join(self, first: Scale, second: Scale) -> Scale:
        return first if first == second else _sum([first, second])

    def decide(self, value: Scale, decision: Shape, result: Shape) -> Scale:
        return of_degree(Fraction(0)) if value.degree == 0 else NOTHING_KNOWN

    def unstack(self, value: Scale, stacked: Shape) -> Scale:
        return value

    def stack(self, value: Scale, stacked: Shape) -> Scale:
        return value

    def settle(self, before: Scale, after: Scale, left: int | None, type_: Shape) -> Scale:
        return after if before == after else NOTHING_KNOWN

    def shortcut(self, context: Context, operands: Sequence[Scale]) -> list[Scale] | None:
        name = context.equation.name
        if name not in CALLS or len(context.equation.outputs) != 1:
            return None
        (argument,) = [operand for operand in operands if operand.data][:1]
        if argument.degree == 0:
            return [of_degree(Fraction(0))]
        known = CALLS[name]
        if known.degree is not None:
            return [known if argument.degree is not None else NOTHING_KNOWN]
        return [Scale(None, min(UNLIMITED, known.growth * max(argument.growth, Fraction(0))))]

    def transfer(self, context: Context, operands: Sequence[Scale]) -> list[Scale]:
        result = _equation(context, operands)
        return [Scale(result.degree, result.growth)] * len(context.equation.outputs)


def _equation(context: Context, operands: Sequence[Scale]) -> Scale:
    name, params = context.equation.primitive, context.equation.params
    if name == "convert_element_type" and "int" in context.equation.output_types[0].dtype:
        return _function(operands[0], operands[0].growth)
    if name in KEPT:
        return operands[0] if len(operands) == 1 else _sum(operands)
    if name in SUMS:
        return _sum(_but_zeros(context, operands))
    if name in PRODUCTS:
        return _product(operands)
    if name == "div":
        return _quotient(operands)
    if name in POWERS:
        return _power(operands[0], POWERS[name])
    if name == "integer_pow":
        return _power(operands[0], Fraction(params["y"]))
    if name in INDEXED:
        fixed = all(operand.degree == 0 for operand in operands[INDEXED[name] :])
        return operands[0] if fixed else Scale(None, operands[0].growth)
    return _nonlinear(name, context, operands)


def _nonlinear(name: str, context: Context, operands: Sequence[Scale]) -> Scale:
    if name in ("sign", "argmax", "argmin"):
        return of_degree(Fraction(0)) if operands[0].degree is not None else Scale(None, Fraction(0))
    if name in ("gt", "ge", "lt", "le"):
        compared = _sum(_but_zeros(context, operands))
        return Scale(Fraction(0) if compared.degree is not None else None, Fraction(0))
    if name == "select_n":
        chosen = None if operands[0].data else context.constant(0)
        if chosen is not None and chosen.size and (chosen == chosen.flat[0]).all():
            return operands[1 + int(chosen.flat[0])]
        cases = _sum(_but_zeros(context, operands, first=1))
        return cases if operands[0].degree == 0 else Scale(None, cases.growth)
    if name == "exp" or name == "exp2":
        return _function(operands[0], UNLIMITED)
    if name in BOUNDED:
        return _sum([_function(operand, Fraction(0)) for operand in operands])
    if name in SLOW:
        return _function(operands[0], max(Fraction(0), operands[0].growth))
    if all(operand.degree == 0 for operand in operands):
        return of_degree(Fraction(0))
    return NOTHING_KNOWN


def _but_zeros(context: Context, operands: Sequence[Scale], first: int = 0) -> list[Scale]:
    """The terms of a sum without those that are zero, or as good as zero: they have every degree."""
    kept = []
    for k, operand in enumerate(operands[first:], first):
        if not operand.data:
            value = context.constant(k)
            if value is not None and value.size and _negligible(value):
                continue
        kept.append(operand)
    return kept or [of_degree(Fraction(0))]


def _negligible(value: np.ndarray) -> bool:
    if value.dtype.kind not in "fiub":
        return False
    return bool((np.abs(value) <= EPSILON).all() or np.isneginf(value.astype(np.float64)).all())


@dataclass(frozen=True, slots=True)
class ScaleRequirement:
    """An output grows at most by a power of one input's scale, and is homogeneous if that is asked, the other inputs staying.

    Distance: 1 - 1 / (1 + excess of the growth), which is 1 where no power bounds it; if a degree is asked for, the mean of this
    and of whether it is missing (`parts` is 2, also after that was relaxed).
    """

    growth: Fraction
    homogeneous: bool = False
    input: int = 0
    output: int = 0
    parts: int = 1
    kind = "scale"

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", max(self.parts, 1 + self.homogeneous))

    @classmethod
    def of(cls, inference: Inference, input: int = 0, output: int = 0) -> Self:
        """What a program already has."""
        found = inference.relation("scale", input, output)
        return cls(found.growth, found.degree is not None, input, output)

    def reads(self) -> tuple[Property, ...]:
        return (SCALE,)

    def distance(self, inference: Inference) -> float:
        found = inference.relation("scale", self.input, self.output)
        excess = max(Fraction(0), found.growth - self.growth)
        missing = self.homogeneous and found.degree is None
        return (float(1 if excess and found.growth >= UNLIMITED else 1 - 1 / (1 + excess)) + missing) / self.parts

    def met(self, inference: Inference) -> bool:
        return self.distance(inference) == 0

    def mutate(self, rng: np.random.Generator) -> ScaleRequirement:
        """One power more or less, or the degree asked for or not."""
        if rng.random() < 0.25:
            return ScaleRequirement(self.growth, not self.homogeneous, self.input, self.output)
        return replace(self, growth=self.growth + int(rng.choice([-1, 1])))

    def relax(self, rng: np.random.Generator) -> ScaleRequirement:
        """The degree not asked for any more, or one power more."""
        if self.homogeneous and rng.random() < 0.5:
            return replace(self, homogeneous=False)
        return replace(self, growth=self.growth + 1)

    def tighten(self, rng: np.random.Generator) -> ScaleRequirement:
        """One power less."""
        return replace(self, growth=self.growth - 1)

    def to_json(self) -> dict[str, Any]:
        asked = {"growth": str(self.growth), "homogeneous": self.homogeneous, "parts": self.parts}
        return {"kind": self.kind, **asked, "input": self.input, "output": self.output}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        places = data.get("input", 0), data.get("output", 0)
        return cls(Fraction(str(data["growth"])), data.get("homogeneous", False), *places, data.get("parts", 1))


def _questions(shape: Shape) -> tuple[Question, ...]:
    return (Question(ScaleAnalysis(), of_degree(Fraction(1)), of_degree(Fraction(0)), NO_DATA),)


SCALE = WalkedProperty(
    name="scale",
    questions=_questions,
    read=lambda shape, answers: answers[0],
    demands=lambda inference, i, o: (ScaleRequirement.of(inference, i, o),),
)
"""What becomes of each output when one input is multiplied by a constant and the others stay."""
