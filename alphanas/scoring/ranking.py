"""How well one number orders what another one says: Kendall's and Spearman's rank correlations with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 8
"""With fewer pairs than this an interval says nothing."""

NORMAL = 1.96


@dataclass(frozen=True)
class Correlation:
    """Kendall's tau-b and Spearman's rho of `n` pairs; None where fewer than two pairs, or all alike, leave them undefined.

    `low` and `high` bound tau with 95% confidence, None below `FEWEST` pairs: atanh tau has a variance of 0.437 / (n − 4) (Fieller,
    Hartley and Pearson, 1957).
    """

    tau: float | None
    rho: float | None
    low: float | None
    high: float | None
    n: int

    @property
    def ranks(self) -> bool:
        """Whether the interval of tau lies above 0."""
        return self.low is not None and self.low > 0

    def to_json(self) -> dict[str, float | int | None]:
        """For summary.json; what is undefined is null."""
        return {"kendall_tau": self.tau, "spearman_rho": self.rho, "low": self.low, "high": self.high, "n": self.n}


def correlation(first: Sequence[float], second: Sequence[float]) -> Correlation:
    """The rank correlations of pairs of numbers; infinities are ranked as such, NaN is a ValueError."""
    from scipy.stats import rankdata

    one, other = (rankdata(np.asarray(values, np.float64)) for values in (first, second))
    if len(one) != len(other) or np.isnan([*first, *second]).any():
        raise ValueError(f"a rank correlation wants pairs of numbers, saw {len(one)} and {len(other)}")
    n = len(one)
    tau, rho = _tau(one, other), _rho(one, other)
    if tau is None or n < FEWEST:
        return Correlation(tau, rho, None, None, n)
    middle = math.atanh(min(max(tau, -0.9999), 0.9999))
    reach = NORMAL * math.sqrt(0.437 / (n - 4))
    return Correlation(tau, rho, math.tanh(middle - reach), math.tanh(middle + reach), n)


def _tau(one: np.ndarray, other: np.ndarray) -> float | None:
    from scipy.stats import kendalltau

    if len(one) < 2 or len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    return float(kendalltau(one, other).statistic)


def _rho(one: np.ndarray, other: np.ndarray) -> float | None:
    if len(one) < 2 or len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def combined(rows: Sequence[Sequence[float]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One number for each row of scores, higher is better: the mean over the scores of the share of rows that it beats.

    Ties count half. Scores have no common scale, so that their ranks are what can be added.
    """
    from scipy.stats import rankdata

    table = np.asarray(rows, np.float64)
    return np.asarray((rankdata(table, axis=0) - 1).mean(1) / max(1, len(table) - 1))
