"""The language of programs, and synthesis in it."""

from synth.graph import Builder, Graph, GraphError, Input, Node, chain
from synth.op import ModalOp, Op, ShapeMismatch, Value, Weight, alternatives, choice, size
from synth.ops import OPS, vocabulary
from synth.region import Region, regions, span, splice

__all__ = [
    "OPS",
    "Builder",
    "Graph",
    "GraphError",
    "Input",
    "ModalOp",
    "Node",
    "Op",
    "Region",
    "ShapeMismatch",
    "Value",
    "Weight",
    "alternatives",
    "chain",
    "choice",
    "regions",
    "size",
    "span",
    "splice",
    "vocabulary",
]
