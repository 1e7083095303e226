"""Sums of tables over a few unknowns each: their exact maximum, or an upper bound, by eliminating one unknown after the other.

Knows nothing of graphs. An unknown is a number, its values are numbered from 0; a quantity is a sum of tables. (Dechter, Bucket
elimination, 1999; Dechter and Rish, Mini-buckets, 2003; bounds for the completion of a part: Kask and Dechter, 2001.)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

LARGEST_TABLE = 3_000_000
"""Entries of a table that elimination may make; a larger one is replaced by smaller ones that bound it."""


@dataclass(frozen=True, eq=False)
class Factor:
    """One table of several quantities over some unknowns in ascending order: (quantities, values of each unknown).

    `allowed`, of the shape without the quantities, says which entries may be used at all.
    """

    scope: tuple[int, ...]
    table: np.ndarray
    allowed: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """How many values each unknown has, tables that add up, and what is added to them, one for each quantity."""

    sizes: tuple[int, ...]
    factors: tuple[Factor, ...]
    constant: np.ndarray

    @staticmethod
    def of(sizes: Sequence[int], factors: Iterable[Factor], quantities: int) -> Network:
        """The network with the tables of one scope added up, and those over no unknown in the constant."""
        merged: dict[tuple[int, ...], Factor] = {}
        constant = np.zeros(quantities)
        for factor in factors:
            if not factor.scope:
                constant = constant + factor.table
            elif factor.scope in merged:
                merged[factor.scope] = _merged(merged[factor.scope], factor)
            else:
                merged[factor.scope] = factor
        return Network(tuple(sizes), tuple(merged.values()), constant)

    def totals(self, assignment: Sequence[int], *, strict: bool = True) -> np.ndarray | None:
        """The quantities of a whole assignment; None if it is not allowed, and `strict` asks for that."""
        total = self.constant.copy()
        for factor in self.factors:
            entry = tuple(assignment[unknown] for unknown in factor.scope)
            if strict and factor.allowed is not None and not factor.allowed[entry]:
                return None
            total += np.moveaxis(factor.table, 0, -1)[entry]
        return total

    @functools.cached_property
    def by_last(self) -> tuple[tuple[Factor, ...], ...]:
        """The factors of which each unknown is the last."""
        rows: list[list[Factor]] = [[] for _ in self.sizes]
        for factor in self.factors:
            rows[factor.scope[-1]].append(factor)
        return tuple(map(tuple, rows))

    @functools.cached_property
    def by_unknown(self) -> tuple[tuple[Factor, ...], ...]:
        """The factors that each unknown is in."""
        rows: list[list[Factor]] = [[] for _ in self.sizes]
        for factor in self.factors:
            for unknown in factor.scope:
                rows[unknown].append(factor)
        return tuple(map(tuple, rows))


def _merged(one: Factor, other: Factor) -> Factor:
    allowed = [factor.allowed for factor in (one, other) if factor.allowed is not None]
    return Factor(one.scope, one.table + other.table, np.logical_and.reduce(allowed) if allowed else None)


@dataclass(frozen=True, eq=False)
class Message:
    """What the elimination of `source` left: the best that it and what follows it add, for values of earlier unknowns."""

    source: int
    scope: tuple[int, ...]
    table: np.ndarray


@dataclass(frozen=True, eq=False)
class Elimination:
    """The tables that stood at every unknown when it was eliminated, the messages, and the maximum (or a bound of it)."""

    buckets: tuple[tuple[tuple[tuple[int, ...], np.ndarray], ...], ...]
    messages: tuple[Message, ...]
    bound: float
    exact: bool

    @functools.cached_property
    def entries(self) -> int:
        """How much there was to look at."""
        return sum(table.size for bucket in self.buckets for _, table in bucket)

    def decode(self) -> tuple[int, ...]:
        """An assignment that reaches the bound, if the elimination was exact; else a good one."""
        assignment: list[int] = []
        for bucket in self.buckets:
            score: np.ndarray | float = 0.0
            for scope, table in bucket:
                score = score + table[tuple(assignment[unknown] for unknown in scope[:-1])]
            assignment.append(int(np.argmax(score)))
        return tuple(assignment)


def eliminate(network: Network, weights: np.ndarray) -> Elimination:
    """Maximises a weighted sum of the network's quantities."""
    buckets: list[list[tuple[tuple[int, ...], np.ndarray]]] = [[] for _ in network.sizes]
    for unknown, factors in enumerate(network.by_last):
        for factor in factors:
            table = np.tensordot(weights, factor.table, 1)
            if factor.allowed is not None:
                table = np.where(factor.allowed, table, -np.inf)
            buckets[unknown].append((factor.scope, table))
        if not factors:
            buckets[unknown].append(((unknown,), np.zeros(network.sizes[unknown])))
    bound, exact = float(weights @ network.constant), True
    messages = []
    for unknown in reversed(range(len(network.sizes))):
        parts = list(_parted(buckets[unknown], network.sizes))
        exact &= len(parts) == 1
        for scope, tables in parts:
            table = functools.reduce(np.add, (aligned(one, table, scope) for one, table in tables)).max(-1)
            messages.append(Message(unknown, scope[:-1], table))
            if len(scope) == 1:
                bound += float(table)
                continue
            buckets[scope[-2]].append((scope[:-1], table))
    return Elimination(tuple(map(tuple, buckets)), tuple(messages), bound, exact)


Scoped = tuple[tuple[int, ...], np.ndarray]


def _parted(bucket: Sequence[Scoped], sizes: Sequence[int]) -> Iterator[tuple[tuple[int, ...], list[Scoped]]]:
    """The tables of a bucket in as few parts as fit the largest table, the widest ones first."""
    parts: list[tuple[set[int], list[Scoped]]] = []
    for scope, table in sorted(bucket, key=lambda item: -item[1].size):
        for joined, members in parts:
            if np.prod([float(sizes[unknown]) for unknown in joined | set(scope)]) <= LARGEST_TABLE:
                joined |= set(scope)
                members.append((scope, table))
                break
        else:
            parts.append((set(scope), [(scope, table)]))
    for joined, members in parts:
        yield tuple(sorted(joined)), members


def aligned(scope: tuple[int, ...], table: np.ndarray, onto: tuple[int, ...]) -> np.ndarray:
    """A table with axes of size one for the unknowns of a larger scope that it does not depend on."""
    sizes = dict(zip(scope, table.shape, strict=True))
    return table.reshape([sizes.get(unknown, 1) for unknown in onto])
