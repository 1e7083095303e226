"""Targets: what a piece of a program must have, as requirements on its properties and a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import properties
from properties import DepthRequirement, Inference, MixingRequirement, Requirement, ShapeRequirement
from synth.analysis import infer, macs
from synth.budget import ANY, UNLIMITED, Budget, Interval
from synth.graph import Graph
from synth.op import Value
from synth.region import Region
from synth.requirements import RankRequirement, ReceptiveFieldRequirement

FEW_PARAMS = 32
"""A piece that may have fewer parameters than this may also have none."""

LEVELS = ("none", "one", "many", "all")


@dataclass(frozen=True)
class Change:
    """One property that a mutation changed, in words for a report."""

    property: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.property}: {self.before} → {self.after}"


@dataclass(frozen=True)
class Mutation:
    """A target made from another one, and what is different about it."""

    target: Target
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Target:
    """Requirements that a program must meet and a budget that it must keep."""

    requirements: tuple[Requirement, ...]
    budget: Budget = UNLIMITED

    @staticmethod
    def of(subject: Graph | Region, budget: Budget = UNLIMITED) -> Target:
        """What a graph or region has: the shapes of its outputs, and depth and mixing from every input to every output."""
        graph = subject.subgraph() if isinstance(subject, Region) else subject
        found = infer(graph)
        asked: list[Requirement] = [ShapeRequirement(graph.values[name].shape, o) for o, name in enumerate(graph.outputs)]
        for i in range(len(graph.inputs)):
            for o in range(len(graph.outputs)):
                if found.relation("mixing", i, o) is not None:
                    asked += [DepthRequirement.of(found, i, o), MixingRequirement.of(found, i, o)]
        return Target(tuple(asked), budget)

    @staticmethod
    def asking(
        shape: Sequence[int | None],
        *,
        depth: int | None = None,
        mixing: Sequence[Sequence[int]] | None = None,
        receptive_field: int | Sequence[int] | None = None,
        rank: int | None = None,
        params: Interval = ANY,
        macs: Interval = ANY,
    ) -> Target:
        """A target from intent: the output's shape (None for the batch) and least depth, mixing, receptive field and rank bound.

        A receptive field given as one number is asked for on every axis between batch and features of an input of the same rank.
        """
        asked: list[Requirement] = [ShapeRequirement(tuple(shape))]
        if depth is not None:
            asked.append(DepthRequirement(depth))
        if mixing is not None:
            asked.append(at_least(mixing))
        if isinstance(receptive_field, int):
            receptive_field = (0, *[receptive_field] * (len(shape) - 2), 0)
        if receptive_field is not None:
            asked.append(ReceptiveFieldRequirement(tuple(receptive_field)))
        if rank is not None:
            asked.append(RankRequirement(rank))
        return Target(tuple(asked), Budget(params, macs))

    @staticmethod
    def from_table(table: Mapping[str, Any]) -> Target:
        """The target of a TOML table with the keys of `asking`; a size of 0 in `shape` is the batch, intervals are [low, high].

        Raises ValueError for a key that is not known.
        """
        known = ("shape", "depth", "mixing", "receptive_field", "rank", "params", "macs")
        unknown = sorted(set(table) - set(known))
        if unknown or "shape" not in table:
            raise ValueError(f"a target wants shape and may have {', '.join(known[1:])}; got {', '.join(unknown or table)}")
        rest: dict[str, Any] = {name: value for name, value in table.items() if name != "shape"}
        rest |= {name: Interval(*table[name]) for name in ("params", "macs") if name in table}
        return Target.asking([size or None for size in table["shape"]], **rest)

    def distance(self, graph: Graph) -> float:
        """The mean distance of a graph to the requirements and the budget: in [0, 1], 0 only if all are met."""
        return self.distance_of(infer(graph), graph.params, macs(graph))

    def distance_of(self, inference: Inference, params: int, macs: int) -> float:
        """As `distance`, for a program of this inference and cost."""
        parts = [requirement.distance(inference) for requirement in self.requirements]
        parts.append(self.budget.distance(params, macs))
        return sum(parts) / len(parts)

    def output(self, dtype: str = "float32", index: int = 0) -> Value | None:
        """The type that output `index` must have; None if its shape is not required, or not in every size."""
        for requirement in self.requirements:
            if isinstance(requirement, ShapeRequirement) and requirement.output == index:
                return None if None in requirement.shape[1:] else Value(requirement.shape, dtype)
        return None

    def within(self, budget: Budget) -> Target:
        """The same requirements under another budget."""
        return replace(self, budget=budget)

    def mutate(
        self,
        rng: np.random.Generator,
        *,
        params: int | None = None,
        params_ratio: tuple[float, float] = (0.05, 1.0),
        depth_p: float = 0.5,
        depth_delta: int = 2,
        mixing_p: float = 0.5,
    ) -> Mutation:
        """A target near this one: depth up or down, mixing relaxed, shape kept, the parameter budget scaled.

        Depth moves by as many steps as a coin of `depth_p` allows, up to `depth_delta`, in either direction (as in αNAS). With
        `mixing_p` a mixing requirement has one to all of its entries relaxed. `params` is what the piece to be replaced has: the
        new budget lies between the lowest `params_ratio` of it and a ratio drawn log-uniformly from that range.
        """
        changes: list[Change] = []
        asked: list[Requirement] = []
        for requirement in self.requirements:
            mutated: Requirement = requirement
            if isinstance(requirement, DepthRequirement):
                mutated = _deeper_or_shallower(requirement, rng, depth_p, depth_delta)
            elif isinstance(requirement, MixingRequirement):
                mutated = _relaxed(requirement, rng) if rng.random() < mixing_p else requirement
            elif not isinstance(requirement, ShapeRequirement):
                mutated = requirement.relax(rng) if rng.random() < mixing_p else requirement
            asked.append(mutated)
            if mutated != requirement:
                changes.append(Change(kind_of(requirement), describe(requirement), describe(mutated)))
        budget = self.budget
        if params:
            budget = replace(budget, params=_scaled(params, params_ratio, rng))
            changes.append(Change("parameters", str(params), str(budget.params)))
        return Mutation(Target(tuple(asked), budget), tuple(changes))

    def to_json(self) -> dict[str, Any]:
        return {"requirements": [each.to_json() for each in self.requirements], "budget": self.budget.to_json()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Target:
        return Target(tuple(map(_requirement, data["requirements"])), Budget.from_json(data["budget"]))

    def __str__(self) -> str:
        return "; ".join([*map(describe, self.requirements), str(self.budget)])


def describe(requirement: Requirement) -> str:
    """A requirement in words."""
    if isinstance(requirement, ShapeRequirement):
        sizes = ["B", *("?" if size is None else str(size) for size in requirement.shape[1:])]
        return f"shape {'×'.join(sizes)}"
    if isinstance(requirement, DepthRequirement):
        return f"depth at least {requirement.minimum}"
    if isinstance(requirement, ReceptiveFieldRequirement):
        return f"receptive field at least {'×'.join(map(str, requirement.positions))}"
    if isinstance(requirement, RankRequirement):
        return f"rank bound at least {requirement.minimum}"
    if isinstance(requirement, MixingRequirement):
        return f"mixing at least {' | '.join(' '.join(LEVELS[entry] for entry in row) for row in requirement.minimum)}"
    fields = {name: value for name, value in requirement.to_json().items() if name != "kind"}
    return f"{kind_of(requirement)} {fields}"


def kind_of(requirement: Requirement) -> str:
    """The name of a requirement's kind."""
    return str(requirement.to_json()["kind"])


def _requirement(data: Mapping[str, Any]) -> Requirement:
    own = {each.kind: each for each in (ReceptiveFieldRequirement, RankRequirement)}
    return own[data["kind"]].from_json(data) if data.get("kind") in own else properties.requirement(data)


def at_least(matrix: Sequence[Sequence[int]], input: int = 0, output: int = 0) -> MixingRequirement:
    """The requirement of at least this mixing, rows input axes and columns output axes, 0 none to 3 all."""
    return MixingRequirement.from_matrix(matrix, input, output)


def _deeper_or_shallower(requirement: DepthRequirement, rng: np.random.Generator, p: float, most: int) -> DepthRequirement:
    delta = 0
    while delta < most and rng.random() < p:
        delta += 1
    sign = 1 if rng.random() < 0.5 else -1
    return replace(requirement, minimum=max(0, requirement.minimum + sign * delta))


def _relaxed(requirement: MixingRequirement, rng: np.random.Generator) -> MixingRequirement:
    steps = int(rng.integers(1, 1 + max(1, sum(map(sum, requirement.minimum)))))
    for _ in range(steps):
        requirement = requirement.relax(rng)
    return requirement


def _scaled(params: int, ratio: tuple[float, float], rng: np.random.Generator) -> Interval:
    low, high = ratio
    drawn = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    least = int(params * low * 0.5)
    return Interval(least if least >= FEW_PARAMS else 0, max(1, int(np.ceil(params * drawn))))
