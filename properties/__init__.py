"""Properties of JAX programs by abstract interpretation: shape, depth, mixing, rank bound and capacity."""

from __future__ import annotations

from properties.capacity import Capacity
from properties.causality import CausalityRequirement
from properties.depth import UNBOUNDED, Steps
from properties.inference import PROPERTIES, Inference, Table, analyze, infer
from properties.mixing import Mixing, ReceptiveField
from properties.property import Requirement
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
from properties.shape import Shape

__all__ = [
    "PROPERTIES",
    "UNBOUNDED",
    "Capacity",
    "CapacityRequirement",
    "CausalityRequirement",
    "DepthRequirement",
    "Inference",
    "Mixing",
    "MixingRequirement",
    "Rank",
    "RankRequirement",
    "ReceptiveField",
    "Relation",
    "RelationalProperty",
    "Requirement",
    "Rules",
    "Shape",
    "ShapeRequirement",
    "Steps",
    "Table",
    "Top",
    "analyze",
    "every",
    "infer",
    "requirement",
    "requirements",
    "rule",
    "top",
]
