"""Writes what comes with the package so that a first process need not derive it: `python -m synth.shipping`.

Formulas of the built-in ops, and the patterns of idioms. To be run when the source that they are derived from has changed; a test
says so. `--check` writes nothing and exits with 1 where a file is not what would be written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from properties import idioms, shipped
from synth import formulas


@dataclass(frozen=True)
class Shipment:
    """A file of facts, what they are derived from, and how."""

    path: Path
    sources: tuple[Path, ...]
    facts: Callable[[], Iterable[Any]]

    @property
    def is_current(self) -> bool:
        """Whether the file is used: it comes from this source, and from the installed JAX."""
        return shipped.recalled(self.path, self.sources) is not None

    @property
    def is_right(self) -> bool:
        """Whether the file says what is derived now."""
        return json.loads(json.dumps(list(self.facts()))) == shipped.recalled(self.path, self.sources)


SHIPMENTS = (
    Shipment(idioms.SHIPPED, idioms.SOURCES, idioms.to_ship),
    Shipment(formulas.SHIPPED, tuple(formulas.sources()), formulas.to_ship),
)


def outdated() -> Iterator[Path]:
    """The files that are not what would be written."""
    yield from (each.path for each in SHIPMENTS if not each.is_right)


def main() -> int:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where a file is not what would be written")
    if parser.parse_args().check:
        found = list(outdated())
        for path in found:
            print(f"{path.name} is outdated: run python -m synth.shipping")
        return 1 if found else 0
    for each in SHIPMENTS:
        shipped.written(each.path, each.sources, each.facts())
        print(f"{each.path}: {each.path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
