"""Regions of a graph, what replacing one gives, and how far moves may go."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from alphanas.limits import Limit
from alphanas.search.proposal import Answer, Failure, New
from properties import Property
from synth import Graph, GraphError, Region, ShapeMismatch, regions, splice
from synth.target import Change


@dataclass(frozen=True, kw_only=True)
class Options:
    """How large the pieces are that are replaced, how far their properties move, and how replacements are synthesized."""

    region_min: int = 1
    region_max: int = 8
    mutation: float = 0.5
    """Probability that depth moves by another step, and that mixing is relaxed."""
    method: str = "exact"
    branches: float = 0.2
    """How often a replacement has branches, and may be of a region of several inputs or outputs."""
    max_length: int = 6
    params_ratio: tuple[float, float] = (0.05, 1.0)
    macs_ratio: float = 1.5
    """Multiply-adds of a replacement, at most this times the region's."""
    steps: int = 20_000
    """Of one synthesis, in the unit of `synth.clock`: what is proposed does not hang on the machine."""
    time_limit: float = 600.0
    """Seconds after which a synthesis gives up all the same."""
    properties: tuple[Property, ...] = ()
    """What changes must keep, beyond shape, depth and mixing."""
    property_mutation: float = 0.0
    """Probability that a replacement may keep such a property less than fully."""
    limits: tuple[Limit, ...] = ()
    """What the search's candidates may cost."""
    fill: bool = False
    """Whether it gains nothing to cost less than that."""
    draws: int = 1
    """Mutated targets that one is chosen from, by `worth_of_changes`."""
    worth_of_nodes: Mapping[str, float] = field(default_factory=dict, compare=False)
    """How much more often than others regions of these nodes are replaced; 1 where nothing is said."""
    worth_of_changes: Mapping[str, float] = field(default_factory=dict, compare=False)
    """How much more often than others targets with these changes (`proposal.label`) are asked for; 1 where nothing is said."""


@dataclass(frozen=True)
class Attempt:
    """What one move did: the nodes it replaced, the properties it changed, and the graph or the reason that there is none."""

    region: tuple[str, ...]
    changes: tuple[Change, ...]
    answer: Answer
    method: str = ""


def spliced(graph: Graph, region: Region, piece: Graph) -> Answer:
    """The graph with the new piece, if its outputs are still of the same type."""
    try:
        child = splice(graph, region, piece)
    except (ShapeMismatch, GraphError) as error:
        return Failure("unfit", str(error))
    before, after = ([each.values[name] for name in each.outputs] for each in (graph, child))
    if before != after:
        return Failure("unfit", f"the output would be {', '.join(map(str, after))}")
    return New(child)


@functools.lru_cache(maxsize=256)
def regions_of(graph: Graph, largest: int, ends: int = 1) -> tuple[Region, ...]:
    """Every region of up to so many nodes and `ends` inputs and outputs; remembered."""
    return tuple(regions(graph, largest=largest, inputs=ends, outputs=ends))


def params_of(region: Region) -> int:
    """Parameters that a region owns."""
    return sum(region.graph.params_by_node[name] for name in region.names)


def widest(piece: Graph) -> int:
    """The largest channel count in a piece."""
    return max((size for value in piece.values.values() if (size := value.shape[-1]) is not None), default=1)


def names_of(region: Region) -> tuple[str, ...]:
    """A region's nodes by name, in order."""
    return tuple(node.name for node in region.nodes)
