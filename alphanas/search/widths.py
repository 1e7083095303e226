"""Channel widths that belong together: sums tie their operands, so that widths change by whole groups or not at all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from synth import Graph, ShapeMismatch
from synth.effect import with_size
from synth.ties import ties

UNITS = (8, 4, 2, 1)
"""What widths are rounded to."""


@dataclass(frozen=True)
class WidthGroup:
    """The nodes that set one width, by name, and that width."""

    nodes: tuple[str, ...]
    width: int


@functools.lru_cache(maxsize=1024)
def width_groups(graph: Graph) -> tuple[WidthGroup, ...]:
    """The widths of a graph that may change, in order; what is tied to the graph's inputs and outputs may not."""
    groups = (WidthGroup(tuple(name for name, _ in each.setters), each.size) for each in ties(graph).widths if not each.fixed)
    return tuple(group for group in groups if group.nodes and _may_change(graph, group))


def resized(graph: Graph, widths: Mapping[WidthGroup, int]) -> Graph:
    """The graph with some groups at other widths, all shapes following; ShapeMismatch if something does not fit any more."""
    sizes = {name: width for group, width in widths.items() for name in group.nodes}
    nodes = tuple(replace(node, op=with_size(node.op, sizes[node.name])) if node.name in sizes else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def scaled(graph: Graph, factor: float, groups: tuple[WidthGroup, ...] | None = None) -> Graph | None:
    """The graph with the widths of some groups (all by default) times a factor; None if that changes or fits nothing.

    Each width is rounded to the coarsest of 8, 4, 2 and 1 that fits and keeps it within a quarter of what was asked for.
    """
    return leaning(graph, dict.fromkeys(width_groups(graph) if groups is None else groups, factor))


def leaning(graph: Graph, factors: Mapping[WidthGroup, float]) -> Graph | None:
    """The same with a factor for each group."""
    for coarsest in UNITS:
        widths = {group: _rounded(group.width * factor, coarsest) for group, factor in factors.items()}
        changed = {group: width for group, width in widths.items() if width != group.width}
        try:
            return resized(graph, changed) if changed else None
        except ShapeMismatch:
            continue
    return None


def _rounded(width: float, coarsest: int) -> int:
    """To the coarsest unit, up to that one, which keeps it within a quarter."""
    for unit in UNITS[UNITS.index(coarsest) :]:
        found = max(unit, round(width / unit) * unit)
        if abs(found - width) <= 0.25 * width:
            break
    return found


def _may_change(graph: Graph, group: WidthGroup) -> bool:
    for width in (2 * group.width, group.width // 2):
        try:
            resized(graph, {group: width})
        except ShapeMismatch:
            continue
        return width > 0
    return False
