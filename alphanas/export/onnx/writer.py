"""Nodes, weights and names of an ONNX graph as it grows; every value in the layouts that were asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alphanas.export.onnx.layouts import has_layout
from synth.graph import Node
from synth.op import Value

_AXES = {3: "ncw", 4: "nchw", 5: "ncdhw"}


@dataclass
class Writer:
    """Collects ONNX nodes and initializers under names that are unique."""

    nodes: list[Any] = field(default_factory=list)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    forms: dict[tuple[str, bool], str] = field(default_factory=dict)
    """The ONNX name of a value of our graph, by whether it is channels first."""
    transpositions: int = 0
    _names: set[str] = field(default_factory=set)

    def name(self, wanted: str) -> str:
        """The wanted name, numbered if it is taken."""
        numbered = (f"{wanted}_{number}" for number in range(2, len(self._names) + 3))
        chosen = next(name for name in (wanted, *numbered) if name not in self._names)
        self._names.add(chosen)
        return chosen

    def add(self, kind: str, inputs: Sequence[str], name: str, *, outputs: int = 1, **attributes: Any) -> list[str]:
        """A node; returns the names of its outputs."""
        from onnx import helper

        names = [self.name(name if outputs == 1 else f"{name}/{index}") for index in range(outputs)]
        given = {key: value for key, value in attributes.items() if value is not None}
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **given))
        return names

    def array(self, name: str, value: Any) -> str:
        """An array that the model holds."""
        chosen = self.name(name)
        self.initializers[chosen] = np.asarray(value, order="C")
        return chosen

    def read(self, value: str, rank: int, *, first: bool) -> str:
        """The ONNX name of a value of our graph in a layout; transposes it where only the other one is there."""
        first = first and has_layout(rank)
        if (value, first) not in self.forms:
            axes = _AXES.get(rank, "nc*")
            suffix, order = (axes, moved_first(rank)) if first else (axes.replace("c", "") + "c", moved_last(rank))
            (self.forms[value, first],) = self.add("Transpose", [self.forms[value, not first]], f"{value}/{suffix}", perm=order)
            self.transpositions += 1
        return self.forms[value, first]


def moved_first(rank: int) -> list[int]:
    """The permutation that brings the features behind the batch."""
    return [0, rank - 1, *range(1, rank - 1)]


def moved_last(rank: int) -> list[int]:
    """The permutation that brings the features to the end."""
    return [0, *range(2, rank), 1]


@dataclass(frozen=True)
class Site:
    """Where an emitter writes: one node of our graph, its inputs as ONNX names in the node's layout, and its weights."""

    writer: Writer
    node: Node
    values: tuple[Value, ...]
    output: Value
    inputs: tuple[str, ...]
    weights: Mapping[str, np.ndarray]
    first: bool

    @property
    def rank(self) -> int:
        """The rank of the first input."""
        return len(self.values[0].shape)

    @property
    def axis(self) -> int:
        """The feature axis of the inputs."""
        return 1 if self.first and has_layout(self.rank) else self.rank - 1

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """A node of one output, named after our node and a part of it."""
        part = f"{self.node.name}/{name}" if name else self.node.name
        return self.writer.add(kind, inputs, part, **attributes)[0]

    def array(self, name: str, value: Any) -> str:
        """An array, named after our node."""
        return self.writer.array(f"{self.node.name}/{name}", value)

    def weight(self, name: str) -> str:
        """A weight as it is; one that another node owns and has written is that one."""
        for tie in self.node.ties:
            shared = f"{tie.owner}/{tie.name}"
            if tie.weight == name and shared in self.writer.initializers:
                return shared
        return self.array(name, self.weights[name])

    def per_feature(self, name: str, value: np.ndarray) -> str:
        """One number a feature, in a shape that meets the inputs in their layout."""
        return self.array(name, value.reshape(-1, *(1,) * (self.rank - 1 - self.axis)))

    def sizes(self, name: str, values: Sequence[int]) -> str:
        """A list of whole numbers."""
        return self.array(name, np.asarray(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """One number of the inputs' type."""
        return self.array(name, np.asarray(value, self.values[0].dtype))
