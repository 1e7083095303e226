"""What a search has learned: candidates with their objectives, all to be minimised, and the hashes of all that was proposed."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from synth import Graph

Matrix = np.ndarray[tuple[int, int], np.dtype[np.float64]]
Vector = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Member:
    """A judged candidate: its graph, its objectives in the archive's order, and where it came from."""

    id: int
    graph: Graph
    objectives: tuple[float, ...]
    parent: int | None = None
    kind: str = "seed"
    """What made it from its parent, as its proposal names it."""


@dataclass(frozen=True)
class Archive:
    """The members of a search, the seed model first, and what was proposed before.

    Raises ValueError for objectives that do not fit. A member whose objectives are not all finite has no place here: it failed.
    """

    objectives: tuple[str, ...]
    members: tuple[Member, ...]
    known: frozenset[str] = frozenset()
    """Canonical hashes of every graph that was proposed, judged or not: a proposal of one of these is a duplicate."""

    def __post_init__(self) -> None:
        if not self.members:
            raise ValueError("an archive wants at least the seed model")
        wrong = [member.id for member in self.members if len(member.objectives) != len(self.objectives)]
        if wrong or not np.isfinite(self.points).all():
            raise ValueError(
                f"members have one finite number for each of {', '.join(self.objectives)}; wrong are {wrong or self.points}"
            )

    @property
    def seed(self) -> Member:
        """The model that the search started from."""
        return self.members[0]

    @functools.cached_property
    def points(self) -> Matrix:
        """The objectives, one row for each member."""
        return np.array([member.objectives for member in self.members], np.float64).reshape(len(self.members), -1)

    @functools.cached_property
    def ranks(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The front that each member is on, 0 for the best."""
        return ranks(self.points)

    @functools.cached_property
    def crowding(self) -> Vector:
        """How far each member is from its neighbours on its front; larger is lonelier."""
        distances = np.zeros(len(self.members))
        for rank in range(int(self.ranks.max()) + 1):
            front = np.flatnonzero(self.ranks == rank)
            distances[front] = crowding(self.points[front])
        return distances

    @property
    def front(self) -> tuple[Member, ...]:
        """The members that no other dominates."""
        return tuple(member for member, rank in zip(self.members, self.ranks, strict=True) if rank == 0)

    def values(self, objective: str) -> Vector:
        """One objective of all members; ValueError if the archive does not have it."""
        return self.points[:, self.objectives.index(objective)]

    def knowing(self, hashes: Iterable[str]) -> Archive:
        """The same archive, which also knows these hashes."""
        return replace(self, known=self.known | set(hashes))

    def knows(self, graph: Graph) -> bool:
        """Whether an equal graph was proposed before."""
        return graph.hash in self._hashes

    @functools.cached_property
    def _hashes(self) -> frozenset[str]:
        return self.known | {member.graph.hash for member in self.members}


def ranks(points: Matrix) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Non-dominated sorting (Deb et al., 2002): the index of the front of each point; equal points share a front."""
    found = np.full(len(points), -1, np.int64)
    left, rank = np.arange(len(points)), 0
    while len(left):
        best = _undominated(points[left])
        found[left[best]] = rank
        left, rank = left[~best], rank + 1
    return found


def _undominated(points: Matrix) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which points no other point dominates. A point that dominates another comes before it in lexicographic order."""
    order = np.lexsort(points.T[::-1])
    best = np.zeros(len(points), np.bool_)
    front: list[Vector] = []
    for index in order:
        here = points[index]
        dominated = bool(front) and bool(_dominates(np.array(front), here).any())
        if not dominated:
            best[index] = True
            front.append(here)
    return best


def _dominates(rows: Matrix, point: Vector) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.asarray((rows <= point).all(1) & (rows < point).any(1))


def crowding(points: Matrix) -> Vector:
    """The sum over objectives of the distance between a point's two neighbours, as a share of the range; infinite at the ends."""
    distances = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distances[order[[0, -1]]] = np.inf
        if span > 0:
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances


def tournament(archive: Archive, rng: np.random.Generator, *, among: Sequence[int] | None = None, size: int = 2) -> Member:
    """The best of `size` members drawn at random (by index, from `among` if given): lower front first, then the lonelier one."""
    pool = np.arange(len(archive.members)) if among is None else np.asarray(among)
    drawn = rng.choice(pool, size=size)
    winner = min(drawn.tolist(), key=lambda index: (archive.ranks[index], -archive.crowding[index]))
    return archive.members[winner]
