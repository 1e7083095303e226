"""The strategies by name. A new one is one file with a `propose`, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from alphanas.config import Config
from alphanas.errors import Fault, UserError, nearest
from alphanas.search.ageing import AgeingEvolution
from alphanas.search.archive import ERROR, Archive
from alphanas.search.depth_scaling import DepthScaling
from alphanas.search.evolution import Evolution
from alphanas.search.programs import AUTOML_ZERO, PRIMER, ProgramMutation, RandomPrograms
from alphanas.search.proposal import Proposal
from alphanas.search.random_synthesis import RandomSynthesis
from alphanas.search.regions import Options
from alphanas.search.width_scaling import WidthScaling
from properties import Property, find


class Strategy(Protocol):
    """Chooses what to judge next. Its whole state is the archive, which the study's log gives anew at any time.

    So a proposal can be made again from the log, and no interruption loses what a strategy learned.
    """

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        """One proposal; equal archives and generators give equal ones. A new graph in it is none that the archive knows."""
        ...


def options_of(config: Config) -> Options:
    """What a configuration says about the size of changes."""
    search, synthesis = config.search, config.synthesis
    low, high = synthesis.params_ratio
    return Options(
        region_min=search.region_min,
        region_max=search.region_max,
        mutation=search.mutation,
        method=synthesis.method,
        branches=synthesis.branches,
        max_length=synthesis.max_length,
        params_ratio=(max(low, 1e-3), max(high, 1e-3)),
        macs_ratio=synthesis.macs_ratio,
        steps=synthesis.steps,
        time_limit=synthesis.time_limit,
        properties=kept_properties(config),
        limits=config.constraints,
        fill=set(search.objectives) == {ERROR},
        property_mutation=search.property_mutation,
    )


def kept_properties(config: Config) -> tuple[Property, ...]:
    """The properties that a configuration names; UserError for what cannot be found, is none, or makes no demands."""
    found, faults = [], []
    for name in config.search.properties:
        try:
            each = find(name)
        except ValueError as error:
            faults.append(Fault("search.properties", str(error)))
            continue
        if each.demands is None:
            remedy = "give the property `demands`, or take shape, depth and mixing out: they are always read"
            faults.append(Fault("search.properties", f"{name!r} demands nothing of a replacement", "", remedy))
        found.append(each)
    if faults:
        raise UserError(faults, cause="bad_config")
    return tuple(found)


STRATEGIES: Mapping[str, Callable[[Config], Strategy]] = {
    "evolution": lambda config: Evolution(options_of(config)),
    "ageing": lambda config: AgeingEvolution(options_of(config)),
    "random": lambda config: RandomSynthesis(options_of(config)),
    "random_programs": lambda config: RandomPrograms(options_of(config)),
    "primer": lambda config: ProgramMutation(options_of(config), PRIMER),
    "automl_zero": lambda config: ProgramMutation(options_of(config), AUTOML_ZERO),
    "width_scaling": lambda config: WidthScaling(),
    "depth_scaling": lambda config: DepthScaling(),
}


def build(config: Config) -> Strategy:
    """The strategy that a configuration names; UserError if there is none of that name."""
    name = config.search.strategy
    if name not in STRATEGIES:
        known = ", ".join(STRATEGIES)
        raise UserError(f"search.strategy {name}", saw="no such strategy", wanted=known, remedy=nearest(name, STRATEGIES))
    return STRATEGIES[name](config)
