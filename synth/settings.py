"""The ways to set the sizes and fields of a chain of ops, stage by stage: what leads from one type to another, and what it costs.

Free of Z3. `synth.sizes` decides among them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from properties import PROPERTIES, Mixing
from synth.budget import ANY, UNLIMITED, Budget, Interval
from synth.effect import effect, size_fields, summary, with_size
from synth.memory import bytes_of
from synth.op import PROBE_BATCH, Op, ShapeMismatch, Value, output_value

LARGEST_FRONTIER = 200_000
"""Partial assignments that enumeration may hold at once."""

PLAIN_CHANNELS = (16, 48, 64, 96, 192, 240, 768)
"""Channel counts at which windows are read: how far an op sees along the other axes does not depend on its channels."""

MIXING = tuple(each for each in PROPERTIES if each.name == "mixing")

A_SIZING = 2_000
"""The steps after which the sizes of one program among many are left as they are."""

Cost = Callable[[Op, Value], float]


@dataclass(frozen=True)
class Settings:
    """What may be set, and what is asked of the whole chain.

    Sizes come from `widths` and what the ops have already, if they are multiples of `multiple` (or the output's channels). `fields`
    are further fields, such as groups, kernel, stride, dilation or heads, and the values that each may take. `sees` says on how
    many positions of each input axis an output element must be able to depend, `rank` is the least rank bound (for one example).
    `cost` is least in the first solution; None is the number of parameters.
    """

    widths: tuple[int, ...] = ()
    fields: Mapping[str, tuple[object, ...]] = field(default_factory=dict)
    multiple: int = 1
    sees: tuple[int, ...] = ()
    rank: int = 0
    budget: Budget = UNLIMITED
    cost: Cost | None = None


State = tuple[Value, Mixing | None]
"""The type that has been reached; and how it depends on the input's positions, where that is asked for."""


@dataclass(frozen=True)
class Option:
    """One way to set an op on one incoming state: the op, where it leads, and what it costs."""

    op: Op
    state: State
    params: int
    macs: int
    cost: float


Stage = dict[State, tuple[Option, ...]]


class Unseen(ValueError):
    """The ops do not all fit one number of channels, so that their windows cannot be told apart from their sizes."""


def stages(value: Value, ops: Sequence[Op], output: Value, settings: Settings) -> list[Stage] | None:
    """For every op and every state that can reach it, the options that still lead to what is asked; None if there are none.

    Raises Unseen if a receptive field is asked of ops that fit no common number of channels.
    """
    plain = _plain(value, ops, settings) if settings.sees else 0
    start: State = (value, Mixing.identity(_at(value, plain).aval().shape) if plain else None)
    found: list[Stage] = []
    reached = {start}
    for index, op in enumerate(ops):
        wanted = output if index == len(ops) - 1 else None
        stage = {incoming: tuple(_options(op, incoming, wanted, output, settings, plain)) for incoming in reached}
        reached = {option.state for options in stage.values() for option in options}
        found.append(stage)
    alive = {state for state in reached if state[0] == output and _sees(state[1], settings.sees)}
    for index in reversed(range(len(found))):
        kept = {
            incoming: options
            for incoming, all_options in found[index].items()
            if (options := tuple(option for option in all_options if option.state in alive))
        }
        found[index], alive = kept, set(kept)
    return found if start in alive else None


def _sees(mixing: Mixing | None, positions: Sequence[int]) -> bool:
    return mixing is None or all(mixing.positions(axis) >= least for axis, least in enumerate(positions) if least)


def _at(value: Value, channels: int) -> Value:
    return replace(value, shape=(*value.shape[:-1], channels))


def _plain(value: Value, ops: Sequence[Op], settings: Settings) -> int:
    """A number of channels at which every op fits with every setting."""
    for channels in PLAIN_CHANNELS:
        if all(_checks(_sized(each, channels), _at(value, channels)) for op in ops for each in variants(op, settings.fields)):
            return channels
    raise Unseen(f"no number of channels fits all of {', '.join(op.kind() for op in ops)}, so their windows cannot be read")


def _checks(op: Op, value: Value) -> bool:
    try:
        op.check(value)
    except ShapeMismatch:
        return False
    return True


def _sized(op: Op, size: int) -> Op:
    return with_size(op, size) if size_fields(type(op)) else op


def variants(op: Op, domains: Mapping[str, tuple[object, ...]]) -> Iterator[Op]:
    """The op with every combination of its fields' values, the present one first."""
    own = [each.name for each in fields(op) if each.name in domains and each.name not in size_fields(type(op))]
    for values in itertools.product(*(dict.fromkeys((getattr(op, name), *domains[name])) for name in own)):
        yield replace(op, **dict(zip(own, values, strict=True)))


def _options(op: Op, incoming: State, wanted: Value | None, output: Value, settings: Settings, plain: int) -> Iterator[Option]:
    value, mixing = incoming
    for variant in variants(op, settings.fields):
        following: dict[tuple[int | None, ...], Mixing | None] = {}
        for candidate in _sizes(variant, output, settings):
            try:
                found = effect(candidate, value)
            except ShapeMismatch:
                continue
            if (wanted is not None and found.value != wanted) or not _holds(candidate, value, found.value, settings):
                continue
            if mixing is not None and found.value.shape[:-1] not in following:
                following[found.value.shape[:-1]] = _after(mixing, _sized(variant, plain), _at(value, plain))
            cost = found.params if settings.cost is None else settings.cost(candidate, value)
            if math.isfinite(cost):
                yield Option(candidate, (found.value, following.get(found.value.shape[:-1])), found.params, found.macs, cost)


def _sizes(op: Op, output: Value, settings: Settings) -> Iterable[Op]:
    return _in_sizes(op, settings.widths, settings.multiple, output.shape[-1])


@functools.lru_cache(maxsize=16384)
def _in_sizes(op: Op, widths: tuple[int, ...], multiple: int, last: int | None) -> tuple[Op, ...]:
    """The op in every size that is a multiple, or the last one's."""
    names = size_fields(type(op))
    sizes = {*widths, *(getattr(op, name) for name in names)}
    return tuple([with_size(op, size) for size in sorted(sizes) if size % multiple == 0 or size == last]) if names else (op,)


def _after(mixing: Mixing, op: Op, value: Value) -> Mixing | None:
    step = summary(op, (value,), MIXING).relation("mixing", 0, 0)
    return None if step is None else mixing.then(step)


def _holds(op: Op, value: Value, result: Value, settings: Settings) -> bool:
    """Whether a step lets enough through, and holds few enough bytes: in a chain both are decided step by step."""
    if settings.rank and settings.rank > _elements(result):
        return False
    if settings.budget.peak_bytes == ANY:
        return True
    return held(value, result) <= settings.budget.peak_bytes.high


def held(value: Value, result: Value) -> int:
    """Bytes alive at once in a chain while an op turns a value into its result."""
    return bytes_of(value) + bytes_of(result)


@functools.lru_cache(maxsize=64)
def overflows(most: float) -> Cost:
    """A cost of 1 for every step of a chain that holds more than so many bytes at once: a chain keeps within them if it costs 0."""
    return lambda op, value: float(held(value, output_value(op, (value,))) > most)


def _elements(value: Value) -> int:
    return math.prod(size or 1 for size in value.shape)


@dataclass(frozen=True)
class Bounds:
    """For every stage and incoming state the least and the most that the rest of the chain can cost."""

    rest: tuple[dict[State, tuple[int, int, int, int]], ...]

    @staticmethod
    def of(chain: Sequence[Stage]) -> Bounds:
        rest: list[dict[State, tuple[int, int, int, int]]] = [{}]
        for stage in reversed(chain):
            after = rest[0]
            here = {}
            for incoming, options in stage.items():
                ends = [(option, after.get(option.state, (0, 0, 0, 0))) for option in options]
                here[incoming] = (
                    min(option.params + end[0] for option, end in ends),
                    max(option.params + end[1] for option, end in ends),
                    min(option.macs + end[2] for option, end in ends),
                    max(option.macs + end[3] for option, end in ends),
                )
            rest.insert(0, here)
        return Bounds(tuple(rest))

    def conflict(self, budget: Budget) -> str | None:
        """A budget that no setting keeps, whatever the others ask; None if there is none."""
        least, most, least_macs, most_macs = next(iter(self.rest[0].values()), (0, 0, 0, 0))
        checked: tuple[tuple[str, Interval, int, int], ...] = (
            ("parameters", budget.params, least, most),
            ("MACs", budget.macs, least_macs, most_macs),
        )
        for name, interval, low, high in checked:
            if low > interval.high or high < interval.low:
                return f"{interval} {name}, where it can have {low} to {high}"
        return None


@dataclass(frozen=True, eq=False)
class Frontier:
    """All settings of the whole chain: what they cost, and how each was made."""

    params: np.ndarray
    macs: np.ndarray
    cost: np.ndarray
    steps: tuple[tuple[np.ndarray, np.ndarray, tuple[Option, ...]], ...]

    @property
    def rows(self) -> int:
        return len(self.params)

    def chain(self, row: int) -> tuple[Op, ...]:
        """The ops of one setting."""
        ops: list[Op] = []
        for parents, picks, options in reversed(self.steps):
            ops.append(options[int(picks[row])].op)
            row = int(parents[row])
        return tuple(reversed(ops))

    def positions(self) -> np.ndarray:
        """Every setting as a point: which option each op has, by rank among them from 0 to 1."""
        rows = np.arange(self.rows)
        columns = []
        for parents, picks, options in reversed(self.steps):
            columns.append(picks[rows] / max(1, len(options) - 1))
            rows = parents[rows]
        return np.stack(columns, 1) if columns else np.zeros((self.rows, 0))


def frontier(chain: Sequence[Stage], start: State, budget: Budget, bounds: Bounds, most: int) -> Frontier | None:
    """Every setting within the budget, by breadth with both bounds; None if there are more than `most` on the way."""
    states, numbers = [start], np.zeros(1, dtype=np.int64)
    params, macs, cost = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64), np.zeros(1)
    steps: list[tuple[np.ndarray, np.ndarray, tuple[Option, ...]]] = []
    for index, stage in enumerate(chain):
        rows = [stage.get(state, ()) for state in states]
        options = tuple(option for row in rows for option in row)
        starts = np.cumsum([0, *map(len, rows)])
        counts = (starts[1:] - starts[:-1])[numbers]
        if int(counts.sum()) > 20 * most:
            return None
        parents = np.repeat(np.arange(len(numbers)), counts)
        within = np.arange(len(parents)) - np.repeat(np.cumsum(counts) - counts, counts)
        picks = starts[:-1][numbers][parents] + within
        states = list(dict.fromkeys(option.state for option in options))
        place = {state: k for k, state in enumerate(states)}
        params = params[parents] + np.array([option.params for option in options], dtype=np.int64)[picks]
        macs = macs[parents] + np.array([option.macs for option in options], dtype=np.int64)[picks]
        cost = cost[parents] + np.array([option.cost for option in options], dtype=float)[picks]
        numbers = np.array([place[option.state] for option in options], dtype=np.int64)[picks]
        rest = np.array([bounds.rest[index + 1].get(state, (0, 0, 0, 0)) for state in states], dtype=np.int64)[numbers]
        keep = (params + rest[:, 0] <= budget.params.high) & (params + rest[:, 1] >= budget.params.low)
        keep &= (macs + rest[:, 2] <= budget.macs.high) & (macs + rest[:, 3] >= budget.macs.low)
        params, macs, cost, numbers = params[keep], macs[keep], cost[keep], numbers[keep]
        steps.append((parents[keep], picks[keep], options))
        if len(params) > most:
            return None
    return Frontier(params, macs, cost, tuple(steps))


def apart(points: np.ndarray, order: np.ndarray, count: int) -> list[int]:
    """Up to `count` rows, the first of the order first, each next one as far from those before as any."""
    chosen = [int(order[0])]
    distance = np.abs(points[order] - points[chosen[0]]).sum(1)
    while len(chosen) < min(count, len(order)):
        pick = int(np.argmax(distance))
        if distance[pick] <= 0:
            break
        chosen.append(int(order[pick]))
        distance = np.minimum(distance, np.abs(points[order] - points[chosen[-1]]).sum(1))
    return chosen


def rank_of_probe(rank: int) -> int:
    """A rank bound at the probe's batch size, for one example."""
    return -(-rank // PROBE_BATCH)
