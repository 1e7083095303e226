"""Strict reading of mappings into frozen dataclasses: every option says its kind, range and meaning, and all faults come at once.

A section is a frozen dataclass whose fields are made by `option(default, kind, help)`; a kind is an object with `read(value)`,
which returns the value or raises `Refused`, and `write(value)`, its inverse for TOML. `read_section` goes on after a fault.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from alphanas.errors import Fault, nearest, without_password


class Refused(ValueError):
    """A value is not of an option's kind; the text says what was wanted."""


class Kind(Protocol):
    """What values an option takes."""

    def read(self, value: object) -> Any: ...

    def write(self, value: Any) -> Any: ...


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included; never beyond what JSON readers take exactly."""

    low: int = -(2**53)
    high: int = 2**53

    def read(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not _within(value, self.low, self.high):
            raise Refused(f"a whole number{_range_text(self.low, self.high)}")
        return value

    def write(self, value: int) -> int:
        return value


@dataclass(frozen=True)
class Number:
    """A finite number from `low` to `high`; `open_low` and `open_high` leave out the ends."""

    low: float | None = None
    high: float | None = None
    open_low: bool = False
    open_high: bool = False

    def read(self, value: object) -> float:
        wanted = f"a number{_range_text(self.low, self.high, self.open_low, self.open_high)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Refused(wanted)
        try:
            number = float(value)
        except OverflowError:
            raise Refused(wanted) from None
        outside = not math.isfinite(number) or not _within(number, self.low, self.high)
        if outside or (self.open_low and number == self.low) or (self.open_high and number == self.high):
            raise Refused(wanted)
        return number

    def write(self, value: float) -> float:
        return value


@dataclass(frozen=True)
class Text:
    """A string on one line, not blank unless it may be `empty`; `looks_like` shows its form, `pattern` checks it."""

    looks_like: str = "a text"
    pattern: str = ""
    empty: bool = False

    def read(self, value: object) -> str:
        if self.empty and value == "":
            return ""
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise Refused(self.looks_like)
        if self.pattern and not re.fullmatch(self.pattern, value):
            raise Refused(self.looks_like)
        return value

    def write(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Switch:
    """true or false."""

    def read(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise Refused("true or false")
        return value

    def write(self, value: bool) -> bool:
        return value


@dataclass(frozen=True)
class OneOf:
    """One word of a list."""

    words: tuple[str, ...]

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        hint = f" ({nearest(value, self.words)})" if isinstance(value, str) else ""
        raise Refused(f"one of {', '.join(self.words)}{hint}")

    def write(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class ListOf:
    """A list of one kind, as a tuple; `shortest` items at least, no item twice if `distinct`."""

    item: Kind
    shortest: int = 0
    distinct: bool = False

    def read(self, value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Refused(f"a list, each {_wanted(self.item)}")
        items = []
        for place, entry in enumerate(value):
            try:
                items.append(self.item.read(entry))
            except Refused as refused:
                raise Refused(f"a list, each {refused}, but item {place} is {entry!r}") from None
        if len(items) < self.shortest:
            raise Refused(f"a list of at least {self.shortest}, each {_wanted(self.item)}")
        if self.distinct and len(set(items)) < len(items):
            raise Refused("a list without repetitions")
        return tuple(items)

    def write(self, value: tuple[Any, ...]) -> list[Any]:
        return [self.item.write(entry) for entry in value]


@dataclass(frozen=True)
class Interval:
    """A pair [low, high] with low <= high, each end of one kind."""

    end: Kind

    def read(self, value: object) -> tuple[float, float]:
        if not isinstance(value, list | tuple) or len(value) != 2:
            raise Refused(f"a pair [low, high], each {_wanted(self.end)}")
        low, high = ListOf(self.end).read(value)
        if low > high:
            raise Refused("a pair [low, high] with low not above high")
        return (low, high)

    def write(self, value: tuple[float, float]) -> list[float]:
        return [self.end.write(end) for end in value]


STORE_WANTED = "postgresql://USER@HOST:PORT/DATABASE"
STORE_OPTIONS = frozenset({"sslmode", "sslrootcert", "host", "port", "connect_timeout", "target_session_attrs", "gssencmode"})


def store_fault(url: str) -> str | None:
    """What is wrong with the address of a PostgreSQL database; None if it is good."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        return STORE_WANTED
    if parts.scheme not in ("postgresql", "postgres") or not parts.path.strip("/") or parts.fragment or not url.isprintable():
        return STORE_WANTED
    unknown = sorted(set(options) - STORE_OPTIONS)
    return f"{STORE_WANTED}, after ? only {', '.join(sorted(STORE_OPTIONS))}, not {unknown[0]}" if unknown else None


@dataclass(frozen=True)
class Store:
    """The address of a PostgreSQL database, or nothing. What is written has no password, so that it stays in memory."""

    def read(self, value: object) -> str:
        if value == "":
            return ""
        fault = store_fault(value) if isinstance(value, str) else STORE_WANTED
        if not isinstance(value, str) or fault is not None:
            raise Refused(f"nothing (SQLite), or {fault}")
        return value

    def write(self, value: str) -> str:
        return without_password(value)


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SHORTEST = 0.001
LONGEST = 10 * 365 * 86400.0


@dataclass(frozen=True)
class Duration:
    """A time such as "90s", "5m" or "1h30m"; read into seconds."""

    def read(self, value: object) -> float:
        wanted = 'a time from 1 ms to ten years such as "90s", "5m" or "1h30m"'
        if isinstance(value, bool):
            raise Refused(wanted)
        seconds = parse_duration(value) if isinstance(value, str) else value if isinstance(value, int | float) else None
        if seconds is None or not SHORTEST <= seconds <= LONGEST:
            raise Refused(wanted)
        return float(seconds)

    def write(self, value: float) -> str:
        return format_duration(value)


def parse_duration(text: str) -> float | None:
    """Seconds in a text such as "90s", "5m", "1h30m" or "2.5" (seconds); None when it is no such text."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,30})?", text):
        return float(text)
    parts = re.findall(r"([0-9]{1,12}(?:\.[0-9]{1,30})?)(ms|s|m|h|d)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return math.fsum(float(number) * UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """A short text that `parse_duration` reads as exactly these seconds."""
    for unit in ("h", "m"):
        count = seconds / UNITS[unit]
        if count == int(count) and count >= 1:
            return f"{int(count)}{unit}"
    return f"{Decimal(repr(float(seconds))):f}".removesuffix(".0") + "s"


def option(default: Any, kind: Kind, help: str, *, shown: bool = True) -> Any:
    """A dataclass field that knows its kind and meaning; what is not `shown` is left out of the section's `repr`."""
    return dataclasses.field(default=default, metadata={"kind": kind, "help": help}, repr=shown)


def section(kind: type) -> Any:
    """A dataclass field that is itself a section of options, all at their defaults."""
    return dataclasses.field(default_factory=kind, metadata={"section": kind})


def read_section(
    kind: type, mapping: Mapping[str, Any], faults: list[Fault], *, prefix: str = "", elsewhere: Iterable[str] = ()
) -> Any:
    """An instance of the section `kind` from a mapping; every fault is added to `faults`, with the default in its place."""
    elsewhere = tuple(elsewhere) or tuple(keys_of(kind))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in mapping:
        if key not in fields:
            faults.append(Fault(f"{prefix}{key}", "unknown key", "", _nearest_key(str(key), prefix, fields, elsewhere)))
    values = {}
    for name, field in fields.items():
        if name not in mapping:
            continue
        if "section" in field.metadata:
            inner = mapping[name]
            if not isinstance(inner, Mapping):
                faults.append(Fault(f"{prefix}{name}", f"saw {_show(inner)}", f"a table [{prefix}{name}]"))
                continue
            values[name] = read_section(field.metadata["section"], inner, faults, prefix=f"{prefix}{name}.", elsewhere=elsewhere)
            continue
        try:
            values[name] = field.metadata["kind"].read(mapping[name])
        except Refused as refused:
            faults.append(Fault(f"{prefix}{name}", f"saw {_show(mapping[name])}", str(refused)))
    return kind(**values)


def write_section(section: Any) -> dict[str, Any]:
    """The mapping that `read_section` reads as this section; plain TOML and JSON values only."""
    written = {}
    for field in dataclasses.fields(section):
        value = getattr(section, field.name)
        inner = "section" in field.metadata
        written[field.name] = write_section(value) if inner else field.metadata["kind"].write(value)
    return written


def flatten(mapping: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Dotted key → value for nested tables."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, prefix=f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def keys_of(kind: type, *, prefix: str = "") -> dict[str, tuple[Kind, str, Any]]:
    """Every dotted key of a section → (kind, help, default), in order."""
    keys: dict[str, tuple[Kind, str, Any]] = {}
    for field in dataclasses.fields(kind):
        if "section" in field.metadata:
            keys |= keys_of(field.metadata["section"], prefix=f"{prefix}{field.name}.")
        else:
            keys[f"{prefix}{field.name}"] = (field.metadata["kind"], field.metadata["help"], field.default)
    return keys


def _nearest_key(key: str, prefix: str, fields: Iterable[str], elsewhere: Iterable[str]) -> str:
    misplaced = [known for known in elsewhere if known.rpartition(".")[2] == key]
    if misplaced:
        return f"did you mean {misplaced[0]!r}?"
    return nearest(f"{prefix}{key}", [f"{prefix}{name}" for name in fields])


def _show(value: object) -> str:
    text = without_password(repr(value))
    return text if len(text) <= 80 else text[:77] + "…"


def _wanted(kind: Kind) -> str:
    try:
        kind.read(_Nothing())
    except Refused as refused:
        return str(refused)
    raise AssertionError(f"{kind} takes anything")


class _Nothing:
    """A value that no kind takes."""


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def _range_text(low: float | None, high: float | None, open_low: bool = False, open_high: bool = False) -> str:
    low, high = (None if end is not None and abs(end) == 2**53 else end for end in (low, high))
    lower = "" if low is None else f" above {low}" if open_low else f" of at least {low}"
    upper = "" if high is None else f" below {high}" if open_high else f" of at most {high}"
    return f"{lower}{' and' if lower and upper else ''}{upper}"
