"""Weights that a child takes over from its parent, where both have the same op."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from synth import Graph
from synth.effect import size_fields, with_size
from synth.graph import Variables
from synth.op import Op

Array = np.ndarray[Any, Any]


def inherited(child: Graph, fresh: Variables, parent: Graph, trained: Variables) -> tuple[Variables, int]:
    """(`fresh` with the parent's trained weights and state where they fit, the number of nodes with weights that took them over).

    A node takes over all of its arrays or none: the parent must have a node of the same name and the same op, whose arrays have the
    same names and ranks. Where a width has changed, the channels that both have are taken over, the first ones of each.
    """
    kept = {node.name for node in child.nodes if _same(node.name, child, parent) and _fits(node.name, fresh, trained)}
    collections = {
        collection: {
            name: _overlaid(arrays, trained[collection][name]) if name in kept else dict(arrays) for name, arrays in nodes.items()
        }
        for collection, nodes in fresh.items()
    }
    return collections, sum(name in fresh["params"] for name in kept)


def _same(name: str, child: Graph, parent: Graph) -> bool:
    return name in parent.by_name and _shape_free(parent.by_name[name].op) == _shape_free(child.by_name[name].op)


def _shape_free(op: Op) -> Op:
    """The op without its widths."""
    return with_size(op, 0) if size_fields(type(op)) else op


def _fits(name: str, fresh: Variables, trained: Variables) -> bool:
    return all(_ranks(fresh[collection].get(name, {})) == _ranks(trained[collection].get(name, {})) for collection in fresh)


def _ranks(arrays: Mapping[str, Any]) -> dict[str, int]:
    return {name: len(array.shape) for name, array in arrays.items()}


def _overlaid(fresh: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _overlay(np.asarray(array), np.asarray(trained[name])) for name, array in fresh.items()}


def _overlay(fresh: Array, trained: Array) -> Array:
    """`fresh` with the corner that both arrays have replaced by the trained one."""
    corner = tuple(slice(0, min(mine, theirs)) for mine, theirs in zip(fresh.shape, trained.shape, strict=True))
    result = fresh.copy()
    result[corner] = trained[corner]
    return result
