"""Small pieces of HTML: tables, figures of models, and what was not measured."""

from __future__ import annotations

import html
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

NOT_MEASURED = '<span class="none">not measured</span>'


@dataclass(frozen=True)
class Markup:
    """HTML text that is finished; every other text is escaped when it is put on the page."""

    text: str

    def __str__(self) -> str:
        return self.text


def markup(value: Any) -> str:
    """A value as HTML: None is "not measured", numbers have thousands apart, text is escaped."""
    match value:
        case None:
            return NOT_MEASURED
        case Markup():
            return value.text
        case int() if not isinstance(value, bool):
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return html.escape(str(value))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    numbers: Collection[str] = (),
    best: Collection[int] = (),
    caption: str = "",
) -> str:
    """A table; the columns named in `numbers` are flush right, the rows of the indices in `best` are tinted."""
    kinds = [' class="number"' if column in numbers else "" for column in columns]
    head = "".join(f"<th{kind}>{html.escape(column)}</th>" for column, kind in zip(columns, kinds, strict=True))
    body = []
    for index, row in enumerate(rows):
        cells = "".join(f"<td{kind}>{markup(cell)}</td>" for cell, kind in zip(row, kinds, strict=True))
        body.append(f"<tr{' class=best' if index in best else ''}>{cells}</tr>")
    title = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def percent(value: float | None) -> str | None:
    """A share as percent with two digits."""
    return None if value is None else f"{100 * value:.2f} %"


def over_seeds(accuracies: Sequence[float]) -> dict[str, Any] | None:
    """Accuracies of several training seeds, as summary.json has them; None for none."""
    return {"mean": fmean(accuracies), "per_seed": list(accuracies)} if accuracies else None


def accuracy_text(accuracy: Mapping[str, Any] | None) -> str | None:
    """Mean accuracy, and the range over the seeds where there are several."""
    if accuracy is None:
        return None
    seeds = accuracy["per_seed"]
    spread = f" ({100 * min(seeds):.2f}–{100 * max(seeds):.2f}, {len(seeds)} seeds)" if len(seeds) > 1 else " (1 seed)"
    return f"{100 * accuracy['mean']:.2f} %{spread}"


def latency_text(latency: Mapping[str, Any] | None, *, digits: int = 3) -> str | None:
    """Median and spread of a latency, of summary.json or of an outcome; `digits` significant ones in the median."""
    if latency is None:
        return None
    median = latency.get("median", latency.get("median_ms"))
    spread = latency.get("spread", latency.get("spread_ms"))
    if median is None:
        return None
    scale, unit = (1000, "µs") if median < 0.1 else (1, "ms")
    places = max(0, digits - 1 - math.floor(math.log10(scale * median))) if median > 0 else 0
    shown = f"{scale * median:.{places}f}"
    return f"{shown} {unit}" if spread is None else f"{shown} ± {scale * spread:.{places}f} {unit}"


def percentiles_text(latency: Mapping[str, Any]) -> str | None:
    """The 50th, 90th and 99th percentile of single runs where these were timed, and the label of what is too short."""
    shown = [latency.get(f"p{percent}", latency.get(f"p{percent}_ms")) for percent in (50, 90, 99)]
    if any(value is None for value in shown):
        return None
    label = latency.get("shortfall") or f"{latency.get('runs'):,} runs"
    return f"50/90/99% of runs within {'/'.join(f'{value:.4g}' for value in shown)} ms; {label}"


def conditions_text(latency: Mapping[str, Any]) -> str:
    """What a latency was measured on: back end, tuned or not, trials, threads, batch, dtype."""
    trials = latency.get("trials")
    tuned = "untuned" if not latency.get("tuned") else f"tuned, {trials} trials" if trials else "tuned"
    schedule = latency.get("schedule")
    parts = [latency.get("backend"), f"{schedule} schedule" if schedule and schedule != "default" else None, tuned]
    parts += [f"{latency['threads']} threads" if latency.get("threads") else None]
    parts += [f"batch {latency['batch']}" if latency.get("batch") else None, latency.get("dtype")]
    return ", ".join(str(part) for part in parts if part)


def faster_text(ratio: Mapping[str, Any] | None, *, versus: str = "") -> str | None:
    """How many times faster or slower than a reference, with the interval; neither word where the interval holds 1."""
    if ratio is None:
        return None
    value, (low, high), name = ratio["ratio"], ratio["interval"], f" than {versus}" if versus else ""
    if low > 1:
        return f"{value:.2f}× faster{name} (95%: {low:.2f} to {high:.2f})"
    if high < 1:
        return f"{1 / value:.2f}× slower{name} (95%: {1 / high:.2f} to {1 / low:.2f})"
    return f"no difference shown (ratio {value:.2f}, 95%: {low:.2f} to {high:.2f})"


def faster_markup(ratio: Mapping[str, Any] | None) -> Markup | None:
    """The same for the page, coloured by which it is."""
    text = faster_text(ratio)
    if ratio is None or text is None:
        return None
    kind = "better" if ratio["interval"][0] > 1 else "worse" if ratio["interval"][1] < 1 else "soft"
    return Markup(f'<span class="{kind}">{html.escape(text)}</span>')


def points(gain: float) -> str:
    """A difference of two shares in percent points, with its sign."""
    return f"{100 * gain:+.2f} points".replace("-", "−")


def ratio_text(seed: float | None, best: float | None, *, less: str, more: str) -> Markup | None:
    """How many times less or more the best has than the seed."""
    if seed is None or best is None or seed <= 0 or best <= 0:
        return None
    if abs(seed / best - 1) < 0.005:
        return Markup("the same")
    times, word, kind = (seed / best, less, "better") if best < seed else (best / seed, more, "worse")
    return Markup(f'<span class="{kind}">{times:.{2 if times < 2 else 1}f}× {html.escape(word)}</span>')
