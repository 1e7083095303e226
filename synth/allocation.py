"""The largest value of one quantity of a network of tables under limits on others: to a proven optimum, or with a bound.

Limits are priced (Lagrange multipliers, from a cutting-plane search), which leaves sums of tables that elimination maximises
exactly: an upper bound at any prices. Partial assignments are then extended one unknown at a time; those that the bounds exclude,
or that another one dominates, are dropped. Where none had to be dropped for room, what is left is optimal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.clock import ENDLESS, Clock
from synth.elimination import Elimination, Network, eliminate

ROUNDS = (200, 2_000, 20_000, 100_000)
"""Partial assignments kept in one pass after the other, while there is time and no proof."""

A_STEP = 2_000
"""Entries of tables, or partial assignments, that one step looks at."""

MOST_CUTS = 60
CHUNK = 2_000_000
SLACK = 1e-9


@dataclass(frozen=True)
class Limit:
    """The total of a quantity lies between `low` and `high`."""

    quantity: int
    low: float = -math.inf
    high: float = math.inf

    def rows(self) -> list[tuple[int, float, float]]:
        """(quantity, sign, bound) for every side: sign times the total is at most the bound."""
        rows = [(self.quantity, 1.0, self.high)] if self.high < math.inf else []
        return [*rows, (self.quantity, -1.0, -self.low)] if self.low > -math.inf else rows


@dataclass(frozen=True)
class Best:
    """An assignment within the limits, its value, and a bound that no assignment exceeds; equal if it is proven optimal."""

    assignment: tuple[int, ...]
    value: float
    bound: float


@dataclass(frozen=True)
class Nothing:
    """No assignment was found; `proven` if there is none."""

    proven: bool


def maximise(
    network: Network,
    objective: np.ndarray,
    limits: Sequence[Limit] = (),
    *,
    starts: Sequence[Sequence[int]] = (),
    clock: Clock = ENDLESS,
    tolerance: float = 0.0,
) -> Best | Nothing:
    """The assignment with the largest objective (weights of the quantities) within the limits.

    `starts` are assignments that the answer is at least as good as, if they keep the limits. Ends when the gap is proven to be at
    most `tolerance` of the value, or the clock's limit is reached.
    """
    search = _Search(network, objective, [row for limit in limits for row in limit.rows()], clock)
    if search.impossible:
        return Nothing(proven=True)
    for assignment in starts:
        search.consider(tuple(assignment))
    search.price()
    if search.bound == -math.inf:
        return Nothing(proven=True)
    for most in ROUNDS:
        if search.gap <= tolerance * abs(search.value) + SLACK * max(1.0, abs(search.value)) or clock.is_up:
            break
        if search.extend(most):
            break
    if search.best is None:
        return Nothing(proven=search.bound == -math.inf)
    return Best(search.best, search.value, max(search.value, search.bound))


class _Search:
    """The incumbent and the bound, and what improves them."""

    def __init__(self, network: Network, objective: np.ndarray, rows: Sequence[tuple[int, float, float]], clock: Clock):
        self.network, self.objective, self.clock = network, np.asarray(objective, dtype=float), clock
        self.rows = [(_unit(quantity, sign, len(network.constant)), bound) for quantity, sign, bound in rows]
        self.usage = np.array([weights for weights, _ in self.rows]).reshape(len(self.rows), len(network.constant))
        self.limits = np.array([bound for _, bound in self.rows])
        self.best: tuple[int, ...] | None = None
        self.value = -math.inf
        self.least = [eliminate(network, -weights) for weights, _ in self.rows]
        self.highest = eliminate(network, self.objective)
        self.bound = self.highest.bound
        self.prices = np.zeros(len(self.rows))
        self.priced = self.highest

    @property
    def gap(self) -> float:
        return self.bound - self.value if self.best is not None else math.inf

    @property
    def impossible(self) -> bool:
        """Whether a single limit is out of reach."""
        exceeded = (-each.bound > bound + self._slack(bound) for each, bound in zip(self.least, self.limits, strict=True))
        return self.bound == -math.inf or any(exceeded)

    def _slack(self, bound: float) -> float:
        return SLACK * max(1.0, abs(bound))

    def consider(self, assignment: tuple[int, ...]) -> np.ndarray | None:
        """Makes an assignment the incumbent if it keeps the limits and is better; its totals, if it is allowed."""
        totals = self.network.totals(assignment)
        if totals is None:
            return None
        value = float(self.objective @ totals)
        if value > self.value and self._within(totals):
            self.best, self.value = assignment, value
        return totals

    def _within(self, totals: np.ndarray) -> bool:
        return all(use <= bound + self._slack(bound) for use, bound in zip(self.usage @ totals, self.limits, strict=True))

    def price(self) -> None:
        """Prices of the limits that give the lowest bound, by cutting planes; every assignment met on the way is improved."""
        for each in (self.highest, *self.least):
            self._improved(each.decode())
        if not self.rows:
            return
        scale = np.maximum(1.0, np.abs(self.limits))
        low = -eliminate(self.network, -self.objective).bound
        ceiling = np.full(len(self.rows), 1000 * max(1e-9, self.highest.bound - low))
        cuts: list[tuple[float, np.ndarray]] = []
        for each in (self.highest, *self.least):
            self._cut(cuts, each.decode(), scale)
        for _ in range(MOST_CUTS):
            if not self.clock.take(1 + self.highest.entries // A_STEP):
                return
            prices, floor = _cheapest_prices(cuts, ceiling)
            priced = eliminate(self.network, self.objective - (prices / scale) @ self.usage)
            bound = priced.bound + float(prices @ (self.limits / scale))
            if bound < self.bound:
                self.bound, self.prices, self.priced = bound, prices / scale, priced
            if bound < low - self._slack(low):
                self.bound = -math.inf
                return
            assignment = priced.decode()
            self._cut(cuts, assignment, scale)
            self._improved(assignment)
            if self.bound - floor <= 1e-7 * max(1.0, abs(self.bound)) or self.gap <= SLACK * max(1.0, abs(self.value)):
                return

    def _cut(self, cuts: list[tuple[float, np.ndarray]], assignment: tuple[int, ...], scale: np.ndarray) -> None:
        totals = self.network.totals(assignment)
        if totals is not None:
            cuts.append((float(self.objective @ totals), (self.limits - self.usage @ totals) / scale))

    def _improved(self, assignment: tuple[int, ...]) -> None:
        """Considers an assignment, and what single changes of it lead to while they pay: less excess first, then more value."""
        totals = self.consider(assignment)
        if totals is None:
            return
        current = list(assignment)
        for _ in range(8):
            changed = False
            for unknown in range(len(self.network.sizes)):
                options = self._options(current, unknown, totals)
                use = options @ self.usage.T
                excess = (
                    np.maximum(0.0, (use - self.limits) / np.maximum(1.0, np.abs(self.limits))).sum(1) if len(self.limits) else 0
                )
                score = options @ self.objective - 1e6 * (1 + abs(self.highest.bound)) * excess
                pick = int(np.argmax(score))
                here = score[current[unknown]]
                if pick != current[unknown] and score[pick] > here + SLACK * max(1.0, abs(here)):
                    current[unknown], totals, changed = pick, options[pick], True
            if not changed:
                break
        self.consider(tuple(current))

    def _options(self, current: Sequence[int], unknown: int, totals: np.ndarray) -> np.ndarray:
        """The totals with an unknown at each of its values; -inf … where that is not allowed (no value, and all excess)."""
        rows = np.zeros((self.network.sizes[unknown], len(totals)))
        allowed = np.ones(len(rows), dtype=bool)
        for factor in self.network.by_unknown[unknown]:
            entry = tuple(slice(None) if each == unknown else current[each] for each in factor.scope)
            rows += factor.table[(slice(None), *entry)].T
            if factor.allowed is not None:
                allowed &= factor.allowed[entry]
        rows += totals - rows[current[unknown]]
        rows[~allowed] = totals - 1e9 * np.sign(self.objective) * (1 + np.abs(totals))
        return rows

    def extend(self, most: int) -> bool:
        """One pass over partial assignments, at most so many at a time; True if it proved the incumbent, or that there is none."""
        kinds = [self.priced, eliminate(self.network, self.objective), *self.least]
        offset = float(self.prices @ self.limits)
        front = _Front.start(kinds)
        dropped = -math.inf
        for unknown in range(len(self.network.sizes)):
            if not self.clock.take(1 + front.count * self.network.sizes[unknown] // A_STEP):
                return False
            floor = self.value + SLACK * max(1.0, abs(self.value)) - offset if self.best is not None else -math.inf
            front = front.extended(unknown, kinds, floor, self.limits).undominated()
            front, lost = front.cut(most)
            dropped = max(dropped, lost + offset)
            if not front.count:
                break
        if front.count:
            self.consider(front.assignment(int(np.argmax(front.bounds[1]))))
        self.bound = min(self.bound, max(dropped, self.value))
        return dropped == -math.inf


def _unit(quantity: int, sign: float, count: int) -> np.ndarray:
    weights = np.zeros(count)
    weights[quantity] = sign
    return weights


def _cheapest_prices(cuts: Sequence[tuple[float, np.ndarray]], ceiling: np.ndarray) -> tuple[np.ndarray, float]:
    """The prices at which the highest of some lines is lowest, and how low it is."""
    from scipy.optimize import linprog  # type: ignore[import-untyped]

    rows = np.array([[*slack, -1.0] for _, slack in cuts])
    solution = linprog(
        [*np.zeros(len(ceiling)), 1.0],
        A_ub=rows,
        b_ub=[-value for value, _ in cuts],
        bounds=[*((0.0, top) for top in ceiling), (None, None)],
    )
    return (np.array(solution.x[:-1]), float(solution.x[-1])) if solution.status == 0 else (ceiling, -math.inf)


@dataclass(frozen=True, eq=False)
class _Front:
    """Partial assignments: the values of the unknowns that later tables read, and what they can still reach.

    `bounds[0]` bounds the priced objective from above, `bounds[1]` the objective, the others the use of each limit from below
    (with its sign turned); all are exact once every unknown has a value.
    """

    active: dict[int, np.ndarray]
    bounds: np.ndarray
    steps: tuple[tuple[np.ndarray, np.ndarray], ...]

    @staticmethod
    def start(kinds: Sequence[Elimination]) -> _Front:
        return _Front({}, np.array([[each.bound] for each in kinds]), ())

    @property
    def count(self) -> int:
        return self.bounds.shape[1]

    def extended(self, unknown: int, kinds: Sequence[Elimination], floor: float, limits: np.ndarray) -> _Front:
        """Every assignment with every value of one more unknown that the bounds do not exclude."""
        size = kinds[0].buckets[unknown][0][1].shape[-1]
        step = max(1, CHUNK // size)
        found = [self._part(slice(at, at + step), unknown, kinds, floor, limits) for at in range(0, self.count, step)]
        parents = np.concatenate([each[0] for each in found])
        picks = np.concatenate([each[1] for each in found])
        bounds = np.concatenate([each[2] for each in found], axis=1)
        later = {each for bucket in kinds[0].buckets[unknown + 1 :] for scope, _ in bucket for each in scope}
        active = {each: values[parents] for each, values in self.active.items() if each in later}
        if unknown in later:
            active[unknown] = picks
        return _Front(active, bounds, (*self.steps, (parents.astype(np.int32), picks.astype(np.int32))))

    def _part(
        self, rows: slice, unknown: int, kinds: Sequence[Elimination], floor: float, limits: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        active = {each: values[rows] for each, values in self.active.items()}
        keep, parts = None, []
        for index, kind in enumerate(kinds):
            part = self.bounds[index][rows][:, None]
            for message in kind.messages:
                if message.source == unknown:
                    part = part - np.asarray(message.table[tuple(active[each] for each in message.scope)])[..., None]
            for scope, table in kind.buckets[unknown]:
                part = part + table[tuple(active[each] for each in scope[:-1])]
            if index == 0:
                keep = part > floor
            elif index > 1:
                bound = limits[index - 2]
                keep = keep & (-part <= bound + SLACK * max(1.0, abs(bound)))
            parts.append(part)
        assert keep is not None, "there is always the priced objective"
        parents, picks = np.nonzero(keep)
        return parents + rows.start, picks, np.array([part[parents, picks] for part in parts])

    def undominated(self) -> _Front:
        """Without those that another one of the same active values equals or beats in the objective and in every limit."""
        if self.count < 2:
            return self
        keys = _codes(list(self.active.values()), self.count)
        value, use = self.bounds[1], -self.bounds[2:]
        order = np.lexsort((-value, *reversed(use), keys))
        keys, value, use = keys[order], value[order], use[:, order]
        if len(use) < 2:
            rank = np.unique(value, return_inverse=True)[1].astype(np.int64)
            level = np.maximum.accumulate(keys * (self.count + 1) + rank)
            dominated = np.r_[False, (keys[1:] == keys[:-1]) & (level[:-1] >= keys[1:] * (self.count + 1) + rank[1:])]
        else:
            dominated = np.zeros(self.count, dtype=bool)
            for shift in range(1, min(12, self.count)):
                better = (keys[:-shift] == keys[shift:]) & (value[:-shift] >= value[shift:])
                dominated[shift:] |= better & (use[:, :-shift] <= use[:, shift:]).all(0)
        return self._only(order[~dominated])

    def cut(self, most: int) -> tuple[_Front, float]:
        """The most promising ones, and the best bound of those left out."""
        if self.count <= most:
            return self, -math.inf
        order = np.argpartition(-self.bounds[0], most)
        return self._only(order[:most]), float(self.bounds[0][order[most:]].max())

    def _only(self, rows: np.ndarray) -> _Front:
        parents, picks = self.steps[-1]
        active = {each: values[rows] for each, values in self.active.items()}
        return _Front(active, self.bounds[:, rows], (*self.steps[:-1], (parents[rows], picks[rows])))

    def assignment(self, row: int) -> tuple[int, ...]:
        values: list[int] = []
        for parents, picks in reversed(self.steps):
            values.append(int(picks[row]))
            row = int(parents[row])
        return tuple(reversed(values))


def _codes(columns: Sequence[np.ndarray], count: int) -> np.ndarray:
    """A number for every row of columns, equal for equal rows, from 0."""
    codes = np.zeros(count, dtype=np.int64)
    for column in columns:
        codes = np.unique(codes * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1].astype(np.int64)
    return codes
