"""Who reads whom in a graph, near and far, as bits: sets of values are numbers, and what is asked of them takes few steps."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """The values of a graph as bits, `place` says which; for each node the bits of what it reads and of what reads it.

    `before` and `after` are the bits of all nodes that it depends on and of all that depend on it, itself in both.
    """

    place: Mapping[str, int]
    reads: Mapping[str, int]
    readers: Mapping[str, int]
    before: Mapping[str, int]
    after: Mapping[str, int]

    @staticmethod
    def of(inputs: Sequence[str], reads: Mapping[str, Sequence[str]]) -> Reach:
        """Of a graph's inputs, and of what each node reads, in topological order."""
        place = {name: index for index, name in enumerate((*inputs, *reads))}
        readers, before, after = (dict.fromkeys(reads, 0) for _ in range(3))
        for node, names in reads.items():
            before[node] = union((1 << place[node], *(before[name] for name in names if name in before)))
            for name in names:
                if name in readers:
                    readers[name] |= 1 << place[node]
        for node in reversed(list(reads)):
            after[node] |= 1 << place[node]
            for name in reads[node]:
                if name in after:
                    after[name] |= after[node]
        return Reach(
            place, {node: union(1 << place[name] for name in names) for node, names in reads.items()}, readers, before, after
        )

    def bits(self, names: Iterable[str]) -> int:
        """Some values as bits."""
        return union(1 << self.place[name] for name in names)


def union(sets: Iterable[int]) -> int:
    """What is in any of the sets."""
    return functools.reduce(operator.or_, sets, 0)
