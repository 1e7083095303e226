"""The language of programs, and synthesis in it."""

from synth.analysis import infer, macs, verify
from synth.budget import Budget, Interval, at_most
from synth.graph import Builder, Graph, GraphError, Input, Node, Tie, chain
from synth.op import ModalOp, Op, ShapeMismatch, Value, Weight, alternatives, choice, size
from synth.ops import OPS, vocabulary
from synth.problem import Problem, widths_up_to
from synth.procedures import METHODS, synthesize
from synth.region import Region, regions, span, splice
from synth.resizing import resize
from synth.result import Found, GaveUp, Infeasible, Proof, Result
from synth.target import Change, Mutation, Target, at_least

__all__ = [
    "METHODS",
    "OPS",
    "Budget",
    "Builder",
    "Change",
    "Found",
    "GaveUp",
    "Graph",
    "GraphError",
    "Infeasible",
    "Input",
    "Interval",
    "ModalOp",
    "Mutation",
    "Node",
    "Op",
    "Problem",
    "Proof",
    "Region",
    "Result",
    "ShapeMismatch",
    "Target",
    "Tie",
    "Value",
    "Weight",
    "alternatives",
    "at_least",
    "at_most",
    "chain",
    "choice",
    "infer",
    "macs",
    "regions",
    "resize",
    "size",
    "span",
    "splice",
    "synthesize",
    "verify",
    "vocabulary",
    "widths_up_to",
]
