"""Small HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphanas.study.candidate import Candidate

COLUMNS = ("candidate", "generation", "status", "params", "MACs", "validation error", "test accuracy", "latency ms")


def table(candidates: Sequence[Candidate], *, caption: str = "") -> str:
    """A table of candidates; a dash where a figure was not measured."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(candidate))}</tr>" for candidate in candidates)
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(candidate: Candidate) -> list[str]:
    percent = [None if value is None else f"{value:.2%}" for value in (candidate.error, candidate.accuracy)]
    latency = None if candidate.latency_ms is None else f"{candidate.latency_ms:.3g}"
    counts = [None if value is None else f"{value:,}" for value in (candidate.params, candidate.macs)]
    cells = [str(candidate.id), str(candidate.generation), candidate.status, *counts, *percent, latency]
    return [escape(cell) if cell is not None else "–" for cell in cells]
