"""What a node costs at every size that its inputs and itself can have, from a handful of counts.

Parameters and multiply-adds of the ops are quadratic in the widths: they are counted at a few multiples of the present ones, where
whatever divides a width still does, fitted, and checked at one more point. An op that is not of that form is counted at every size.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from properties import PROPERTIES
from synth.effect import polynomials, summary
from synth.op import PROBE_BATCH, Op, ShapeMismatch, Value
from synth.ties import Channels, with_channels, with_sizes

NodeCost = Callable[..., float] | Mapping[tuple[Op, ...], float]
"""What an op on its inputs costs, `cost(op, *values)`, or a table by (op, *values).

In a table, ops whose present form is not in it cost nothing; the others can have the sizes that are in it, and no others.
"""

RANK = tuple(each for each in PROPERTIES if each.name == "rank")
"""What ops are traced for: equal questions are remembered."""

MOST_COUNTS = 2_000
_ROUNDING = 1e-6


class Uncountable(ValueError):
    """A node's cost is no polynomial of its sizes, and has too many sizes to be counted at each."""


@dataclass(frozen=True)
class Place:
    """A node's op and the types that it reads, with its sizes as unknowns: slot s of `present` sets what refers to s.

    `inputs` are the channels of each input in terms of slots, `fields` the slot of each field that is a size.
    """

    op: Op
    values: tuple[Value, ...]
    inputs: tuple[Channels, ...]
    fields: tuple[tuple[str, int], ...]
    present: tuple[int, ...]
    shared: frozenset[str] = frozenset()
    """The op's arrays that another node owns, which are not counted here."""

    def at(self, sizes: Sequence[int]) -> tuple[Op, tuple[Value, ...]]:
        """The op and the types that it reads at these sizes."""
        op = with_sizes(self.op, {name: int(sizes[slot]) for name, slot in self.fields})
        return op, tuple(
            value if channels.width is None else with_channels(value, int(channels.factor * int(sizes[channels.width])))
            for value, channels in zip(self.values, self.inputs, strict=True)
        )

    def fits(self, sizes: Sequence[int]) -> bool:
        """Whether the op accepts these sizes."""
        whole = (channels.factor * int(sizes[channels.width]) for channels in self.inputs if channels.width is not None)
        if any(count.denominator != 1 or count < 1 for count in map(Fraction, whole)):
            return False
        op, values = self.at(sizes)
        try:
            op.check(*values)
        except ShapeMismatch:
            return False
        return True


def counted(place: Place, domains: Sequence[np.ndarray]) -> np.ndarray:
    """Parameters and multiply-adds over the domains of the slots: (2, sizes of slot 0, …). Uncountable if they are too many."""
    fitted = _fitted(place)
    if fitted is None:
        return _one_by_one(place, domains)
    grids = np.meshgrid(*domains, indexing="ij", sparse=True) if domains else []
    shape = (2, *map(len, domains))
    table = np.zeros(shape)
    for exponents, coefficients in zip(_monomials(len(domains)), np.array(fitted), strict=True):
        if coefficients.any():
            factors = [grid.astype(float) ** power for grid, power in zip(grids, exponents, strict=True) if power]
            term = functools.reduce(np.multiply, factors, np.ones([1] * len(domains)))
            table += coefficients.reshape(2, *[1] * len(domains)) * term
    return np.rint(table)


def priced(place: Place, domains: Sequence[np.ndarray], cost: NodeCost) -> tuple[np.ndarray, np.ndarray]:
    """A cost of the caller's over the domains of the slots, and where it may be used."""
    shape = tuple(map(len, domains))
    table, allowed = np.zeros(shape), np.ones(shape, dtype=bool)
    of = _function(cost, place)
    for index in itertools.product(*map(range, shape)):
        sizes = [int(domain[k]) for domain, k in zip(domains, index, strict=True)]
        if not place.fits(sizes):
            allowed[index] = False
            continue
        op, values = place.at(sizes)
        figure = of(op, *values)
        allowed[index] = math.isfinite(figure)
        table[index] = figure if allowed[index] else 0.0
    return table, allowed


def _function(cost: NodeCost, place: Place) -> Callable[..., float]:
    if not isinstance(cost, Mapping):
        return cost
    op, values = place.at(place.present)
    if (op, *values) not in cost:
        return lambda *key: 0.0
    return lambda *key: cost.get(key, math.nan)


def _monomials(slots: int) -> list[tuple[int, ...]]:
    return [powers for powers in itertools.product(range(3), repeat=slots) if sum(powers) <= 2]


@functools.lru_cache(maxsize=4096)
def _fitted(place: Place) -> tuple[tuple[float, float], ...] | None:
    """(parameters, multiply-adds) of every monomial of at most the second degree; None if the cost is of another form."""
    return _known(place) or _counted_at_multiples(place)


def _known(place: Place) -> tuple[tuple[float, float], ...] | None:
    """The same from what is known of the op at any channels, which equal ops at other channels share; None if that does not say."""
    if len(place.values) != 1 or len(place.fields) > 1 or place.shared or not place.values[0].shape[1:]:
        return None
    op, (value,) = place.at(place.present)
    fitted = polynomials(op, value)
    if fitted is None:
        return None
    (channels,), names = place.inputs, _monomials(len(place.present))
    found = dict.fromkeys(names, (0.0, 0.0))
    for (c, s), coefficients in zip(_DEGREES, np.array(fitted).T, strict=True):
        powers = [0] * len(place.present)
        if channels.width is not None:
            powers[channels.width] += c
        for _, slot in place.fields:
            powers[slot] += s
        a, b = coefficients * float(channels.factor) ** c
        before = found[tuple(powers)]
        found[tuple(powers)] = before[0] + a, before[1] + b
    return tuple(found[name] for name in names)


_DEGREES = ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
"""The degrees in the channels and the size of what `polynomials` gives coefficients for."""


def _counted_at_multiples(place: Place) -> tuple[tuple[float, float], ...] | None:
    slots = len(place.present)
    scales = [powers for powers in itertools.product((1, 2, 3), repeat=slots) if sum(powers) <= slots + 2]
    scales.append((4,) * slots)
    try:
        free = _is_free(place)
        at = [place.at([p * s for p, s in zip(place.present, row, strict=True)]) for row in scales]
        costs = np.array([(_params(place, op, values), 0 if free else _macs(op, values)) for op, values in at], dtype=float)
    except ShapeMismatch:
        return None
    monomials = _monomials(slots)
    terms = np.array([[math.prod(s**p for s, p in zip(row, powers, strict=True)) for powers in monomials] for row in scales])
    solution = np.linalg.lstsq(terms.astype(float), costs, rcond=None)[0]
    if np.abs(terms @ solution - costs).max() > _ROUNDING * max(1.0, np.abs(costs).max()):
        return None
    solution[np.abs(solution) < _ROUNDING] = 0.0
    sizes = [math.prod(p**power for p, power in zip(place.present, powers, strict=True)) for powers in monomials]
    return tuple((float(a) / size, float(b) / size) for (a, b), size in zip(np.rint(solution * 720) / 720, sizes, strict=True))


def _count(place: Place, sizes: Sequence[int]) -> tuple[int, int]:
    op, values = place.at(sizes)
    return _params(place, op, values), _macs(op, values)


def _params(place: Place, op: Op, values: tuple[Value, ...]) -> int:
    return sum(math.prod(weight.shape) for name, weight in op.weights(*values).items() if name not in place.shared)


def _macs(op: Op, values: tuple[Value, ...]) -> int:
    return summary(op, values, RANK).capacity.macs // PROBE_BATCH


def _is_free(place: Place) -> bool:
    """Whether no multiply-adds are done at the present sizes, and none at larger ones."""
    return not any(_macs(*place.at([scale * size for size in place.present])) for scale in (1, 4))


def _one_by_one(place: Place, domains: Sequence[np.ndarray]) -> np.ndarray:
    shape: tuple[int, ...] = tuple(map(len, domains))
    if math.prod(shape) > MOST_COUNTS:
        raise Uncountable(f"the cost of {place.op} is no polynomial of its sizes, of which there are {math.prod(shape)}")
    table = np.zeros((2, *shape))
    for index in itertools.product(*map(range, shape)):
        sizes = [int(domain[k]) for domain, k in zip(domains, index, strict=True)]
        if place.fits(sizes):
            np.moveaxis(table, 0, -1)[index] = _count(place, sizes)
    return table
