"""Channel widths that belong together: sums tie their operands, so that widths change by whole groups or not at all."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

from synth import Graph, Node, ShapeMismatch, Value
from synth.effect import size_fields, with_size
from synth.op import output_value


@dataclass(frozen=True)
class WidthGroup:
    """The nodes that set one width, by name, and that width."""

    nodes: tuple[str, ...]
    width: int


@functools.lru_cache(maxsize=1024)
def width_groups(graph: Graph) -> tuple[WidthGroup, ...]:
    """The widths of a graph that may change, in order; what is tied to the graph's inputs and outputs may not.

    Found by asking the ops: a value's channels follow an input's if they change with it, and inputs are tied if one cannot change
    alone.
    """
    root: dict[str, str] = {}
    for name in graph.values:
        root[name] = name

    def find(name: str) -> str:
        while root[name] != name:
            name = root[name]
        return name

    for node in graph.nodes:
        for name in _tied(graph, node):
            root[find(name)] = find(node.name)
    fixed = {find(name) for name in (*graph.outputs, *(item.name for item in graph.inputs))}
    groups: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if size_fields(type(node.op)) and find(node.name) not in fixed:
            groups.setdefault(find(node.name), []).append(node)
    found = (WidthGroup(tuple(node.name for node in nodes), graph.values[nodes[0].name].channels) for nodes in groups.values())
    return tuple(group for group in found if _may_change(graph, group))


def resized(graph: Graph, widths: Mapping[WidthGroup, int]) -> Graph:
    """The graph with some groups at other widths, all shapes following; ShapeMismatch if something does not fit any more."""
    sizes = {name: width for group, width in widths.items() for name in group.nodes}
    nodes = tuple(replace(node, op=with_size(node.op, sizes[node.name])) if node.name in sizes else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def scaled(graph: Graph, factor: float, groups: tuple[WidthGroup, ...] | None = None) -> Graph | None:
    """The graph with the widths of some groups (all by default) times a factor; None if that changes or fits nothing.

    Widths are rounded to the coarsest of 8, 4, 2 and 1 that fits and keeps them within a quarter of what was asked for.
    """
    chosen = width_groups(graph) if groups is None else groups
    for unit in (8, 4, 2, 1):
        widths = {group: max(unit, round(group.width * factor / unit) * unit) for group in chosen}
        near = all(abs(width - group.width * factor) <= 0.25 * group.width * factor for group, width in widths.items())
        if not near and unit > 1:
            continue
        changed = {group: width for group, width in widths.items() if width != group.width}
        try:
            return resized(graph, changed) if changed else None
        except ShapeMismatch:
            continue
    return None


def _tied(graph: Graph, node: Node) -> tuple[str, ...]:
    """The values that a node reads whose channels must be its own output's."""
    inputs = graph.input_values(node)
    if size_fields(type(node.op)) or any(not value.shape or value.shape[-1] in (None, 1) for value in inputs):
        return ()
    if graph.values[node.name].shape[-1:] != inputs[0].shape[-1:]:
        return ()
    doubled = tuple(_doubled(value) for value in inputs)
    try:
        follows = output_value(node.op, doubled).channels == 2 * graph.values[node.name].channels
    except ShapeMismatch:
        return ()
    return tuple(dict.fromkeys(node.inputs)) if follows else ()


def _doubled(value: Value) -> Value:
    return replace(value, shape=(*value.shape[:-1], 2 * value.channels))


def _may_change(graph: Graph, group: WidthGroup) -> bool:
    for width in (2 * group.width, group.width // 2):
        try:
            resized(graph, {group: width})
        except ShapeMismatch:
            continue
        return width > 0
    return False
