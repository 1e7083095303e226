"""The baseline for search: the same moves on any earlier candidate, without selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive
from alphanas.search.change import changed
from alphanas.search.proposal import Proposal
from alphanas.search.regions import Options


@dataclass(frozen=True)
class RandomSynthesis:
    """Changes members drawn uniformly, the seed among them; the moves keep their shares whatever has paid."""

    options: Options

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        parent = archive.members[int(rng.integers(len(archive.members)))]
        return changed(archive, rng, self.options, parent)
