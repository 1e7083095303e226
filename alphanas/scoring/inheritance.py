"""Weights that a child takes over from its parent, where both have the same op on the same shapes."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from synth import Graph
from synth.graph import Variables


def inherited(child: Graph, fresh: Variables, parent: Graph, trained: Variables) -> tuple[Variables, int]:
    """(`fresh` with the parent's trained weights and state where they fit, the number of nodes that took them over).

    A node takes over all of its arrays or none: the parent must have a node of the same name and the same op, whose arrays have the
    same names and shapes.
    """
    kept = [node.name for node in child.nodes if _same(node.name, child, parent) and _fits(node.name, fresh, trained)]
    collections = {
        collection: {name: (trained if name in kept else fresh)[collection][name] for name in fresh[collection]}
        for collection in ("params", "state")
    }
    return collections, sum(name in fresh["params"] for name in kept)


def _same(name: str, child: Graph, parent: Graph) -> bool:
    return name in parent.by_name and parent.by_name[name].op == child.by_name[name].op


def _fits(name: str, fresh: Variables, trained: Variables) -> bool:
    return all(
        _shapes(fresh[collection].get(name, {})) == _shapes(trained[collection].get(name, {})) for collection in ("params", "state")
    )


def _shapes(arrays: Mapping[str, jax.Array]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
