"""Where an export goes: it is made and checked in a folder of its own, and put in place whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alphanas.errors import FAILED, UserError
from alphanas.export.check import Exported


@dataclass(frozen=True)
class Place:
    """The folder that an export goes to, and the name of its file if the caller gave one."""

    folder: Path
    file: str | None = None

    @property
    def record(self) -> str:
        """The name of the file that says what was checked: files of several names in one folder each have their own."""
        return "export.json" if self.file is None else f"{Path(self.file).stem}.export.json"


def place(out: str | Path, file: str | None) -> Place:
    """Where `out` is: a folder, or a file of the format's own ending where the format is one file.

    Raises UserError for a file where a folder must be, and for a folder that cannot be written.
    """
    path = Path(out)
    named = file is not None and path.suffix == Path(file).suffix and not path.is_dir()
    if not named and path.exists() and not path.is_dir():
        wanted = "a folder" if file is None else f"a folder, or a file that ends in {Path(file).suffix}"
        raise UserError(f"--out {path}", saw="a file is there", wanted=wanted)
    chosen = Place(path.parent, path.name) if named else Place(path)
    _refuse_unwritable(path, chosen.folder)
    return chosen


def _refuse_unwritable(path: Path, folder: Path) -> None:
    above = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not above.is_dir():
        raise UserError(f"--out {path}", saw=f"{above} is a file", wanted="a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        remedy = "choose another folder"
        raise UserError(f"--out {path}", saw=f"{above} cannot be written", remedy=remedy, exit_code=FAILED, cause="read_only")


@contextmanager
def staged(where: Place) -> Iterator[Path]:
    """A folder on the same disk as the place, gone afterwards with whatever was left in it."""
    above = next(parent for parent in (where.folder.absolute(), *where.folder.absolute().parents) if parent.exists())
    with _as_user_error(where.folder):
        scratch = Path(tempfile.mkdtemp(dir=above, prefix=".export-"))
    try:
        with _as_user_error(where.folder):
            yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def put(exported: Exported, scratch: Path, where: Place) -> Exported:
    """Moves what was made and checked into its place, with the record beside it.

    A file that is there is replaced if an export wrote it; another one is never touched: UserError names it.
    """
    if where.file is not None:
        first, *others = exported.files
        (scratch / first).rename(scratch / where.file)
        exported = replace(exported, files=(where.file, *others))
    known = _records(where.folder / where.record)
    _refuse_strangers(exported, scratch, where.folder, known)
    text = json.dumps({**_still_true(known, exported, scratch, where.folder), exported.format: exported.to_dict()}, indent=2)
    (scratch / where.record).write_text(text + "\n")
    with _as_user_error(where.folder):
        where.folder.mkdir(parents=True, exist_ok=True)
        for name in (*exported.files, where.record):
            os.chmod(scratch / name, 0o644)
            _flush(scratch / name)
            os.replace(scratch / name, where.folder / name)
    return exported


def _records(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _refuse_strangers(exported: Exported, scratch: Path, folder: Path, known: dict[str, Any]) -> None:
    ours = {name for record in known.values() for name in record.get("files", ())}
    for name in exported.files:
        there = folder / name
        if not there.exists() or name in ours or _same(there, scratch / name):
            continue
        saw = "a folder is there" if there.is_dir() else "there is a file already that no export wrote"
        raise UserError(f"--out {there}", saw=saw, remedy="choose another folder, or move it away")


def _still_true(known: dict[str, Any], exported: Exported, scratch: Path, folder: Path) -> dict[str, Any]:
    """The records of other formats whose files stay as they are."""
    changed = {name for name in exported.files if not _same(folder / name, scratch / name)}
    return {name: record for name, record in known.items() if changed.isdisjoint(record.get("files", ()))}


def _same(one: Path, other: Path) -> bool:
    return one.is_file() and one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextmanager
def _as_user_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cause = {errno.ENOSPC: "disk_full", errno.EDQUOT: "disk_full"}.get(error.errno or 0, "read_only")
        saw = f"cannot be written: {error.strerror or error}"
        raise UserError(f"--out {folder}", saw=saw, exit_code=FAILED, cause=cause) from error


Writer = Callable[[Path], Exported]


def write(out: str | Path, file: str | None, make: Writer) -> Exported:
    """Runs `make` in a folder of its own and puts what it wrote in place; nothing stays of what fails."""
    where = place(out, file)
    with staged(where) as scratch:
        return put(make(scratch), scratch, where)
