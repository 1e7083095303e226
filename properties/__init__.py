"""Properties of JAX programs by abstract interpretation: shape, depth, mixing, rank bound, capacity, and further ones."""

from __future__ import annotations

from properties.capacity import Capacity
from properties.causality import CAUSALITY, CausalityRequirement
from properties.depth import UNBOUNDED, Steps
from properties.equivariance import EQUIVARIANCE, Equivariance, EquivarianceRequirement
from properties.inference import PROPERTIES, Inference, Property, Table, analyze, infer
from properties.mixing import Mixing, ReceptiveField
from properties.named import ALL, find
from properties.property import Reads, Requirement, needed
from properties.rank import Rank
from properties.relation import Relation, RelationalProperty
from properties.requirements import (
    CapacityRequirement,
    DepthRequirement,
    MixingRequirement,
    RankRequirement,
    ShapeRequirement,
    requirement,
    requirements,
)
from properties.rules import Rules, Top, every, rule, top
from properties.scale import SCALE, Scale, ScaleRequirement
from properties.shape import Shape
from properties.walked import Question, WalkedProperty

__all__ = [
    "ALL",
    "CAUSALITY",
    "EQUIVARIANCE",
    "PROPERTIES",
    "SCALE",
    "UNBOUNDED",
    "Capacity",
    "CapacityRequirement",
    "CausalityRequirement",
    "DepthRequirement",
    "Equivariance",
    "EquivarianceRequirement",
    "Inference",
    "Mixing",
    "MixingRequirement",
    "Property",
    "Question",
    "Rank",
    "RankRequirement",
    "Reads",
    "ReceptiveField",
    "Relation",
    "RelationalProperty",
    "Requirement",
    "Rules",
    "Scale",
    "ScaleRequirement",
    "Shape",
    "ShapeRequirement",
    "Steps",
    "Table",
    "Top",
    "WalkedProperty",
    "analyze",
    "every",
    "find",
    "infer",
    "needed",
    "requirement",
    "requirements",
    "rule",
    "top",
]
