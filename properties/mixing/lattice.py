"""Mixing: which positions of a program's input an element of a value can depend on, axis by axis.

It errs upwards: it never claims less than some value of the parameters and inputs shows.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from properties.mixing.affine import Term, at, extent, whole
from properties.mixing.counting import factor_values, most_positions, row, window_values
from properties.mixing.substitute import axes_of, guards_of, simplified, substituted


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """What an output position p can depend on: `size` positions from floor(stride·p + offset) on, less those outside the axis."""

    size: int
    stride: int | Fraction
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Mixing:
    """How the elements of one value (shape `output`) depend on the positions of another (shape `input`), for each of its axes.

    Composes with `then`, joins with `join`; `matrix` is the reading.
    """

    input: tuple[int, ...]
    output: tuple[int, ...]
    axes: tuple[tuple[Term, ...], ...]
    _hash: int

    @staticmethod
    def of(input: tuple[int, ...], output: tuple[int, ...], axes: tuple[tuple[Term, ...], ...]) -> Mixing:
        """The mixing with these terms, which must be in normal form (see `mixing`)."""
        return Mixing(input, output, axes, hash((input, output, axes)))

    @staticmethod
    def identity(shape: tuple[int, ...]) -> Mixing:
        """Every element depends on itself."""
        return _identity(tuple(shape))

    @staticmethod
    def top(input: tuple[int, ...], output: tuple[int, ...]) -> Mixing:
        """Every element depends on everything."""
        return _top(tuple(input), tuple(output))

    @staticmethod
    def nothing(input: tuple[int, ...], output: tuple[int, ...]) -> Mixing:
        """No element depends on anything; shown for values that do not depend on the input, and never composed."""
        return Mixing.of(tuple(input), tuple(output), ((),) * len(input))

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[object, ...]:
        return Mixing.of, (self.input, self.output, self.axes)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Mixing) or self._hash != other._hash:
            return False
        return (self.input, self.output, self.axes) == (other.input, other.output, other.axes)

    def then(self, following: Mixing) -> Mixing | None:
        """What the output of `following` owes to the input of this; None if nothing gets through."""
        if following is _identity(self.output):
            return self
        return _then(self, following)

    @property
    def reads(self) -> tuple[int, ...]:
        """The axes of the output on which the positions depend; of what follows, no more than `seen_along` them matters."""
        return axes_of(tuple([term for terms in self.axes for term in terms]))

    def seen_along(self, axes: tuple[int, ...]) -> Hashable:
        """Equal for two that do the same to whatever depends on these axes of their input alone."""
        return self.output, tuple([self.axes[axis] for axis in axes]), guards_of(self.axes)

    def join(self, other: Mixing) -> Mixing:
        """What is owed along either of two paths."""
        if self == other:
            return self
        return _join(self, other)

    @property
    def matrix(self) -> np.ndarray:
        """Rows input axes, columns output axes: 0 none, 1 one, 2 many, 3 all."""
        rows = [row(terms, size, self.output) for terms, size in zip(self.axes, self.input, strict=True)]
        return np.array(rows, dtype=np.int64).reshape(len(self.input), len(self.output))

    def positions(self, axis: int) -> int:
        """The largest number of positions of an input axis that one output element can depend on."""
        return most_positions(self.terms(axis), self.input[axis], self.output)

    def terms(self, axis: int) -> tuple[Term, ...]:
        """The sets of positions of an input axis; IndexError for an axis that is not there."""
        if not -len(self.axes) <= axis < len(self.axes):
            raise IndexError(f"axis {axis} asked for, but the input has {len(self.axes)} axes: its shape is {self.input}")
        return self.axes[axis]

    def receptive_field(self, axis: int) -> ReceptiveField | None:
        """The window of an input axis that an output position sees, if it is one window sliding along one output axis."""
        return _receptive_field(self.terms(axis), self.output)

    def depends_on(self, index: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """For one output element the positions it can depend on, as a boolean array for each input axis."""
        return tuple([_positions(terms, size, index) for terms, size in zip(self.axes, self.input, strict=True)])

    def __repr__(self) -> str:
        return f"Mixing({self.input} -> {self.output}, {self.matrix.tolist()})"

    def _repr_html_(self) -> str:
        from properties.display import mixing_html

        return mixing_html(self)


def mixing(input: tuple[int, ...], output: tuple[int, ...], axes: tuple[tuple[Term, ...], ...]) -> Mixing | None:
    """The mixing with any terms, brought into normal form; None if some axis has no term, that is if nothing is depended on."""
    normal = tuple([simplified(terms, size, output) for terms, size in zip(axes, input, strict=True)])
    if not all(normal):
        return None
    return Mixing.of(input, output, normal)


@lru_cache(maxsize=1 << 12)
def _identity(shape: tuple[int, ...]) -> Mixing:
    result = mixing(shape, shape, tuple([(at(axis),) for axis in range(len(shape))]))
    assert result is not None or 0 in shape
    return result or Mixing.of(shape, shape, tuple([(whole(size),) for size in shape]))


@lru_cache(maxsize=1 << 12)
def _top(input: tuple[int, ...], output: tuple[int, ...]) -> Mixing:
    return Mixing.of(input, output, tuple([(whole(size),) for size in input]))


@lru_cache(maxsize=1 << 15)
def _then(first: Mixing, second: Mixing) -> Mixing | None:
    if first.output != second.input:
        raise ValueError(f"a mixing onto shape {first.output} cannot be followed by one from shape {second.input}")
    axes = []
    for terms, size in zip(first.axes, first.input, strict=True):
        found = substituted(terms, second.axes, size, first.output, second.output)
        if not found:
            return None
        axes.append(found)
    return Mixing.of(first.input, second.output, tuple(axes))


@lru_cache(maxsize=1 << 15)
def _join(first: Mixing, second: Mixing) -> Mixing:
    if (first.input, first.output) != (second.input, second.output):
        raise ValueError(f"cannot join a mixing {first.input} -> {first.output} and one {second.input} -> {second.output}")
    axes = tuple(
        [
            a if a == b else simplified((*a, *b), size, first.output)
            for a, b, size in zip(first.axes, second.axes, first.input, strict=True)
        ]
    )
    return Mixing.of(first.input, first.output, axes)


def _receptive_field(terms: tuple[Term, ...], sizes: tuple[int, ...]) -> ReceptiveField | None:
    if not terms or any(term.guards for term in terms) or len({term.factors for term in terms}) != 1:
        return None
    factors = terms[0].factors
    if len(factors) > 1 or any(factor.modulus for factor in factors):
        return None
    first = min(term.offset for term in terms)
    last = max(term.offset + extent(term.windows) for term in terms)
    if not factors:
        return ReceptiveField(last - first + 1, 0, first)
    factor = factors[0]
    if factor.divisor > 1 and factor.coefficient != 1:
        return None
    stride = Fraction(factor.coefficient * factor.scale, factor.divisor)
    if factor.divisor == 1:
        return ReceptiveField(last - first + 1, int(stride), first + factor.coefficient * factor.shift)
    return ReceptiveField(last - first + 1, stride, first)


def _positions(terms: tuple[Term, ...], size: int, index: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(size, dtype=bool)
    for term in terms:
        if any(not first <= index[axis] < end for axis, first, end in term.guards):
            continue
        base = term.offset + sum(int(factor_values(factor, np.array(index[factor.axis]))) for factor in term.factors)
        positions = base + window_values(term.windows)
        found[positions[(positions >= 0) & (positions < size)]] = True
    return found
