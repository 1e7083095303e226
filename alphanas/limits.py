"""Limits on what a candidate may cost, as a user writes them: an amount with its unit, or a share of the seed model's.

    parse("params", "at most 20k")               parse("latency", "at most 2ms")
    parse("macs", "at most 40%")                  parse("error", "at most 1 point over the seed")
    parse("peak_bytes", "between 16 KiB and 1 MiB")

Numbers are those that `Candidate.objective` gives by the same name: parameters and multiply-adds, bytes, milliseconds, the share of
validation pictures that are wrong, and whatever one's own function returns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from alphanas.errors import nearest
from alphanas.options import Refused

OWN = re.compile(r".+:[A-Za-z_][A-Za-z0-9_]*")
"""The import path of one's own function: `file.py:NAME` or `package.module:NAME`."""

MEASURED: Mapping[str, str] = {
    "error": "share",
    "params": "count",
    "macs": "count",
    "peak_bytes": "bytes",
    "latency": "time",
}
"""The numbers of a candidate by name, and what they count; one's own are plain numbers."""

UNITS: Mapping[str, Mapping[str, float]] = {
    "count": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
    "bytes": {"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "time": {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3},
    "share": {"": 1},
    "number": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9},
}

EXAMPLES: Mapping[str, str] = {
    "count": '"at most 20k" or "at most 40%" (of the seed\'s)',
    "bytes": '"at most 64 KiB" or "at most 40%" (of the seed\'s)',
    "time": '"at most 2ms" or "at most 40%" (of the seed\'s)',
    "share": '"at most 0.05" (one picture in twenty), "at most 1 point over the seed" or "at most 120% of the seed"',
    "number": '"at most 5", "at least 1" or "at most 40%" (of the seed\'s)',
}

NUMBER = r"(?P<number>-?[0-9]{1,15}(?:\.[0-9]{1,15})?)"
AMOUNT = re.compile(rf"{NUMBER}\s*(?P<unit>[A-Za-zµ]*)")
RATIO = re.compile(rf"{NUMBER}\s*%(?P<of>\s+of\s+the\s+seed(?:'s)?)?")
OVER = re.compile(rf"{NUMBER}\s*points?\s+over\s+the\s+seed(?:'s)?")


@dataclass(frozen=True)
class Bound:
    """`share` times the seed's number, plus `amount`."""

    amount: float
    share: float = 0.0

    def at(self, seed: float | None) -> float | None:
        """The bound beside a seed's number; None if it hangs on a number that is not known."""
        if self.share == 0:
            return self.amount
        return None if seed is None else self.amount + self.share * seed


@dataclass(frozen=True)
class Limit:
    """What the number of a name may be: nothing above `most`, nothing below `least`."""

    name: str
    text: str
    most: Bound | None = None
    least: Bound | None = None

    def excess(self, value: float | None, seed: float | None) -> float:
        """How far a number is beyond the limit, as a share of it; 0 where it keeps it, or where it is not known."""
        if value is None:
            return 0.0
        most, least = (None if bound is None else bound.at(seed) for bound in (self.most, self.least))
        if most is not None and value > most:
            return (value - most) / (abs(most) or 1.0)
        if least is not None and value < least:
            return (least - value) / (abs(least) or 1.0)
        return 0.0

    def __str__(self) -> str:
        return f"{self.name} {self.text}"


def parse(name: str, text: object) -> Limit:
    """The limit that a text puts on a number; `Refused` with examples of what is wanted."""
    kind = MEASURED.get(name, "number")
    wanted = EXAMPLES[kind]
    if not isinstance(text, str):
        raise Refused(f"a text such as {wanted}")
    words = " ".join(text.split())
    form, _, rest = words.partition(" ")
    second = rest.partition(" ")[0]
    if form == "at" and second in ("most", "least"):
        bound = _bound(rest.removeprefix(second).strip(), kind)
        if second == "most" and bound.share == 0 and bound.amount <= 0 and kind != "number":
            raise Refused(f"an amount above 0, as in {wanted}: nothing has {name} {words}")
        return Limit(name, words, most=bound) if second == "most" else Limit(name, words, least=bound)
    low, joined, high = rest.partition(" and ")
    if form != "between" or not joined:
        raise Refused(f'"at most …", "at least …" or "between … and …", as in {wanted}')
    least, most = _bound(low.strip(), kind), _bound(high.strip(), kind)
    if (least.share == most.share and least.amount > most.amount) or (least.amount == most.amount and least.share > most.share):
        raise Refused(f'"between LOW and HIGH" with LOW not above HIGH: nothing is {words}')
    return Limit(name, words, most, least)


def _bound(text: str, kind: str) -> Bound:
    wanted = EXAMPLES[kind]
    ratio, over, amount = RATIO.fullmatch(text), OVER.fullmatch(text), AMOUNT.fullmatch(text)
    if ratio:
        if kind == "share" and not ratio["of"]:
            raise Refused(f"a share that says of what, as in {wanted}")
        return Bound(0.0, float(ratio["number"]) / 100)
    if over and kind == "share":
        return Bound(float(over["number"]) / 100, 1.0)
    if amount is None or amount["unit"] not in UNITS[kind]:
        units = ", ".join(filter(None, UNITS[kind])) or "no unit"
        raise Refused(f"an amount ({units}) or a share of the seed's, as in {wanted}, where there is {text!r}")
    number = float(amount["number"]) * UNITS[kind][amount["unit"]]
    if kind == "share" and not 0 <= number <= 1:
        raise Refused(f"a share of the pictures from 0 to 1, as in {wanted}")
    return Bound(number)


@dataclass(frozen=True)
class Objective:
    """The kind of a number's name, for `alphanas.options`: one that is measured, or the import path of one's own function."""

    def read(self, value: object) -> str:
        if isinstance(value, str) and (value in MEASURED or (OWN.fullmatch(value) and value.isprintable())):
            return value
        hint = f" ({nearest(value, MEASURED)})" if isinstance(value, str) else ""
        raise Refused(f'one of {", ".join(MEASURED)}, or one\'s own "file.py:NAME" or "package.module:NAME"{hint}')

    def write(self, value: str) -> str:
        return value


@dataclass(frozen=True)
class Limits:
    """The kind of a table of limits, for `alphanas.options`: names of numbers, and texts."""

    def read(self, value: object) -> tuple[Limit, ...]:
        if not isinstance(value, Mapping):
            raise Refused('a table such as {params = "at most 20k"}')
        found, wrong = [], []
        for name, text in value.items():
            if name not in MEASURED and not (isinstance(name, str) and OWN.fullmatch(name)):
                wrong.append(f'no {name!r}: limits are on {", ".join(MEASURED)} and one\'s own "file.py:NAME"')
                continue
            try:
                found.append(parse(name, text))
            except Refused as refused:
                wrong.append(f"for {name} {refused}")
        if wrong:
            raise Refused("; ".join(wrong))
        return tuple(found)

    def write(self, value: Iterable[Limit]) -> dict[str, str]:
        return {limit.name: limit.text for limit in value}


def excess(limits: Iterable[Limit], value: Callable[[str], float | None], seed: Callable[[str], float | None]) -> float:
    """By how much a candidate breaks limits in all, each as a share of its bound; 0 only if it breaks none that is known."""
    return sum(limit.excess(value(limit.name), seed(limit.name)) for limit in limits)


def broken(limits: Iterable[Limit], value: Callable[[str], float | None], seed: Callable[[str], float | None]) -> tuple[Limit, ...]:
    """The limits that a candidate breaks, as far as its numbers are known."""
    return tuple(limit for limit in limits if limit.excess(value(limit.name), seed(limit.name)) > 0)
