"""The abstract states of values in branching programs: what a program's requirements know of a value, and no more.

A state is a type and, for every question, a class of relations from the question's input to the value. Moves and operands of merges
lead from state to state, and two operands of one merge join: a tree automaton, reduced by partition refinement (Moore's, with the
join as a further letter for every partner) for each question alone before the questions are put together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from properties import PROPERTIES
from synth.branching.frame import Frame
from synth.clock import ENDLESS, Clock
from synth.effect import summary
from synth.memo import Memo
from synth.op import Op, Value
from synth.space import Joint, Question

NONE = -1
"""No state: outside the bounds, or nothing that can still be accepted."""

LONGEST_PATH = 20
"""Steps on the longest path of a program, merges counted."""

MOST_RELATIONS = 300
"""A question for which there are more relations than this is asked of finished programs only."""

MOST_STATES = 160
"""Where the questions together make more states than this, the finest of them is asked of finished programs only."""


@dataclass(frozen=True)
class Asked:
    """A question about what output `output` owes to input `input`."""

    question: Question
    input: int = 0
    output: int = 0


@dataclass(frozen=True, eq=False)
class States:
    """All states, by number.

    `kinds` is the type of each, `starts` the state of each input, `accepts[o]` says which states output `o` may have. Moves that do
    the same to every question are one letter: `letters[t]` is the letter of every move of type t, `steps[t]` the next state of
    every state by letter; `operands[w][k]` what operand k of way w becomes of every state, `joins` the state of two operands.
    """

    kinds: np.ndarray
    starts: tuple[int, ...]
    accepts: np.ndarray
    letters: tuple[np.ndarray, ...]
    steps: tuple[np.ndarray, ...]
    operands: tuple[tuple[np.ndarray, ...], ...]
    joins: np.ndarray
    unasked: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.kinds)


@dataclass(frozen=True, eq=False)
class _Reduced:
    """The classes of one question's relations; the tables are those of `States`."""

    kinds: np.ndarray
    starts: tuple[int, ...]
    holds: np.ndarray
    letters: tuple[np.ndarray, ...]
    steps: tuple[np.ndarray, ...]
    operands: tuple[tuple[np.ndarray, ...], ...]
    joins: np.ndarray


def states(frame: Frame, asked: Sequence[Asked], *, clock: Clock = ENDLESS) -> States:
    """The states of a frame's values under some questions; those that make too many are left out, by label in `unasked`.

    TimeIsUp when the clock's limit is reached.
    """
    found = {each: _classes(frame, each, clock) for each in asked}
    unasked = [each.question.label for each, parts in found.items() if parts is None]
    kept = {each: parts for each, parts in found.items() if parts is not None}
    while True:
        together = _together(frame, [(each.output, parts) for each, parts in kept.items()], tuple(unasked), clock)
        if together is not None:
            return together
        finest = max(kept, key=lambda each: len(kept[each].kinds))
        del kept[finest]
        unasked.append(finest.question.label)


_CLASSES: Memo[tuple[Frame, Asked], tuple[_Reduced | None, int]] = Memo(512)


def _classes(frame: Frame, asked: Asked, clock: Clock) -> _Reduced | None:
    """The classes of one question's relations, memoised; None if there are too many relations."""
    return clock.remembered(_CLASSES, (frame, asked), lambda: _reduced(frame, asked, clock))


def _reduced(frame: Frame, asked: Asked, clock: Clock) -> _Reduced | None:
    goal = frame.goals[asked.output]
    for widened in asked.question.widened or (lambda part: part,):
        clock.check()
        explored = _Explored(frame, asked.question, asked.input, widened)
        if explored.run(clock):
            return explored.reduced(np.array([kind == goal and bool(asked.question.holds(part)) for kind, part in explored.parts]))
    return None


class _Explored:
    """Every relation that a question can meet at the frame's types, closed under steps and joins."""

    def __init__(self, frame: Frame, question: Question, source: int, widened: Callable[[Any], Any]) -> None:
        self.frame, self.question, self.widened = frame, question, widened
        self.letters, self.relations = zip(*(self._letters(kind) for kind in range(len(frame.values))), strict=True)
        self.parts: list[tuple[int, Any]] = []
        self.layers: list[int] = []
        self.rows: list[list[int]] = []
        self.at: list[list[int]] = [[] for _ in frame.values]
        self.joined: dict[tuple[int, int], int] = {}
        self.numbers: dict[tuple[int, Any], int] = {}
        self.starts = tuple(
            self._number(kind, question.start(frame.values[kind]) if index == source else None, 0)
            for index, kind in enumerate(frame.sources)
        )

    def _letters(self, kind: int) -> tuple[dict[Hashable, int], list[tuple[int, Any]]]:
        """The letter of every move (by number) and of every operand (by way and place), and what each letter leads to and how."""
        numbers: dict[tuple[int, Any], int] = {}
        found: dict[Hashable, int] = {}
        value = self.frame.values[kind]
        for index, (op, after) in enumerate(self.frame.moves[kind]):
            found[index] = numbers.setdefault((after, relation(op, (value,), 0, self.question)), len(numbers))
        for number, way in enumerate(self.frame.ways):
            inputs = tuple(self.frame.values[operand] for operand in way.operands)
            for place, operand in enumerate(way.operands):
                if operand == kind:
                    step = relation(way.merge, inputs, place, self.question)
                    found[number, place] = numbers.setdefault((way.after, step), len(numbers))
        return found, list(numbers)

    def _number(self, kind: int, part: Any, layer: int) -> int:
        part = None if part is None else self.widened(part)
        number = self.numbers.setdefault((kind, part), len(self.parts))
        if number == len(self.parts):
            self.parts.append((kind, part))
            self.layers.append(layer)
        return number

    def run(self, clock: Clock = ENDLESS) -> bool:
        """Whether there are few enough."""
        for number, (kind, part) in enumerate(self.parts):
            clock.check()
            if len(self.parts) > MOST_RELATIONS:
                return False
            layer = self.layers[number]
            row = []
            for after, step in self.relations[kind]:
                if layer == LONGEST_PATH:
                    row.append(NONE)
                    continue
                follows = None if part is None or step is None else part.then(step)
                row.append(self._number(after, follows, layer + 1))
            self.rows.append(row)
            self.at[kind].append(number)
            for other in self.at[kind]:
                self._join(number, other)
        return True

    def _join(self, first: int, second: int) -> None:
        kind, a = self.parts[first]
        _, b = self.parts[second]
        joined = b if a is None else a if b is None else a.join(b)
        self.joined[first, second] = self.joined[second, first] = self._number(
            kind, joined, max(self.layers[first], self.layers[second])
        )

    def reduced(self, holds: np.ndarray) -> _Reduced:
        """The relations by what they lead to."""
        kinds = np.array([kind for kind, _ in self.parts])
        groups = [np.array(members) for members in self.at]
        steps = [np.array([self.rows[member] for member in members], dtype=np.int64) for members in self.at]
        joins = [np.array([[self.joined[a, b] for b in members] for a in members], dtype=np.int64) for members in self.at]
        classes = _numbered(np.stack([kinds, holds], axis=1))
        while True:
            refined = np.zeros(len(classes), dtype=np.int64)
            known = np.append(classes, NONE)
            for members, step, join in zip(groups, steps, joins, strict=True):
                if len(members):
                    refined[members] = _numbered(np.concatenate([known[step], known[join]], axis=1))
            finer = _numbered(np.stack([classes, refined], axis=1))
            if finer.max() == classes.max():
                break
            classes = finer
        return self._quotient(classes, holds)

    def _quotient(self, classes: np.ndarray, holds: np.ndarray) -> _Reduced:
        _, first = np.unique(classes, return_index=True)
        known = np.append(classes, NONE)
        kinds = np.array([self.parts[member][0] for member in first])
        joins = np.full((len(first), len(first)), NONE)
        for a, b in itertools.product(range(len(first)), repeat=2):
            if kinds[a] == kinds[b]:
                joins[a, b] = classes[self.joined[int(first[a]), int(first[b])]]
        steps = []
        for kind, relations in enumerate(self.relations):
            table = np.full((len(first), max(1, len(relations))), NONE)
            for index in np.flatnonzero(kinds == kind):
                table[index, : len(relations)] = known[self.rows[first[index]]]
            steps.append(table)
        letters = tuple(
            np.array([found[index] for index in range(len(moves))], dtype=np.int64)
            for found, moves in zip(self.letters, self.frame.moves, strict=True)
        )
        operands = tuple(
            tuple(steps[kind][:, self.letters[kind][number, place]] for place, kind in enumerate(way.operands))
            for number, way in enumerate(self.frame.ways)
        )
        starts = tuple(int(classes[start]) for start in self.starts)
        return _Reduced(kinds, starts, holds[first], letters, tuple(steps), operands, joins)


def relation(op: Op, inputs: tuple[Value, ...], place: int, question: Question) -> Any:
    """How operand `place` reaches the result of an op, as a question reads it."""
    usual = set(question.reads) <= set(PROPERTIES)
    found = summary(op, inputs) if usual else summary(op, inputs, question.reads)
    relations = tuple(found.relation(each.name, place, 0) for each in question.reads)
    return relations[0] if len(question.reads) == 1 else Joint(relations)


def _together(frame: Frame, parts: Sequence[tuple[int, _Reduced]], unasked: tuple[str, ...], clock: Clock) -> States | None:
    """The states that all questions together can reach, closed under steps and joins; None if there are too many."""
    columns = [_types(frame), *(each for _, each in parts)]
    letters, joint = zip(*(_joint_letters(columns, kind, len(moves)) for kind, moves in enumerate(frame.moves)), strict=True)
    rows: list[tuple[int, ...]] = []
    numbers: dict[tuple[int, ...], int] = {}

    def number(row: tuple[int, ...]) -> int:
        if NONE in row:
            return NONE
        found = numbers.setdefault(row, len(rows))
        if found == len(rows):
            rows.append(row)
        return found

    starts = tuple(number(tuple(column.starts[index] for column in columns)) for index in range(len(frame.sources)))
    steps: list[list[int]] = []
    outcomes: list[dict[tuple[int, int], int]] = []
    joins: dict[tuple[int, int], int] = {}
    at: list[list[int]] = [[] for _ in frame.values]
    for index, row in enumerate(rows):
        clock.check()
        if parts and len(rows) > MOST_STATES:
            return None
        kind = row[0]
        cells = [tuple(column.steps[kind][cls].tolist()) for column, cls in zip(columns, row, strict=True)]
        steps.append([number(tuple(cell[letter] for cell, letter in zip(cells, each, strict=True))) for each in joint[kind]])
        outcomes.append(
            {
                (way_number, place): number(
                    tuple(int(column.operands[way_number][place][cls]) for column, cls in zip(columns, row, strict=True))
                )
                for way_number, way in enumerate(frame.ways)
                for place, operand in enumerate(way.operands)
                if operand == kind
            }
        )
        at[kind].append(index)
        for other in at[kind]:
            joined = number(tuple(int(column.joins[a, b]) for column, a, b in zip(columns, row, rows[other], strict=True)))
            joins[index, other] = joins[other, index] = joined
    return _tables(frame, rows, starts, letters, steps, outcomes, joins, parts, unasked)


def _tables(
    frame: Frame,
    rows: Sequence[tuple[int, ...]],
    starts: tuple[int, ...],
    letters: tuple[np.ndarray, ...],
    steps: Sequence[Sequence[int]],
    outcomes: Sequence[dict[tuple[int, int], int]],
    joins: dict[tuple[int, int], int],
    parts: Sequence[tuple[int, _Reduced]],
    unasked: tuple[str, ...],
) -> States:
    kinds = np.array([row[0] for row in rows])
    accepts = np.stack([kinds == goal for goal in frame.goals])
    for column, (output, part) in enumerate(parts, start=1):
        accepts[output] &= part.holds[[row[column] for row in rows]]
    table = np.full((len(rows), len(rows)), NONE)
    for (a, b), joined in joins.items():
        table[a, b] = joined
    by_letter = []
    for kind in range(len(frame.values)):
        count = int(letters[kind].max()) + 1 if len(letters[kind]) else 1
        step = np.full((len(rows), count), NONE)
        for index in map(int, np.flatnonzero(kinds == kind)):
            step[index, : len(steps[index])] = steps[index]
        by_letter.append(step)
    operands = tuple(
        tuple(np.array([found.get((number, place), NONE) for found in outcomes]) for place in range(len(way.operands)))
        for number, way in enumerate(frame.ways)
    )
    return States(kinds, starts, accepts, letters, tuple(by_letter), operands, table, unasked)


def _types(frame: Frame) -> _Reduced:
    """The types as classes, each move a letter."""
    count = len(frame.values)
    steps = []
    for kind, moves in enumerate(frame.moves):
        table = np.full((count, max(1, len(moves))), NONE)
        table[kind, : len(moves)] = [after for _, after in moves]
        steps.append(table)
    operands = tuple(
        tuple(np.where(np.arange(count) == operand, way.after, NONE) for operand in way.operands) for way in frame.ways
    )
    joins = np.where(np.eye(count, dtype=bool), np.arange(count), NONE)
    letters = tuple(np.arange(len(moves)) for moves in frame.moves)
    return _Reduced(np.arange(count), frame.sources, np.ones(count, dtype=bool), letters, tuple(steps), operands, joins)


def _joint_letters(columns: Sequence[_Reduced], kind: int, moves: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """The moves of a type by what they do to all questions: each one's letter, and the columns' letters of each."""
    found: dict[tuple[int, ...], int] = {}
    example: list[tuple[int, ...]] = []
    letters = []
    for move in range(moves):
        own = tuple(int(column.letters[kind][move]) for column in columns)
        after = int(columns[0].steps[kind][kind, own[0]])
        key = (after, *own[1:])
        if key not in found:
            found[key] = len(found)
            example.append(own)
        letters.append(found[key])
    return np.array(letters, dtype=np.int64), example


def _numbered(rows: np.ndarray) -> np.ndarray:
    return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
