"""A product with its sizes left open: every size of every op over a set of widths, so that costs can be minimised exactly.

How a sequence of ops mixes and how deep it is does not depend on its widths as long as they are divisible as the ops demand, so the
states are pairs of a state of the product and an actual type. What comes out of it is verified like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from synth.effect import effect, size_fields, with_size
from synth.op import Op, ShapeMismatch, Value
from synth.product import Product, singles, trimmed
from synth.proving import Clock


def open_sizes(base: Product, goal: Value, widths: Sequence[int], clock: Clock) -> Product | None:
    """The product of the same sequences with every size from `widths`, or as it was, from the same type to `goal`.

    None if the time was up before it was made; memoised with the product.
    """
    key = goal, tuple(widths)
    if key not in base.opened:
        opened = _open(base, goal, widths, clock)
        if opened is None:
            return None
        base.opened[key] = opened
    return base.opened[key]


def _open(base: Product, goal: Value, widths: Sequence[int], clock: Clock) -> Product | None:
    if not len(base.values):
        return base
    base = base.spelled
    variants = _Variants(base, widths)
    start = (0, variants.type_of(int(base.values[0]), base.types[base.values[0]]))
    numbers = {start: 0}
    states, layers = [start], [0]
    starts, following, moves = [0], [], []
    for index, (state, kind) in enumerate(states):
        if clock.is_up:
            return None
        for edge in base.edges(state) if layers[index] < base.length else ():
            nominal = int(base.values[base.next[edge]])
            for move, after in variants.of(kind, int(base.letter[edge]), nominal):
                found = (int(base.next[edge]), after)
                number = numbers.get(found)
                if number is None:
                    number = numbers[found] = len(states)
                    states.append(found)
                    layers.append(layers[index] + 1)
                following.append(number)
                moves.append(move)
        starts.append(len(following))
    at_goal = np.array([base.accepts[state] and variants.types[kind] == goal for state, kind in states])
    return trimmed(
        Product(
            base.length,
            tuple(variants.types),
            tuple(tuple(ops) for ops in variants.ops),
            singles(variants.ops),
            tuple(np.ones(len(ops)) for ops in variants.ops),
            np.array([kind for _, kind in states]),
            at_goal,
            np.array(starts),
            np.array(following, dtype=np.int64),
            np.array(moves, dtype=np.int64),
            np.ones(len(following)),
        ),
        np.array(layers),
    )


class _Variants:
    """The actual types at each nominal one, and the ops of all sizes between them."""

    def __init__(self, base: Product, widths: Sequence[int]):
        self.base, self.widths = base, widths
        self.types: list[Value] = []
        self.ops: list[list[Op]] = []
        self._nominal: list[int] = []
        self._numbers: dict[tuple[int, Value], int] = {}
        self._found: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def type_of(self, nominal: int, value: Value) -> int:
        """The number of an actual type at a nominal one."""
        if (nominal, value) not in self._numbers:
            self._numbers[nominal, value] = len(self.types)
            self.types.append(value)
            self.ops.append([])
            self._nominal.append(nominal)
        return self._numbers[nominal, value]

    def of(self, kind: int, move: int, after: int) -> list[tuple[int, int]]:
        """(number of the op, type after it) for every size of a nominal move on an actual type."""
        key = kind, move
        if key not in self._found:
            op = self.base.ops[self._nominal[kind]][move]
            self._found[key] = []
            for candidate in self._resized(op):
                try:
                    result = effect(candidate, self.types[kind]).value
                except ShapeMismatch:
                    continue
                self.ops[kind].append(candidate)
                self._found[key].append((len(self.ops[kind]) - 1, self.type_of(after, result)))
        return self._found[key]

    def _resized(self, op: Op) -> list[Op]:
        names = size_fields(type(op))
        if not names:
            return [op]
        return [with_size(op, size) for size in sorted({*self.widths, getattr(op, names[0])})]
