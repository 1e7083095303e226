"""How graphs show themselves: as a text table, as a drawing, and as HTML for notebooks."""

from __future__ import annotations

import html
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from synth.drawing import draw

if TYPE_CHECKING:
    from synth.graph import Graph


def rows(graph: Graph) -> list[tuple[str, str, str, str, int]]:
    """(name, op, inputs, output type, parameters) of every node."""
    return [
        (
            node.name,
            str(node.op),
            ", ".join(node.inputs),
            str(graph.values[node.name]),
            sum(math.prod(weight.shape) for weight in graph.owned(node)["params"].values()),
        )
        for node in graph.nodes
    ]


def as_text(graph: Graph) -> str:
    """A table, one node a line."""
    head = "  ".join(f"{item.name}: {item.value}" for item in graph.inputs)
    cells = [(name, f"{op} <- {inputs}", value, f"{params:,}") for name, op, inputs, value, params in rows(graph)]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(4)]
    lines = [
        f"  {name:<{widths[0]}}  {op:<{widths[1]}}  {value:>{widths[2]}}  {params:>{widths[3]}}"
        for name, op, value, params in cells
    ]
    return "\n".join([f"inputs {head}", *lines, f"outputs {', '.join(graph.outputs)}, {graph.params:,} parameters"])


def as_svg(graph: Graph, *, marked: Collection[str] = ()) -> str:
    """A drawing of the graph, the nodes in `marked` highlighted; SVG text without scripts, fonts or links."""
    return draw(graph, marked=marked)


def as_html(graph: Graph) -> str:
    """A drawing for notebooks, and below it, folded, the table of all nodes."""
    inputs = ", ".join(f"{html.escape(item.name)}: {item.value}" for item in graph.inputs)
    summary = f"{inputs} → {', '.join(map(html.escape, graph.outputs))}; {len(graph.nodes)} nodes, {graph.params:,} parameters"
    return f"<div>{as_svg(graph)}<details><summary>{summary}</summary>{as_table(graph)}</details></div>"


def as_table(graph: Graph) -> str:
    """An HTML table, one node a row."""
    head = "".join(f"<th style='text-align:left'>{title}</th>" for title in ("node", "op", "reads", "shape", "parameters"))
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows(graph)
    )
    return f"<table><tr>{head}</tr>{body}</table>"
