"""Progress: a line log that is quiet, a live display that shows what is known, and neither shows what is not."""

from __future__ import annotations

import io
from itertools import pairwise

import pytest
from rich.console import Console

from alphanas.report.progress import Figures, LineLog, Silent, Snapshot, clock_text, line_of, panel_of, progress_on

SEED = Figures(0, 75_000, 4_000_000, 0.97)
BEST = Figures(12, 15_000, 900_000, 0.972, 0.12)
FULL = Snapshot("searching", {"ok": 12, "infeasible": 3}, SEED, BEST, 61.0, 120.0, 4, ("train #13", "score #14"))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_line_log_writes_on_news_and_otherwise_seldom() -> None:
    stream, clock = io.StringIO(), Clock()
    log = LineLog(stream, every=30.0, clock=clock)
    lines = []
    for seconds, snapshot in (
        (0, Snapshot("training the seed")),
        (1, Snapshot("training the seed", {"ok": 1})),
        (2, Snapshot("searching", {"ok": 1})),
        (10, Snapshot("searching", {"ok": 5})),
        (11, Snapshot("searching", {"ok": 5}, best=BEST)),
        (20, Snapshot("searching", {"ok": 7}, best=BEST)),
        (41, Snapshot("searching", {"ok": 9}, best=BEST)),
    ):
        clock.now = seconds
        log.update(snapshot)
        lines.append(stream.getvalue().count("\n"))
    assert lines == [1, 1, 2, 2, 3, 3, 4]


def test_a_line_tells_stage_counts_best_and_time_left() -> None:
    line = line_of(FULL)
    assert "\n" not in line
    for part in ("1:01", "searching", "12 ok", "3 infeasible", "#12", "5.0× fewer", "+0.20 points", "2:00 left"):
        assert part in line


def test_what_is_not_known_is_not_shown() -> None:
    line = line_of(Snapshot("starting"))
    assert line == "0:00 · starting"
    assert "ms" not in line_of(Snapshot("searching", best=SEED)) and "None" not in line_of(Snapshot("x", best=Figures(1)))


def test_the_live_display_shows_everything() -> None:
    console = Console(file=io.StringIO(), width=200, record=True)
    console.print(panel_of(FULL))
    text = console.export_text()
    for part in ("searching", "2:00 left", "generation 4", "ok 12", "infeasible 3", "#0", "#12", "train #13"):
        assert part in text


def test_a_terminal_gets_a_live_display_and_leaves_no_trace_of_it() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with progress_on(stream) as progress:
        progress.update(FULL)
        progress.note("[bold]a folder[/bold]")
    assert "[bold]a folder[/bold]" in stream.getvalue()


def test_other_streams_get_lines_and_quiet_ones_nothing() -> None:
    stream = io.StringIO()
    with progress_on(stream) as progress:
        progress.update(FULL)
        progress.note("a folder")
    assert stream.getvalue().splitlines()[-1] == "a folder"
    with progress_on(stream, quiet=True) as progress:
        assert isinstance(progress, Silent)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (-3, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_clock_never_runs_backwards() -> None:
    texts = [clock_text(second) for second in range(4000)]
    assert all((len(a), a) < (len(b), b) for a, b in pairwise(texts))
