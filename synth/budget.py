"""Budgets: intervals for what a program may cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Interval:
    """The numbers from `low` to `high`, both included; `high` may be infinite. ValueError if there are none above zero."""

    low: float = 0
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.low < 0 or self.high <= 0 or self.low > self.high:
            raise ValueError(f"a budget wants 0 <= low <= high and high > 0, got {self.low:g} to {self.high:g}")

    def holds(self, number: float) -> bool:
        """Whether the number is in the interval."""
        return self.low <= number <= self.high

    def distance(self, number: float) -> float:
        """0 inside; outside, how far the number must move, as a share of the larger of the two ends: in [0, 1]."""
        if self.holds(number):
            return 0.0
        near = self.high if number > self.high else self.low
        return abs(number - near) / max(number, near)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"at least {_figure(self.low)}" if self.low else "any number of"
        if self.low <= 0:
            return f"at most {_figure(self.high)}"
        return f"{_figure(self.low)} to {_figure(self.high)}"

    def to_json(self) -> list[float | None]:
        return [self.low, None if self.high == math.inf else self.high]

    @staticmethod
    def from_json(data: list[float | None]) -> Interval:
        return Interval(data[0] or 0, math.inf if data[1] is None else data[1])


def _figure(number: float) -> str:
    return f"{number:.0f}" if float(number).is_integer() else f"{number:g}"


ANY = Interval()


def at_most(high: float) -> Interval:
    """The numbers up to `high`."""
    return Interval(0, high)


@dataclass(frozen=True)
class Budget:
    """What a program may cost: trained parameters; and for one example, multiply-adds and bytes alive at once (`synth.memory`)."""

    params: Interval = ANY
    macs: Interval = ANY
    peak_bytes: Interval = ANY

    def __post_init__(self) -> None:
        if self.peak_bytes.low > 0:
            raise ValueError(f"bytes alive at once can have an upper bound only, got {self.peak_bytes}")

    def distance(self, params: float, macs: float, peak_bytes: float = 0) -> float:
        """The mean distance to the intervals of parameters and MACs, and to that of bytes if it is limited; 0 only inside all.

        In [0, 1]. `peak_bytes` need only be given where `limits_memory`.
        """
        parts = [self.params.distance(params), self.macs.distance(macs)]
        if self.limits_memory:
            parts.append(self.peak_bytes.distance(peak_bytes))
        return sum(parts) / len(parts)

    @property
    def limits_memory(self) -> bool:
        """Whether bytes alive at once are limited at all."""
        return self.peak_bytes != ANY

    def __str__(self) -> str:
        named = (("parameters", self.params), ("MACs", self.macs), ("bytes alive at once", self.peak_bytes))
        limits = [f"{interval} {name}" for name, interval in named if interval != Interval()]
        return " and ".join(limits) or "any cost"

    def to_json(self) -> dict[str, Any]:
        rest = {"peak_bytes": self.peak_bytes.to_json()} if self.limits_memory else {}
        return {"params": self.params.to_json(), "macs": self.macs.to_json(), **rest}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Budget:
        memory = Interval.from_json(data["peak_bytes"]) if "peak_bytes" in data else ANY
        return Budget(Interval.from_json(data["params"]), Interval.from_json(data["macs"]), memory)


UNLIMITED = Budget()
