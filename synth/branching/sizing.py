"""Widths of a branching program: groups of sizes that are tied, set anew at random within a budget.

What ties widths is asked of the ops: whether an op's channels follow its input's, and whether a merge takes operands of different
channels. What is finally returned is verified as a whole.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.budget import Budget
from synth.effect import macs as op_macs
from synth.effect import params as op_params
from synth.effect import size_fields, with_size
from synth.graph import Graph, Node
from synth.op import Op, ShapeMismatch, Value, output_value

ATTEMPTS = 4
"""Draws of all widths, each followed by steps towards the budget."""


@dataclass(frozen=True)
class Sizes:
    """The sized nodes of a graph: those whose size the graph's ends fix, and the groups that may have any size together."""

    fixed: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


def sizes_of(graph: Graph) -> Sizes:
    """Which sizes of a graph are tied to one another and to its ends."""
    return _Ties(graph).sizes


class _Ties:
    """The values of a graph by width: which share one, and which are several side by side."""

    def __init__(self, graph: Graph) -> None:
        self.root = {name: name for name in graph.values}
        self.summed: dict[str, tuple[str, ...]] = {}
        for node in graph.nodes:
            tied, apart = _ties(node.op, graph.input_values(node))
            for place in tied:
                self.root[self.find(node.inputs[place])] = self.find(node.name)
            if apart:
                self.summed[node.name] = tuple(node.inputs[place] for place in apart)
        ends = {self.find(name) for name in (*graph.outputs, *(item.name for item in graph.inputs))}
        # Operands side by side under a fixed width keep theirs, and so do those whose sum is tied to another sized value.
        sized = [node for node in graph.nodes if size_fields(type(node.op))]
        makers = {self.find(node.name) for node in sized}
        for name, operands in reversed(self.summed.items()):
            own = self.find(name)
            if own in ends or own in makers or sum(self.find(other) == own for other in self.summed) > 1:
                ends |= {own, *map(self.find, operands)}
        groups: dict[str, list[str]] = {}
        for node in sized:
            if self.find(node.name) not in ends:
                groups.setdefault(self.find(node.name), []).append(node.name)
        self.sizes = Sizes(tuple(node.name for node in sized if self.find(node.name) in ends), tuple(map(tuple, groups.values())))

    def find(self, name: str) -> str:
        while self.root[name] != name:
            name = self.root[name]
        return name


@functools.lru_cache(maxsize=65536)
def _ties(op: Op, inputs: tuple[Value, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The operands whose channels must be the result's, and those that the result's channels are the sum of."""
    if size_fields(type(op)):
        return (), ()
    if len(inputs) == 1:
        return ((0,), ()) if _follows(op, inputs[0]) else ((), ())
    result = output_value(op, inputs)
    everyone = tuple(range(len(inputs)))
    if result.channels == sum(value.channels for value in inputs):
        return (), everyone
    return tuple(place for place in everyone if inputs[place].channels == result.channels), ()


def _follows(op: Op, value: Value) -> bool:
    doubled = replace(value, shape=(*value.shape[:-1], 2 * value.channels))
    try:
        own, other = output_value(op, (value,)), output_value(op, (doubled,))
    except ShapeMismatch:
        return True
    return own.channels == value.channels and other.channels == doubled.channels


class Unfit(enum.Enum):
    """Why a program is not within the budget and the bounds."""

    DEAR = "too dear at its smallest widths"
    CHEAP = "too cheap at its largest widths"
    MISSED = "no draw of its widths kept the budget"
    LARGE = "too many nodes"


def sized(graph: Graph, widths: Sequence[int], budget: Budget, rng: np.random.Generator | None) -> Graph | Unfit:
    """The graph with its free widths from `widths` so that it keeps the budget; drawn with `rng`, the smallest without.

    Each of some attempts draws all widths and then draws one after the other again, nearer to the budget. Multiply-adds are
    estimated here, in proportion to an op's weights; the proof counts them.
    """
    plan = _Plan(graph)
    groups = plan.groups if widths else ()
    ordered = sorted(set(widths))
    for width, unfit in ((0, Unfit.DEAR), (-1, Unfit.CHEAP)):
        side = plan.side(dict.fromkeys(groups, ordered[width] if ordered else 0), budget)
        if side is unfit:
            return unfit
    for _ in range(ATTEMPTS if rng is not None and groups else 1):
        places = rng.integers(len(ordered), size=len(groups)) if rng is not None else np.zeros(len(groups), dtype=int)
        found = _moved(plan, groups, ordered, places, budget, rng or np.random.default_rng(0))
        if found is not None:
            return found
    return Unfit.MISSED


def _moved(
    plan: _Plan, groups: Sequence[str], widths: Sequence[int], places: np.ndarray, budget: Budget, rng: np.random.Generator
) -> Graph | None:
    for _ in range(1 + len(groups) * max(1, len(widths) - 1)):
        chosen = {group: widths[place] for group, place in zip(groups, places, strict=True)}
        side = plan.side(chosen, budget)
        if side is None:
            return replace(plan.graph, nodes=plan.nodes(chosen))
        step = {Unfit.DEAR: -1, Unfit.CHEAP: 1}.get(side, 0)
        able = [index for index, place in enumerate(places) if 0 <= place + step < len(widths)]
        if not able:
            return None
        index = able[int(rng.integers(len(able)))]
        low, high = (0, places[index]) if step < 0 else (places[index] + 1, len(widths)) if step else (0, len(widths))
        places[index] = rng.integers(low, high)
    return None


class _Plan:
    """What a graph's parameters and multiply-adds are at other widths, without tracing an op at each of them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.ties = _Ties(graph)
        self.groups = tuple(self.ties.find(group[0]) for group in self.ties.sizes.groups)
        self.nominal = {node.name: _cost_of(node.op, graph.input_values(node)) for node in graph.nodes}

    def nodes(self, chosen: Mapping[str, int]) -> tuple[Node, ...]:
        """The nodes with the sizes of each group, by its name, set anew."""
        found = []
        for node in self.graph.nodes:
            width = chosen.get(self.ties.find(node.name)) if size_fields(type(node.op)) else None
            found.append(node if width is None else replace(node, op=with_size(node.op, width)))
        return tuple(found)

    def side(self, chosen: Mapping[str, int], budget: Budget) -> Unfit | None:
        """Where these widths are beside the budget; None if within it, MISSED if they do not fit."""
        cost = self.cost(self.nodes(chosen), chosen)
        if cost is None:
            return Unfit.MISSED
        pairs = list(zip(cost, (budget.params, budget.macs), strict=True))
        if any(figure > interval.high for figure, interval in pairs):
            return Unfit.DEAR
        return Unfit.CHEAP if any(figure < interval.low for figure, interval in pairs) else None

    def cost(self, nodes: Sequence[Node], chosen: Mapping[str, int]) -> tuple[int, int] | None:
        """(parameters, multiply-adds) of one example; None if the widths do not fit."""
        values: dict[str, Value] = {}

        def value(name: str) -> Value:
            if name not in values:
                own = self.graph.values[name]
                parts = self.ties.summed.get(name)
                width = chosen.get(self.ties.find(name), own.channels)
                if parts:
                    width = sum(value(part).channels for part in parts)
                values[name] = own if width == own.channels else replace(own, shape=(*own.shape[:-1], width))
            return values[name]

        params, macs = 0, 0.0
        for node in nodes:
            inputs = tuple(value(name) for name in node.inputs)
            try:
                node.op.check(*inputs)
            except ShapeMismatch:
                return None
            before, work = self.nominal[node.name]
            own = op_params(node.op, inputs)
            params += own
            macs += work * (own / before if before else inputs[-1].channels / self.graph.input_values(node)[-1].channels)
        return params, round(macs)


@functools.lru_cache(maxsize=65536)
def _cost_of(op: Op, inputs: tuple[Value, ...]) -> tuple[int, int]:
    return op_params(op, inputs), op_macs(op, inputs)
