"""Widths of a branching program: groups of sizes that are tied (`synth.ties`), set anew at random within a budget.

What is finally returned is verified as a whole.
"""

from __future__ import annotations

import enum
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth.budget import Budget
from synth.effect import macs as op_macs
from synth.effect import params as op_params
from synth.effect import with_size
from synth.formulas import figures
from synth.graph import Graph, Node
from synth.op import Op, ShapeMismatch, Value
from synth.ties import Ties, ties, with_channels

ATTEMPTS = 4
"""Draws of all widths, each followed by steps towards the budget."""

FITTINGS = 64
"""Changes of widths after which those that fit every op are no longer looked for."""


@dataclass(frozen=True)
class Sizes:
    """The sized nodes of a graph: those whose size the graph's ends fix, and the groups that may have any size together."""

    fixed: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


def sizes_of(graph: Graph) -> Sizes:
    """Which sizes of a graph are tied to one another and to its ends."""
    tied = ties(graph)
    free = _free(tied)
    names = [tuple(dict.fromkeys(name for name, _ in width.setters)) for width in tied.widths]
    fixed = tuple(name for number, own in enumerate(names) if number not in free for name in own)
    return Sizes(fixed, tuple(names[number] for number in free))


def _free(tied: Ties) -> list[int]:
    """The widths that may have any size.

    Operands side by side under a fixed width keep theirs, and so do those whose sum some node sets, or another sum makes as well.
    """
    kept = {number for number, width in enumerate(tied.widths) if width.fixed}
    totals = [each.total for each in tied.sums]
    for each in reversed(tied.sums):
        if each.total in kept or tied.widths[each.total].setters or totals.count(each.total) > 1:
            kept |= {each.total, *(width for _, width in each.terms)}
    return [number for number, width in enumerate(tied.widths) if width.setters and number not in kept]


class Unfit(enum.Enum):
    """Why a program is not within the budget and the bounds."""

    DEAR = "too dear at its smallest widths"
    CHEAP = "too cheap at its largest widths"
    MISSED = "no draw of its widths kept the budget"
    LARGE = "too many nodes"


def sized(graph: Graph, widths: Sequence[int], budget: Budget, rng: np.random.Generator | None) -> Graph | Unfit:
    """The graph with its free widths from `widths` so that it keeps the budget; drawn with `rng`, the smallest without.

    Each of some attempts draws all widths and then draws one after the other again, nearer to the budget; the last one takes the
    smallest widths that fit. Multiply-adds without a formula are estimated here, in proportion to an op's weights; the proof counts
    them.
    """
    plan = _Plan(graph, sorted(set(widths)))
    least = plan.fitting(smallest=True)
    side = plan.side(least, budget) if least is not None else Unfit.MISSED
    if least is None or side in (Unfit.DEAR, Unfit.MISSED):
        return side or Unfit.MISSED
    most = plan.fitting(smallest=False) if budget.params.low or budget.macs.low else None
    if most is not None and plan.side(most, budget) is Unfit.CHEAP:
        return Unfit.CHEAP
    if rng is None or not plan.groups:
        return plan.at(least) if side is None else plan.towards(least, budget, np.random.default_rng(0)) or Unfit.MISSED
    for _ in range(ATTEMPTS):
        places = rng.integers(len(plan.widths), size=len(plan.groups)).tolist()
        found = plan.towards(places, budget, rng)
        if found is not None:
            return found
    return plan.at(least) if side is None else Unfit.MISSED


Places = list[int]
"""For every group the place of its size among the widths."""


class _Plan:
    """What a graph's parameters and multiply-adds are at other widths, without tracing an op at each of them."""

    def __init__(self, graph: Graph, widths: Sequence[int]) -> None:
        self.graph, self.widths = graph, widths
        self.tied = ties(graph)
        self.groups = _free(self.tied) if widths else []
        self._place = {number: place for place, number in enumerate(self.groups)}
        self._sums = {each.total: each for each in self.tied.sums}
        self._nodes = [self._counted(node) for node in graph.nodes]

    def _counted(self, node: Node) -> tuple[tuple[int, ...], Callable[[Sequence[int]], tuple[int, float] | None]]:
        """The groups that a node's cost hangs on, and that cost at places of them; None where they do not fit."""
        inputs = tuple(self.graph.input_values(node))
        setters = {width for (name, _), width in self.tied.sizes.items() if name == node.name}
        read = {self.tied.channels[name].width for name in node.inputs} - {None}
        groups = sorted({group for width in (*setters, *read) for group in self._behind(width)})
        known: dict[tuple[int, ...], tuple[int, float] | None] = {}

        def cost(places: Sequence[int]) -> tuple[int, float] | None:
            key = tuple([places[group] for group in groups])
            if key not in known:
                channels = tuple([self._channels(name, places) for name in node.inputs])
                size = next((self._size(width, places) for width in setters), 0)
                known[key] = _cost_at(node.op, inputs, channels, size)
            return known[key]

        return tuple(groups), cost

    def _behind(self, width: int | None) -> set[int]:
        """The groups that decide a width."""
        if width in self._place:
            return {self._place[width]}
        terms = self._sums[width].terms if width in self._sums else ()
        return {group for _, term in terms for group in self._behind(term)}

    def _size(self, width: int, places: Sequence[int]) -> int:
        if width in self._place:
            return self.widths[places[self._place[width]]]
        if not self._behind(width):
            return self.tied.widths[width].size
        total = self._sums[width]
        return int(total.constant + sum(factor * self._size(term, places) for factor, term in total.terms))

    def _channels(self, name: str, places: Sequence[int]) -> int | None:
        channels = self.tied.channels[name]
        if channels.width is None or not self._behind(channels.width):
            return None
        return int(channels.factor * self._size(channels.width, places))

    def at(self, places: Sequence[int]) -> Graph:
        """The graph with every group at its place."""
        sizes = {name: self._size(width, places) for (name, _), width in self.tied.sizes.items() if width in self._place}
        nodes = [
            replace(node, op=with_size(node.op, sizes[node.name])) if node.name in sizes else node for node in self.graph.nodes
        ]
        return replace(self.graph, nodes=tuple(nodes))

    def side(self, places: Sequence[int], budget: Budget) -> Unfit | None:
        """Where these widths are beside the budget; None if within it, MISSED if they do not fit."""
        params, macs = 0, 0.0
        for _, cost in self._nodes:
            found = cost(places)
            if found is None:
                return Unfit.MISSED
            params, macs = params + found[0], macs + found[1]
        pairs = ((params, budget.params), (round(macs), budget.macs))
        if any(figure > interval.high for figure, interval in pairs):
            return Unfit.DEAR
        return Unfit.CHEAP if any(figure < interval.low for figure, interval in pairs) else None

    def fitting(self, *, smallest: bool) -> Places | None:
        """Small (or large) widths that every op takes, found by giving each misfit the next ones; None if that leads nowhere."""
        end = 0 if smallest else len(self.widths) - 1
        places = [end] * len(self.groups)
        for _ in range(FITTINGS):
            misfit = next((groups for groups, cost in self._nodes if cost(places) is None), None)
            if misfit is None:
                return places
            moved = self._next(places, misfit, 1 if smallest else -1)
            if moved is None:
                return None
            places = moved
        return None

    def _next(self, places: Places, groups: tuple[int, ...], step: int) -> Places | None:
        """The nearest places further on, of some groups, at which every node that these groups alone decide fits."""
        costs = [cost for own, cost in self._nodes if own and set(own) <= set(groups)]
        ahead = [range(places[group], len(self.widths) if step > 0 else -1, step) for group in groups]
        for choice in sorted(itertools.product(*ahead), key=lambda each: step * sum(each))[1:]:
            moved = list(places)
            for group, place in zip(groups, choice, strict=True):
                moved[group] = place
            if all(cost(moved) is not None for cost in costs):
                return moved
        return None

    def towards(self, places: Places, budget: Budget, rng: np.random.Generator) -> Graph | None:
        """The graph at widths within the budget, one drawn again after the other from these on; None if that leads nowhere."""
        last = len(self.widths) - 1
        for _ in range(1 + len(places) * max(1, last)):
            side = self.side(places, budget)
            if side is None:
                return self.at(places)
            step = {Unfit.DEAR: -1, Unfit.CHEAP: 1}.get(side, 0)
            able = [index for index, place in enumerate(places) if 0 <= place + step <= last]
            if not able:
                return None
            index = able[int(rng.integers(len(able)))]
            low, high = (0, places[index]) if step < 0 else (places[index] + 1, last + 1) if step else (0, last + 1)
            places[index] = int(rng.integers(low, high))
        return None


@functools.lru_cache(maxsize=1 << 17)
def _cost_at(op: Op, inputs: tuple[Value, ...], channels: tuple[int | None, ...], size: int) -> tuple[int, float] | None:
    """(parameters, multiply-adds) of an op on inputs of other channels, and of another size; None if they do not fit."""
    values = tuple([value if c is None else with_channels(value, c) for value, c in zip(inputs, channels, strict=True)])
    sized = with_size(op, size) if size else op
    try:
        sized.check(*values)
    except ShapeMismatch:
        return None
    told = figures(sized, values[0]) if len(values) == 1 else None
    if told is not None:
        return told[1], told[2]
    own = op_params(sized, values)
    before, work = op_params(op, inputs), op_macs(op, inputs)
    return own, work * (own / before if before else values[-1].channels / inputs[-1].channels)
