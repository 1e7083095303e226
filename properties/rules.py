"""Tables of rules, one rule for each primitive's name, composed with `|`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from properties.interpreter import Context

Rule: TypeAlias = Callable[[Context, int, int], Any]
"""`rule(context, operand, output)`: the relation from one operand to one result of an equation, or None if there is none."""


@dataclass(frozen=True, slots=True)
class Top:
    """A declaration that nothing better than the top is claimed for a primitive, and why."""

    because: str


class Rules(Mapping[str, "Rule | Top"]):
    """An immutable table from primitive names to rules; `otherwise` is the rule for every name that is not in it, if any."""

    def __init__(self, table: Mapping[str, Rule | Top], otherwise: Rule | None = None):
        self._table = dict(table)
        self._otherwise = otherwise

    def __hash__(self) -> int:
        return hash(frozenset(self._table))

    def find(self, name: str) -> Rule | Top | None:
        """The rule that applies to a primitive, or None if there is none."""
        return self._table.get(name, self._otherwise)

    def __getitem__(self, name: str) -> Rule | Top:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __or__(self, other: Rules) -> Rules:
        twice = sorted(self._table.keys() & other._table.keys())
        if twice:
            raise ValueError(f"two rules for {', '.join(twice)}: keep one of them, or take one table with `.without(...)`")
        if self._otherwise is not None and other._otherwise is not None:
            raise ValueError("two rules for every other primitive: keep one of them")
        return Rules({**self._table, **other._table}, self._otherwise or other._otherwise)

    def without(self, *names: str) -> Rules:
        """The table without the rules for `names`."""
        return Rules({name: rule for name, rule in self._table.items() if name not in names}, self._otherwise)

    def replacing(self, name: str, rule: Rule | Top) -> Rules:
        """The table with another rule for `name`, which must have one already."""
        if name not in self._table:
            raise KeyError(f"there is no rule for {name!r} to replace")
        return Rules({**self._table, name: rule}, self._otherwise)


def rule(apply: Rule, *names: str) -> Rules:
    """One rule for each of `names`."""
    return Rules(dict.fromkeys(names, apply))


def every(apply: Rule) -> Rules:
    """One rule for every primitive."""
    return Rules({}, apply)


def top(*names: str, because: str) -> Rules:
    """No claim for any of `names`, because of the reason given."""
    return Rules(dict.fromkeys(names, Top(because)))


WITHOUT_DATA = ("iota", "axis_index", "create_token", "empty", "empty2", "random_seed", "random_wrap", "rng_uniform")
"""Primitives whose operands, if any, are sizes, seeds and bounds."""

RANDOM = ("random_bits", "random_fold_in", "random_gamma", "random_split", "random_unwrap", "rng_bit_generator", "threefry2x32",
          "random_clone")  # fmt: skip
COLLECTIVE = ("all_gather", "all_to_all", "pmax", "pmin", "ppermute", "psum", "psum2", "psum_invariant", "ragged_all_to_all",
              "reduce_scatter", "pbroadcast")  # fmt: skip
STATEFUL = ("get", "swap", "addupdate", "after_all", "pure_callback", "io_callback", "debug_callback", "ffi_call")

OUT_OF_REACH: Rules = (
    top(*WITHOUT_DATA, because="a seed or a bound that depends on data may change everything")
    | top(*RANDOM, because="a random key that depends on data may change every bit")
    | top(*COLLECTIVE, because="what other devices hold is not part of the program")
    | top(*STATEFUL, because="what is read was written outside of the dataflow, or by other software")
)
"""Tops for every relational property: what a jaxpr does not show."""


def union(tables: Iterable[Rules]) -> Rules:
    """All the tables together; a primitive with two rules is an error."""
    result = Rules({})
    for table in tables:
        result = result | table
    return result
