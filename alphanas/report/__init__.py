"""Reporting: the HTML report of a study, and progress while a search runs.

    from alphanas.report import write_report
    write_report(open_study("runs/digits"), "runs/digits/report.html")
    from alphanas.report.progress import Figures, Progress, Snapshot, progress_on

Nothing is imported here that a caller may not need.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphanas.study import Study


def write_report(study: Study, path: str | Path) -> Path:
    """Writes the self-contained HTML report of a study, whole or not at all; returns its path."""
    from alphanas.report.html import report_html
    from alphanas.study import write_atomic

    target = Path(path)
    write_atomic(target, report_html(study).encode())
    return target


def write_candidate(study: Study, number: int, path: str | Path) -> Path:
    """Writes the self-contained HTML page of one candidate, whole or not at all; returns its path. UserError if there is none."""
    from alphanas.report.page import candidate_html
    from alphanas.study import write_atomic

    target = Path(path)
    write_atomic(target, candidate_html(study, number).encode())
    return target
