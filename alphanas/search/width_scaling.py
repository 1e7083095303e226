"""The baseline for new structure: the seed with all of its widths scaled by one factor."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import Archive
from alphanas.search.proposal import Answer, Failure, New, Proposal
from alphanas.search.widths import scaled, width_groups
from synth.canonical import canonical
from synth.target import Change


@dataclass(frozen=True)
class WidthScaling:
    """Scales the seed by factors drawn log-uniformly from `smallest` to 1, until one gives a network not yet proposed."""

    smallest: float = 0.15
    tries: int = 64

    def propose(self, archive: Archive, rng: np.random.Generator) -> Proposal:
        started = time.monotonic()
        seed = archive.seed
        answer: Answer = Failure("nothing_to_change", "all scaled networks were proposed before, or no width is free")
        changes: tuple[Change, ...] = ()
        for _ in range(self.tries):
            factor = math.exp(rng.uniform(math.log(self.smallest), 0.0))
            child = scaled(seed.graph, factor)
            if child is None or archive.repeats(child) is not None:
                continue
            answer, changes = New(canonical(child)), (Change("all widths", "1", f"{factor:.2f}"),)
            break
        nodes = tuple(name for group in width_groups(seed.graph) for name in group.nodes)
        return Proposal(seed.id, "width", nodes, changes, answer, "", time.monotonic() - started)
