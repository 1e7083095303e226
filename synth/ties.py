"""The widths of a graph as unknowns: which belong together, and how every value's channels follow from them.

Found by asking the ops: an input of a node is doubled, alone or together with others, and what fits and what comes out says whether
the output follows it, and which inputs cannot change alone. So residual sums, gates, depthwise convolutions, concatenations and
flattening tie widths by their own shape rules, and an op of the user does as well.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from synth.effect import size_fields
from synth.formulas import output_of
from synth.graph import Graph, Node
from synth.op import Op, ShapeMismatch, Value

Setter = tuple[str, str]
"""A node's name and the name of a field of its op that is a size."""


@dataclass(frozen=True)
class Channels:
    """The channels of a value: `factor` times a width, or a constant where `width` is None."""

    factor: Fraction
    width: int | None = None


@dataclass(frozen=True)
class Width:
    """One unknown: the fields that it sets, its present size, and whether it must stay, as what is tied to the ends must."""

    setters: tuple[Setter, ...]
    size: int
    fixed: bool


@dataclass(frozen=True)
class Sum:
    """A width that is the sum of multiples of at most two others and a constant, as concatenation makes it at a node."""

    node: str
    total: int
    terms: tuple[tuple[Fraction, int], ...]
    constant: Fraction


@dataclass(frozen=True)
class Ties:
    """The widths of a graph in order of appearance, every value's channels in terms of them, and the sums that they must keep."""

    widths: tuple[Width, ...]
    channels: Mapping[str, Channels]
    sizes: Mapping[Setter, int]
    """The number of the width that sets each field."""
    sums: tuple[Sum, ...]


@functools.lru_cache(maxsize=256)
def ties(graph: Graph) -> Ties:
    """The widths of a graph; tied ones are one."""
    return _Walk(graph).result()


def with_sizes(op: Op, sizes: Mapping[str, int]) -> Op:
    """The op with some of its sizes set, by field."""
    return replace(op, **sizes) if sizes else op


def with_channels(value: Value, channels: int) -> Value:
    """The same type with other channels."""
    return replace(value, shape=(*value.shape[:-1], channels))


@dataclass
class _Unknown:
    setters: list[Setter]
    size: int
    fixed: bool = False


class _Walk:
    """Follows the channels through a graph, joining unknowns where an op demands it."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.unknowns: list[_Unknown] = []
        self.root: list[int] = []
        self.sums: list[Sum] = []
        self.channels: dict[str, Channels] = {}
        for item in graph.inputs:
            self.channels[item.name] = _constant(item.value)
        for node in graph.nodes:
            self.channels[node.name] = self._node(node)
        for node in graph.nodes:
            for owner in dict.fromkeys(tie.owner for tie in node.ties):
                self._share(node, graph.by_name[owner])
        for name in graph.outputs:
            self._fix(self.channels[name])

    def result(self) -> Ties:
        roots = sorted({self.find(number) for number in range(len(self.root))})
        place = {root: index for index, root in enumerate(roots)}

        def settled(channels: Channels) -> Channels:
            return replace(channels, width=None if channels.width is None else place[self.find(channels.width)])

        widths = tuple(Width(tuple(each.setters), each.size, each.fixed) for each in (self.unknowns[root] for root in roots))
        sums = tuple(
            replace(each, total=place[self.find(each.total)], terms=tuple((f, place[self.find(width)]) for f, width in each.terms))
            for each in self.sums
        )
        sizes = {setter: index for index, width in enumerate(widths) for setter in width.setters}
        return Ties(widths, {name: settled(found) for name, found in self.channels.items()}, sizes, sums)

    def find(self, number: int) -> int:
        while self.root[number] != number:
            number = self.root[number]
        return number

    def _new(self, size: int, setters: Sequence[Setter] = ()) -> int:
        self.unknowns.append(_Unknown(list(setters), size))
        self.root.append(len(self.root))
        return self.root[-1]

    def _node(self, node: Node) -> Channels:
        probe = _Probe(self.graph, node)
        own = {field: self._new(getattr(node.op, field), [(node.name, field)]) for field in size_fields(type(node.op))}
        free: dict[str, Channels] = {name: self.channels[name] for name in dict.fromkeys(node.inputs) if probe.has_channels(name)}
        free |= {field: Channels(Fraction(1), width) for field, width in own.items()}
        moves = {name: probe.change((name,)) for name in free if free[name].width is not None}
        stuck = [name for name, change in moves.items() if change is None]
        together = probe.change(tuple(stuck)) if stuck else None
        if stuck and (together is None or len(stuck) == 1 or not self._unite([free[name] for name in stuck])):
            for name in stuck:
                self._fix(free[name])
            together = None
        changes = {name: change for name, change in moves.items() if change is not None}
        if together is not None:
            changes[stuck[0]] = together
        return self._output(probe, {name: change for name, change in changes.items() if change}, free)

    def _output(self, probe: _Probe, changes: Mapping[str, int], free: Mapping[str, Channels]) -> Channels:
        """A node's channels, from by how many they grew when each input was doubled."""
        present = probe.result
        if not changes:
            return _constant(present)
        terms: list[tuple[Fraction, int]] = []
        constant = Fraction(present.channels)
        for name, growth in changes.items():
            channels = free[name]
            assert channels.width is not None
            terms.append((Fraction(growth, self._size(channels.width)), channels.width))
            constant -= growth
        if len(terms) == 1 and constant == 0:
            return Channels(*terms[0])
        while len(terms) > 2:
            (a, first), (b, second), *terms = terms
            size = a * self._size(first) + b * self._size(second)
            terms.insert(0, (Fraction(1), self._sum(probe, int(size), ((a, first), (b, second)), Fraction(0))))
        return Channels(Fraction(1), self._sum(probe, present.channels, tuple(terms), constant))

    def _sum(self, probe: _Probe, size: int, terms: tuple[tuple[Fraction, int], ...], constant: Fraction) -> int:
        total = self._new(size)
        self.sums.append(Sum(probe.node.name, total, terms, constant))
        return total

    def _size(self, width: int) -> int:
        return self.unknowns[self.find(width)].size

    def _share(self, node: Node, owner: Node) -> None:
        """Nodes that share arrays are of one size."""
        ends, others = ([self.channels[name] for name in each.inputs] + self._own(each) for each in (node, owner))
        alike = type(node.op) is type(owner.op) and self.graph.input_values(node) == self.graph.input_values(owner)
        for one, other in zip(ends, others, strict=True) if alike else ():
            if one.width is None or other.width is None or not self._unite([one, other]):
                alike = False
        if not alike:
            for channels in (*ends, *others):
                self._fix(channels)

    def _own(self, node: Node) -> list[Channels]:
        numbers = [number for number, each in enumerate(self.unknowns) for setter in each.setters if setter[0] == node.name]
        return [Channels(Fraction(1), number) for number in numbers if self.find(number) == number]

    def _unite(self, parts: Sequence[Channels]) -> bool:
        """Makes channels equal; False where they are multiples of one another that no single width stands for."""
        factors = {part.factor for part in parts}
        if len(factors) > 1:
            return False
        first, *rest = (self.find(part.width) for part in parts if part.width is not None)
        for other in rest:
            self._join(first, other)
        return True

    def _join(self, one: int, other: int) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        if one == other:
            return
        self.root[other] = one
        kept, gone = self.unknowns[one], self.unknowns[other]
        kept.setters += gone.setters
        kept.fixed |= gone.fixed

    def _fix(self, channels: Channels) -> None:
        if channels.width is not None:
            self.unknowns[self.find(channels.width)].fixed = True


def _constant(value: Value) -> Channels:
    size = value.shape[-1] if value.shape else None
    return Channels(Fraction(size or 1))


class _Probe:
    """Asks one node what becomes of its output if channels that come in, or sizes of its own, are doubled."""

    def __init__(self, graph: Graph, node: Node):
        self.node, self.values = node, graph.values
        self.result = graph.values[node.name]

    def has_channels(self, name: str) -> bool:
        shape = self.values[name].shape
        return len(shape) > 1 and shape[-1] is not None

    def change(self, names: Sequence[str]) -> int | None:
        """By how many the output's channels grow if these double; None if that does not fit, or changes another axis."""
        sizes = {name: 2 * getattr(self.node.op, name) for name in size_fields(type(self.node.op)) if name in names}
        inputs = [self.values[name] for name in self.node.inputs]
        doubled = [
            with_channels(value, 2 * value.channels) if name in names else value
            for name, value in zip(self.node.inputs, inputs, strict=True)
        ]
        try:
            after = output_of(with_sizes(self.node.op, sizes), tuple(doubled))
        except ShapeMismatch:
            return None
        before = self.result
        if after.dtype != before.dtype or len(after.shape) != len(before.shape) or after.shape[:-1] != before.shape[:-1]:
            return None
        if not before.shape or before.shape[-1] is None or after.shape[-1] is None:
            return None if after != before else 0
        return after.shape[-1] - before.shape[-1]
