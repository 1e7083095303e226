"""Models out: one file for each format, one line for each in the table.

Every export is checked against the graph on random inputs before it is reported as done, and writes what it checked beside
the file, as `export.json`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alphanas.errors import UserError, nearest
from alphanas.export.check import Exported
from alphanas.export.flax.export import export_flax
from alphanas.export.graph import export_graph
from alphanas.export.stablehlo import export_stablehlo
from synth.graph import Graph, Variables

Exporter = Callable[[Graph, Variables, Path], Exported]

FORMATS: dict[str, Exporter] = {
    "flax": export_flax,
    "graph": export_graph,
    "stablehlo": export_stablehlo,
}


def export(graph: Graph, variables: Variables, format: str, directory: str | Path) -> Exported:
    """Writes a graph and its variables to a directory in a format of the table, and returns what was written and checked.

    Raises UserError for an unknown format, for a node that the format cannot hold, and for a directory that cannot be written.
    """
    exporter = FORMATS.get(format)
    if exporter is None:
        raise UserError(f"format {format!r}", saw="no such export format", remedy=nearest(format, FORMATS))
    return exporter(graph, variables, Path(directory))


__all__ = ["FORMATS", "Exported", "export", "export_flax", "export_graph", "export_stablehlo"]
