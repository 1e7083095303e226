"""What a person asks for, from code or from a table, as requirements and a budget; what contradicts itself is refused at once."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from properties import DepthRequirement, MixingRequirement, RankRequirement, Requirement, ShapeRequirement
from synth.budget import ANY, Budget, Interval, at_most
from synth.op import PROBE_BATCH
from synth.requirements import ReceptiveFieldRequirement

LEVELS = ("none", "one", "many", "all")

KEYS = ("shape", "depth", "mixing", "receptive_field", "rank", "params", "macs", "peak_bytes")
BUDGETS = ("params", "macs", "peak_bytes")

Shape = Sequence[int | None]


def wishes(
    shape: Shape | None = None,
    *,
    depth: int | None = None,
    mixing: MixingRequirement | Sequence[Sequence[int]] | None = None,
    receptive_field: int | Sequence[int] | None = None,
    rank: int | None = None,
    params: Interval | float = ANY,
    macs: Interval | float = ANY,
    peak_bytes: Interval | float = ANY,
) -> tuple[tuple[Requirement, ...], Budget]:
    """The requirements and the budget; ValueError for what is no wish, or what no program can have. A number is an upper bound."""
    asked: list[Requirement] = []
    if shape is not None:
        asked.append(ShapeRequirement(_shape(shape)))
    if depth is not None:
        asked.append(DepthRequirement(_whole("depth", depth, 0)))
    if mixing is not None:
        asked.append(_mixing(mixing, shape))
    if receptive_field is not None:
        asked.append(ReceptiveFieldRequirement(_positions(receptive_field, shape, asked)))
    if rank is not None:
        asked.append(_rank(_whole("rank", rank, 1), shape))
    return tuple(asked), Budget(_limit("params", params), _limit("macs", macs), _limit("peak_bytes", peak_bytes))


def from_table(table: Mapping[str, Any], shape: Shape | None = None) -> tuple[tuple[Requirement, ...], Budget]:
    """As `wishes`, from TOML: a size of 0 in `shape` is the batch, levels of mixing are numbers or words.

    A budget is a number (at most), [low, high], or a table with at_least and at_most. `shape` stands in where the table has none.
    """
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise ValueError("; ".join(f"no wish of a target is called {key!r}{_near(key, KEYS)}" for key in unknown))
    found: dict[str, Any] = {"shape": shape} | dict(table)
    if found["shape"] is None:
        raise ValueError("a target wants the shape of the output, batch first (0), such as shape = [0, 16, 16, 64]")
    if "shape" in table:
        sizes = table["shape"]
        if not isinstance(sizes, list | tuple) or not all(type(size) is int for size in sizes):
            raise ValueError(f"shape is {sizes!r}; wanted whole numbers, 0 for the batch, such as [0, 16, 16, 64]")
        found["shape"] = [None if place == 0 and size == 0 else size for place, size in enumerate(sizes)]
    if "mixing" in table:
        found["mixing"] = _levels(table["mixing"])
    for name in BUDGETS:
        if name in table:
            found[name] = _interval(name, table[name])
    return wishes(**found)


def _near(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


def _shape(shape: Shape) -> tuple[int | None, ...]:
    if not shape or any(size is not None and size < 1 for size in shape):
        raise ValueError(f"shape is {list(shape)}; wanted sizes of at least 1, and the batch in front")
    return tuple(shape)


def _whole(name: str, number: Any, least: int) -> int:
    if type(number) is not int or number < least:
        raise ValueError(f"{name} is {number!r}; wanted a whole number of at least {least}")
    return number


def _mixing(mixing: MixingRequirement | Sequence[Sequence[int]], shape: Shape | None) -> MixingRequirement:
    if isinstance(mixing, MixingRequirement):
        return mixing
    rows = [list(row) for row in mixing]
    if len({len(row) for row in rows}) != 1 or any(level not in range(4) for row in rows for level in row):
        raise ValueError(
            f"mixing is {rows}; wanted one row for each input axis, with a level from 0 (none) to 3 (all) for each output axis"
        )
    if shape is not None and len(rows[0]) != len(shape):
        raise ValueError(
            f"mixing has {len(rows[0])} columns together with an output of {len(shape)} axes; wanted one for each axis"
        )
    return MixingRequirement.from_matrix(rows)


def _levels(rows: Any) -> list[list[int]]:
    if not isinstance(rows, list | tuple) or not all(isinstance(row, list | tuple) for row in rows):
        raise ValueError(f"mixing is {rows!r}; wanted rows of levels, such as [[1, 0], [0, 3]] or of none, one, many, all")
    for word in (level for row in rows for level in row if isinstance(level, str) and level not in LEVELS):
        raise ValueError(f"no level of mixing is called {word!r}{_near(word, LEVELS)}")
    return [[LEVELS.index(level) if isinstance(level, str) else level for level in row] for row in rows]


def _positions(asked: int | Sequence[int], shape: Shape | None, others: Sequence[Requirement]) -> tuple[int, ...]:
    if isinstance(asked, int):
        axes = next((len(each.minimum) for each in others if isinstance(each, MixingRequirement)), len(shape or ()))
        if axes < 3:
            raise ValueError(f"a receptive field of {asked} wants axes between batch and features, which there are none of here")
        asked = (0, *[asked] * (axes - 2), 0)
    return tuple(_whole("receptive_field", each, 0) for each in asked)


def _rank(rank: int, shape: Shape | None) -> RankRequirement:
    if shape is not None and None not in shape[1:]:
        most = PROBE_BATCH * math.prod(size or 1 for size in shape[1:])
        if rank > most:
            raise ValueError(f"rank is {rank} together with an output of only {most} elements (in a batch of {PROBE_BATCH})")
    return RankRequirement(rank)


def _limit(name: str, interval: Interval | float) -> Interval:
    if isinstance(interval, Interval):
        return interval
    try:
        return at_most(interval)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _interval(name: str, data: Any) -> Interval:
    if isinstance(data, Mapping):
        for key in data:
            if key not in ("at_least", "at_most"):
                raise ValueError(f"{name}: no bound is called {key!r}{_near(key, ('at_least', 'at_most'))}")
        data = [data.get("at_least", 0), data.get("at_most", math.inf)]
    ends = data if isinstance(data, list | tuple) else [0, data]
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise ValueError(f"{name} is {data!r}; wanted a number (at most), [low, high], or at_least and at_most")
    try:
        return Interval(*ends)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
