"""What has paid: by how much the children of each kind of change were smaller, where they stayed as accurate; or erred less."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from alphanas.search.archive import ERROR, Archive, Member

PRIOR_GAIN = 0.3
"""What a change is taken to be worth before it was tried: as a child of three quarters of its parent's cost."""

PRIOR_TRIES = 3.0

MOST = 2.0
"""No change is worth more than this: what a child of a seventh of its parent's cost gains."""

LEAST = 0.05
"""Nothing that failed so far is given up for good."""


@dataclass(frozen=True)
class Paid:
    """Every child with a parent in the archive, and what making it was worth.

    That is the mean over the other objectives of log(parent / child), if the child errs little more (`slack`) than its parent or
    the seed, whichever errs more; otherwise nothing. Where error is the only objective, it is twice the prior's worth times the
    probability that the child errs less than its parent; and the prior's if the parent breaks constraints and the child does not.
    """

    children: tuple[tuple[Member, float], ...]

    @staticmethod
    def of(archive: Archive, slack: float) -> Paid:
        """What the members of an archive were worth."""
        by_id = {member.id: member for member in archive.members}
        pairs = [(member, by_id[member.parent]) for member in archive.members if member.parent in by_id]
        return Paid(tuple((child, _gain(archive, child, parent, slack)) for child, parent in pairs))

    def by(self, labels: Callable[[Member], Iterable[str]]) -> Mapping[str, float]:
        """The mean worth of the children with each label, as if each had been tried before at the prior's worth."""
        sums: dict[str, list[float]] = {}
        for child, gain in self.children:
            for name in labels(child):
                entry = sums.setdefault(name, [PRIOR_GAIN * PRIOR_TRIES, PRIOR_TRIES])
                entry[0] += gain
                entry[1] += 1
        return {name: max(total / tries, LEAST) for name, (total, tries) in sums.items()}


def _gain(archive: Archive, child: Member, parent: Member, slack: float) -> float:
    costs = [index for index, name in enumerate(archive.objectives) if name != ERROR]
    if not costs:
        if parent.excess > child.excess:
            return PRIOR_GAIN
        apart = parent.objectives[0] - child.objectives[0]
        return PRIOR_GAIN * (1.0 + math.erf(apart / (2.0 * archive.noise))) if archive.noise else 2.0 * PRIOR_GAIN * (apart > 0)
    if ERROR in archive.objectives:
        at = archive.objectives.index(ERROR)
        if child.objectives[at] > max(parent.objectives[at], archive.seed.objectives[at]) + slack:
            return 0.0
    ratios = [_shrunk(parent.objectives[index], child.objectives[index]) for index in costs]
    return float(np.clip(np.mean(ratios), 0.0, MOST))


def _shrunk(before: float, after: float) -> float:
    """log(before / after); for numbers that may be 0 or less, one where it fell."""
    return math.log(before / after) if before > 0 and after > 0 else float(after < before)
