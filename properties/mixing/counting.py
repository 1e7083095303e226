"""How many positions of an axis the elements and lines of a value can depend on, counted from quasi-affine sets.

Exact by enumeration over the indices involved; where these are too many, an upper bound.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod

import numpy as np

from properties.mixing.affine import Factor, Term, canonical, digit_range, whole

LARGEST_ENUMERATION = 1 << 22
LARGEST_AXIS = 1 << 16

NONE, ONE, MANY, ALL = 0, 1, 2, 3


@lru_cache(maxsize=1 << 14)
def row(terms: tuple[Term, ...], size: int, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """For an input axis of `size` positions and each output axis: none, one, many or all (0 … 3), as the package defines mixing."""
    most, covering = _counts(terms, size, sizes)
    strength = ONE if size == 1 or most == 1 else ALL if most >= size else MANY
    return tuple([strength if covers else NONE for covers in covering])


def most_positions(terms: tuple[Term, ...], size: int, sizes: tuple[int, ...]) -> int:
    """The largest number of positions that one element can depend on."""
    return _counts(terms, size, sizes)[0]


def _counts(terms: tuple[Term, ...], size: int, sizes: tuple[int, ...]) -> tuple[int, tuple[bool, ...]]:
    if any(term == whole(size) for term in terms):
        return size, (True,) * len(sizes)
    if len(terms) == 1 and not terms[0].guards:
        simple = _single(terms[0], size, sizes)
        if simple is not None:
            return simple
    samples = {axis: _sample(terms, axis, sizes) for axis in _axes(terms)}
    rows = prod(len(points) for points in samples.values())
    if any(size_ > LARGEST_AXIS for size_ in map(len, samples.values())) or rows * size > LARGEST_ENUMERATION:
        return _bounds(terms, size, sizes)
    return _enumerate(terms, size, sizes, samples)


def _axes(terms: tuple[Term, ...]) -> list[int]:
    axes = {factor.axis for term in terms for factor in term.factors}
    return sorted(axes | {axis for term in terms for axis, _, _ in term.guards})


def _sample(terms: tuple[Term, ...], axis: int, sizes: tuple[int, ...]) -> np.ndarray:
    """Indices along an axis that show everything: all of them, or one between any two guards if no factor reads the axis."""
    if any(factor.axis == axis for term in terms for factor in term.factors):
        return np.arange(min(sizes[axis], LARGEST_AXIS + 1))
    edges = {0}
    for term in terms:
        for guarded, first, end in term.guards:
            if guarded == axis:
                edges |= {first, end}
    return np.array(sorted(edge for edge in edges if 0 <= edge < sizes[axis]))


def factor_values(factor: Factor, indices: np.ndarray) -> np.ndarray:
    """coefficient · u(q) for an array of indices."""
    values = (factor.scale * indices + factor.shift) // factor.divisor
    if factor.modulus:
        values = values % factor.modulus
    return factor.coefficient * values


def window_values(windows: tuple[tuple[int, int], ...]) -> np.ndarray:
    """All the values of Σ step·t, each once and in order."""
    values = np.zeros(1, dtype=np.int64)
    for step, count in windows:
        values = np.unique(np.add.outer(values, step * np.arange(count)).ravel())
    return values


def _enumerate(
    terms: tuple[Term, ...], size: int, sizes: tuple[int, ...], samples: dict[int, np.ndarray]
) -> tuple[int, tuple[bool, ...]]:
    axes = list(samples)
    grid = [points.ravel() for points in np.meshgrid(*samples.values(), indexing="ij")] if axes else []
    rows = grid[0].size if axes else 1
    indices = dict(zip(axes, grid, strict=True))
    covered = np.zeros((rows, size), dtype=bool)
    for term in terms:
        _mark(covered, term, indices, size)
    most = int(covered.sum(axis=1).max())
    everything = most == size
    shaped = covered.reshape(*(len(samples[axis]) for axis in axes), size)
    covering = [everything] * len(sizes)
    for position, axis in enumerate(axes):
        covering[axis] = bool(shaped.any(axis=position).all(axis=-1).any())
    return most, tuple(covering)


def _mark(covered: np.ndarray, term: Term, indices: dict[int, np.ndarray], size: int) -> None:
    rows = np.arange(covered.shape[0])
    holds = np.ones(covered.shape[0], dtype=bool)
    for axis, first, end in term.guards:
        holds &= (indices[axis] >= first) & (indices[axis] < end)
    base = np.full(covered.shape[0], term.offset, dtype=np.int64)
    for factor in term.factors:
        base += factor_values(factor, indices[factor.axis])
    for value in window_values(term.windows):
        positions = base + value
        inside = holds & (positions >= 0) & (positions < size)
        covered[rows[inside], positions[inside]] = True


def _single(term: Term, size: int, sizes: tuple[int, ...]) -> tuple[int, tuple[bool, ...]] | None:
    """Counts for one term, from the values that its parts can take apart from each other."""
    by_axis: dict[int, list[Factor]] = {}
    for factor in term.factors:
        by_axis.setdefault(factor.axis, []).append(factor)
    parts = {axis: _axis_values(factors, sizes[axis]) for axis, factors in by_axis.items()}
    window = window_values(term.windows)
    if any(values is None for values in parts.values()):
        return None
    if prod(len(values) for values in parts.values() if values is not None) * len(window) > LARGEST_ENUMERATION:
        return None
    sums = {axis: values for axis, values in parts.items() if values is not None}
    bases = _outer([np.array([term.offset]), *sums.values()])
    most = _largest_count(window, bases, size)
    covering = [most == size] * len(sizes)
    for axis, values in sums.items():
        others = _outer([np.array([term.offset]), *(other for key, other in sums.items() if key != axis)])
        covering[axis] = _largest_count(_outer([window, values]), others, size) == size
    return most, tuple(covering)


def _axis_values(factors: list[Factor], size: int) -> np.ndarray | None:
    """The values that the factors of one axis take together, each once."""
    if size <= LARGEST_AXIS:
        indices = np.arange(size)
        return np.unique(sum(factor_values(factor, indices) for factor in factors))
    if len(factors) > 1:
        return None
    low, high = digit_range(factors[0], size)
    if high - low > LARGEST_AXIS:
        return None
    return np.asarray(np.sort(factors[0].coefficient * np.arange(low, high + 1)))


def _outer(parts: list[np.ndarray]) -> np.ndarray:
    values = parts[0]
    for part in parts[1:]:
        values = np.unique(np.add.outer(values, part).ravel())
    return values


def _largest_count(window: np.ndarray, bases: np.ndarray, size: int) -> int:
    """The largest number of window positions that one base brings into the axis."""
    counts = np.searchsorted(window, size - bases) - np.searchsorted(window, -bases)
    return int(counts.max())


def _bounds(terms: tuple[Term, ...], size: int, sizes: tuple[int, ...]) -> tuple[int, tuple[bool, ...]]:
    """Upper bounds, from each term by itself."""
    most = 0
    reach = [0] * len(sizes)
    for term in terms:
        alone = canonical(term._replace(guards=()), size, sizes)
        count = 0 if alone is None else min(size, prod(number for _, number in term.windows))
        most += count
        for axis in range(len(sizes)):
            values = prod(_span(factor, sizes) for factor in term.factors if factor.axis == axis)
            reach[axis] += count * values
    return min(most, size), tuple([number >= size for number in reach])


def _span(factor: Factor, sizes: tuple[int, ...]) -> int:
    low, high = digit_range(factor, sizes[factor.axis])
    return min(high - low + 1, sizes[factor.axis])
