"""Automata that read sequences of at most so many moves: the smallest one for a language, and the product of two.

Only sequences of at most `length` moves are ever read, so two states are the same as soon as they agree on the sequences that are
short enough to follow both: what comes out is a cover automaton (Câmpeanu, Santean, Yu, 2001), often far smaller than the smallest
automaton of the same language.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DEAD = -1
"""No state: from here nothing is accepted any more."""


@dataclass(frozen=True, eq=False)
class Automaton:
    """States, each at a type; at every type the moves fall into letters, between which the automaton sees no difference.

    `letters[v]` is the letter of each move at type v; state s goes under letter k to `next[starts[s] + k]`, or to DEAD. `layers[s]`
    is the least number of moves to s; sequences start in state 0 and have at most `length` moves.
    """

    length: int
    letters: tuple[np.ndarray, ...]
    values: np.ndarray
    layers: np.ndarray
    starts: np.ndarray
    next: np.ndarray
    accepts: np.ndarray

    @staticmethod
    def of(
        length: int, letters: Sequence[np.ndarray], values: np.ndarray, layers: np.ndarray, rows: np.ndarray, accepts: np.ndarray
    ) -> Automaton:
        """An automaton from its rows, one after the other."""
        starts = np.concatenate([[0], np.cumsum(degrees(letters)[values])])
        return Automaton(length, tuple(letters), values, layers, starts, rows, accepts)

    def rows(self, states: np.ndarray) -> np.ndarray:
        """The rows of some states of one type: (states, letters)."""
        if not len(states):
            return np.zeros((0, 0), dtype=np.int64)
        first = self.starts[states]
        return self.next[first[:, None] + np.arange(self.starts[states[0] + 1] - first[0])]

    def by_value(self, states: np.ndarray) -> Iterable[np.ndarray]:
        """Some states, those of one type at a time."""
        here = self.values[states]
        return (states[here == value] for value in np.unique(here))


def degrees(letters: Sequence[np.ndarray]) -> np.ndarray:
    """The number of letters at every type."""
    return np.array([int(each.max()) + 1 if len(each) else 0 for each in letters], dtype=np.int64)


Packed = tuple[int, tuple[tuple[str, bytes], ...]]
"""An automaton as plain values: its length, then the type and the bytes of its arrays, the letters last."""


def packed(automaton: Automaton) -> Packed:
    """The automaton in a form that can be kept."""
    a = automaton
    arrays = a.values, a.layers, a.starts, a.next, a.accepts, *a.letters
    return a.length, tuple([(array.dtype.str, array.tobytes()) for array in arrays])


def unpacked(kept: Packed) -> Automaton:
    """The automaton that was packed."""
    length, arrays = kept
    values, layers, starts, following, accepts, *letters = (np.frombuffer(data, dtype) for dtype, data in arrays)
    return Automaton(length, tuple(letters), values, layers, starts, following, accepts)


def nothing(length: int) -> Automaton:
    """The automaton that accepts nothing."""
    none = np.zeros(0, dtype=np.int64)
    return Automaton(length, (), none, none, np.zeros(1, dtype=np.int64), none, none.astype(bool))


def numbered(rows: np.ndarray) -> np.ndarray:
    """Numbers from 0 on for rows, equal for equal rows."""
    known: dict[bytes, int] = {}
    packed = np.ascontiguousarray(rows)
    return np.array([known.setdefault(row.tobytes(), len(known)) for row in packed], dtype=np.int64)


def cover(automaton: Automaton) -> Automaton:
    """A small automaton that accepts the same sequences of at most `length` moves, in as few letters."""
    if not len(automaton.values):
        return automaton
    length, layers = automaton.length, automaton.layers
    behaviour = _behaviours(automaton)
    kept: list[int] = []
    stands = np.full(len(layers), DEAD)
    for layer in range(int(layers.max()) + 1):
        here = behaviour[length - layer]
        known: dict[int, int] = {}
        for state in kept:
            known.setdefault(int(here[state]), state)
        for state in np.flatnonzero(layers == layer).tolist():
            if here[state] == DEAD:
                continue
            stands[state] = known.setdefault(int(here[state]), state)
            if stands[state] == state:
                kept.append(state)
    if stands[0] == DEAD:
        return nothing(length)
    # A kept state that stands for later ones still reads what is left from its own, earlier layer.
    sources = np.repeat(np.arange(len(layers)), np.diff(automaton.starts))
    left = length - layers[sources] - 1
    targets = automaton.next
    alive = (targets != DEAD) & (left >= 0) & (behaviour[np.maximum(left, 0), targets] != DEAD)
    return relettered(_reached(automaton, np.where(alive, stands[targets], DEAD)))


def _behaviours(automaton: Automaton) -> np.ndarray:
    """For k = 0 … length and every state that still reads k moves its class by what it accepts in at most k; DEAD for nothing."""
    classes = [np.where(automaton.accepts, automaton.values, DEAD)]
    for k in range(1, automaton.length + 1):
        now = np.full(len(automaton.values), DEAD)
        first = 0
        for states in automaton.by_value(np.flatnonzero(automaton.layers <= automaton.length - k)):
            rows = automaton.rows(states)
            after = np.where(rows == DEAD, DEAD, classes[-1][rows])
            signature = np.concatenate([after, automaton.accepts[states][:, None] - 1], axis=1)
            alive = (signature != DEAD).any(axis=1)
            if alive.any():
                found = numbered(signature[alive])
                now[states[alive]] = first + found
                first += int(found.max()) + 1
        classes.append(now)
    return np.stack(classes)


def _reached(automaton: Automaton, following: np.ndarray) -> Automaton:
    """The states that are reached by other transitions, numbered anew in order of layer."""
    number = np.full(len(automaton.values), DEAD)
    number[0] = 0
    order, layers = [np.zeros(1, dtype=np.int64)], [np.zeros(1, dtype=np.int64)]
    count = 1
    for layer in range(1, automaton.length + 1):
        ahead = [following[automaton.starts[state] : automaton.starts[state + 1]] for state in order[-1]]
        targets = np.unique(np.concatenate(ahead))
        fresh = targets[(targets != DEAD) & (number[targets] == DEAD)]
        if not len(fresh):
            break
        number[fresh] = count + np.arange(len(fresh))
        count += len(fresh)
        order.append(fresh)
        layers.append(np.full(len(fresh), layer))
    states = np.concatenate(order)
    targets = np.concatenate([following[automaton.starts[state] : automaton.starts[state + 1]] for state in states])
    rows = np.where(targets == DEAD, DEAD, number[targets])
    values, accepts = automaton.values[states], automaton.accepts[states]
    return Automaton.of(automaton.length, automaton.letters, values, np.concatenate(layers), rows, accepts)


def relettered(automaton: Automaton) -> Automaton:
    """The automaton with letters that do the same everywhere made one."""
    letters = [np.zeros(len(each), dtype=np.int64) for each in automaton.letters]
    rows: list[np.ndarray] = [np.zeros(0, dtype=np.int64)] * len(automaton.values)
    for states in automaton.by_value(np.arange(len(automaton.values))):
        value, table = int(automaton.values[states[0]]), automaton.rows(states)
        if not table.shape[1]:
            continue
        merged = numbered(table.T)
        letters[value] = merged[automaton.letters[value]]
        _, first = np.unique(merged, return_index=True)
        for state, row in zip(states.tolist(), table[:, first], strict=True):
            rows[state] = row
    return Automaton.of(automaton.length, letters, automaton.values, automaton.layers, np.concatenate(rows), automaton.accepts)


@dataclass(frozen=True, eq=False)
class Pairs:
    """A product: its automaton, the two states that each of its states is, and for each type the two letters of each letter."""

    automaton: Automaton
    states: tuple[np.ndarray, np.ndarray]
    letters: tuple[tuple[np.ndarray, np.ndarray], ...]


def pairs(first: Automaton, second: Automaton) -> Pairs:
    """The automaton that accepts what both accept, as far as it is reached."""
    if not len(first.values) or not len(second.values):
        none = np.zeros(0, dtype=np.int64)
        return Pairs(nothing(first.length), (none, none), ())
    joint = [_joint(a, b) for a, b in zip(first.letters, second.letters, strict=True)]
    size = len(second.values)
    known = {0: 0}
    layer = np.zeros(1, dtype=np.int64)
    found, layers = [layer], [layer]
    tables: list[tuple[np.ndarray, np.ndarray]] = []
    for depth in range(first.length):
        base, before = len(known) - len(layer), len(known)
        left, right = np.divmod(layer, size)
        for value in np.unique(first.values[left]):
            place = np.flatnonzero(first.values[left] == value)
            _, a, b = joint[value]
            after, other = first.rows(left[place])[:, a], second.rows(right[place])[:, b]
            keys = np.where((after == DEAD) | (other == DEAD), DEAD, after * size + other)
            unique, inverse = np.unique(keys, return_inverse=True)
            numbers = np.array(
                [DEAD if key == DEAD else known.setdefault(key, len(known)) for key in unique.tolist()], dtype=np.int64
            )
            tables.append((base + place, numbers[inverse].reshape(keys.shape)))
        if len(known) == before:
            break
        layer = np.fromiter(list(known)[before:], dtype=np.int64, count=len(known) - before)
        found.append(layer)
        layers.append(np.full(len(layer), depth + 1))
    left, right = np.divmod(np.concatenate(found), size)
    letters = tuple(each for each, _, _ in joint)
    starts = np.concatenate([[0], np.cumsum(degrees(letters)[first.values[left]])])
    following = np.full(starts[-1], DEAD)
    for states, table in tables:
        following[starts[states][:, None] + np.arange(table.shape[1])] = table
    accepts = first.accepts[left] & second.accepts[right]
    whole = Automaton(first.length, letters, first.values[left], np.concatenate(layers), starts, following, accepts)
    return Pairs(whole, (left, right), tuple((a, b) for _, a, b in joint))


def _joint(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The letters of moves that have two letters each, and what both are for each letter."""
    if not len(first):
        return first, first, second
    size = int(second.max()) + 1
    both, inverse = np.unique(first * size + second, return_inverse=True)
    return inverse.reshape(-1), both // size, both % size
