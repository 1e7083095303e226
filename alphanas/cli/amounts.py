"""Amounts on the command line: numbers, or shares of what is there already."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """A number, or a percentage of one."""

    number: float
    is_share: bool

    def of(self, whole: int) -> int:
        """The number itself, of a whole."""
        return math.floor(self.number * whole / 100) if self.is_share else int(self.number)

    def __str__(self) -> str:
        return f"{self.number:g}%" if self.is_share else f"{self.number:g}"


def amount(text: str) -> Amount:
    """A whole number above 0, or a percentage above 0."""
    number, percent, rest = text.strip().partition("%")
    wanted = 'wanted a whole number above 0, or a share such as "40%"'
    try:
        value = float(number) if percent else int(number.replace(",", "").replace("_", ""))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount; {wanted}") from None
    if rest or not math.isfinite(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} leaves nothing; {wanted}")
    return Amount(value, bool(percent))


def share(text: str) -> float:
    """A share from 0 to 1, or from 0% to 100%."""
    number, percent, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if rest or not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f'{text!r} is no share; wanted one from 0 to 1, or such as "90%"')
    return value
