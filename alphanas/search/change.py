"""From a move on a parent to a proposal."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from alphanas.search.archive import Archive, Member
from alphanas.search.moves import MOVES, Options
from alphanas.search.proposal import Failure, New, Proposal

SHARES: Mapping[str, float] = {"region": 0.5, "width": 0.35, "drop": 0.15}
"""How often each move is made where nothing is known about what pays."""


def changed(
    archive: Archive, rng: np.random.Generator, options: Options, parent: Member, shares: Mapping[str, float] = SHARES
) -> Proposal:
    """The proposal that a move, drawn by its share, makes of a parent; a failure if its graph is not new."""
    started = time.monotonic()
    kinds, weights = list(shares), np.array(list(shares.values()))
    kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
    made = MOVES[kind](parent.graph, rng, options)
    answer = made.answer
    if isinstance(answer, New) and archive.knows(answer.graph):
        answer = Failure("duplicate", "an equal graph was proposed before")
    return Proposal(parent.id, kind, made.region, made.changes, answer, made.method, time.monotonic() - started)
