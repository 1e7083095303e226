"""A graph's sizes as a network of tables: unknowns with their values, and quantities that add up over the nodes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from synth.budget import Interval
from synth.effect import params
from synth.elimination import Factor, Network
from synth.graph import Graph, Node
from synth.memory import bytes_of
from synth.op import Op, ShapeMismatch, output_value
from synth.stages import Block, memory_steps, narrowest, residual_blocks, stages, without
from synth.tables import NodeCost, Place, counted, priced
from synth.ties import Channels, Sum, Ties, ties, with_channels, with_sizes

CAPACITY, PARAMS, MACS, OWN = range(4)
"""The quantities: the share of its capacity that the graph keeps, what it costs, and what the objective adds to that."""

WIDTHS, DEPTHS = "widths", "depths"
MOST_TOGETHER = 200_000


@dataclass(frozen=True)
class Freedom:
    """What may change and how far.

    `free` holds "widths", "depths" (residual blocks may be left out) and names of fields with declared choices, such as "groups".
    Widths are multiples of `multiple` between `smallest` and `largest` times the present ones; what is tied to the inputs and
    outputs stays. Each stage keeps `keep_rank` of its rank bound.
    """

    free: tuple[str, ...] = (WIDTHS,)
    multiple: int = 8
    smallest: float = 0.0
    largest: float = 1.0
    keep_rank: float = 0.0


@dataclass(frozen=True)
class _Unknown:
    """One unknown: where in the graph it comes up, its values, and which of them is the present one."""

    position: int
    values: tuple[Any, ...]


class Sizing:
    """The unknowns of a graph in order of appearance, and the network of its costs over them.

    `own` is a further quantity: a cost of the caller's for each node, or a function of (width, present width) for each that a node
    sets. `check` is called between the parts of the work, and may raise to end it.
    """

    def __init__(
        self,
        graph: Graph,
        freedom: Freedom,
        *,
        cost: NodeCost | None = None,
        ratio: float | None = None,
        check: Callable[[], object] = lambda: None,
    ):
        self.graph, self.freedom, self.cost, self.ratio, self.check = graph, freedom, cost, ratio, check
        self.tied: Ties = ties(graph)
        self.prices: dict[tuple[Place, tuple[bytes, ...]], tuple[np.ndarray, np.ndarray]] = {}
        self.place = {node.name: index for index, node in enumerate(graph.nodes)}
        self.blocks: tuple[Block, ...] = residual_blocks(graph, self.tied) if DEPTHS in freedom.free else ()
        self.block_of = {name: index for index, block in enumerate(self.blocks) for name in block.names}
        self.domains = self._domains()
        self.stages = stages(graph) if freedom.keep_rank else ()
        self._keep_rank()
        self._number()

    # Unknowns

    def _domains(self) -> list[np.ndarray]:
        """The values of each width; empty where none is left."""
        domains = []
        summed = {each.total for each in self.tied.sums}
        for number, width in enumerate(self.tied.widths):
            if width.fixed or WIDTHS not in self.freedom.free:
                domains.append(np.array([width.size]))
                continue
            unit = self.freedom.multiple
            low = max(unit, math.ceil(width.size * self.freedom.smallest / unit) * unit)
            grid = np.arange(low, math.floor(width.size * self.freedom.largest / unit) * unit + 1, unit)
            if number in summed and not width.setters:
                grid = np.arange(1, math.floor(width.size * self.freedom.largest) + 1)
            domains.append(grid if len(grid) else np.array([width.size]))
        self._summed(domains)
        for node in self.graph.nodes:
            self.check()
            self._divisible(node, domains)
        self._summed(domains)
        return domains

    def _summed(self, domains: list[np.ndarray]) -> None:
        """Takes out of the widths that are sums what no terms add up to."""
        for each in self.tied.sums:
            sums = {each.constant}
            for factor, term in each.terms:
                sums = {total + factor * int(size) for total in sums for size in domains[term]}
            domains[each.total] = np.array([size for size in domains[each.total] if Fraction(int(size)) in sums], dtype=np.int64)

    def _divisible(self, node: Node, domains: list[np.ndarray]) -> None:
        """Takes out what an op does not accept, whatever its other sizes."""
        place, widths = self._node(node, node.op)
        for slot, width in enumerate(widths):
            sizes = list(place.present)
            kept = []
            for size in domains[width]:
                sizes[slot] = int(size)
                if place.fits(sizes):
                    kept.append(size)
            domains[width] = np.array(kept, dtype=np.int64)

    def _node(self, node: Node, op: Op) -> tuple[Place, tuple[int, ...]]:
        """A node as a place, and the widths that its slots stand for."""
        widths: list[int] = []

        def slot(width: int) -> int:
            if width not in widths:
                widths.append(width)
            return widths.index(width)

        inputs = [self.tied.channels[name] for name in node.inputs]
        inputs = [each if each.width is None else Channels(each.factor, slot(each.width)) for each in inputs]
        own = [(field.name, slot(self.tied.sizes[node.name, field.name])) for field in fields(op) if field.metadata.get("size")]
        values = self.graph.input_values(node)
        shown = tuple(
            value if channels.width is None else with_channels(value, 0) for value, channels in zip(values, inputs, strict=True)
        )
        bare = with_sizes(op, dict.fromkeys((name for name, _ in own), 0))
        present = tuple(self.tied.widths[width].size for width in widths)
        return Place(bare, shown, tuple(inputs), tuple(own), present, node.shared), tuple(widths)

    def _keep_rank(self) -> None:
        """Takes out the widths that alone bring a stage's rank bound below what is to be kept of it."""
        most = [int(domain.max(initial=0)) for domain in self.domains]
        for stage in self.stages:
            least = self.freedom.keep_rank * stage.rank
            for width in self._in(stage.nodes):
                sizes = list(most)
                kept = []
                for size in self.domains[width]:
                    sizes[width] = int(size)
                    if narrowest(stage, functools.partial(self.elements, sizes=sizes)) >= least:
                        kept.append(size)
                self.domains[width] = np.array(kept, dtype=np.int64)

    def proportionate(self) -> None:
        """Keeps all blocks, and every width of every stage at the share that is to be kept of the rank: sufficient, not necessary.

        A residual block may add to the rank of what goes into it.
        """
        self.blocks, self.block_of = (), {}
        for stage in self.stages:
            for width in self._in(stage.nodes):
                least = self.freedom.keep_rank * self.tied.widths[width].size
                self.domains[width] = self.domains[width][self.domains[width] >= least]
        self._number()

    def _in(self, nodes: Sequence[Node]) -> list[int]:
        found = {self.tied.channels[name].width for node in nodes for name in (*node.inputs, node.name)}
        return sorted(width for width in found if width is not None)

    def elements(self, name: str, sizes: Sequence[int]) -> float:
        """Elements of one example of a value, at these widths."""
        value, channels = self.graph.values[name], self.tied.channels[name]
        whole = bytes_of(value) / np.dtype(value.dtype).itemsize
        if channels.width is None:
            return whole
        return whole * sizes[channels.width] / self.tied.widths[channels.width].size

    def _number(self) -> None:
        """Numbers the unknowns by where they come up, so that what belongs together is close together."""
        found: list[tuple[int, int, tuple[str, Any], tuple[Any, ...]]] = []
        totals = {each.total for each in self.tied.sums}
        first = {each.total: self.place[each.node] for each in reversed(self.tied.sums)}
        for node in self.graph.nodes:
            for name in (node.name, *node.inputs):
                width = self.tied.channels[name].width
                if width is not None:
                    first.setdefault(width, self.place[node.name])
        for (name, _), width in self.tied.sizes.items():
            first[width] = min(first.get(width, self.place[name]), self.place[name])
        for width, domain in enumerate(self.domains):
            found.append((first.get(width, 0), 2 if width in totals else 1, ("width", width), tuple(map(int, domain))))
        for index, block in enumerate(self.blocks):
            found.append((min(self.place[name] for name in block.names), 0, ("block", index), (True, False)))
        for node in self.graph.nodes:
            for field, choices in self._choices(node):
                found.append((self.place[node.name], 1, (node.name, field), choices))
        found.sort(key=lambda item: item[:2])
        self.unknowns = {key: index for index, (_, _, key, _) in enumerate(found)}
        self.values = [values for *_, values in found]

    def _choices(self, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The fields of a node that may change, and what leaves the type of its result as it is."""
        for field in fields(node.op):
            if field.name not in self.freedom.free or "choices" not in field.metadata:
                continue
            present = getattr(node.op, field.name)
            choices = [present]
            for choice in field.metadata["choices"]:
                try:
                    after = output_value(replace(node.op, **{field.name: choice}), self.graph.input_values(node))
                except ShapeMismatch:
                    continue
                if after == self.graph.values[node.name] and choice != present:
                    choices.append(choice)
            if len(choices) > 1:
                yield field.name, tuple(choices)

    @property
    def empty(self) -> tuple[str, ...]:
        """The setters of the first width that no value is left for; nothing if all have one."""
        for width, domain in zip(self.tied.widths, self.domains, strict=True):
            if not len(domain):
                return tuple(name for name, _ in width.setters) or ("a concatenation",)
        return ()

    # Tables

    def network(self, memory: Interval) -> tuple[Network, list[int]]:
        """The network, and the numbers of its quantities that are bytes alive at once (those that no single table can hold)."""
        tables: list[Factor] = []
        for node in self.graph.nodes:
            self.check()
            tables += self._tables(node)
        wide = []
        for terms in self._memory(memory.high):
            scope = tuple(sorted({unknown for unknowns, _ in terms for unknown in unknowns}))
            if math.prod(len(self.values[unknown]) for unknown in scope) <= MOST_TOGETHER:
                total = sum((_spread(unknowns, table, scope) for unknowns, table in terms), np.zeros([1] * len(scope)))
                total = np.broadcast_to(total, [len(self.values[unknown]) for unknown in scope])
                tables.append(Factor(scope, np.zeros((OWN + 1, *total.shape)), total <= memory.high))
            else:
                wide.append(terms)
        quantities = OWN + 1 + len(wide)
        padded = [_padded(factor, quantities) for factor in tables]
        for number, terms in enumerate(wide):
            for unknowns, table in terms:
                lifted = np.zeros((quantities, *table.shape))
                lifted[OWN + 1 + number] = table
                padded.append(Factor(unknowns, lifted))
        return Network.of([len(values) for values in self.values], padded, quantities), list(range(OWN + 1, quantities))

    def _tables(self, node: Node) -> Iterator[Factor]:
        """What a node adds to the quantities, and the sums that its channels must keep."""
        choices = list(self._choices(node))
        variants = [node.op]
        for field, values in choices:
            variants = [replace(op, **{field: value}) for op in variants for value in values]
        base = max(1, params(node.op, self.graph.input_values(node)))
        _, widths = self._node(node, node.op)
        domains = [self.domains[width] for width in widths]
        scope = [self.unknowns["width", width] for width in widths]
        parts = []
        for op in variants:
            part = np.zeros((OWN + 1, *map(len, domains)))
            here, _ = self._node(node, op)
            part[[PARAMS, MACS]] = counted(here, domains)
            allowed = np.ones(part.shape[1:], dtype=bool)
            if self.cost is not None:
                part[OWN], allowed = self._priced(here, domains)
            kept = math.sqrt(max(1, params(op, self.graph.input_values(node))) / base) if _fits(op, node, self.graph) else 0.0
            self._add_worth(node, part, widths, domains, kept)
            parts.append((part, allowed))
        table = np.stack([part for part, _ in parts], -1).reshape(*parts[0][0].shape, *(len(values) for _, values in choices))
        allowed = np.stack([each for _, each in parts], -1).reshape(table.shape[1:])
        scope += [self.unknowns[node.name, field] for field, _ in choices]
        if node.name in self.block_of:
            table = np.stack([table, np.zeros_like(table)], -1)
            allowed = np.stack([allowed, np.ones_like(allowed)], -1)
            scope.append(self.unknowns["block", self.block_of[node.name]])
        if table.any() or not allowed.all():
            yield _ordered(scope, table, None if allowed.all() else allowed)
        for each in self.tied.sums:
            if each.node == node.name:
                yield self._sum(each)

    def _priced(self, place: Place, domains: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The caller's cost, asked once for all equal places."""
        assert self.cost is not None, "it is asked for only where there is one"
        key = place, tuple(domain.tobytes() for domain in domains)
        if key not in self.prices:
            self.prices[key] = priced(place, domains, self.cost)
        return self.prices[key]

    def _add_worth(self, node: Node, part: np.ndarray, widths: Sequence[int], domains: Sequence[np.ndarray], kept: float) -> None:
        """The capacity of what a node sets, an equal part for every size of the graph that may change."""
        for (name, _), width in self.tied.sizes.items():
            if name != node.name or self.tied.widths[width].fixed:
                continue
            axis = widths.index(width)
            shape = [-1 if index == axis else 1 for index in range(len(widths))]
            size = self.tied.widths[width].size
            share = (domains[axis] / size).reshape(shape)
            part[CAPACITY] += capacity(share * kept, size) / self.setters
            if self.ratio is not None:
                # Up to a constant the square of the difference, with 0 for what is left out.
                part[OWN] += share * (2 * self.ratio - share) / self.setters

    @property
    def setters(self) -> int:
        """How many sizes of the graph may change."""
        return max(1, sum(len(width.setters) for width in self.tied.widths if not width.fixed))

    def _sum(self, each: Sum) -> Factor:
        """Which values of a width and of its terms go together."""
        numbers = list(dict.fromkeys((*(width for _, width in each.terms), each.total)))
        axes = np.meshgrid(*(self.domains[width] for width in numbers), indexing="ij", sparse=True)
        grids = dict(zip(numbers, axes, strict=True))
        found = sum((float(factor) * grids[width] for factor, width in each.terms), np.array(float(each.constant)))
        allowed = np.isclose(found, grids[each.total])
        return _ordered([self.unknowns["width", width] for width in numbers], np.zeros((OWN + 1, *allowed.shape)), allowed)

    def _memory(self, most: float) -> Iterator[list[tuple[tuple[int, ...], np.ndarray]]]:
        """For every set of values that are alive at once and could be too much: tables of bytes that add up."""
        if most == math.inf:
            return
        seen = set()
        for names in memory_steps(self.graph):
            terms: dict[tuple[int, ...], np.ndarray] = {}
            for name in names:
                unknowns, table = self._bytes(name)
                terms[unknowns] = terms[unknowns] + table if unknowns in terms else table
            key = tuple((unknowns, table.tobytes()) for unknowns, table in sorted(terms.items(), key=lambda item: item[0]))
            if key not in seen and sum(float(table.max()) for table in terms.values()) > most:
                seen.add(key)
                yield list(terms.items())

    def _bytes(self, name: str) -> tuple[tuple[int, ...], np.ndarray]:
        channels, present = self.tied.channels[name], bytes_of(self.graph.values[name])
        block = self.block_of.get(name)
        scope = [] if channels.width is None else [self.unknowns["width", channels.width]]
        table = np.array(float(present))
        if channels.width is not None:
            table = present * self.domains[channels.width] / self.tied.widths[channels.width].size
        if block is not None:
            scope.append(self.unknowns["block", block])
            table = np.stack([table, np.zeros_like(table)], -1)
        ordered = _ordered(scope, table[None], None)
        return ordered.scope, ordered.table[0]

    # Answers

    def graph_at(self, assignment: Sequence[int]) -> Graph:
        """The graph with its sizes at these values."""
        value = {key: self.values[index][assignment[index]] for key, index in self.unknowns.items()}
        nodes = []
        for node in self.graph.nodes:
            own = {field: value["width", width] for (name, field), width in self.tied.sizes.items() if name == node.name}
            chosen = {field: value[node.name, field] for field, _ in self._choices(node)}
            nodes.append(replace(node, op=replace(node.op, **own, **chosen)))
        return without(replace(self.graph, nodes=tuple(nodes)), self.left_out(assignment))

    def left_out(self, assignment: Sequence[int]) -> list[Block]:
        """The blocks that an assignment leaves out."""
        return [block for index, block in enumerate(self.blocks) if assignment[self.unknowns["block", index]]]


def capacity(share: np.ndarray, size: int) -> np.ndarray:
    """What a width keeps of its capacity at a share of the present size: 1 at the present one and beyond, 0 at one channel.

    1 - (ln share / ln size)²: concave in the logarithm, so that many small cuts cost less than one deep one, whatever is cheaper.
    """
    return 1.0 - np.square(np.minimum(0.0, np.log(share)) / math.log(max(size, 2)))


def _fits(op: Op, node: Node, graph: Graph) -> bool:
    try:
        op.check(*graph.input_values(node))
    except ShapeMismatch:
        return False
    return True


def _ordered(scope: Sequence[int], table: np.ndarray, allowed: np.ndarray | None) -> Factor:
    """A factor with its axes in ascending order of the unknowns."""
    order = np.argsort(scope, kind="stable")
    axes = [0, *(1 + order)]
    return Factor(
        tuple(scope[k] for k in order), np.transpose(table, axes), None if allowed is None else np.transpose(allowed, order)
    )


def _padded(factor: Factor, quantities: int) -> Factor:
    missing = quantities - len(factor.table)
    return (
        replace(factor, table=np.concatenate([factor.table, np.zeros((missing, *factor.table.shape[1:]))])) if missing else factor
    )


def _spread(scope: tuple[int, ...], table: np.ndarray, onto: tuple[int, ...]) -> np.ndarray:
    sizes: Mapping[int, int] = dict(zip(scope, table.shape, strict=True))
    return table.reshape([sizes.get(unknown, 1) for unknown in onto])
