"""`inspect MODEL`: properties, parameters and MACs of a model, whole and per block."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from alphanas.cli.common import add_json, add_model, print_json, print_table

if TYPE_CHECKING:
    from synth import Graph

HELP = """show what a model does: shape, depth, mixing, parameters, MACs; whole and per block

depth: alternations of linear and non-linear steps on the longest path. mixing: one word per input axis, one digit per
output axis; 0: depends on no position of the input axis, 1: on one, 2: on many, 3: on all. MACs are those of one example."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inspect`."""
    add_model(parser)
    parser.add_argument("--nodes", action="store_true", help="list the nodes too, by the names that `synth --region` takes")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints the properties."""
    from alphanas.cli.model import load_model

    lifted = load_model(arguments)
    graph = lifted.graph
    facts = {**inspect_graph(graph, batch=arguments.input[0]), "opaque": dict(lifted.report.opaque)}
    if arguments.json:
        print_json(facts)
        return 0
    rows = [_row("whole", facts, len(graph.nodes)), *(_row(block["name"], block, len(block["ops"])) for block in facts["blocks"])]
    columns = ("block", "output", "parameters", "MACs", "depth", "mixing", "ops")
    print_table(columns, rows, right=("parameters", "MACs", "depth", "ops"))
    if arguments.nodes:
        print(f"\n{graph}")
    for name, reason in facts["opaque"].items():
        print(f"opaque, kept as it is: {name}: {reason}")
    if facts["unknown"]:
        print(f"taken as mixing everything, because no rule is known: {', '.join(facts['unknown'])}")
    return 0


def inspect_graph(graph: Graph, *, batch: int = 1) -> dict[str, Any]:
    """The JSON form of `inspect`: the whole, and every block (nodes whose names start alike) in the graph's order."""
    blocks = []
    for name, members in blocks_of(graph).items():
        piece = subgraph(graph, members)
        ops = [str(node.op) for node in piece.nodes]
        blocks.append({"name": name, "nodes": list(members), "ops": ops, **properties_of(piece, batch=batch)})
    return {**properties_of(graph, batch=batch), "blocks": blocks}


def properties_of(graph: Graph, *, batch: int = 1) -> dict[str, Any]:
    """Output shape, parameters, MACs of one example, depth and mixing from the graph's first input to its last output."""
    from synth.analysis import infer, macs

    found = infer(graph)
    output = len(graph.outputs) - 1
    return {
        "output_shape": list(graph.values[graph.outputs[output]].aval(batch).shape),
        "params": graph.params,
        "macs": macs(graph),
        "depth": int(found.depth[0, output]),
        "mixing": [[int(level) for level in row] for row in found.mixing[0, output].matrix],
        "unknown": list(found.unknown),
    }


def blocks_of(graph: Graph) -> dict[str, tuple[str, ...]]:
    """Names of nodes by block: the first two parts of a dotted name without its last part; a name without dots is a block."""
    blocks: dict[str, list[str]] = {}
    for node in graph.nodes:
        parts = node.name.split(".")
        blocks.setdefault(".".join(parts[:-1][:2]) or node.name, []).append(node.name)
    return {name: tuple(members) for name, members in blocks.items()}


def subgraph(graph: Graph, members: tuple[str, ...]) -> Graph:
    """Some nodes of a graph as a graph of their own; unlike a region they need not be convex."""
    from synth import Graph, Input

    chosen = set(members)
    nodes = tuple(node for node in graph.nodes if node.name in chosen)
    outside = dict.fromkeys(name for node in nodes for name in node.inputs if name not in chosen)
    inputs = tuple(Input(name, graph.values[name].shape, graph.values[name].dtype) for name in outside)
    read_outside = [name for name in members if name in graph.outputs or not chosen.issuperset(graph.consumers[name])]
    return Graph(inputs, nodes, tuple(read_outside or members[-1:]))


def _row(name: str, facts: dict[str, Any], ops: int) -> tuple[Any, ...]:
    output = "×".join(map(str, facts["output_shape"]))
    mixing = " ".join("".join(map(str, row)) for row in facts["mixing"])
    return (name, output, f"{facts['params']:,}", f"{facts['macs']:,}", facts["depth"], mixing, ops)
