"""The Pareto plot as SVG: parameters on a logarithmic axis against the error, one dot a candidate."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from synth.drawing import short_number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1180, 480, 64, 24, 18, 52
SOFT, LINE = "#6b7280", "#e2e8f0"


@dataclass(frozen=True)
class Kind:
    """How the dots of one kind look."""

    name: str
    color: str
    radius: float
    opacity: float = 1.0


OTHER = Kind("candidate", "#a8b3c2", 4, 0.75)
FRONT = Kind("Pareto front", "#1f6fb2", 5)
SEED = Kind("seed", "#1f2937", 8)
BEST = Kind("best", "#1a9c6b", 8)
KINDS = (SEED, BEST, FRONT, OTHER)


@dataclass(frozen=True)
class Point:
    """A dot: x > 0, y >= 0, its kind, the text that hovering shows, and the candidate that it stands for."""

    x: float
    y: float
    kind: Kind
    tip: str
    candidate: int | None = None


def pareto_plot(points: Sequence[Point], *, x_name: str, y_name: str) -> str:
    """The plot; the stairs join the points that no other beats in these two numbers."""
    if not points:
        return '<p class="none">No candidate has been trained yet.</p>'
    axes = _Axes(points)
    drawn = sorted(points, key=lambda point: -KINDS.index(point.kind))
    parts = [*axes.grid(x_name, y_name), _stairs(axes, points), *(_dot(axes, point) for point in drawn)]
    parts += [_label(axes, point) for point in drawn if point.kind in (SEED, BEST)]
    legend = "".join(
        f'<span><i style="background:{kind.color}"></i>{kind.name}</span>' for kind in KINDS if any(p.kind == kind for p in points)
    )
    return (
        f'<figure><svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto;font-size:12px" role="img">{"".join(parts)}</svg>'
        f'<figcaption class="legend">{legend}</figcaption></figure>'
    )


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers from at most `low` to at least `high`, about `count` of them."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / count))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= count)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(index * step, 12) for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two numbers; closer round numbers where those are fewer than three."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    return found if len(found) >= 3 else [tick for tick in ticks(low, high) if low <= tick <= high]


class _Axes:
    """Where numbers lie on the picture."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs, ys = [point.x for point in points], [point.y for point in points]
        self.low, self.high = min(xs) / 1.15, max(xs) * 1.15
        reach = max(max(ys) - min(ys), 0.01)
        self.bottom, self.top = max(min(ys) - 0.08 * reach, 0.0), max(ys) + 0.08 * reach
        self.y_ticks = [tick for tick in ticks(self.bottom, self.top) if self.bottom <= tick <= self.top]

    def x(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def grid(self, x_name: str, y_name: str) -> list[str]:
        parts = [f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#9aa5b4"/>']
        for tick in self.y_ticks:
            y = self.y(tick)
            parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{LINE}"/>')
            parts.append(_text(LEFT - 8, y + 4, f"{100 * tick:.4g} %", "end"))
        for tick in log_ticks(self.low, self.high):
            x = self.x(tick)
            parts.append(f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{LINE}"/>')
            parts.append(_text(x, HEIGHT - BOTTOM + 18, short_number(tick), "middle"))
        parts.append(_text(WIDTH - RIGHT, HEIGHT - 10, f"{x_name} (log scale) →", "end"))
        parts.append(_text(LEFT + 6, TOP + 12, f"↑ {y_name}", "start"))
        return parts


def _dot(axes: _Axes, point: Point) -> str:
    kind = point.kind
    x, y = axes.x(point.x), axes.y(point.y)
    shown = "" if point.candidate is None else f' data-candidate="{point.candidate}"'
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{kind.radius}" fill="{kind.color}" fill-opacity="{kind.opacity}" '
        f'data-tip="{html.escape(point.tip)}"{shown}/>'
    )


def _label(axes: _Axes, point: Point) -> str:
    x = axes.x(point.x)
    left = x > WIDTH - 140
    return (
        f'<text x="{x - 13 if left else x + 13:.1f}" y="{axes.y(point.y) - 8:.1f}" text-anchor="{"end" if left else "start"}" '
        f'font-weight="600" fill="{point.kind.color}">{point.kind.name}</text>'
    )


def _stairs(axes: _Axes, points: Sequence[Point]) -> str:
    line, lowest = "", math.inf
    for point in sorted(points, key=lambda point: (point.x, point.y)):
        if point.y >= lowest:
            continue
        x, y = axes.x(point.x), axes.y(point.y)
        line += f"H{x:.1f}V{y:.1f}" if line else f"M{x:.1f} {y:.1f}"
        lowest = point.y
    look = f'fill="none" stroke="{FRONT.color}" stroke-width="1.5" stroke-dasharray="5 4" opacity=".7"'
    return f'<path d="{line}H{WIDTH - RIGHT}" {look}/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{SOFT}">{html.escape(text)}</text>'
