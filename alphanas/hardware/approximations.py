"""Polynomials for the transcendental functions, fitted when first asked for, so that kernels compute them in vectors.

LLVM calls the C library once per lane for `exp`, `tanh` and `erf`, which costs tens of times more than the arithmetic around it.
Errors are near that of float32 itself; the tests hold them to it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

LN2_HIGH = 0.693359375
LN2_LOW = math.log(2.0) - LN2_HIGH
"""ln 2 in two parts, the first exact in 9 bits, so that `x - n ln 2` loses nothing."""
EXP_RANGE = (-87.3, 88.7)
ERF_SPLIT = 1.0
ERF_END = 4.0
TANH_SPLIT = 0.625


def _fit(function: Callable[[float], float], low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients, lowest power first, of a near-minimax polynomial on [low, high]."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    points = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    values = np.array([function(float(point)) for point in points])
    series = np.polynomial.Chebyshev(np.polynomial.chebyshev.chebfit(nodes, values, degree), domain=(low, high))
    return tuple(float(value) for value in series.convert(kind=np.polynomial.Polynomial).coef)


@functools.cache
def exp() -> tuple[float, ...]:
    """exp(r) for |r| <= ln(2) / 2."""
    return _fit(math.exp, -0.35, 0.35, 6)


@functools.cache
def erf_near() -> tuple[float, ...]:
    """erf(x) / x as a polynomial in x², for |x| <= ERF_SPLIT."""
    return _fit(lambda square: math.erf(math.sqrt(square)) / math.sqrt(square), 1e-9, ERF_SPLIT**2, 7)


@functools.cache
def erf_far() -> tuple[float, ...]:
    """erfc(x) exp(x²) as a polynomial in x - 2.5, for ERF_SPLIT <= x <= ERF_END."""
    return _fit(lambda t: math.erfc(t + 2.5) * math.exp((t + 2.5) ** 2), ERF_SPLIT - 2.5, ERF_END - 2.5, 10)


@functools.cache
def tanh_near() -> tuple[float, ...]:
    """tanh(x) / x as a polynomial in x², for |x| <= TANH_SPLIT."""
    return _fit(lambda square: math.tanh(math.sqrt(square)) / math.sqrt(square), 1e-9, TANH_SPLIT**2, 6)
