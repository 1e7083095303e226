"""Polynomials for the transcendental functions, fitted when first asked for, so that kernels compute them in vectors.

LLVM calls the C library once per lane for `exp`, `tanh` and `erf`, which costs tens of times more than the arithmetic around it.
Errors are near that of float32 itself; the tests hold them to it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

LN2_HIGH = 0.693359375
LN2_LOW = math.log(2.0) - LN2_HIGH
"""ln 2 in two parts, the first exact in 9 bits, so that `x - n ln 2` loses nothing."""
FIT_ROUNDS = 12
EXP_RANGE = (-87.3, 88.7)
LOGISTIC_END = 87.0
ERF_END = 4.0
TANH_END = 9.0
EXPM1_SPLIT = 0.5


def _fit(function: Callable[[float], float], low: float, high: float, degree: int) -> tuple[float, ...]:
    """Coefficients, lowest power first, of a near-minimax polynomial on [low, high]."""
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    points = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    values = np.array([function(float(point)) for point in points])
    series = np.polynomial.Chebyshev(np.polynomial.chebyshev.chebfit(nodes, values, degree), domain=(low, high))
    return tuple(float(value) for value in series.convert(kind=np.polynomial.Polynomial).coef)


def _fit_quotient(
    function: Callable[[float], float], end: float, above: int, below: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Coefficients, lowest power first, of polynomials P and Q in x² with P / Q near an even function for |x| <= end.

    Linear least squares on relative errors, weighted by the Q of the round before (Sanathanan and Koerner, 1963).
    """
    points = end * (0.5 - 0.5 * np.cos(np.pi * (np.arange(800) + 0.5) / 800))
    values = np.array([function(float(point)) for point in points])
    squares = (points / end) ** 2
    numerator, denominator = np.vander(squares, above + 1, increasing=True), np.vander(squares, below + 1, increasing=True)[:, 1:]
    quotient: Any = np.zeros(below)
    for _ in range(FIT_ROUNDS):
        weights = 1 / (values * (1 + denominator @ quotient))
        matrix = np.hstack([numerator, -values[:, None] * denominator]) * weights[:, None]
        solution = np.linalg.lstsq(matrix, values * weights, rcond=None)[0]
        quotient = solution[above + 1 :]
    scales = end ** (2.0 * np.arange(max(above, below) + 1))
    top, bottom = solution[: above + 1] / scales[: above + 1], np.concatenate([[1.0], quotient]) / scales[: below + 1]
    return tuple(float(value) for value in top), tuple(float(value) for value in bottom)


@functools.cache
def exp() -> tuple[float, ...]:
    """exp(r) for |r| <= ln(2) / 2."""
    return _fit(math.exp, -0.35, 0.35, 6)


@functools.cache
def exp2() -> tuple[float, ...]:
    """2 to the f for |f| <= 1/2."""
    return _fit(lambda f: 2.0**f, -0.5, 0.5, 5)


@functools.cache
def erf() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """erf(x) / x as a quotient of polynomials in x², for |x| <= ERF_END, where it is 1 to the last bit."""
    return _fit_quotient(lambda x: math.erf(x) / x, ERF_END, 6, 5)


@functools.cache
def tanh() -> tuple[tuple[float, ...], tuple[float, ...]]:
    """tanh(x) / x as a quotient of polynomials in x², for |x| <= TANH_END, where it is 1 to the last bit."""
    return _fit_quotient(lambda x: math.tanh(x) / x, TANH_END, 6, 4)


@functools.cache
def expm1_near() -> tuple[float, ...]:
    """(exp(x) - 1) / x for |x| <= EXPM1_SPLIT."""
    return _fit(lambda x: math.expm1(x) / x if x else 1.0, -EXPM1_SPLIT, EXPM1_SPLIT, 7)


@functools.cache
def log_near() -> tuple[float, ...]:
    """(log(1 + t) - t + t²/2) / t³ for 1 + t between the roots of 1/2 and 2."""

    def rest(t: float) -> float:
        if abs(t) < 0.05:
            return sum((-t) ** n / (n + 3) for n in range(14))
        return (math.log1p(t) - t + t * t / 2) / t**3

    return _fit(rest, math.sqrt(0.5) - 1, math.sqrt(2) - 1, 9)


@functools.cache
def atan_near() -> tuple[float, ...]:
    """atan(x) / x as a polynomial in x², for |x| <= 1."""
    return _fit(lambda square: math.atan(math.sqrt(square)) / math.sqrt(square), 1e-9, 1.0, 10)
