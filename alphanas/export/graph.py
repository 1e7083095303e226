"""The source of truth: the graph as JSON, its weights as safetensors. Both are versioned, and old versions stay readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax

from alphanas.errors import UserError
from alphanas.export.blocks import tidy
from alphanas.export.check import Exported, Options, check
from alphanas.models import weights
from synth.graph import FORMAT, Graph, GraphError, Variables
from synth.op import ShapeMismatch


def export_graph(graph: Graph, variables: Variables, folder: Path, options: Options) -> Exported:
    """Writes `graph.json` and `weights.safetensors`. Nodes have the names that the Flax export gives to its modules."""
    del options  # holds any batch, on any machine
    graph, variables = tidy(graph, variables)
    weights.save(variables, folder / "weights.safetensors")
    text = json.dumps(json.loads(graph.to_json()), indent=1) + "\n"
    weights.write_atomically(folder / "graph.json", text)
    read, arrays = open_graph(folder)
    apply = jax.jit(read.apply)

    def run(*inputs: Any) -> Any:
        return apply(arrays, *inputs)

    files = ("graph.json", "weights.safetensors")
    return check(graph, variables, run, format="graph", files=files, checked_by=("jax",), details={"form": FORMAT})


def open_graph(directory: str | Path) -> tuple[Graph, Variables]:
    """The graph and variables of a directory that `export_graph` wrote. Raises UserError for what is no such directory."""
    path = Path(directory) / "graph.json"
    graph = read_graph(path)
    return graph, weights.load(path.with_name("weights.safetensors"), graph)


def read_graph(path: Path) -> Graph:
    """The graph of a JSON file. Raises UserError for a file that is missing, no graph, or of a newer version."""
    try:
        return Graph.from_json(path.read_text())
    except OSError as error:
        raise UserError(str(path), saw=f"cannot be read: {error.strerror}", wanted="a graph.json") from error
    except (GraphError, ShapeMismatch, UnicodeDecodeError) as error:
        raise UserError(str(path), saw=str(error), wanted="a graph that this version reads") from error
