"""What the verbs share: kinds of arguments, printing, and stopping in a way that can be resumed."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from alphanas.errors import FAILED, UserError
from alphanas.options import parse_duration

MODEL_HELP = "zoo:NAME, package.module:factory or file.py:factory"


def add_json(parser: argparse.ArgumentParser) -> None:
    """The switch `--json`."""
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def add_model(parser: argparse.ArgumentParser) -> None:
    """MODEL and the shape of its input."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument(
        "--input", required=True, type=shape, metavar="SHAPE", help="shape of the input, batch first, such as 1,32,32,3"
    )
    parser.add_argument(
        "--classes", type=positive, default=10, metavar="N", help="classes of a model of the zoo (default: %(default)s)"
    )


def shape(text: str) -> tuple[int, ...]:
    """A shape such as 1,32,32,3."""
    parts = text.replace("x", ",").replace("×", ",").split(",")
    if len(parts) < 2 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no shape; wanted whole numbers above 0, batch first, such as 1,32,32,3")
    return tuple(int(part) for part in parts)


def positive(text: str) -> int:
    """A whole number above 0."""
    number = natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("0 is too small; wanted a whole number above 0")
    return number


def natural(text: str) -> int:
    """A whole number, 0 or above."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)


def duration(text: str) -> float:
    """A time such as 90s or 10m, in seconds."""
    seconds = parse_duration(text)
    if seconds is None or seconds <= 0:
        raise argparse.ArgumentTypeError(f'{text!r} is no time; wanted one such as "90s", "5m" or "1h30m"')
    return seconds


def words(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def print_json(value: Any) -> None:
    """A value as JSON on stdout."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Iterable[str] = ()) -> None:
    """A table on stdout; figures that are None show as "not measured"."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    flush_right = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in flush_right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text("not measured", style="dim") if cell is None else Text(str(cell)) for cell in row))
    # A file or a pipe has no width: a table is never cut there.
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)


def coordinate_on_cpu() -> None:
    """Keeps what this process computes itself on the CPU: a GPU is for the workers."""
    import jax

    jax.config.update("jax_platforms", "cpu")


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Ctrl-C and SIGTERM end what runs inside with one line that says how to go on."""
    main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _interrupt) if main_thread else None
    try:
        yield
    except KeyboardInterrupt:
        from alphanas.study import holds_study

        if not holds_study(folder):
            raise UserError("stopped", saw="nothing had been written", exit_code=FAILED, cause="interrupted") from None
        remedy = f"go on with: python -m alphanas resume {folder}"
        raise UserError(
            "stopped", saw="all that was finished is kept", remedy=remedy, exit_code=FAILED, cause="interrupted"
        ) from None
    finally:
        if main_thread:
            signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def print_summary(summary: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """The outcome of a search: seed beside best, and where the files are."""
    if as_json:
        print_json(summary)
        return
    rows = [(name, *_figures(entry)) for name in ("seed", "best") if (entry := summary.get(name))]
    if rows:
        print_table(
            ("", "candidate", "accuracy", "parameters", "MACs", "latency"),
            rows,
            right=("accuracy", "parameters", "MACs", "latency"),
        )
    counts = summary.get("counts", {})
    failed = counts.get("failed")
    failures = sum(failed.values()) if isinstance(failed, Mapping) else failed or 0
    shown = [f"{counts[name]} {name}" for name in ("proposed", "synthesized", "scored", "trained", "measured") if name in counts]
    print(f"\n{summary.get('status', '')}: {', '.join([*shown, f'{failures} failed'])}")
    for name, meaning in (("report.html", "report"), ("best/model.py", "best model"), ("summary.json", "figures")):
        if (folder / name).is_file():
            print(f"{meaning}: {folder / name}")


def _figures(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    accuracy = (entry.get("accuracy") or {}).get("mean")
    return (
        f"#{entry.get('id')}",
        None if accuracy is None else f"{accuracy:.2%}",
        _count(entry.get("params")),
        _count(entry.get("macs")),
        latency_text(entry.get("latency_ms")),
    )


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def latency_text(latency: Any) -> str | None:
    """A latency with what it was measured on; of several, the first."""
    first = latency[0] if isinstance(latency, Sequence) and latency else latency
    if not isinstance(first, Mapping) or first.get("median") is None:
        return None
    tuned = "tuned" if first.get("tuned") else "untuned"
    return f"{first['median']:.3g} ms ({first.get('backend')}, {tuned}, {first.get('threads')} threads)"
