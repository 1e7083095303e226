"""The source of truth: the graph as JSON, its weights as safetensors. Both are versioned, and old versions stay readable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax

from alphanas.errors import UserError
from alphanas.export.blocks import tidy
from alphanas.export.check import Exported, check, record
from alphanas.models import weights
from synth.graph import Graph, GraphError, Variables
from synth.op import ShapeMismatch


def export_graph(graph: Graph, variables: Variables, directory: Path) -> Exported:
    """Writes `graph.json` and `weights.safetensors`. Nodes have the names that the Flax export gives to its modules."""
    weights.check(graph, variables)
    graph, variables = tidy(graph, variables)
    weights.save(variables, directory / "weights.safetensors")
    text = json.dumps(json.loads(graph.to_json()), indent=1) + "\n"
    weights.write_atomically(directory / "graph.json", text)
    read, arrays = open_graph(directory)

    def run(*inputs: Any) -> Any:
        return jax.jit(read.apply)(arrays, *inputs)

    exported = check(graph, variables, run, format="graph", files=("graph.json", "weights.safetensors"))
    return record(exported, directory)


def open_graph(directory: str | Path) -> tuple[Graph, Variables]:
    """The graph and variables of a directory that `export_graph` wrote. Raises UserError for what is no such directory."""
    path = Path(directory) / "graph.json"
    try:
        graph = Graph.from_json(path.read_text())
    except OSError as error:
        raise UserError(str(path), saw=f"cannot be read: {error.strerror}", wanted="a graph.json") from error
    except (GraphError, ShapeMismatch) as error:
        raise UserError(str(path), saw=str(error)) from error
    return graph, weights.load(path.with_name("weights.safetensors"), graph)
