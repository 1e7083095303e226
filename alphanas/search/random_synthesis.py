"""The baseline for search: the same moves on any earlier candidate, without selection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive, Member
from alphanas.search.attempts import first_new
from alphanas.search.moves import Options
from alphanas.search.proposal import Proposal


@dataclass(frozen=True)
class RandomSynthesis:
    """Changes members drawn uniformly, the seed among them; the moves keep their shares whatever has paid."""

    options: Options
    attempts: int = 4

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        def parent() -> Member:
            return archive.members[int(rng.integers(len(archive.members)))]

        return first_new(archive, rng, self.options, self.attempts, parent)
