"""The actual types at each nominal type of a product, and the ops of every size that lead from one to another."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synth.automaton import DEAD
from synth.clock import Clock
from synth.effect import effects, prepare_effects, without_size
from synth.memo import Memo
from synth.op import Op, Value, size_of
from synth.product import Product

A_TYPE = 10
"""Steps that finding all sizes of the ops on one type takes."""


@dataclass(frozen=True, eq=False)
class Menu:
    """What ops do to one actual type, each in all of its sizes: those of op k are at starts[k] … starts[k + 1] - 1.

    `after` is for each the place among `values` of the type that comes out, `costs` are its (parameters, MACs).
    """

    starts: np.ndarray
    ops: tuple[Op, ...]
    sizes: np.ndarray
    values: tuple[Value, ...]
    after: np.ndarray
    costs: np.ndarray

    @staticmethod
    def of(bare: Sequence[Op], kind: Value, sizes: tuple[int, ...]) -> Menu:
        """The menu of ops that are given without their size."""
        each = [effects(op, kind, sizes) for op in bare]
        ops = tuple([op for one in each for op in one.ops])
        places: dict[Value, int] = {}
        after = [places.setdefault(value, len(places)) for one in each for value in one.values]
        return Menu(
            np.array([0, *itertools.accumulate([len(one.ops) for one in each])]),
            ops,
            np.array([size_of(op) for op in ops], dtype=np.int64),
            tuple(places),
            np.array(after, dtype=np.int64),
            np.concatenate([np.zeros((0, 2)), *(one.costs for one in each)]),
        )


_MENUS: Memo[tuple[tuple[Op, ...], tuple[int, ...]], dict[Value, Menu]] = Memo(256)


@dataclass(frozen=True, eq=False)
class Row:
    """All ops of all sizes that may follow at one actual type, in order of the nominal op of which each is a size.

    `entries` are their places in the menu, `after` the numbers of the types that they lead to, among those of the nominal one.
    """

    menu: Menu
    entries: np.ndarray
    nominal: np.ndarray
    after: np.ndarray

    @functools.cached_property
    def costs(self) -> np.ndarray:
        """The parameters and MACs of each."""
        return self.menu.costs[self.entries]

    def op(self, place: int) -> Op:
        """One of them."""
        return self.menu.ops[self.entries[place]]

    @property
    def ops(self) -> tuple[Op, ...]:
        """All of them."""
        return tuple([self.menu.ops[entry] for entry in self.entries.tolist()])


class Variants:
    """The actual types at each nominal one, and the ops of all sizes between them.

    `types[v]` are those at nominal type v, `rows[v]` what follows at each of them. `letters[v]` is the letter of each nominal op,
    `targets[v]` the nominal type to which each letter leads, or DEAD where no state has it.
    """

    def __init__(self, base: Product, widths: tuple[int, ...]):
        self._widths = widths
        self.letters = [_letter_of(len(ops), members) for ops, members in zip(base.ops, base.members, strict=True)]
        self.targets = _targets(base)
        self.types: list[list[Value]] = [[] for _ in base.types]
        self.rows: list[list[Row]] = [[] for _ in base.types]
        self._choices = [_Choices.of(ops) for ops in base.ops]
        self._place: list[dict[Value, int]] = [{} for _ in base.types]
        self._waiting: list[tuple[int, Value]] = []
        self._number(int(base.values[0]), base.types[base.values[0]])

    @staticmethod
    def found(base: Product, widths: tuple[int, ...], clock: Clock) -> Variants:
        """All of them; TimeIsUp when the clock's limit is reached."""
        variants = Variants(base, widths)
        for value in np.unique(base.values).tolist():
            clock.check(A_TYPE)
            prepare_effects(base.ops[value], base.types[value])
        for value, kind in variants._waiting:
            clock.check(A_TYPE)
            variants.rows[value].append(variants._row(value, kind))
        return variants

    def _number(self, value: int, kind: Value) -> int:
        place = self._place[value]
        found = place.get(kind)
        if found is None:
            found = place[kind] = len(place)
            self.types[value].append(kind)
            self._waiting.append((value, kind))
        return found

    def _row(self, value: int, kind: Value) -> Row:
        choices = self._choices[value]
        menu = choices.menu(kind, self._widths)
        letters = self.letters[value]
        targets = self.targets[value][letters] if len(self.targets[value]) else np.full(len(letters), DEAD)
        first, last = menu.starts[choices.bare], menu.starts[choices.bare + 1]
        count = np.where((letters >= 0) & (targets != DEAD), last - first, 0)
        nominal = np.repeat(np.arange(len(count)), count)
        entries = np.arange(len(nominal)) + np.repeat(first - (np.cumsum(count) - count), count)
        if not {0, *self._widths}.issuperset(choices.sizes.tolist()):
            # A size that is not among the widths is there for the op that has it.
            asked = np.isin(menu.sizes, (0, *self._widths))[entries] | (menu.sizes[entries] == choices.sizes[nominal])
            nominal, entries = nominal[asked], entries[asked]
        return Row(menu, entries, nominal, self._numbers(targets[nominal], menu.after[entries], menu.values))

    def _numbers(self, targets: np.ndarray, places: np.ndarray, values: Sequence[Value]) -> np.ndarray:
        """The numbers of types at nominal ones; what is new is numbered in the order in which it comes."""
        pairs = targets * len(values) + places
        numbers = np.zeros(int(pairs.max(initial=-1)) + 1, dtype=np.int64)
        for pair in dict.fromkeys(pairs.tolist()):
            target, place = divmod(pair, len(values))
            numbers[pair] = self._number(target, values[place])
        return numbers[pairs]


@dataclass(frozen=True, eq=False)
class _Choices:
    """The nominal ops at a type: which op without its size each is, and its size."""

    ops: tuple[Op, ...]
    bare: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def of(nominal: Sequence[Op]) -> _Choices:
        places: dict[Op, int] = {}
        bare = [places.setdefault(without_size(op), len(places)) for op in nominal]
        return _Choices(tuple(places), np.array(bare, dtype=np.int64), np.array([size_of(op) for op in nominal], dtype=np.int64))

    def menu(self, kind: Value, widths: tuple[int, ...]) -> Menu:
        """What they do to an actual type in these widths, and in the sizes that they have; remembered."""
        sizes = tuple(sorted({*widths, *self.sizes.tolist()} - {0}))
        menus = self._menus(sizes)
        if kind not in menus:
            menus[kind] = Menu.of(self.ops, kind, sizes)
        return menus[kind]

    def _menus(self, sizes: tuple[int, ...]) -> dict[Value, Menu]:
        key = self.ops, sizes
        found = _MENUS.get(key)
        return _MENUS.put(key, {}) if found is None else found


def _letter_of(count: int, members: Sequence[np.ndarray]) -> np.ndarray:
    letters = np.full(count, -1)
    for letter, places in enumerate(members):
        letters[places] = letter
    return letters


def _targets(base: Product) -> list[np.ndarray]:
    """For every nominal type to which one each letter leads, as far as some state has it."""
    found = [np.full(len(members), DEAD) for members in base.members]
    here, after = base.values[base.sources], base.values[base.next]
    for value in np.unique(here).tolist():
        edges = here == value
        found[value][base.letter[edges]] = after[edges]
    return found
