"""One error for what a user can mend: the thing, what was seen, what was wanted, what to do.

`UserError("data.source", saw="…", wanted="…", remedy="…")` is one fault; `UserError([Fault(…), Fault(…)])` tells all at once. The
command line prints `str(error)` without a traceback and exits with `error.exit_code`: 2 for bad usage or a bad config, 1 for what
failed while running. `error.cause` is a word that a program can ask for ("disk_full", "read_only", "locked", "corrupted", …).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

BAD_USAGE = 2
FAILED = 1


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: `thing: saw; wanted …; remedy`, on one line."""

    thing: str
    saw: str = ""
    wanted: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        parts = [self.saw, f"wanted {self.wanted}" if self.wanted else "", self.remedy]
        text = "; ".join(part for part in parts if part)
        return without_password(_printable(" ".join((f"{self.thing}: {text}" if text else self.thing).split())))


def without_password(text: str) -> str:
    """The same text without the passwords of the addresses in it: `scheme://user:password@host` is `scheme://user@host`."""
    return re.sub(r"(\w://[^/?#:@\s]*):\S*@", r"\1@", text)


def _printable(text: str) -> str:
    """The same text without what would move a terminal's cursor or colours; a file of a stranger may hold anything."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


class UserError(Exception):
    """What a user can mend, in one line per fault; never a bug of ours."""

    def __init__(
        self,
        thing: str | Sequence[Fault],
        *,
        saw: str = "",
        wanted: str = "",
        remedy: str = "",
        exit_code: int = BAD_USAGE,
        cause: str = "bad_input",
    ) -> None:
        self.faults = (Fault(thing, saw, wanted, remedy),) if isinstance(thing, str) else tuple(thing)
        if not self.faults:
            raise ValueError("a UserError needs at least one fault")
        self.exit_code = exit_code
        self.cause = cause
        super().__init__(str(self))

    def __str__(self) -> str:
        if len(self.faults) == 1:
            return str(self.faults[0])
        return "\n".join([f"{len(self.faults)} faults:", *(f"  {fault}" for fault in self.faults)])

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.faults, self.exit_code, self.cause))


def _rebuild(faults: tuple[Fault, ...], exit_code: int, cause: str) -> UserError:
    return UserError(faults, exit_code=exit_code, cause=cause)


def nearest(word: str, known: Iterable[str]) -> str:
    """The remedy for an unknown word: the nearest known one, or all of them when none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]!r}?"
    return "known: " + ", ".join(names)
