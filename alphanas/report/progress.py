"""Progress while a search runs: what the driver tells, and who shows it.

The driver calls `progress.update(Snapshot(…))` whenever something changed, as often as it likes, and `progress.note(text)` for
what a user should read once. It never waits for a display, and a display never changes what the search does:

    with progress_on(sys.stderr) as progress:        # a live display on a terminal, otherwise a line now and then
        driver.search(config, out=folder, progress=progress)
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live


@dataclass(frozen=True)
class Figures:
    """The numbers of one candidate that are known so far; what was not measured is None. Accuracies are 0..1."""

    id: int
    params: int | None = None
    macs: int | None = None
    accuracy: float | None = None
    latency_ms: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Where a search stands.

    `stage` is a short text such as "searching" or "training finalists"; `counts` are candidates by outcome, in the order shown;
    `running` says what the workers do now; times are seconds, `time_left` None where there is no limit.
    """

    stage: str
    counts: Mapping[str, int] = field(default_factory=dict)
    seed: Figures | None = None
    best: Figures | None = None
    elapsed: float = 0.0
    time_left: float | None = None
    generation: int | None = None
    running: tuple[str, ...] = ()


class Progress(Protocol):
    """Who is told how a search gets on."""

    def update(self, snapshot: Snapshot) -> None:
        """The search stands here now."""

    def note(self, text: str) -> None:
        """A user should read this line once."""


class Silent:
    """Shows nothing."""

    def update(self, snapshot: Snapshot) -> None:
        """Nothing is shown."""

    def note(self, text: str) -> None:
        """Nothing is shown."""


class LineLog:
    """One line on a stream when the stage or the best changes, and otherwise at most one every `every` seconds."""

    def __init__(self, stream: TextIO, *, every: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._every, self._clock = stream, every, clock
        self._last: tuple[str, Figures | None] | None = None
        self._last_time = -float("inf")

    def update(self, snapshot: Snapshot) -> None:
        """A line, if it is time for one."""
        now, state = self._clock(), (snapshot.stage, snapshot.best)
        if state == self._last and now - self._last_time < self._every:
            return
        self._last, self._last_time = state, now
        self._write(line_of(snapshot))

    def note(self, text: str) -> None:
        """The text, on a line."""
        self._write(text)

    def _write(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class LiveDisplay:
    """A few lines at the bottom of a terminal, redrawn in place; notes scroll by above them."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def update(self, snapshot: Snapshot) -> None:
        """Redraws the lines."""
        self._live.update(panel_of(snapshot))

    def note(self, text: str) -> None:
        """The text, above the lines."""
        self._live.console.print(text, markup=False, highlight=False)


@contextlib.contextmanager
def progress_on(stream: TextIO, *, quiet: bool = False) -> Iterator[Progress]:
    """The progress that suits a stream: live on a terminal, a line log elsewhere, nothing when quiet."""
    if quiet:
        yield Silent()
        return
    if not stream.isatty():
        yield LineLog(stream)
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(file=stream)
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield LiveDisplay(live)


def line_of(snapshot: Snapshot) -> str:
    """A snapshot in one line."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in snapshot.counts.items() if count)
    best = f"best {figures_text(snapshot.best, snapshot.seed)}" if snapshot.best else ""
    left = "" if snapshot.time_left is None else f"{clock_text(snapshot.time_left)} left"
    parts = (clock_text(snapshot.elapsed), snapshot.stage, counts, best, left)
    return " · ".join(part for part in parts if part)


def figures_text(figures: Figures, seed: Figures | None = None) -> str:
    """The known numbers of a candidate, beside the seed's where both are known."""
    parts = [f"#{figures.id}"]
    if figures.accuracy is not None:
        parts.append(f"accuracy {figures.accuracy:.2%}" + _gain(figures.accuracy, seed.accuracy if seed else None))
    if figures.params is not None:
        parts.append(f"{figures.params:,} parameters" + _times(figures.params, seed.params if seed else None))
    if figures.macs is not None:
        parts.append(f"{figures.macs:,} MACs" + _times(figures.macs, seed.macs if seed else None))
    if figures.latency_ms is not None:
        parts.append(f"{figures.latency_ms:.3g} ms")
    return ", ".join(parts)


def panel_of(snapshot: Snapshot) -> Group:
    """A snapshot as a few lines for a terminal."""
    from rich.console import Group
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    head = Text(snapshot.stage, style="bold")
    head.append(f"   {clock_text(snapshot.elapsed)}", style="dim")
    if snapshot.time_left is not None:
        head.append(f", {clock_text(snapshot.time_left)} left", style="dim")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", justify="right")
    grid.add_column()
    if snapshot.counts:
        generation = "" if snapshot.generation is None else f"generation {snapshot.generation}   "
        shown = "   ".join(f"{outcome} {count:,}" for outcome, count in snapshot.counts.items())
        grid.add_row("candidates", Text(generation + shown))
    for name, figures in (("seed", snapshot.seed), ("best", snapshot.best)):
        if figures is not None:
            style = "green" if name == "best" else ""
            grid.add_row(name, Text(figures_text(figures, snapshot.seed if name == "best" else None), style=style))
    if snapshot.running:
        grid.add_row("now", Text(", ".join(snapshot.running), style="dim", overflow="ellipsis", no_wrap=True))
    return Group(Spinner("dots", head), grid)


def clock_text(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from an hour on."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, second = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{second:02}" if hours else f"{minutes}:{second:02}"


def _times(value: int, seed: int | None) -> str:
    return f" ({seed / value:.1f}× fewer)" if seed and value and value < seed else ""


def _gain(value: float, seed: float | None) -> str:
    return "" if seed is None else f" ({100 * (value - seed):+.2f} points)"
