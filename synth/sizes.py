"""Sizes and fields of a chain of ops under shape equations and budgets: enumerated where that is small, else solved by Z3.

The only file that touches Z3, and only inside functions: `import synth` does not load it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields as fields_of
from fractions import Fraction
from typing import Any

import numpy as np

from properties import RankRequirement, Requirement
from synth.budget import UNLIMITED, Budget
from synth.clock import Clock
from synth.effect import exact_effect, polynomials
from synth.graph import chain
from synth.memory import peak_bytes
from synth.op import Op, Value
from synth.requirements import ReceptiveFieldRequirement
from synth.result import GaveUp, Infeasible
from synth.settings import LARGEST_FRONTIER as LARGEST_FRONTIER
from synth.settings import Bounds, Cost, Option, Settings, Stage, State, Unseen, apart, frontier, rank_of_probe, stages

SEED = 20

RESOURCES_A_STEP = 100
"""How much of Z3's own work counts as one step: it does about a million a second."""

LONGEST_CALL = 2**32 - 1
"""The largest limit that Z3 takes, in milliseconds or in its own unit; 0 is none."""

Chain = tuple[Op, ...]


def solve(
    value: Value,
    ops: Sequence[Op],
    output: Value,
    *,
    widths: Sequence[int],
    budget: Budget = UNLIMITED,
    fields: Sequence[str] | Mapping[str, Sequence[object]] = (),
    multiple: int = 1,
    requirements: Sequence[Requirement] = (),
    cost: Cost | None = None,
    diverse: bool = False,
    rng: np.random.Generator | None = None,
    count: int = 1,
    time_limit: float = 1.0,
    steps: float | None = None,
) -> tuple[Chain, ...] | Infeasible | GaveUp:
    """The chain with its sizes set so that it maps `value` to `output` within the budget.

    Sizes come from `widths` and what the ops have already; with `multiple`, those that are multiples of it (the output's channels
    aside). `fields` may be set too: names, whose declared choices are taken, or names with their values (kernel, stride, dilation,
    groups, heads …). Requirements on the receptive field and the rank bound are kept. With `rng`, up to `count` solutions drawn
    uniformly from all of them where they can be enumerated; without, the `count` of least `cost`, a function of an op and its input
    (by default the number of parameters). `diverse` chooses solutions far apart instead, after the first. Z3 gives up after
    `time_limit` seconds, or `steps` of its own work (see `synth.clock`).

    ValueError for a requirement of another kind.
    """
    settings = _settings(ops, widths, fields, multiple, requirements, budget, cost)
    kinds = f"the chain {', '.join(op.kind() for op in ops)}"
    if not ops:
        return ((),) if value == output else Infeasible((kinds, f"an output of {output} from {value}"))
    try:
        chain = stages(value, ops, output, settings)
    except Unseen as error:
        return GaveUp(str(error))
    if chain is None:
        return Infeasible((kinds, f"an output of {output} from {value}", *_asked(requirements, budget)))
    bounds = Bounds.of(chain)
    conflict = bounds.conflict(budget)
    if conflict is not None:
        return Infeasible((kinds, conflict))
    start = next(iter(chain[0]))
    found = frontier(chain, start, budget, bounds, LARGEST_FRONTIER)
    if found is None:
        return _by_z3(start, chain, settings, count, Clock.of(time_limit, steps), cheapest=rng is None)
    if found.rows == 0:
        return Infeasible((kinds, str(budget)))
    order = np.lexsort((found.macs, found.cost)) if rng is None else rng.permutation(found.rows)
    rows = apart(found.positions(), order, count) if diverse else order[:count]
    return tuple(found.chain(int(row)) for row in rows)


def _settings(
    ops: Sequence[Op],
    widths: Sequence[int],
    names: Sequence[str] | Mapping[str, Sequence[object]],
    multiple: int,
    requirements: Sequence[Requirement],
    budget: Budget,
    cost: Cost | None,
) -> Settings:
    if multiple < 1 or any(width < 1 for width in widths):
        raise ValueError(f"widths and what they are multiples of are at least 1, got {sorted(widths)} and {multiple}")
    sees: tuple[int, ...] = ()
    rank = 0
    for each in requirements:
        if isinstance(each, ReceptiveFieldRequirement):
            sees = each.positions
        elif isinstance(each, RankRequirement):
            rank = max(rank, rank_of_probe(each.minimum))
        else:
            raise ValueError(
                f"sizes decide the receptive field and the rank bound; got a requirement of kind {each.to_json()['kind']!r}"
            )
    domains = {name: tuple(values) for name, values in names.items()} if isinstance(names, Mapping) else _declared(ops, names)
    return Settings(tuple(widths), domains, multiple, sees, rank, budget, cost)


def _declared(ops: Sequence[Op], names: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """The declared choices of fields, over all ops that have them; ValueError for a name that no op has choices for."""
    found: dict[str, tuple[object, ...]] = {}
    for op in ops:
        for each in fields_of(op):
            if each.name in names and "choices" in each.metadata:
                found[each.name] = tuple(dict.fromkeys((*found.get(each.name, ()), *each.metadata["choices"])))
    missing = sorted(set(names) - set(found))
    if missing:
        raise ValueError(
            f"no op of {', '.join(op.kind() for op in ops)} declares choices for {', '.join(missing)}; give the values"
        )
    return found


def _asked(requirements: Sequence[Requirement], budget: Budget) -> list[str]:
    from synth.target import describe

    return [*map(describe, requirements), *([str(Budget(peak_bytes=budget.peak_bytes))] if budget.limits_memory else [])]


def _by_z3(
    start: State, chain: Sequence[Stage], settings: Settings, count: int, clock: Clock, *, cheapest: bool
) -> tuple[Chain, ...] | Infeasible | GaveUp:
    """Models of the encoding, each checked by substitution; the first ones of least cost where that is asked and time allows."""
    import z3

    solver = z3.Solver()
    solver.set("random_seed", SEED)
    model = _Encoding(z3, solver, start, chain, settings, with_cost=cheapest)
    found: list[Chain] = []
    settled = True
    while len(found) < count and settled:
        options, settled = model.next(clock, cheapest=cheapest)
        if options is None:
            break
        found.append(tuple(option.op for option in options))
        solver.add(model.differs(options))
    if not found:
        if not settled:
            return GaveUp(f"{clock.reason} before Z3 had settled the sizes", clock.seconds)
        return Infeasible((f"the chain {', '.join(_kinds(chain))}", str(settings.budget)), clock.seconds)
    return tuple(_checked(start[0], ops, settings.budget) for ops in found)


def _kinds(chain: Sequence[Stage]) -> list[str]:
    return [next(iter(stage.values()))[0].op.kind() for stage in chain]


def _checked(value: Value, ops: Chain, budget: Budget) -> Chain:
    """The chain, once counting it anew shows that it keeps the budget; an AssertionError is a bug in the encoding."""
    params = macs = 0
    memory = peak_bytes(chain(value, ops)) if budget.limits_memory else 0
    for op in ops:
        result = exact_effect(op, (value,))
        value, params, macs = result.value, params + result.params, macs + result.macs
    assert budget.distance(params, macs, memory) == 0, "a Z3 model does not satisfy the budget it was solved for"
    return ops


Pair = tuple[State, Option]


class _Encoding:
    """A chain's channels and settings as integers over enumerated domains, its costs as polynomials in the channels.

    Beside the channels between the ops there is a number for what else is reached (the other axes, what is seen), and one for how
    an op's fields are set.
    """

    def __init__(self, z3: Any, solver: Any, start: State, chain: Sequence[Stage], settings: Settings, *, with_cost: bool):
        self.z3, self.solver, self.chain, self.start = z3, solver, chain, start
        self.channels = [z3.Int(f"channels{index}") for index in range(len(chain) + 1)]
        self.kinds = [z3.Int(f"kind{index}") for index in range(len(chain) + 1)]
        self.variants = [z3.Int(f"variant{index}") for index in range(len(chain))]
        self.numbers: list[dict[Any, int]] = [{} for _ in self.kinds]
        self.settings: list[dict[Any, int]] = [{} for _ in self.variants]
        solver.add(self.channels[0] == start[0].channels, self.kinds[0] == self._kind(0, start))
        sums: list[list[Any]] = [[], [], []]
        names = ("params", "macs", "cost")[: 3 if with_cost and settings.cost is not None else 2]
        for index, stage in enumerate(chain):
            for column, formula in enumerate(self._stage(index, stage, names)):
                sums[column].append(formula)
        for formulas, interval in zip(sums, (settings.budget.params, settings.budget.macs), strict=False):
            solver.add(z3.Sum(formulas) >= math.ceil(interval.low))
            if interval.high != math.inf:
                solver.add(z3.Sum(formulas) <= math.floor(interval.high))
        self.total = z3.Sum(sums[2] or sums[0])

    def next(self, clock: Clock, *, cheapest: bool) -> tuple[tuple[Option, ...] | None, bool]:
        """A model as options, if there is one; and whether that is settled: with `cheapest`, proven to be of least cost."""
        best: tuple[Option, ...] | None = None
        self.solver.push()
        try:
            while clock.take():
                verdict = self._verdict(clock)
                if verdict == self.z3.unsat:
                    return best, True
                if verdict == self.z3.unknown:
                    return best, False
                model = self.solver.model()
                best = self.read(model)
                if not cheapest:
                    return best, True
                self.solver.add(self.total < model.eval(self.total, model_completion=True))
            return best, False
        finally:
            self.solver.pop()

    def _verdict(self, clock: Clock) -> Any:
        """Z3's verdict, within what is left of the clock; what it did is counted."""
        self.solver.set("timeout", int(min(max(1.0, 1000 * (clock.deadline - time.monotonic())), LONGEST_CALL)))
        self.solver.set("rlimit", int(min(RESOURCES_A_STEP * (1 + clock.steps - clock.taken), LONGEST_CALL)))
        before = self._resources
        verdict = self.solver.check()
        clock.take((self._resources - before) // RESOURCES_A_STEP)
        return verdict

    @property
    def _resources(self) -> int:
        """What Z3 has done since it was started, in its own unit, which does not depend on the machine."""
        return int(self.solver.statistics().get_key_value("rlimit count"))

    def _kind(self, index: int, state: State) -> int:
        value, seen = state
        return self.numbers[index].setdefault((value.shape[:-1], value.dtype, seen), len(self.numbers[index]))

    def _variant(self, index: int, op: Op) -> int:
        names = {each.name for each in fields_of(op) if each.metadata.get("size")}
        key = tuple((name, setting) for name, setting in op.attributes().items() if name not in names)
        return self.settings[index].setdefault(key, len(self.settings[index]))

    def _stage(self, index: int, stage: Stage, names: Sequence[str]) -> list[Any]:
        """Constrains a stage to its options; its costs."""
        groups: dict[tuple[int, int, int], list[Pair]] = {}
        for incoming, options in stage.items():
            for option in options:
                key = self._kind(index, incoming), self._variant(index, option.op), self._kind(index + 1, option.state)
                groups.setdefault(key, []).append((incoming, option))
        z3 = self.z3
        before, variant, after = self.kinds[index], self.variants[index], self.kinds[index + 1]
        here = {key: z3.And(before == key[0], variant == key[1], after == key[2]) for key in groups}
        self.solver.add(z3.Or(list(here.values())))
        for key, pairs in groups.items():
            self.solver.add(z3.Implies(here[key], self._fits(index, pairs)))
        return [self._cost(index, name, groups, here) for name in names]

    def _fits(self, index: int, pairs: Sequence[Pair]) -> Any:
        """What channels may come in and go out in one group of options."""
        z3, before, after = self.z3, self.channels[index], self.channels[index + 1]
        incoming = sorted({state[0].channels for state, _ in pairs})
        leaving = sorted({option.state[0].channels for _, option in pairs})
        if len(incoming) * len(leaving) == len(pairs):
            return z3.And(z3.Or([before == size for size in incoming]), z3.Or([after == size for size in leaving]))
        return z3.Or([z3.And(before == state[0].channels, after == option.state[0].channels) for state, option in pairs])

    def _cost(self, index: int, name: str, groups: Mapping[tuple[int, int, int], Sequence[Pair]], here: Mapping[Any, Any]) -> Any:
        formulas = {key: self._polynomial(index, pairs, name) for key, pairs in groups.items()}
        first = next(iter(formulas.values()))
        if len(formulas) == 1 and first is not None:
            return first
        z3, before, after = self.z3, self.channels[index], self.channels[index + 1]
        total = z3.Real(f"{name}{index}") if name == "cost" else z3.Int(f"{name}{index}")
        for key, formula in formulas.items():
            if formula is not None:
                self.solver.add(z3.Implies(here[key], total == formula))
                continue
            for state, option in groups[key]:
                both = z3.And(here[key], before == state[0].channels, after == option.state[0].channels)
                figure = getattr(option, name)
                self.solver.add(z3.Implies(both, total == (z3.RealVal(repr(float(figure))) if name == "cost" else figure)))
        return total

    def _polynomial(self, index: int, pairs: Sequence[Pair], name: str) -> Any | None:
        """The cost as an integer polynomial in the channels before and after, if that agrees with every option."""
        fitted = polynomials(pairs[0][1].op, pairs[0][0][0]) if name != "cost" else None
        if fitted is None:
            return None
        exact = [Fraction(x).limit_denominator(10_000) for x in fitted[0 if name == "params" else 1]]
        if any(x.denominator != 1 for x in exact):
            return None
        constant, a, b, ab, aa, bb = map(int, exact)
        for state, option in pairs:
            c, d = state[0].channels, option.state[0].channels
            if constant + a * c + b * d + ab * c * d + aa * c * c + bb * d * d != getattr(option, name):
                return None
        x, y = self.channels[index], self.channels[index + 1]
        return constant + a * x + b * y + ab * x * y + aa * x * x + bb * y * y

    def read(self, model: Any) -> tuple[Option, ...]:
        """The options that a model stands for."""
        return tuple(self._read(model))

    def _read(self, model: Any) -> Iterator[Option]:
        state = self.start
        for index, stage in enumerate(self.chain):
            channels = model.eval(self.channels[index + 1]).as_long()
            kind, variant = model.eval(self.kinds[index + 1]).as_long(), model.eval(self.variants[index]).as_long()
            option = next(
                each
                for each in stage[state]
                if each.state[0].channels == channels
                and self._kind(index + 1, each.state) == kind
                and self._variant(index, each.op) == variant
            )
            yield option
            state = option.state

    def differs(self, options: Sequence[Option]) -> Any:
        """Another solution than this one."""
        return self.z3.Or(
            [
                self.z3.Or(
                    self.channels[index + 1] != option.state[0].channels, self.variants[index] != self._variant(index, option.op)
                )
                for index, option in enumerate(options)
            ]
        )
