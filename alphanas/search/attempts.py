"""From a move on a parent to a proposal: a few attempts, the first new graph wins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from alphanas.search.archive import Archive, Member
from alphanas.search.moves import MOVES, Options
from alphanas.search.proposal import Failure, New, Proposal

SHARES: Mapping[str, float] = {"region": 0.5, "width": 0.35, "drop": 0.15}
"""How often each move is made where nothing is known about what pays."""


def first_new(
    archive: Archive,
    rng: np.random.Generator,
    options: Options,
    attempts: int,
    parent: Callable[[], Member],
    shares: Mapping[str, float] = SHARES,
) -> Proposal:
    """Up to `attempts` changes, each of a parent drawn anew; the first whose graph is new, or the last failure."""
    started = time.monotonic()
    kinds, weights = list(shares), np.array(list(shares.values()))
    for attempt in range(attempts):
        chosen = parent()
        kind = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))]
        tried = MOVES[kind](chosen.graph, rng, options)
        answer = tried.answer
        if isinstance(answer, New) and archive.knows(answer.graph):
            answer = Failure("duplicate", "an equal graph was proposed before")
        if isinstance(answer, New) or attempt + 1 == attempts:
            break
    return Proposal(chosen.id, kind, tried.region, tried.changes, answer, tried.method, time.monotonic() - started)
