"""A line over time as SVG."""

from __future__ import annotations

import html
from collections.abc import Sequence

from alphanas.report.plot import FRONT, LINE, SOFT, ticks
from synth.drawing import short_number

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1180, 240, 64, 24, 14, 44


def steps_plot(points: Sequence[tuple[float, float]], *, x_name: str, y_name: str) -> str:
    """A value that keeps until the next point; points in rising order of a whole-numbered x. Nothing for fewer than two points."""
    if len(points) < 2:
        return ""
    xs, ys = zip(*points, strict=True)
    low, high = min(xs), max(max(xs), min(xs) + 1e-9)
    top = max(max(ys), 1e-9) * 1.08

    def x(value: float) -> float:
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    parts = [f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="#9aa5b4"/>']
    for tick in (tick for tick in ticks(0.0, top, 4) if 0 <= tick <= top):
        parts.append(f'<path d="M{LEFT} {y(tick):.1f}H{WIDTH - RIGHT}" stroke="{LINE}"/>')
        parts.append(_text(LEFT - 8, y(tick) + 4, f"{tick:.3g}", "end"))
    for tick in (tick for tick in ticks(low, high, 8) if low <= tick <= high and tick == int(tick)):
        parts.append(_text(x(tick), HEIGHT - BOTTOM + 17, short_number(tick), "middle"))
    line = f"M{x(xs[0]):.1f} {y(ys[0]):.1f}" + "".join(f"H{x(a):.1f}V{y(b):.1f}" for a, b in points[1:])
    parts.append(f'<path d="{line}" fill="none" stroke="{FRONT.color}" stroke-width="2"/>')
    parts.append(_text(WIDTH - RIGHT, HEIGHT - 8, f"{x_name} →", "end"))
    parts.append(_text(LEFT + 6, TOP + 8, f"↑ {y_name}", "start"))
    return (
        f'<figure><svg class="plot" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'style="max-width:100%;height:auto;font-size:12px" role="img">{"".join(parts)}</svg></figure>'
    )


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{SOFT}">{html.escape(text)}</text>'
