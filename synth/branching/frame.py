"""The types that values of branching programs have, the moves between them, and the ways to merge them.

Nothing is listed by name: a merge is any op of several inputs, its ways are the operand types that it takes among the frame's.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from synth.clock import ENDLESS, Clock
from synth.memo import Memo
from synth.op import Op, ShapeMismatch, Value, alternatives, output_value
from synth.space import Alphabet

DETOUR = 1
"""Changes of shape, that of the channels aside, that a way may take beyond the fewest between an input and an output."""

BINARY = 2

Bare = tuple[tuple[int | None, ...], str]


@dataclass(frozen=True)
class Way:
    """A merge of values of the types `operands` to one of the type `after`, all by number."""

    merge: Op
    operands: tuple[int, ...]
    after: int


@dataclass(frozen=True, eq=False)
class Frame:
    """The types on the ways from the sources to the goals; for each the ops that lead on, and all ways to merge."""

    values: tuple[Value, ...]
    moves: tuple[tuple[tuple[Op, int], ...], ...]
    ways: tuple[Way, ...]
    sources: tuple[int, ...]
    goals: tuple[int, ...]

    @property
    def reachable(self) -> bool:
        """Whether every source leads to every goal."""
        return bool(self.values)


NOWHERE = Frame((), (), (), (), ())

FrameKey = tuple[tuple[type[Op], ...], tuple[int, ...], tuple[Value, ...], tuple[Value, ...], int]
_FRAMES: Memo[FrameKey, tuple[Frame, int]] = Memo(256)


def frame(
    op_types: tuple[type[Op], ...],
    sizes: tuple[int, ...],
    sources: tuple[Value, ...],
    goals: tuple[Value, ...],
    longest: int,
    *,
    clock: Clock = ENDLESS,
) -> Frame:
    """The frame of a vocabulary with up to `longest` changes of shape; memoised.

    Its channel counts are `sizes`, those of the ends, and half of a goal's. TimeIsUp when the clock's limit is reached.
    """
    key = op_types, sizes, sources, goals, longest
    return clock.remembered(_FRAMES, key, lambda: _frame(op_types, sizes, sources, goals, longest, clock))


def _frame(
    op_types: tuple[type[Op], ...],
    sizes: tuple[int, ...],
    sources: Sequence[Value],
    goals: Sequence[Value],
    longest: int,
    clock: Clock,
) -> Frame:
    counts = {value.channels for value in (*sources, *goals)} | set(sizes)
    counts |= {goal.channels // 2 for goal in goals if goal.channels % 2 == 0}
    alphabet = Alphabet.of({op_type.kind(): op_type for op_type in op_types}, sorted(counts))
    merges = tuple(
        op for op_type in op_types if op_type.arity != 1 and op_type.taste > 0 for op in alternatives(op_type, sorted(counts))
    )
    for limit in range(longest + 1):
        if not set(goals) <= set(_reached(alphabet, merges, counts, sources, goals, limit, clock)):
            continue
        values = tuple(_reached(alphabet, merges, counts, sources, goals, limit + DETOUR, clock))
        place = {value: index for index, value in enumerate(values)}
        moves = tuple(tuple((op, place[after]) for op, after in alphabet.moves(value) if after in place) for value in values)
        clock.check()
        ends = (tuple(place[value] for value in each) for each in (sources, goals))
        return trimmed(Frame(values, moves, tuple(_ways(merges, values)), *ends))
    return NOWHERE


def bare(value: Value) -> Bare:
    """A type without its channels."""
    return value.shape[:-1], value.dtype


def _reached(
    alphabet: Alphabet,
    merges: tuple[Op, ...],
    counts: set[int],
    sources: Sequence[Value],
    goals: Sequence[Value],
    limit: int,
    clock: Clock,
) -> list[Value]:
    """The types that up to `limit` shape changes lead to; those at the limit only if they are, or merge into, a goal's shape."""
    ends = {bare(goal) for goal in goals}
    changes = dict.fromkeys(sources, 0)
    waiting = list(changes)
    for value in waiting:
        for _, after in alphabet.moves(value, clock=clock):
            made = changes[value] + (bare(after) != bare(value))
            if made >= changes.get(after, made + 1) or made > limit or after.shape[-1] not in counts:
                continue
            if (
                made == limit
                and bare(after) not in ends
                and not any(_joins(merge, goal, after) for merge in merges for goal in goals)
            ):
                continue
            changes[after] = made
            waiting.append(after)
    return list(changes)


def _joins(merge: Op, goal: Value, other: Value) -> bool:
    """Whether a merge of a goal's shape with another one keeps the goal's shape."""
    if merge.arity not in (None, BINARY):
        return False
    same = Value((*goal.shape[:-1], other.channels), goal.dtype)
    made = _merged(merge, (same, other))
    return made is not None and bare(made) == bare(goal)


def _merged(merge: Op, operands: tuple[Value, ...]) -> Value | None:
    try:
        return output_value(merge, operands)
    except ShapeMismatch:
        return None


def _ways(merges: Sequence[Op], values: Sequence[Value]) -> Iterator[Way]:
    """Every way to merge: two operands of any types, more operands of one type; commuting operands in one order."""
    place = {value: index for index, value in enumerate(values)}
    for merge in merges:
        arity = merge.arity or BINARY
        pairs = (
            itertools.combinations_with_replacement if merge.commutative else lambda items, _: itertools.product(items, repeat=2)
        )
        tuples = pairs(values, BINARY) if arity == BINARY else ((value,) * arity for value in values)
        for operands in tuples:
            made = _merged(merge, operands)
            if made in place:
                yield Way(merge, tuple(place[value] for value in operands), place[made])


def trimmed(whole: Frame) -> Frame:
    """The frame of the types from which a goal can be reached; none if a source is not among them."""
    useful = set(whole.goals)
    while True:
        more = {index for index, steps in enumerate(whole.moves) if any(after in useful for _, after in steps)}
        more |= {operand for way in whole.ways if way.after in useful for operand in way.operands}
        if more <= useful:
            break
        useful |= more
    if not set(whole.sources) <= useful:
        return NOWHERE
    new = {old: index for index, old in enumerate(sorted(useful))}
    return Frame(
        tuple(whole.values[old] for old in new),
        tuple(tuple((op, new[after]) for op, after in whole.moves[old] if after in new) for old in new),
        tuple(Way(way.merge, tuple(new[each] for each in way.operands), new[way.after]) for way in whole.ways if _kept(way, new)),
        tuple(new[source] for source in whole.sources),
        tuple(new[goal] for goal in whole.goals),
    )


def _kept(way: Way, new: dict[int, int]) -> bool:
    return way.after in new and all(operand in new for operand in way.operands)
