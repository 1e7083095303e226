"""Sizes of a chain of ops under shape equations and budgets: enumerated where that is small, solved by Z3 where it is not.

The only file that touches Z3, and only inside functions: `import synth` does not load it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from synth.budget import UNLIMITED, Budget
from synth.effect import Effect, effect, polynomials, size_fields, with_size
from synth.op import Op, ShapeMismatch, Value
from synth.result import GaveUp, Infeasible

LARGEST_FRONTIER = 200_000
"""Partial assignments that enumeration may hold at once; beyond it Z3 takes over."""

SEED = 20

Chain = tuple[Op, ...]


@dataclass(frozen=True)
class _Option:
    """One way to set an op's sizes on one incoming type."""

    op: Op
    value: Value
    params: int
    macs: int


_Stage = dict[Value, tuple[_Option, ...]]


def solve(
    value: Value,
    ops: Sequence[Op],
    output: Value,
    *,
    widths: Sequence[int],
    budget: Budget = UNLIMITED,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float = 1.0,
) -> tuple[Chain, ...] | Infeasible | GaveUp:
    """The chain with its sizes set so that it maps `value` to `output` within the budget.

    Sizes come from `widths`; the sizes the ops have already are allowed too. With `rng`, up to `count` solutions drawn uniformly
    from all of them where they can be enumerated; without, the `count` with the fewest parameters.
    """
    stages = _stages(value, ops, output, widths)
    if stages is None:
        return Infeasible((f"the chain {', '.join(op.kind() for op in ops)}", f"an output of {output} from {value}"))
    bounds = _Bounds.of(stages, value, budget)
    if bounds.conflict is not None:
        return Infeasible((f"the chain {', '.join(op.kind() for op in ops)}", bounds.conflict))
    frontier = _frontier(stages, value, budget, bounds)
    if frontier is None:
        return _by_z3(value, stages, budget, count, time_limit)
    if frontier.rows == 0:
        return Infeasible((f"the chain {', '.join(op.kind() for op in ops)}", str(budget)))
    order = np.lexsort((frontier.macs, frontier.params)) if rng is None else rng.permutation(frontier.rows)
    return tuple(frontier.chain(int(row)) for row in order[:count])


def _stages(value: Value, ops: Sequence[Op], output: Value, widths: Sequence[int]) -> list[_Stage] | None:
    """For every op and every type that can reach it, the options that still lead to the output; None if there are none."""
    reached: set[Value] = {value}
    stages: list[_Stage] = []
    for index, op in enumerate(ops):
        wanted = output if index == len(ops) - 1 else None
        stage = {incoming: _options(op, incoming, widths, wanted) for incoming in reached}
        reached = {option.value for options in stage.values() for option in options}
        stages.append(stage)
    alive = {output}
    for index in reversed(range(len(stages))):
        stages[index] = {
            incoming: kept
            for incoming, options in stages[index].items()
            if (kept := tuple(option for option in options if option.value in alive))
        }
        alive = set(stages[index])
    return stages if value in alive and (stages or value == output) else None


def _options(op: Op, value: Value, widths: Sequence[int], wanted: Value | None) -> tuple[_Option, ...]:
    names = size_fields(type(op))
    sizes = sorted({*widths, *(getattr(op, name) for name in names)}) if names else []
    found = []
    for candidate in [with_size(op, size) for size in sizes] if names else [op]:
        result = _try(candidate, value)
        if result is not None and (wanted is None or result.value == wanted):
            found.append(_Option(candidate, result.value, result.params, result.macs))
    return tuple(found)


def _try(op: Op, value: Value) -> Effect | None:
    try:
        return effect(op, value)
    except ShapeMismatch:
        return None


@dataclass(frozen=True)
class _Bounds:
    """For every stage and incoming type the least and the most that the rest of the chain can cost."""

    rest: tuple[dict[Value, tuple[int, int, int, int]], ...]
    conflict: str | None

    @staticmethod
    def of(stages: Sequence[_Stage], value: Value, budget: Budget) -> _Bounds:
        rest: list[dict[Value, tuple[int, int, int, int]]] = [{}]
        for stage in reversed(stages):
            after = rest[0]
            here = {}
            for incoming, options in stage.items():
                ends = [(option, after.get(option.value, (0, 0, 0, 0))) for option in options]
                here[incoming] = (
                    min(option.params + end[0] for option, end in ends),
                    max(option.params + end[1] for option, end in ends),
                    min(option.macs + end[2] for option, end in ends),
                    max(option.macs + end[3] for option, end in ends),
                )
            rest.insert(0, here)
        least, most, least_macs, most_macs = rest[0].get(value, (0, 0, 0, 0))
        for name, interval, low, high in (("parameters", budget.params, least, most), ("MACs", budget.macs, least_macs, most_macs)):
            if low > interval.high or high < interval.low:
                return _Bounds(tuple(rest), f"{interval} {name}, where it can have {low} to {high}")
        return _Bounds(tuple(rest), None)


@dataclass(frozen=True, eq=False)
class _Frontier:
    """All assignments of the whole chain: their costs, and how each was made."""

    params: np.ndarray
    macs: np.ndarray
    steps: tuple[tuple[np.ndarray, np.ndarray, tuple[_Option, ...]], ...]

    @property
    def rows(self) -> int:
        return len(self.params)

    def chain(self, row: int) -> Chain:
        ops: list[Op] = []
        for parents, picks, options in reversed(self.steps):
            ops.append(options[int(picks[row])].op)
            row = int(parents[row])
        return tuple(reversed(ops))


def _frontier(stages: Sequence[_Stage], value: Value, budget: Budget, bounds: _Bounds) -> _Frontier | None:
    """Every assignment within the budget, by breadth with both bounds; None if there are too many on the way."""
    values, numbers = [value], np.zeros(1, dtype=np.int64)
    params, macs = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    steps: list[tuple[np.ndarray, np.ndarray, tuple[_Option, ...]]] = []
    for index, stage in enumerate(stages):
        options, starts = _flatten(stage, values)
        if sum(int((numbers == k).sum()) * (starts[k + 1] - starts[k]) for k in range(len(values))) > 20 * LARGEST_FRONTIER:
            return None
        counts = (starts[1:] - starts[:-1])[numbers]
        parents = np.repeat(np.arange(len(numbers)), counts)
        within = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        picks = starts[:-1][numbers][parents] + within
        next_values = list(dict.fromkeys(option.value for option in options))
        place = {value: k for k, value in enumerate(next_values)}
        params = params[parents] + np.array([option.params for option in options], dtype=np.int64)[picks]
        macs = macs[parents] + np.array([option.macs for option in options], dtype=np.int64)[picks]
        numbers = np.array([place[option.value] for option in options], dtype=np.int64)[picks]
        rest = np.array([bounds.rest[index + 1].get(value, (0, 0, 0, 0)) for value in next_values], dtype=np.int64)[numbers]
        keep = (params + rest[:, 0] <= budget.params.high) & (params + rest[:, 1] >= budget.params.low)
        keep &= (macs + rest[:, 2] <= budget.macs.high) & (macs + rest[:, 3] >= budget.macs.low)
        params, macs, numbers = params[keep], macs[keep], numbers[keep]
        steps.append((parents[keep], picks[keep], options))
        values = next_values
        if len(params) > LARGEST_FRONTIER:
            return None
    return _Frontier(params, macs, tuple(steps))


def _flatten(stage: _Stage, values: Sequence[Value]) -> tuple[tuple[_Option, ...], np.ndarray]:
    """The options of all incoming types in one row, and where those of each type start."""
    rows = [stage.get(value, ()) for value in values]
    return tuple(option for row in rows for option in row), np.cumsum([0, *map(len, rows)])


def _by_z3(
    value: Value, stages: Sequence[_Stage], budget: Budget, count: int, time_limit: float
) -> tuple[Chain, ...] | Infeasible | GaveUp:
    import z3

    started = time.monotonic()
    solver = z3.Solver()
    solver.set("random_seed", SEED)
    model = _Encoding(z3, solver, value, stages, budget)
    found: list[Chain] = []
    while len(found) < count:
        left = time_limit - (time.monotonic() - started)
        if left <= 0:
            break
        solver.set("timeout", max(1, int(left * 1000)))
        verdict = solver.check()
        if verdict == z3.unsat:
            break
        if verdict == z3.unknown:
            if found:
                break
            return GaveUp(f"Z3 did not settle the sizes within {time_limit:g} s", time.monotonic() - started)
        found.append(model.read(solver.model()))
        solver.add(model.differs(solver.model()))
    if not found:
        return Infeasible((f"the chain {', '.join(_kinds(stages))}", str(budget)), time.monotonic() - started)
    return tuple(_checked(value, stages, chain, budget) for chain in found)


def _kinds(stages: Sequence[_Stage]) -> list[str]:
    return [next(iter(stage.values()))[0].op.kind() for stage in stages]


def _checked(value: Value, stages: Sequence[_Stage], chain: Chain, budget: Budget) -> Chain:
    """The chain, once substituting its sizes is seen to keep the budget; an AssertionError is a bug in the encoding."""
    params = macs = 0
    for op in chain:
        result = effect(op, value)
        value, params, macs = result.value, params + result.params, macs + result.macs
    assert budget.params.holds(params) and budget.macs.holds(macs), "a Z3 model does not satisfy the budget it was solved for"
    return chain


class _Encoding:
    """A chain's sizes as integers over enumerated domains, its costs as polynomials in them."""

    def __init__(self, z3: Any, solver: Any, value: Value, stages: Sequence[_Stage], budget: Budget):
        self.z3, self.stages, self.value = z3, stages, value
        self.channels = [z3.Int(f"channels{index}") for index in range(len(stages) + 1)]
        solver.add(self.channels[0] == value.channels)
        params, macs = [], []
        for index, stage in enumerate(stages):
            p, m = self._stage(solver, index, stage)
            params.append(p)
            macs.append(m)
        for total, interval in ((z3.Sum(params), budget.params), (z3.Sum(macs), budget.macs)):
            solver.add(total >= interval.low)
            if interval.high != math.inf:
                solver.add(total <= int(interval.high))

    def _stage(self, solver: Any, index: int, stage: _Stage) -> tuple[Any, Any]:
        z3, before, after = self.z3, self.channels[index], self.channels[index + 1]
        pairs = [(incoming, option) for incoming, options in stage.items() for option in options]
        solver.add(z3.Or([after == channels for channels in sorted({option.value.channels for _, option in pairs})]))
        dense = len({incoming for incoming, _ in pairs}) * len({option.value for _, option in pairs}) == len(pairs)
        if not dense:
            solver.add(z3.Or([z3.And(before == i.channels, after == option.value.channels) for i, option in pairs]))
        costs = []
        for position, name in enumerate(("params", "macs")):
            formula = self._polynomial(pairs, position, before, after)
            if formula is None:
                formula = z3.Int(f"{name}{index}")
                for incoming, option in pairs:
                    here = z3.And(before == incoming.channels, after == option.value.channels)
                    solver.add(z3.Implies(here, formula == getattr(option, name)))
            costs.append(formula)
        return costs[0], costs[1]

    def _polynomial(self, pairs: Sequence[tuple[Value, _Option]], position: int, before: Any, after: Any) -> Any | None:
        """The cost as an integer polynomial in the channels before and after, if that agrees with every pair."""
        fitted = polynomials(pairs[0][1].op, pairs[0][0])
        if fitted is None:
            return None
        constant, a, b, ab, aa, bb = (Fraction(x).limit_denominator(10_000) for x in fitted[position])
        if any(x.denominator != 1 for x in (constant, a, b, ab, aa, bb)):
            return None
        for incoming, option in pairs:
            c, d = incoming.channels, option.value.channels
            cost = option.params if position == 0 else option.macs
            if constant + a * c + b * d + ab * c * d + aa * c * c + bb * d * d != cost:
                return None
        return (
            int(constant)
            + int(a) * before
            + int(b) * after
            + int(ab) * before * after
            + int(aa) * before * before
            + int(bb) * after * after
        )

    def read(self, model: Any) -> Chain:
        value, ops = self.value, []
        for index, stage in enumerate(self.stages):
            channels = model.eval(self.channels[index + 1]).as_long()
            option = next(option for option in stage[value] if option.value.channels == channels)
            ops.append(option.op)
            value = option.value
        return tuple(ops)

    def differs(self, model: Any) -> Any:
        return self.z3.Or([channels != model.eval(channels) for channels in self.channels])
