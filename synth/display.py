"""How graphs show themselves: as a text table and as HTML for notebooks."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING

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
            sum(math.prod(weight.shape) for weight in node.op.weights(*graph.input_values(node)).values()),
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


def as_html(graph: Graph) -> str:
    """A table for notebooks."""
    head = "".join(f"<th style='text-align:left'>{title}</th>" for title in ("node", "op", "reads", "shape", "parameters"))
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(str(cell))}</td>" for cell in row) + "</tr>"
        for row in rows(graph)
    )
    inputs = ", ".join(f"{html.escape(item.name)}: {item.value}" for item in graph.inputs)
    caption = f"{inputs} → {', '.join(map(html.escape, graph.outputs))}, {graph.params:,} parameters"
    return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"
