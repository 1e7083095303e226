"""Search in the space of programs, without properties: random programs, and evolution by edits as Primer and AutoML-Zero do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive, tournament
from alphanas.search.change import changed
from alphanas.search.proposal import Proposal
from alphanas.search.regions import Options

PRIMER: Mapping[str, float] = {"insert_op": 1.0, "delete_op": 1.0, "alter_op": 1.0, "swap_ops": 1.0}
"""Edits of single ops (So et al., NeurIPS 2021)."""

AUTOML_ZERO: Mapping[str, float] = {"insert_op": 1.0, "delete_op": 1.0, "alter_op": 1.0, "randomise": 1.0}
"""The same with whole pieces made at random (Real et al., ICML 2020)."""


@dataclass(frozen=True)
class RandomPrograms:
    """Puts random programs of the right types into members drawn uniformly: neither selection nor properties."""

    options: Options

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        parent = archive.members[int(rng.integers(len(archive.members)))]
        return changed(archive, rng, self.options, parent, {"randomise": 1.0})


@dataclass(frozen=True)
class ProgramMutation:
    """Edits the winner of a tournament by fronts and crowding."""

    options: Options
    edits: Mapping[str, float]
    size: int = 3

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        return changed(archive, rng, self.options, tournament(archive, rng, size=self.size), self.edits)
