"""Models out: one file for each format, one line for each in the table.

Every export is made in a folder of its own, checked there against the graph on random inputs, and then put in place with a record
of what was checked, `export.json`. What fails leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alphanas.errors import UserError, nearest
from alphanas.export import place
from alphanas.export.check import Exported, Options
from alphanas.export.flax.export import export_flax
from alphanas.export.graph import export_graph, open_graph
from alphanas.export.onnx.export import FILE as ONNX
from alphanas.export.onnx.export import export_onnx
from alphanas.export.stablehlo import FILE as STABLEHLO
from alphanas.export.stablehlo import export_stablehlo
from alphanas.export.tvm import export_tvm
from alphanas.models import weights
from synth.graph import Graph, Variables

Exporter = Callable[[Graph, Variables, Path, Options], Exported]


@dataclass(frozen=True)
class Format:
    """An exporter, and the name of its file where it is one file: a caller may then choose its name."""

    export: Exporter
    file: str | None = None


FORMATS: dict[str, Format] = {
    "flax": Format(export_flax),
    "graph": Format(export_graph),
    "stablehlo": Format(export_stablehlo, STABLEHLO),
    "onnx": Format(export_onnx, ONNX),
    "tvm": Format(export_tvm),
}


def export(graph: Graph, variables: Variables, format: str, out: str | Path, *, options: Options | None = None) -> Exported:
    """Writes a graph and its variables in a format of the table, and returns what was written and checked.

    `out` is a folder, or a file where the format is one file and `out` has its ending. Raises UserError for an unknown format, for
    variables of another graph, for a node that the format cannot hold, and for a place that cannot be written.
    """
    chosen = FORMATS.get(format)
    if chosen is None:
        raise UserError(f"format {format!r}", saw="no such export format", remedy=nearest(format, FORMATS))
    weights.check(graph, variables)
    return place.write(out, chosen.file, lambda folder: chosen.export(graph, variables, folder, options or Options()))


__all__ = ["FORMATS", "Exported", "Format", "Options", "export", "open_graph"]
