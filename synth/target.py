"""Targets: what a piece of a program must have, as requirements on its properties and a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

import properties
from properties import (
    PROPERTIES,
    DepthRequirement,
    Inference,
    MixingRequirement,
    Property,
    RankRequirement,
    Requirement,
    ShapeRequirement,
    needed,
)
from synth.analysis import infer, macs
from synth.budget import ANY, UNLIMITED, Budget, Interval
from synth.graph import Graph
from synth.intent import LEVELS, from_table, wishes
from synth.memory import peak_bytes
from synth.op import Value
from synth.region import Region
from synth.requirements import ReceptiveFieldRequirement

FEW_PARAMS = 32
"""A piece that may have fewer parameters than this may also have none."""


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


@dataclass(frozen=True, init=False)
class Target:
    """Requirements that a program must meet and a budget that it must keep.

    Also made from wishes, those of `asking`: `Target(mixing=at_least(matrix), depth=2, params=at_most(10_000))`. One that asks for
    no shape gets that of the region it is used for.
    """

    requirements: tuple[Requirement, ...]
    budget: Budget

    def __init__(self, requirements: Sequence[Requirement] = (), budget: Budget = UNLIMITED, **asked: Any) -> None:
        if asked:
            further, limits = wishes(**asked)
            requirements = (*requirements, *further)
            budget = limits if limits != UNLIMITED else budget
        object.__setattr__(self, "requirements", tuple(requirements))
        object.__setattr__(self, "budget", budget)

    @staticmethod
    def of(subject: Graph | Region, budget: Budget = UNLIMITED, *, properties: Sequence[Property] = ()) -> Target:
        """What a graph or region has: the shapes of its outputs, depth and mixing from every input to every output, and more.

        What else is read are the demands of `properties`.
        """
        graph = subject.subgraph() if isinstance(subject, Region) else subject
        found = infer(graph, tuple(dict.fromkeys((*PROPERTIES, *properties))))
        asked: list[Requirement] = [ShapeRequirement(graph.values[name].shape, o) for o, name in enumerate(graph.outputs)]
        for i in range(len(graph.inputs)):
            for o in range(len(graph.outputs)):
                if found.relation("mixing", i, o) is not None:
                    asked += [DepthRequirement.of(found, i, o), MixingRequirement.of(found, i, o)]
                    asked += [one for each in properties if each.demands for one in each.demands(found, i, o)]
        return Target(tuple(asked), budget)

    @staticmethod
    def asking(
        shape: Sequence[int | None],
        *,
        depth: int | None = None,
        mixing: MixingRequirement | Sequence[Sequence[int]] | None = None,
        receptive_field: int | Sequence[int] | None = None,
        rank: int | None = None,
        params: Interval = ANY,
        macs: Interval = ANY,
        peak_bytes: Interval = ANY,
    ) -> Target:
        """A target from intent: the output's shape (None for the batch) and least depth, mixing, receptive field and rank bound.

            Target.asking((None, 16, 16, 64), mixing=at_least(matrix), receptive_field=7, params=at_most(10_000))

        A receptive field given as one number is asked for on every axis between batch and features of an input of the same rank.
        `peak_bytes` are bytes of values alive at once, for one example. Raises ValueError for what no program can have.
        """
        return Target(
            *wishes(
                shape,
                depth=depth,
                mixing=mixing,
                receptive_field=receptive_field,
                rank=rank,
                params=params,
                macs=macs,
                peak_bytes=peak_bytes,
            )
        )

    @staticmethod
    def from_table(table: Mapping[str, Any], shape: Sequence[int | None] | None = None) -> Target:
        """The target of a TOML table with the keys of `asking` (see `synth.intent.from_table`); ValueError for any other key.

        `shape` stands in where the table has none.
        """
        return Target(*from_table(table, shape))

    def shaped(self, shape: Sequence[int | None]) -> Target:
        """The same target, asking for this shape of the first output unless it asks for one already."""
        if any(isinstance(each, ShapeRequirement) and each.output == 0 for each in self.requirements):
            return self
        return replace(self, requirements=(ShapeRequirement(tuple(shape)), *self.requirements))

    def distance(self, graph: Graph) -> float:
        """The mean distance of a graph to the requirements and the budget: in [0, 1], 0 only if all are met."""
        memory = peak_bytes(graph) if self.budget.limits_memory else 0
        return self.distance_of(infer(graph, needed(self.requirements)), graph.params, macs(graph), memory)

    def distance_of(self, inference: Inference, params: int, macs: int, peak_bytes: int = 0) -> float:
        """As `distance`, for a program of this inference and cost; bytes need only be given where the budget limits them."""
        parts = [requirement.distance(inference) for requirement in self.requirements]
        parts.append(self.budget.distance(params, macs, peak_bytes))
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
        further_p: float | None = None,
    ) -> Mutation:
        """A target near this one: depth up or down, mixing relaxed, shape kept, the parameter budget scaled.

        Depth moves by as many steps as a coin of `depth_p` allows, up to `depth_delta`, in either direction (as in αNAS). With
        `mixing_p` a mixing requirement has one to all of its entries relaxed; with `further_p` (`mixing_p` unless given) any other
        kind of requirement is relaxed. `params` is what the piece to be replaced has: the
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
                further = mixing_p if further_p is None else further_p
                mutated = requirement.relax(rng) if rng.random() < further else requirement
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
    own = data.get("kind") == ReceptiveFieldRequirement.kind
    return ReceptiveFieldRequirement.from_json(data) if own else properties.requirement(data)


@overload
def at_least(bound: float) -> Interval: ...


@overload
def at_least(bound: Sequence[Sequence[int]], input: int = 0, output: int = 0) -> MixingRequirement: ...


def at_least(bound: float | Sequence[Sequence[int]], input: int = 0, output: int = 0) -> Interval | MixingRequirement:
    """The numbers from `bound` on; of a matrix, the requirement of at least this mixing.

    Rows of the matrix are input axes, columns output axes, levels 0 none to 3 all.
    """
    if isinstance(bound, int | float):
        return Interval(bound)
    return MixingRequirement.from_matrix(bound, input, output)


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
