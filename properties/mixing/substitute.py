"""Composition of quasi-affine sets: substituting positions on one value for an index of the next."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from properties.mixing.affine import Factor, Term, canonical, extent, factor_range, full_range

MOST_TERMS = 8


class Part(NamedTuple):
    """A factor, or a window as a factor that takes every value 0 … reach - 1."""

    coefficient: int
    factor: Factor | None
    reach: int = 0


def parts_of(term: Term) -> list[Part]:
    parts = [Part(factor.coefficient, factor) for factor in term.factors]
    return parts + [Part(step, None, count) for step, count in term.windows]


def term_of(offset: int, parts: Sequence[Part]) -> Term:
    factors = tuple([part.factor._replace(coefficient=part.coefficient) for part in parts if part.factor is not None])
    return Term(offset, factors, tuple([(part.coefficient, part.reach) for part in parts if part.factor is None]))


def _range(offset: int, parts: Sequence[Part], sizes: tuple[int, ...]) -> tuple[int, int]:
    return full_range(term_of(offset, parts), sizes)


def _between(low: int, high: int) -> tuple[int, list[Part]]:
    """Every integer from low to high."""
    return low, [Part(1, None, high - low + 1)] if high > low else []


def divided(term: Term, divisor: int, sizes: tuple[int, ...]) -> Term:
    """A term that covers {p // divisor : p in term}; guards are left out."""
    if divisor == 1:
        return term._replace(guards=())
    parts = parts_of(term)
    high = [part._replace(coefficient=part.coefficient // divisor) for part in parts if part.coefficient % divisor == 0]
    low = [part for part in parts if part.coefficient % divisor]
    turns, rest = divmod(term.offset, divisor)
    offset, quotient = _divide_low(rest, low, divisor, sizes)
    return term_of(turns + offset, high + quotient)


def _divide_low(offset: int, low: list[Part], divisor: int, sizes: tuple[int, ...]) -> tuple[int, list[Part]]:
    first, last = _range(offset, low, sizes)
    widened = _between(first // divisor, last // divisor)
    if first // divisor == last // divisor or all(part.factor is None for part in low):
        return widened
    leading = max(low, key=lambda part: abs(part.coefficient))
    rest = [part for part in low if part is not leading]
    if leading.coefficient > 0 and divisor % leading.coefficient == 0:
        rest_first, rest_last = _range(offset, rest, sizes)
        if rest_first >= 0 and rest_last < leading.coefficient:
            quotient = _divide_digit(leading, divisor // leading.coefficient)
            if quotient is not None:
                return 0, [quotient]
    factors = [part for part in low if part.factor is not None]
    if len(factors) > 1:
        return widened
    return _divide_affine(offset, factors[0], [part for part in low if part.factor is None], divisor) or widened


def _divide_digit(part: Part, divisor: int) -> Part | None:
    """u // divisor for a factor or window u, if that is again one."""
    if part.factor is None:
        return Part(1, None, (part.reach + divisor - 1) // divisor)
    factor = part.factor
    if not factor.modulus:
        return Part(1, factor._replace(divisor=factor.divisor * divisor))
    if factor.modulus % divisor:
        return None
    return Part(1, factor._replace(divisor=factor.divisor * divisor, modulus=factor.modulus // divisor))


def _divide_affine(offset: int, part: Part, windows: list[Part], divisor: int) -> tuple[int, list[Part]] | None:
    """(offset + c·u + window) // divisor, where u is affine in an index, or a floor of it if c is 1."""
    factor = part.factor
    if factor is None or factor.modulus:
        return None
    if part.coefficient != 1 and factor.divisor != 1:
        return None
    start, reach = merge_extent(windows)
    scale, shift = factor.scale * part.coefficient, factor.shift * part.coefficient
    shift += (offset + start) * factor.divisor
    result = [Part(1, Factor(1, factor.axis, scale, shift, factor.divisor * divisor))]
    if reach:
        result.append(Part(1, None, (reach + divisor - 1) // divisor + 1))
    return 0, result


def merge_extent(windows: Sequence[Part]) -> tuple[int, int]:
    """Smallest value of a sum of windows, and how far the largest lies above it."""
    steps = [part.coefficient * (part.reach - 1) for part in windows]
    return sum([step for step in steps if step < 0]), sum([abs(step) for step in steps])


def reduced(term: Term, modulus: int, sizes: tuple[int, ...]) -> Term:
    """A term that covers {p % modulus : p in term}; guards are left out, modulus 0 changes nothing."""
    if not modulus:
        return term._replace(guards=())
    first, last = full_range(term, sizes)
    if first // modulus == last // modulus:
        return term._replace(offset=term.offset - modulus * (first // modulus), guards=())
    parts = [part for part in parts_of(term) if part.coefficient % modulus]
    offset = term.offset % modulus
    first, last = _range(offset, parts, sizes)
    if first >= 0 and last < modulus:
        return term_of(offset, parts)
    return _reduce_digits(offset, parts, modulus, sizes) or Term(0, (), ((1, modulus),))


def _reduce_digits(offset: int, parts: list[Part], modulus: int, sizes: tuple[int, ...]) -> Term | None:
    leading = max(parts, key=lambda part: abs(part.coefficient))
    rest = [part for part in parts if part is not leading]
    if leading.coefficient > 0 and modulus % leading.coefficient == 0:
        rest_first, rest_last = _range(offset, rest, sizes)
        if rest_first >= 0 and rest_last < leading.coefficient:
            digit = _reduce_digit(leading, modulus // leading.coefficient)
            if digit is not None:
                return term_of(offset, [digit, *rest])
    factor = leading.factor
    if len(parts) == 1 and factor is not None and leading.coefficient == 1 and not factor.modulus:
        return Term(0, (factor._replace(coefficient=1, shift=factor.shift + offset * factor.divisor, modulus=modulus),))
    return None


def _reduce_digit(part: Part, modulus: int) -> Part | None:
    """coefficient · (u % modulus) for a factor or window u, if that is again one."""
    if part.factor is None:
        return part._replace(reach=min(part.reach, modulus))
    factor = part.factor
    if factor.modulus and factor.modulus % modulus:
        return None
    return Part(part.coefficient, factor._replace(modulus=modulus))


def _scaled(term: Term, scale: int, shift: int) -> Term:
    if scale == 1 and not shift:
        return term
    if scale == 1:
        return Term(term.offset + shift, term.factors, term.windows, term.guards)
    factors = tuple([Factor(coefficient * scale, *rest) for coefficient, *rest in term.factors])
    windows = tuple([(step * scale, count) for step, count in term.windows])
    return Term(term.offset * scale + shift, factors, windows, term.guards)


def _narrowed(term: Term, first: int, end: int, sizes: tuple[int, ...]) -> Term | None:
    """A term that covers the part of `term` in first … end - 1; None if there is none."""
    low, high = full_range(term, sizes)
    if low >= end or high < first:
        return None
    if low >= first and high < end:
        return term
    if not term.factors:
        if len(term.windows) != 1:
            return term
        step, _ = term.windows[0]
        start = max(low, low + -((low - first) // step) * step) if low < first else low
        stop = min(high, end - 1)
        if start > stop:
            return None
        count = (stop - start) // step + 1
        return Term(start, (), ((step, count),) if count > 1 else (), term.guards)
    if len(term.factors) != 1:
        return term
    factor = term.factors[0]
    if factor.modulus or abs(factor.coefficient) != 1:
        return _narrowed_by_stride(term, first, end)
    return _guard_floor(term, factor, first, end)


def _narrowed_by_stride(term: Term, first: int, end: int) -> Term:
    factor = term.factors[0]
    if factor.modulus or factor.divisor != 1 or factor.scale != 1 or factor.shift:
        return term
    coefficient, reach = factor.coefficient, extent(term.windows)
    # first <= offset + c·q + w < end for some w in 0 … reach
    low, high = first - term.offset - reach, end - 1 - term.offset
    if coefficient > 0:
        guard = (factor.axis, -(-low // coefficient), high // coefficient + 1)
    else:
        guard = (factor.axis, -(high // -coefficient), (-low) // -coefficient + 1)
    return term._replace(guards=(*term.guards, guard))


def _guard_floor(term: Term, factor: Factor, first: int, end: int) -> Term:
    """For ±((q + shift) // divisor): the indices for which some position lies in the range."""
    if factor.scale != 1:
        return _narrowed_by_stride(term, first, end) if factor.divisor == 1 else term
    low, high = first - term.offset - extent(term.windows), end - 1 - term.offset
    if factor.coefficient < 0:
        low, high = -high, -low
    guard = (factor.axis, low * factor.divisor - factor.shift, (high + 1) * factor.divisor - factor.shift)
    return term._replace(guards=(*term.guards, guard))


def _through_factor(factor: Factor, position: Term, sizes: tuple[int, ...]) -> Term:
    """coefficient · u at the given position; its guards are of no matter."""
    if factor.divisor == factor.scale == 1 and not factor.shift and not factor.modulus:
        return _scaled(position, factor.coefficient, 0)
    inner = _scaled(position, factor.scale, factor.shift)
    inner = reduced(divided(inner, factor.divisor, sizes), factor.modulus, sizes)
    return _scaled(inner, factor.coefficient, 0)


def substituted(
    outer: tuple[Term, ...],
    positions: tuple[tuple[Term, ...], ...],
    size: int,
    middle: tuple[int, ...],
    sizes: tuple[int, ...],
) -> tuple[Term, ...]:
    """The terms over `sizes` of `outer`, whose indices run over `middle`, where index j takes the positions `positions[j]`.

    `size` is the length of the axis that the positions of `outer` are in.
    """
    read = axes_of(outer)
    return _substituted(outer, tuple([positions[axis] for axis in read]), read, guards_of(positions), size, middle, sizes)


def guards_of(positions: tuple[tuple[Term, ...], ...]) -> tuple[tuple[int, int, int], ...]:
    """What every element's index must keep: it reads something only where every axis has positions."""
    return tuple([guard for terms in positions if len(terms) == 1 for guard in terms[0].guards])


@lru_cache(maxsize=1 << 14)
def axes_of(terms: tuple[Term, ...]) -> tuple[int, ...]:
    """The axes whose positions terms depend on."""
    return tuple(sorted({axis for term in terms for axis in _read(term)}))


def _read(term: Term) -> list[int]:
    return sorted({factor.axis for factor in term.factors} | {axis for axis, _, _ in term.guards})


@lru_cache(maxsize=1 << 16)
def _substituted(
    outer: tuple[Term, ...],
    chosen: tuple[tuple[Term, ...], ...],
    read: tuple[int, ...],
    shared: tuple[tuple[int, int, int], ...],
    size: int,
    middle: tuple[int, ...],
    sizes: tuple[int, ...],
) -> tuple[Term, ...]:
    """As `substituted`, given only what matters, so that steps which differ elsewhere are worked out once."""
    positions = dict(zip(read, chosen, strict=True))
    results: list[Term] = []
    for term in outer:
        axes = _read(term)
        for choice in product(*(positions[axis] for axis in axes)):
            found = _substitute(term, dict(zip(axes, choice, strict=True)), middle, sizes)
            if found is not None:
                results.append(found._replace(guards=(*found.guards, *shared)) if shared else found)
    return simplified(tuple(results), size, sizes)


def _substitute(term: Term, positions: dict[int, Term], middle: tuple[int, ...], sizes: tuple[int, ...]) -> Term | None:
    guards: list[tuple[int, int, int]] = []
    ranges = {axis: (first, end) for axis, first, end in term.guards}
    for axis, position in list(positions.items()):
        first, end = ranges.get(axis, (0, middle[axis]))
        narrowed = _narrowed(position, first, end, sizes)
        if narrowed is None:
            return None
        guards.extend(narrowed.guards)
        positions[axis] = narrowed
    offset, windows = term.offset, list(term.windows)
    factors: list[Factor] = []
    for factor in term.factors:
        image = _through_factor(factor, positions[factor.axis], sizes)
        offset += image.offset
        factors.extend(image.factors)
        windows.extend(image.windows)
    return Term(offset, tuple(factors), tuple(windows), tuple(guards))


def simplified(terms: tuple[Term, ...], size: int, sizes: tuple[int, ...]) -> tuple[Term, ...]:
    """Terms that cover the same positions: in normal form, without repetitions, and few."""
    kept: list[Term] = []
    for term in terms:
        normal = canonical(term, size, sizes)
        if normal is not None and normal not in kept:
            kept.append(normal)
    if len(kept) < 2:
        return tuple(kept)
    kept = _absorbed(kept, size, sizes)
    if len(kept) > MOST_TERMS:
        kept = [Term(0, (), ((1, size),))]
    return tuple(sorted(kept))


def _absorbed(terms: list[Term], size: int, sizes: tuple[int, ...]) -> list[Term]:
    found = True
    while found:
        found = False
        for k, first in enumerate(terms):
            for second in terms[k + 1 :]:
                union = _united(first, second, size, sizes)
                if union is not None:
                    terms = [term for term in terms if term is not first and term is not second]
                    normal = canonical(union, size, sizes)
                    if normal is not None and normal not in terms:
                        terms.append(normal)
                    found = True
                    break
            if found:
                break
    return terms


def _united(a: Term, b: Term, size: int, sizes: tuple[int, ...]) -> Term | None:
    """One term that means the two, if there is a simple one."""
    everything = Term(0, (), ((1, size),))
    if size == 1:
        everything = Term()
    if a == everything or b == everything:
        return everything
    if a[:3] == b[:3]:
        return _united_guards(a, b)
    for x, y in ((a, b), (b, a)):
        if (not y.guards or x.guards == y.guards) and _inside(x, y, sizes):
            return y
    if a.factors != b.factors or a.guards != b.guards:
        return None
    return _united_windows(a, b)


def _united_guards(a: Term, b: Term) -> Term | None:
    if not a.guards or not b.guards:
        return a._replace(guards=())
    ranges, others = dict_of(a), dict_of(b)
    if ranges.keys() != others.keys():
        return None
    different = [axis for axis in ranges if ranges[axis] != others[axis]]
    if len(different) != 1:
        return None
    axis = different[0]
    (first, end), (start, stop) = sorted((ranges[axis], others[axis]))
    if start > end:
        return None
    ranges[axis] = first, max(end, stop)
    return a._replace(guards=tuple((axis, *span) for axis, span in ranges.items()))


def dict_of(term: Term) -> dict[int, tuple[int, int]]:
    return {axis: (first, end) for axis, first, end in term.guards}


def _united_windows(a: Term, b: Term) -> Term | None:
    if a.offset > b.offset:
        a, b = b, a
    spans = [term.windows or ((1, 1),) for term in (a, b)]
    if any(len(span) != 1 or span[0][0] != 1 for span in spans):
        return None
    (_, reach), (_, other) = spans[0][0], spans[1][0]
    if b.offset > a.offset + reach:
        return None
    return a._replace(windows=((1, max(reach, b.offset - a.offset + other)),))


def _inside(a: Term, b: Term, sizes: tuple[int, ...]) -> bool:
    """Whether a's positions are certainly among b's: b takes some of a's factors as windows, or has wider ones."""
    common = [factor for factor in a.factors if factor in b.factors]
    if len(common) != len(b.factors):
        # a digit of an axis may be whole in a and split in b
        return _inside_split(a, b, sizes)
    low, high = a.offset - b.offset, a.offset - b.offset + extent(a.windows)
    for factor in a.factors:
        if factor not in common:
            first, last = factor_range(factor, sizes)
            low, high = low + first, high + last
    if not b.windows:
        return low == high == 0
    return len(b.windows) == 1 and b.windows[0][0] == 1 and low >= 0 and high < b.windows[0][1]


def _inside_split(a: Term, b: Term, sizes: tuple[int, ...]) -> bool:
    """As `_inside`, with c·q in a written as c·d·(q // d) + c·(q % d) where b has the factor c·d·(q // d)."""
    if len(b.factors) != 1:
        return False
    split = b.factors[0]
    if split.divisor == 1 or split.scale != 1 or split.shift or split.modulus or split.coefficient % split.divisor:
        return False
    coefficient = split.coefficient // split.divisor
    if Factor(coefficient, split.axis) not in a.factors:
        return False
    rest = tuple([factor for factor in a.factors if factor != Factor(coefficient, split.axis)])
    low = Factor(coefficient, split.axis, 1, 0, 1, split.divisor)
    return _inside(a._replace(factors=(*rest, split, low)), b, sizes)
