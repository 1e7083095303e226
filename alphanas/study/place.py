"""Where the rows of a study are: in the SQLite file of its run folder, or in a PostgreSQL database that the folder names.

Files of a study (artifacts, config, summary, report) are in the run folder in both cases. A password is never written: the
folder's `store.json` holds the address without it, and whoever opens the folder gives it as PostgreSQL's own tools take it
(`PGPASSWORD`, `~/.pgpass`), or gives the whole address as `ALPHANAS_STORE`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alphanas.errors import FAILED, UserError, without_password
from alphanas.options import STORE_WANTED, store_fault
from alphanas.study.faults import translated
from alphanas.study.files import DATABASE, write_atomic

POINTER = "store.json"
OVERRIDE = "ALPHANAS_STORE"
NAME = r"[A-Za-z0-9_.-]{1,48}"
LONGEST = 1 << 16
# Addresses that this process was given, by what is left of them without the password: what it wrote, it can read.
_given: dict[str, str] = {}


@dataclass(frozen=True)
class Place:
    """A run folder and, where its rows are in PostgreSQL, the address (with its password, in memory only) and the study's name."""

    folder: Path
    url: str = ""
    name: str = ""

    @property
    def remote(self) -> bool:
        """Whether the rows are in PostgreSQL."""
        return bool(self.url)

    @property
    def schema(self) -> str:
        """The PostgreSQL schema that holds the study's tables."""
        return f"alphanas_{self.name}"

    def __str__(self) -> str:
        return f"study {self.name!r} in {without_password(self.url)}" if self.remote else str(self.folder / DATABASE)


def new_place(folder: Path, store: str, name: str) -> Place:
    """The place of a study that is to be made; its name is the folder's unless given."""
    if not store:
        return Place(folder)
    named = name or re.sub(r"[^A-Za-z0-9_.-]", "-", folder.resolve().name)[:48]
    url = os.environ.get(OVERRIDE) or store
    _given[without_password(url)] = url
    return Place(folder, url, named)


def place_of(folder: Path) -> Place:
    """The place of the study in a run folder; `UserError` for a `store.json` that is none of ours."""
    path = folder / POINTER
    with translated(folder):
        if (folder / DATABASE).exists() or not path.is_file():
            return Place(folder)
        text = path.read_bytes()[:LONGEST]
    try:
        entry: Any = json.loads(text)
        url, name = entry["store"], entry["name"]
        good = isinstance(url, str) and isinstance(name, str) and url and store_fault(url) is None and re.fullmatch(NAME, name)
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        wanted = f'{{"store": {STORE_WANTED}, "name": the study\'s}}'
        raise UserError(f"run folder {folder}", saw=f"a bad {POINTER}", wanted=wanted, exit_code=FAILED, cause="corrupted")
    return Place(folder, os.environ.get(OVERRIDE) or _given.get(url, url), name)


def point_to(place: Place) -> None:
    """Writes down in the run folder where its rows are; without the password."""
    write_atomic(place.folder / POINTER, json.dumps({"store": without_password(place.url), "name": place.name}, indent=1) + "\n")


def holds_study(folder: Path) -> bool:
    """Whether a folder is a run folder, without looking into its store."""
    return (folder / DATABASE).is_file() or (folder / POINTER).is_file()
