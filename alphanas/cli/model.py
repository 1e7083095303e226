"""From the MODEL and `--input` of a command line to a graph."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from alphanas.errors import UserError

if TYPE_CHECKING:
    from alphanas.models.lifting import Lifted
    from synth import Graph, Region


def load_model(arguments: argparse.Namespace) -> Lifted:
    """The model's graph, its variables if it came with any, and what of it was not understood."""
    from alphanas.models.resolve import resolve_with_report

    weights = getattr(arguments, "weights", None)
    return resolve_with_report(arguments.model, arguments.input, num_classes=arguments.classes, weights=weights)


def region_of(graph: Graph, text: str) -> Region:
    """The region FIRST..LAST of a graph, or the single node that the text names."""
    from alphanas.errors import nearest
    from synth import GraphError, span

    first, dots, last = text.partition("..")
    names = (first, last) if dots else (first, first)
    for name in names:
        if name not in graph.by_name:
            raise UserError(f"--region {text}", saw=f"no node is called {name!r}", remedy=nearest(name, graph.by_name))
    try:
        return span(graph, *names)
    except GraphError as error:
        remedy = "name two nodes with a path from the first to the last; `inspect` shows the blocks"
        raise UserError(f"--region {text}", saw=str(error), remedy=remedy) from error
