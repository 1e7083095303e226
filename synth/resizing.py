"""Sizing of a whole network: all its widths, and if asked its depth and further fields, at once under budgets.

    resize(graph, Budget(Interval(0, 10_000_000)), multiple=16, keep_rank=1.0)

With an upper budget alone "cheapest" would be trivial, so what is best has to be said:

- "capacity" (the default): the most capacity that the budget allows. Every size that may change counts alike, with
  1 - (ln share / ln size)² at a share of its present size: 1 as it is, 0 at one channel or left out. (Where fields change, the
  share is that of the width times the root of the op's parameters.) Sums of widths or of their roots would keep some layers as they
  are and cut others to almost nothing, because parameters are products of two widths; the square of the logarithm does not.
- "proportional": nearest, in mean square, to the uniform shrink that would just keep the budget.
- "params", "macs", or a cost of an op on its inputs (a function or a table, such as of measured latencies): the cheapest network
  that keeps at least `keep` of the capacity, and what else is asked.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from synth.allocation import Best, Limit, Nothing, maximise
from synth.analysis import macs, verify
from synth.budget import ANY, UNLIMITED, Budget, Interval
from synth.clock import Clock, TimeIsUp
from synth.core import smallest_core
from synth.graph import Graph
from synth.memory import peak_bytes
from synth.op import ShapeMismatch
from synth.ops import OPS
from synth.result import Found, GaveUp, Infeasible, Proof
from synth.sizing import CAPACITY, DEPTHS, MACS, OWN, PARAMS, WIDTHS, Freedom, Sizing
from synth.stages import rank_between, stand_ins
from synth.tables import NodeCost, Uncountable

OBJECTIVES = ("capacity", "proportional", "params", "macs")


def resize(
    graph: Graph,
    budget: Budget = UNLIMITED,
    *,
    multiple: int = 8,
    keep_rank: float = 0.0,
    keep: float = 0.0,
    objective: str | NodeCost = "capacity",
    free: Sequence[str] = (WIDTHS,),
    smallest: float = 0.0,
    largest: float = 1.0,
    tolerance: float = 0.0,
    time_limit: float = 10.0,
    steps: float | None = None,
) -> Found | Infeasible | GaveUp:
    """The graph at the sizes that are best by `objective` within the budget; its ends keep their types.

    `free` says what may change: "widths", "depths" (residual blocks may be left out), and fields with declared choices such as
    "groups", "heads" or "kernel" by name. Widths become multiples of `multiple` between `smallest` and `largest` times the present
    ones. Every stage (run at one spatial shape) keeps at least the share `keep_rank` of its rank bound, the network the share
    `keep` of its capacity. It ends after `time_limit` seconds, or `steps` of its work (see `synth.clock`: with those alone the
    answer is the same on every machine); early once the gap is proven to be at most `tolerance`.

    `Found.optimal` says whether it is proven that nothing is better, `Found.gap` how much better anything could be, as a share.
    Parameters, MACs, memory and ranks of the result are counted anew on the graph. ValueError for arguments that make no sense.
    How far an output sees does not depend on widths, so nothing asks for it here; where kernels or dilations are free it may.
    """
    clock = Clock.of(time_limit, steps)
    freedom = Freedom(tuple(free), multiple, smallest, largest, keep_rank)
    _checked(graph, freedom, keep, objective)
    try:
        question = _Question.of(graph, budget, freedom, keep, objective, clock)
        answer = question.answer(tolerance)
    except Uncountable as error:
        return GaveUp(str(error), clock.seconds)
    except TimeIsUp:
        return GaveUp(f"{clock.reason} before it was counted what the sizes of {len(graph.nodes)} nodes cost", clock.seconds)
    if isinstance(answer, Found):
        return replace(answer, seconds=clock.seconds)
    if answer:
        return Infeasible(question.core(), clock.seconds)
    return GaveUp(f"{clock.reason} before sizes within {budget} were found", clock.seconds)


def uniform(graph: Graph, budget: Budget, *, multiple: int = 8) -> Graph | None:
    """The baseline: all widths at one share of the present ones, rounded, the largest that keeps the budget; None if none does."""
    sizing = Sizing(graph, Freedom((WIDTHS,), multiple))
    share = None if sizing.empty else _share(sizing, budget)
    if share is None:
        return None
    try:
        found = sizing.graph_at(_at_share(sizing, share))
    except ShapeMismatch:
        return None
    return found if budget.distance(found.params, macs(found), peak_bytes(found)) == 0 else None


def _share(sizing: Sizing, budget: Budget) -> float | None:
    """The largest share of the present widths at which parameters and MACs are within the budget."""
    network, _ = sizing.network(ANY)
    tops = np.array([np.inf, budget.params.high, budget.macs.high, np.inf])
    for share in np.linspace(sizing.freedom.largest, 0.0, 401):
        totals = network.totals(_at_share(sizing, float(share)), strict=False)
        if totals is not None and (totals <= tops).all():
            return float(share)
    return None


def _at_share(sizing: Sizing, share: float) -> list[int]:
    """The assignment in which every width is the one nearest to a share of its present size, and sums are sums."""
    assignment = [0] * len(sizing.values)
    sizes = [
        int(domain[np.argmin(np.abs(domain - share * width.size))])
        for width, domain in zip(sizing.tied.widths, sizing.domains, strict=True)
    ]
    for each in sizing.tied.sums:
        sizes[each.total] = int(each.constant + sum(factor * sizes[width] for factor, width in each.terms))
    for number, domain in enumerate(sizing.domains):
        assignment[sizing.unknowns["width", number]] = int(np.argmin(np.abs(domain - sizes[number])))
    return assignment


def _checked(graph: Graph, freedom: Freedom, keep: float, objective: str | NodeCost) -> None:
    """Refuses arguments that make no sense."""
    if isinstance(objective, str) and objective not in OBJECTIVES:
        raise ValueError(f"no objective is called {objective!r}; known are {', '.join(OBJECTIVES)}, or give a cost of an op")
    if freedom.multiple < 1:
        raise ValueError(f"widths are multiples of a number of at least 1, got {freedom.multiple}")
    if not 0 <= freedom.smallest <= freedom.largest:
        raise ValueError(f"wanted 0 <= smallest <= largest, got {freedom.smallest:g} and {freedom.largest:g}")
    if not (0 <= freedom.keep_rank <= 1 and 0 <= keep <= 1):
        raise ValueError(f"keep_rank and keep are shares between 0 and 1, got {freedom.keep_rank:g} and {keep:g}")
    kinds = {*OPS.values(), *(type(node.op) for node in graph.nodes)}
    known = {WIDTHS, DEPTHS} | {each.name for kind in kinds for each in fields(kind) if "choices" in each.metadata}
    unknown = sorted(set(freedom.free) - known)
    if unknown or not freedom.free:
        raise ValueError(f"free wants some of {', '.join(sorted(known))}; got {', '.join(unknown) or 'nothing'}")


@dataclass(frozen=True)
class _Question:
    """What is asked: sizes of a graph, limits by what they are called, and the weights of the quantities."""

    sizing: Sizing
    budget: Budget
    keep: float
    weights: np.ndarray
    clock: Clock
    part: Clock
    """When the search must end, so that there is time to prove what it found."""

    @staticmethod
    def of(graph: Graph, budget: Budget, freedom: Freedom, keep: float, objective: str | NodeCost, clock: Clock) -> _Question:
        named = objective if isinstance(objective, str) else "own"
        sizing = Sizing(graph, freedom, cost=None if isinstance(objective, str) else objective, check=clock.check)
        if named == "proportional" and not sizing.empty:
            sizing = Sizing(graph, freedom, ratio=_share(sizing, budget) or 0.0, check=clock.check)
        column = {"capacity": (CAPACITY, 1.0), "proportional": (OWN, 1.0), "params": (PARAMS, -1.0), "macs": (MACS, -1.0)}
        quantity, sign = column.get(named, (OWN, -1.0))
        weights = np.zeros(OWN + 1)
        weights[quantity] = sign
        return _Question(sizing, budget, keep, weights, clock, clock.part(reserve=_seconds_to_prove(graph)))

    def limits(self) -> dict[str, Limit | Interval]:
        """What is asked, by name."""
        found: dict[str, Limit | Interval] = {}
        for name, interval, quantity in (("parameters", self.budget.params, PARAMS), ("MACs", self.budget.macs, MACS)):
            if interval != ANY:
                found[f"{interval} {name}"] = Limit(quantity, interval.low, interval.high)
        if self.budget.peak_bytes != ANY:
            found[f"{self.budget.peak_bytes} bytes alive at once"] = self.budget.peak_bytes
        if self.keep:
            found[f"at least {self.keep:.0%} of the capacity"] = Limit(CAPACITY, self.keep)
        return found

    def answer(self, tolerance: float) -> Found | bool:
        """The best sizes; or whether it is proven that there are none."""
        best = self._best(self.limits(), tolerance)
        if isinstance(best, Nothing):
            return best.proven
        graph, bound = self.sizing.graph_at(best.assignment), best.bound
        if not self.keeps_rank(graph, best.assignment):
            self.sizing.proportionate()
            best = self._best(self.limits(), tolerance)
            if isinstance(best, Nothing):
                return False
            graph = self.sizing.graph_at(best.assignment)
            assert self.keeps_rank(graph, best.assignment), "widths in proportion and all blocks keep every rank in proportion"
        return self._found(graph, best.value, bound)

    def _best(self, limits: Mapping[str, Limit | Interval], tolerance: float, *, any: bool = False) -> Best | Nothing:
        if self.sizing.empty:
            return Nothing(proven=True)
        memory = next((limit for limit in limits.values() if isinstance(limit, Interval)), ANY)
        network, bytes_of = self.sizing.network(memory)
        rows = [limit for limit in limits.values() if isinstance(limit, Limit)]
        rows += [Limit(quantity, high=memory.high) for quantity in bytes_of]
        weights = np.zeros(len(network.constant))
        weights[: OWN + 1] = 0.0 if any else self.weights
        starts = [_at_share(self.sizing, self.sizing.freedom.largest * step / 16) for step in range(17)]
        return maximise(network, weights, rows, starts=starts, clock=self.part, tolerance=tolerance)

    def keeps_rank(self, graph: Graph, assignment: Sequence[int]) -> bool:
        """Whether every stage has the share of its rank bound that it is to keep."""
        instead = stand_ins(self.sizing.left_out(assignment))
        ends = [(instead.get(stage.source, stage.source), instead.get(stage.target, stage.target)) for stage in self.sizing.stages]
        least = [self.sizing.freedom.keep_rank * stage.rank for stage in self.sizing.stages]
        return all(rank_between(graph, *pair) >= rank for pair, rank in zip(ends, least, strict=True))

    def _found(self, graph: Graph, value: float, bound: float) -> Found:
        inference = verify(graph)
        params, work, memory = graph.params, inference.capacity.macs, peak_bytes(graph)
        distance = self.budget.distance(params, work, memory)
        assert distance == 0, f"sizes were found that do not keep {self.budget}: {params} parameters, {work} MACs, {memory} bytes"
        gap = max(0.0, bound - value) / max(1e-12, abs(value))
        optimal = gap <= 1e-8
        proof = Proof(inference, distance, params, work, memory)
        return Found((graph,), (proof,), 0.0, optimal=optimal, gap=0.0 if optimal else gap, value=abs(value))

    def core(self) -> tuple[str, ...]:
        """The smallest set of what is asked, as far as the time allows, that excludes all sizes."""
        freedom = self.sizing.freedom
        setting = f"widths that are multiples of {freedom.multiple}, at most {freedom.largest:g} times the present ones"
        rank = [f"{freedom.keep_rank:.0%} of every stage's rank bound"] if freedom.keep_rank else []
        if self.sizing.empty:
            return (setting, *rank, f"what fits {', '.join(self.sizing.empty)}")
        limits = self.limits()

        def excluded(names: list[str]) -> bool:
            try:
                found = self._best({name: limits[name] for name in names}, 1.0, any=True)
            except TimeIsUp:
                return False
            return isinstance(found, Nothing) and found.proven

        return (setting, *rank, *smallest_core(list(limits), excluded, is_late=lambda: self.clock.is_up))


@functools.lru_cache(maxsize=64)
def _seconds_to_prove(graph: Graph) -> float:
    """How long it takes to prove a graph like this one in other sizes.

    Twice what interpreting this one's jaxpr takes: its ops in those sizes, which are new, are counted one by one as well.
    """
    started = time.monotonic()
    verify(graph)
    return 2 * (time.monotonic() - started)
