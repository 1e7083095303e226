"""The abstract states of op sequences, and the transitions between them.

What a sequence does to a requirement is decided by a few small automata that read the same sequence: one for the value's type, one
for each part of each relational property (a row of the mixing matrix, the depth). Their transitions are the relations of the op
summaries, composed; nothing here knows an op or a primitive. Moves that do the same are one letter, each automaton is reduced to a
small one that still answers the requirement's question for sequences of the length that is asked for, and so is their product, so
thousands of millions of sequences become a few hundred states. Everything is memoised across calls.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from properties import ALL, PROPERTIES, RelationalProperty
from properties.loops import joined
from synth.automaton import DEAD, Automaton, cover, nothing, packed, pairs, unpacked
from synth.clock import ENDLESS, Clock
from synth.effect import prepare, summary
from synth.memo import Memo
from synth.op import Op, ShapeMismatch, Value, alternatives, output_value
from synth.ops import Vocabulary
from synth.shelf import is_kept, shelf

WORTH_KEEPING = 100
"""Steps from which on an automaton is rather read than made again, those of its parts among them, which may be known already."""


class Alike(Protocol):
    """What of a step matters to a part: parts with equal `key` are told apart by the same view of a step."""

    def key(self, part: Any) -> Hashable:
        """Equal for parts for which the same of a step matters."""

    def view(self, key: Any, step: Any) -> Hashable:
        """Equal for steps that do the same to every part of this key."""


TRACED_AT_ONCE = 64
"""Ops that are traced between two looks at the clock."""

A_BATCH = 10
"""Steps that so many ops take."""


def _batches(ops: Sequence[Op]) -> Iterator[Sequence[Op]]:
    return (ops[first : first + TRACED_AT_ONCE] for first in range(0, len(ops), TRACED_AT_ONCE))


@dataclass(frozen=True)
class Question:
    """What a requirement asks about the relation from the input to the output, or about one part of it that composes by itself.

    `reads` are the properties whose relations it needs: one, or several together (their `Joint`). `start` is the part that the
    empty program has on an input, `holds` decides it for the finished program (None: no dependence). Equal keys ask the same;
    `label` says it to a person. `widened` is for where there would be too many parts, from fine to coarse: each maps a part to one
    that stands for it, and that never leads to a no where the part leads to a yes, whatever follows or joins. `alike` is for where
    many steps do the same to a part: it gives for a part what tells the steps apart that follow it.
    """

    reads: tuple[RelationalProperty, ...]
    part: int
    start: Callable[[Value], Any] = field(compare=False)
    holds: Callable[[Any | None], bool] = field(compare=False)
    key: Hashable
    label: str
    widened: tuple[Callable[[Any], Any], ...] = field(default=(), compare=False)
    alike: Alike | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Joint:
    """The relations of several properties, side by side; None where nothing gets through."""

    relations: tuple[Any | None, ...]

    def then(self, following: Joint) -> Joint:
        """Each followed by its own."""
        pairs = zip(self.relations, following.relations, strict=True)
        return Joint(tuple(None if a is None or b is None else a.then(b) for a, b in pairs))

    def join(self, other: Joint) -> Joint:
        """Each joined with its own, where two operands meet."""
        return Joint(tuple(joined(pair) for pair in zip(self.relations, other.relations, strict=True)))


@dataclass(frozen=True)
class Alphabet:
    """The ops that sequences are made of: op types, each over its declared choices, and over `sizes` for the sizes that it has."""

    op_types: tuple[type[Op], ...]
    sizes: tuple[int, ...]

    @staticmethod
    def of(vocabulary: Vocabulary, sizes: Sequence[int]) -> Alphabet:
        """The alphabet of all ops of one input that are to be generated at all."""
        types = tuple(op_type for op_type in vocabulary.values() if op_type.arity == 1 and op_type.taste > 0)
        return Alphabet(types, tuple(sorted(set(sizes))))

    @functools.cached_property
    def letters(self) -> tuple[Op, ...]:
        """Every op in every choice and size."""
        return tuple(op for op_type in self.op_types for op in alternatives(op_type, self.sizes))

    def moves(self, value: Value, *, clock: Clock = ENDLESS) -> tuple[tuple[Op, Value], ...]:
        """Every op that fits a value, and the type of its result; memoised."""
        return clock.remembered(_MOVES, (self, value), lambda: _moves(self, value, clock))


_MOVES: Memo[tuple[Alphabet, Value], tuple[tuple[tuple[Op, Value], ...], int]] = Memo(4096)


def _moves(alphabet: Alphabet, value: Value, clock: Clock) -> tuple[tuple[Op, Value], ...]:
    found = []
    for some in _batches(alphabet.letters):
        clock.check(A_BATCH)
        prepare(some, value, summaries=False)
    for op in alphabet.letters:
        try:
            found.append((op, output_value(op, (value,))))
        except ShapeMismatch:
            continue
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Frame:
    """The values on the ways of at most `length` ops from one type to another, and the moves that stay on such a way.

    `left` is for every value the least number of moves to the goal.
    """

    alphabet: Alphabet
    source: Value
    goal: Value
    length: int
    values: tuple[Value, ...]
    left: tuple[int, ...]
    moves: tuple[tuple[tuple[Op, int], ...], ...]
    _explored: dict[Hashable, tuple[tuple[list[Any], Automaton], int]] = field(default_factory=dict, repr=False)
    _automata: dict[Hashable, tuple[Automaton, int]] = field(default_factory=dict, repr=False)
    products: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    """The products of its automata with the prior, memoised (see `synth.product`)."""

    @functools.cached_property
    def ops(self) -> tuple[tuple[Op, ...], ...]:
        """The ops of the moves, by value."""
        return tuple(tuple([op for op, _ in moves]) for moves in self.moves)

    @property
    def reachable(self) -> bool:
        """Whether any sequence at all leads from the source to the goal."""
        return bool(self.values)

    def automaton(self, questions: Sequence[Question] = (), *, clock: Clock = ENDLESS) -> Automaton:
        """A small automaton that accepts the sequences to the goal on which all questions hold."""
        if not self.reachable:
            return nothing(self.length)
        page = self._page(questions)
        if page is None or self._key(questions) in self._automata:
            return self._made(questions, clock)
        known = shelf().recall(page)
        if known:
            self._automata[self._key(questions)] = unpacked(known["automaton"]), known["steps"]
            return self._made(questions, clock)
        found = self._made(questions, clock)
        _, steps = self._automata[self._key(questions)]
        if steps >= WORTH_KEEPING:
            shelf().note(page, "automaton", packed(found))
            shelf().note(page, "steps", steps)
        return found

    def _key(self, questions: Sequence[Question]) -> Hashable:
        return tuple((question.reads, question.part, question.key) for question in questions)

    def _page(self, questions: Sequence[Question]) -> str | None:
        """The name of what is asked, among everything that is ever asked; None where it depends on what is not of this project."""
        letters, built_in = self.alphabet.letters, {id(each) for each in ALL}
        if not all(map(is_kept, letters)) or any(id(each) not in built_in for one in questions for each in one.reads):
            return None
        asked = [([each.name for each in one.reads], one.part, one.key) for one in questions]
        return repr(("space", self.source, self.goal, self.length, letters, asked))

    def _made(self, questions: Sequence[Question], clock: Clock) -> Automaton:
        return clock.remembered(self._automata, self._key(questions), lambda: self._minimal(questions, clock))

    def _minimal(self, questions: Sequence[Question], clock: Clock) -> Automaton:
        clock.check()
        if len(questions) > 1:
            first, last = (self._made(part, clock) for part in (questions[:-1], questions[-1:]))
            clock.check()
            return cover(pairs(first, last).automaton)
        parts, explored = self._explore(questions[0] if questions else None, clock)
        at_goal = explored.values == self.values.index(self.goal)
        if questions:
            at_goal &= np.array([bool(here and questions[0].holds(part)) for here, part in zip(at_goal, parts, strict=True)])
        return cover(replace(explored, accepts=at_goal))

    def _explore(self, question: Question | None, clock: Clock) -> tuple[list[Any], Automaton]:
        key = (question.reads, question.part) if question else None
        return clock.remembered(self._explored, key, lambda: self._walk(question, clock))

    def _walk(self, question: Question | None, clock: Clock) -> tuple[list[Any], Automaton]:
        """Every part that a sequence of at most `length` moves can have, and how the moves lead from one to another."""
        letters, steps = zip(*(self._letters(value, question, clock) for value in range(len(self.values))), strict=True)
        classes = _Classes(steps, question.alike if question else None)
        start = (0, question.start(self.source) if question else None)
        numbers: dict[tuple[int, Any], int] = {start: 0}
        states, layers, rows = [start], [0], [np.zeros(0, dtype=np.int64)]
        for state, (value, part) in enumerate(states):
            clock.check()
            remaining = self.length - layers[state] - 1
            of, apart = classes.at(value, part)
            row = []
            for after, step in apart:
                if self.left[after] > remaining:
                    row.append(DEAD)
                    continue
                found = (after, None if part is None or step is None else part.then(step))
                number = numbers.setdefault(found, len(states))
                if number == len(states):
                    states.append(found)
                    layers.append(layers[state] + 1)
                row.append(number)
            rows.append(np.array(row, dtype=np.int64)[of])
        values = np.array([value for value, _ in states])
        none = np.zeros(len(states), dtype=bool)
        whole = Automaton.of(self.length, letters, values, np.array(layers), np.concatenate(rows), none)
        return [part for _, part in states], whole

    def _letters(self, value: int, question: Question | None, clock: Clock) -> tuple[np.ndarray, list[tuple[int, Any]]]:
        """The moves at a value by what they do to a question: the letter of each, and what each letter leads to and how."""
        found: dict[tuple[int, Any], int] = {}
        for some in _batches([op for op, _ in self.moves[value]]) if question else ():
            clock.check(A_BATCH)
            prepare(some, self.values[value], summaries=True)
        letters = [
            found.setdefault((after, _relation(op, self.values[value], question.reads) if question else None), len(found))
            for op, after in self.moves[value]
        ]
        return np.array(letters, dtype=np.int64), list(found)


class _Classes:
    """The letters at each value, those that do the same to a part together."""

    def __init__(self, steps: Sequence[Sequence[tuple[int, Any]]], alike: Alike | None):
        self._steps, self._alike = steps, alike
        self._known: dict[Hashable, tuple[np.ndarray, list[tuple[int, Any]]]] = {}

    def at(self, value: int, part: Any) -> tuple[np.ndarray, list[tuple[int, Any]]]:
        """The class of each letter at a value with a part, and what each class leads to and how."""
        # Where nothing got through, nothing will: all that is left to tell apart is where letters lead.
        key = None if part is None or self._alike is None else self._alike.key(part)
        place = value, part is None, key
        if place not in self._known:
            self._known[place] = self._classes(value, part is None, key)
        return self._known[place]

    def _classes(self, value: int, nothing: bool, key: Hashable) -> tuple[np.ndarray, list[tuple[int, Any]]]:
        found: dict[Hashable, int] = {}
        of: list[int] = []
        apart: list[tuple[int, Any]] = []
        for after, step in self._steps[value]:
            view = None if nothing or step is None else step if self._alike is None else self._alike.view(key, step)
            place = found.setdefault((after, view), len(found))
            of.append(place)
            if place == len(apart):
                apart.append((after, step))
        return np.array(of, dtype=np.int64), apart


@functools.lru_cache(maxsize=262144)
def _relation(op: Op, value: Value, reads: tuple[RelationalProperty, ...]) -> Any:
    found = summary(op, (value,), PROPERTIES if set(reads) <= set(PROPERTIES) else reads)
    relations = tuple(found.relation(each.name, 0, 0) for each in reads)
    return relations[0] if len(reads) == 1 else Joint(relations)


_FRAMES: Memo[tuple[Alphabet, Value, Value, int], tuple[Frame, int]] = Memo(512)


def frame(alphabet: Alphabet, source: Value, goal: Value, length: int, *, clock: Clock = ENDLESS) -> Frame:
    """The frame of all sequences of at most `length` ops from `source` to `goal`; memoised."""
    key = alphabet, source, goal, length
    return clock.remembered(_FRAMES, key, lambda: _frame(alphabet, source, goal, length, clock))


def _frame(alphabet: Alphabet, source: Value, goal: Value, length: int, clock: Clock) -> Frame:
    values, distance, edges = [source], [0], []
    place = {source: 0}
    for index, value in enumerate(values):
        found = []
        for op, after in alphabet.moves(value, clock=clock) if distance[index] < length else ():
            if after not in place:
                place[after] = len(values)
                values.append(after)
                distance.append(distance[index] + 1)
            found.append((op, place[after]))
        edges.append(found)
    left = _distances_to(place.get(goal), edges, length)
    kept = [index for index in range(len(values)) if distance[index] + left[index] <= length]
    if 0 not in kept:
        return Frame(alphabet, source, goal, length, (), (), ())
    new = {old: index for index, old in enumerate(kept)}
    moves = tuple(tuple((op, new[after]) for op, after in edges[old] if distance[old] + 1 + left[after] <= length) for old in kept)
    return Frame(alphabet, source, goal, length, tuple(values[old] for old in kept), tuple(left[old] for old in kept), moves)


def _distances_to(goal: int | None, edges: Sequence[Sequence[tuple[Op, int]]], length: int) -> list[int]:
    """For every value the least number of moves to the goal; more than `length` if there is no way."""
    never = 2 * length + 2
    left = [never] * len(edges)
    if goal is None:
        return left
    left[goal] = 0
    for _ in range(length):
        for index, moves in enumerate(edges):
            nearest = min((left[after] for _, after in moves), default=never)
            left[index] = min(left[index], nearest + 1)
    return left
