"""Facts about values that hold whatever the data: bands outside of which a value is zero or minus infinity.

A causal mask makes attention read earlier positions only, though every score enters its sum: the masked ones enter as zero. A
`Band` says so, and a rule that sums along an axis can leave out what is known to vanish. Entries of -1e9 or less in a
constant count as minus infinity, because that is how masks are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from properties.jaxpr import Equation

MINUS_INFINITY = -1e9
FARTHEST = 40
"""Steps that a band is followed back at most."""


@dataclass(frozen=True, slots=True)
class Band:
    """The value vanishes unless low ≤ q[second] - q[first] ≤ high; there it is zero, or minus infinity."""

    first: int
    second: int
    low: int
    high: int
    zero: bool

    def seen_from(self, summed: int) -> tuple[int, int, int] | None:
        """For a sum along an axis: the other axis p, and the first and last k - q[p] for which the summed index k counts."""
        if summed == self.second:
            return self.first, self.low, self.high
        if summed == self.first:
            return self.second, -self.high, -self.low
        return None


Operand = Callable[[int], Band | None]
Constant = Callable[[int], np.ndarray | None]


def band_of_constant(values: np.ndarray, zero: bool) -> Band | None:
    """The band outside of which all entries are zero, or at most -1e9."""
    if values.ndim < 2 or values.dtype.kind not in "fiub":
        return None
    kept = values != 0 if zero else values > MINUS_INFINITY
    return _band(kept, zero)


def _band(kept: np.ndarray, zero: bool) -> Band | None:
    """The narrowest band that holds every kept entry, if its axes are the only ones that matter."""
    if kept.all() or not kept.any():
        return None
    varying = [axis for axis in range(kept.ndim) if (kept != np.take(kept, [0], axis=axis)).any()]
    if len(varying) != 2:
        return None
    first, second = varying
    others = tuple(0 if axis not in varying else slice(None) for axis in range(kept.ndim))
    rows, columns = np.nonzero(kept[others])
    low, high = int((columns - rows).min()), int((columns - rows).max())
    if low <= 1 - kept.shape[first] and high >= kept.shape[second] - 1:
        return None
    return Band(first, second, low, high, zero)


def band(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """The band of an equation's result, from those of its operands."""
    rule = _RULES.get(equation.primitive)
    return None if rule is None else rule(equation, operand, constant)


def _kept(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    return operand(0)


def _exponential(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """exp(-∞) = 0"""
    found = operand(0)
    return replace(found, zero=True) if found is not None and not found.zero else None


def _sum(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """-∞ plus anything finite; a constant operand may be the mask."""
    for k in (0, 1) if equation.primitive != "sub" else (0,):
        if equation.input_types[k].shape != equation.output_types[0].shape:
            found = _spread(equation, k, constant, zero=False)
        else:
            found = operand(k) or _constant_band(constant(k), zero=False)
        if found is not None and not found.zero:
            return found
    return None


def _spread(equation: Equation, k: int, constant: Constant, zero: bool) -> Band | None:
    """A constant mask that is broadcast over axes of size 1."""
    type_ = equation.input_types[k]
    if len(type_.shape) != len(equation.output_types[0].shape):
        return None
    return _constant_band(constant(k), zero)


def _constant_band(values: np.ndarray | None, zero: bool) -> Band | None:
    return None if values is None else band_of_constant(values, zero)


def _product(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """Zero times anything; -∞ times a positive constant."""
    for k in (0, 1):
        if equation.input_types[k].shape != equation.output_types[0].shape:
            found = _spread(equation, k, constant, zero=True)
        else:
            found = operand(k) or _constant_band(constant(k), zero=True)
        if found is None:
            continue
        other = None if found.zero else constant(1 - k)
        if found.zero or (other is not None and bool((other > 0).all())):
            return found
    return None


def _quotient(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    found = operand(0) if equation.input_types[0] == equation.output_types[0] else None
    if found is None or found.zero:
        return found
    divisor = constant(1)
    return found if divisor is not None and bool((divisor > 0).all()) else None


def _choice(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """A constant mask that chooses between a value and a constant zero or minus infinity."""
    if len(equation.inputs) != 3:
        return None
    mask = constant(0)
    if mask is None or mask.ndim < 2 or mask.dtype != bool:
        return None
    for k, kept in ((1, ~mask), (2, mask)):
        fill = constant(3 - k)
        if fill is None or fill.size == 0:
            continue
        if (fill == 0).all():
            return _band(kept, zero=True)
        if (fill <= MINUS_INFINITY).all():
            return _band(kept, zero=False)
    return None


def _broadcast(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    found, places = operand(0), equation.params["broadcast_dimensions"]
    return None if found is None else _moved(found, dict(enumerate(places)))


def _transposed(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    found, order = operand(0), tuple(equation.params["permutation"])
    return None if found is None else _moved(found, {axis: order.index(axis) for axis in range(len(order))})


def _reshaped(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """Axes of size 1 come and go."""
    before, after = equation.input_types[0].shape, equation.output_types[0].shape
    kept = [axis for axis, size in enumerate(before) if size != 1]
    places = [axis for axis, size in enumerate(after) if size != 1]
    if [before[axis] for axis in kept] != [after[axis] for axis in places]:
        return None
    found = operand(0)
    return None if found is None else _moved(found, dict(zip(kept, places, strict=True)))


def _moved(found: Band, places: Mapping[int, int]) -> Band:
    return replace(found, first=places[found.first], second=places[found.second])


def _maximum(equation: Equation, operand: Operand, constant: Constant) -> Band | None:
    """The larger of -∞ and a masked value."""
    for k in (0, 1):
        other = constant(1 - k)
        if other is not None and bool((other <= MINUS_INFINITY).all()):
            found = operand(k)
            return found if found is not None and not found.zero else None
    return None


_RULES: Mapping[str, Callable[[Equation, Operand, Constant], Band | None]] = {
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "convert_element_type", "reduce_precision", "name"), _kept),
    **dict.fromkeys(("exp", "exp2", "logistic"), _exponential),
    **dict.fromkeys(("add", "add_any", "sub"), _sum),
    "mul": _product,
    "div": _quotient,
    "select_n": _choice,
    "broadcast_in_dim": _broadcast,
    "transpose": _transposed,
    "max": _maximum,
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshaped),
}
