"""Quasi-affine sets of positions: which positions of one axis an element of a value can depend on.

A `Term` maps an element's index q to the positions

    offset + Σ coefficient·u(q) + Σ step·t,    0 ≤ t < count for each window (step, count),

inside the axis, where each factor u(q) = ((scale·q[axis] + shift) // divisor) % modulus, as in MLIR's affine maps (modulus
0: none). A guard (axis, first, end) says that the term holds only for first ≤ q[axis] < end; elsewhere it gives no positions.
All arithmetic is on integers and never enumerates an axis.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import NamedTuple

MOST_WINDOWS = 3


class Factor(NamedTuple):
    """coefficient · (((scale·q[axis] + shift) // divisor) % modulus)"""

    coefficient: int
    axis: int
    scale: int = 1
    shift: int = 0
    divisor: int = 1
    modulus: int = 0


class Term(NamedTuple):
    """One set of positions, as the module says."""

    offset: int = 0
    factors: tuple[Factor, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()
    guards: tuple[tuple[int, int, int], ...] = ()


def at(axis: int, offset: int = 0, coefficient: int = 1, windows: tuple[tuple[int, int], ...] = ()) -> Term:
    """The positions offset + coefficient·q[axis], widened by windows."""
    return Term(offset, (Factor(coefficient, axis),), windows)


def whole(size: int) -> Term:
    """Every position of an axis."""
    return Term(0, (), ((1, size),) if size > 1 else ())


def guarded(term: Term, axis: int, first: int, end: int) -> Term:
    """The term, holding only for first ≤ q[axis] < end."""
    return term._replace(guards=(*term.guards, (axis, first, end)))


def digit_range(factor: Factor, size: int) -> tuple[int, int]:
    """Smallest and largest value of u(q) for an axis of `size` positions."""
    ends = (factor.shift, factor.scale * (size - 1) + factor.shift)
    low, high = min(ends) // factor.divisor, max(ends) // factor.divisor
    if not factor.modulus:
        return low, high
    if low // factor.modulus == high // factor.modulus:
        return low % factor.modulus, high % factor.modulus
    return 0, factor.modulus - 1


def factor_range(factor: Factor, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Smallest and largest value of coefficient · u(q)."""
    low, high = digit_range(factor, sizes[factor.axis])
    a, b = factor.coefficient * low, factor.coefficient * high
    return (a, b) if a <= b else (b, a)


def base_range(term: Term, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Bounds of offset + Σ factors."""
    low = high = term.offset
    for factor in term.factors:
        a, b = factor_range(factor, sizes)
        low, high = low + a, high + b
    return low, high


def extent(windows: tuple[tuple[int, int], ...]) -> int:
    """Largest value of Σ step·t."""
    return sum([step * (count - 1) for step, count in windows])


def full_range(term: Term, sizes: tuple[int, ...]) -> tuple[int, int]:
    """Bounds of the positions, before they are cut to the axis."""
    low, high = base_range(term, sizes)
    return low, high + extent(term.windows)


def merge_windows(windows: tuple[tuple[int, int], ...]) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Equal windows in normal form, with the offset that negative steps cost; wider than given only where there are too many."""
    offset = 0
    parts = []
    for step, count in windows:
        if step < 0:
            offset += step * (count - 1)
            step = -step
        if count > 1 and step:
            parts.append((step, count))
    parts.sort()
    merged: list[tuple[int, int]] = []
    for step, count in parts:
        if merged:
            below, reach = merged[-1]
            if step % below == 0 and step // below <= reach:
                merged[-1] = (below, reach + (step // below) * (count - 1))
                continue
        merged.append((step, count))
    if len(merged) > MOST_WINDOWS:
        common = 0
        for step, _ in merged:
            common = gcd(common, step)
        merged = [(common, sum(step * (count - 1) for step, count in merged) // common + 1)]
    return offset, tuple(merged)


def _canonical_factor(factor: Factor, sizes: tuple[int, ...]) -> tuple[int, Factor | None]:
    """An equal offset and factor: constants folded, divisions cancelled, no idle modulus."""
    coefficient, axis, scale, shift, divisor, modulus = factor
    size = sizes[axis]
    low, high = digit_range(factor, size)
    if low == high or not coefficient:
        return coefficient * low, None
    if modulus:
        whole_low = min(shift, scale * (size - 1) + shift) // divisor
        whole_high = max(shift, scale * (size - 1) + shift) // divisor
        block = whole_low // modulus
        if block != whole_high // modulus:
            return 0, factor
        offset, inner = _canonical_factor(Factor(coefficient, axis, scale, shift, divisor), sizes)
        return offset - coefficient * block * modulus, inner
    turns, shift = divmod(shift, divisor)
    offset = coefficient * turns
    if divisor > 1:
        common = gcd(scale, divisor)
        if common > 1:
            scale, shift, divisor = scale // common, shift // common, divisor // common
    if divisor == 1:
        return offset + coefficient * shift, Factor(coefficient * scale, axis)
    return offset, Factor(coefficient, axis, scale, shift, divisor)


def _combine_digits(factors: list[Factor]) -> list[Factor]:
    """Neighbouring digits of one axis as one: d·((q // d·k) % m) + (q // k) % d is (q // k) % (d·m)."""
    found = True
    while found:
        found = False
        for low in factors:
            if not low.modulus or low.scale != 1 or low.shift:
                continue
            for high in factors:
                if (
                    high is not low
                    and high.axis == low.axis
                    and high.coefficient == low.coefficient * low.modulus
                    and high.scale == 1
                    and not high.shift
                    and high.divisor == low.divisor * low.modulus
                ):
                    factors = [factor for factor in factors if factor is not low and factor is not high]
                    factors.append(low._replace(modulus=low.modulus * high.modulus))
                    found = True
                    break
            if found:
                break
    return factors


def _canonical_factors(factors: tuple[Factor, ...], sizes: tuple[int, ...]) -> tuple[int, tuple[Factor, ...]]:
    offset = 0
    coefficients: dict[tuple[int, ...], int] = {}
    for factor in factors:
        fold, kept = _canonical_factor(factor, sizes)
        offset += fold
        if kept is not None:
            coefficients[kept[1:]] = coefficients.get(kept[1:], 0) + kept.coefficient
    result = [Factor(coefficient, *rest) for rest, coefficient in coefficients.items() if coefficient]
    if len(result) > 1:
        combined = _combine_digits(result)
        if combined is not result:
            fold, done = _canonical_factors(tuple(combined), sizes)
            return offset + fold, done
    return offset, tuple(sorted(result, key=lambda factor: factor[1:]))


def _canonical_guards(guards: tuple[tuple[int, int, int], ...], sizes: tuple[int, ...]) -> tuple[tuple[int, int, int], ...] | None:
    """One guard an axis, none that always holds; None if the guards exclude every index."""
    ranges: dict[int, tuple[int, int]] = {}
    for axis, first, end in guards:
        before = ranges.get(axis, (0, sizes[axis]))
        ranges[axis] = max(before[0], first), min(before[1], end)
    if any(first >= end for first, end in ranges.values()):
        return None
    return tuple(sorted((axis, first, end) for axis, (first, end) in ranges.items() if (first, end) != (0, sizes[axis])))


@lru_cache(maxsize=1 << 16)
def canonical(term: Term, size: int, sizes: tuple[int, ...]) -> Term | None:
    """An equal term in normal form for an axis of `size` positions and indices within `sizes`; None if it has no positions."""
    guards = _canonical_guards(term.guards, sizes) if term.guards else ()
    if guards is None:
        return None
    fold, factors = _canonical_factors(term.factors, sizes) if term.factors else (0, ())
    shift, windows = merge_windows(term.windows) if term.windows else (0, ())
    term = Term(term.offset + fold + shift, factors, windows, guards)
    low, high = base_range(term, sizes)
    last = high + extent(windows)
    if last < 0 or low >= size:
        return None
    if size == 1:
        return Term(0, (), (), guards)
    if len(windows) == 1:
        term = _cut_window(term, low, high, size)
        if term.windows == ((1, size),) and term.offset == 0 and not term.factors:
            return term
        low, high = base_range(term, sizes)
    if term.windows and term.windows[0][0] == 1 and high <= 0 and low + term.windows[0][1] >= size:
        return Term(0, (), ((1, size),), guards)
    return term


def _cut_window(term: Term, low: int, high: int, size: int) -> Term:
    """The term without the window positions that no index brings into the axis."""
    step, count = term.windows[0]
    skipped = max(0, (-high + step - 1) // step) if high < 0 else 0
    beyond = low + step * (count - 1) - (size - 1)
    dropped = max(0, (beyond + step - 1) // step) if beyond > 0 else 0
    kept = count - skipped - dropped
    if kept == count:
        return term
    windows = ((step, kept),) if kept > 1 else ()
    return term._replace(offset=term.offset + step * skipped, windows=windows)
