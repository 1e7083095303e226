"""Ageing evolution (Real et al., AAAI 2019): the best of a few drawn from the youngest has a child, and the oldest is forgotten."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from alphanas.search.archive import Archive, tournament
from alphanas.search.change import changed
from alphanas.search.proposal import Proposal
from alphanas.search.regions import Options


@dataclass(frozen=True)
class AgeingEvolution:
    """Changes the winner of a tournament of `size` among the last `alive` members, by fronts and crowding among those.

    The moves are those of search in property space and keep their shares. Age is the order of ids: nothing else is remembered.
    """

    options: Options
    alive: int = 24
    size: int = 5

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        youngest = sorted(archive.members, key=lambda member: member.id)[-self.alive :]
        parent = tournament(replace(archive, members=tuple(youngest), proposed=()), rng, size=self.size)
        return changed(archive, rng, self.options, parent)
