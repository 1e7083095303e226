"""What the disk and the database say, in the user's words."""

from __future__ import annotations

import contextlib
import errno
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from alphanas.errors import FAILED, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
KEPT = "nothing that was recorded is lost: then run `python -m alphanas resume {folder}`"


class NotAFact(ValueError):
    """A row holds something that we never write."""


@contextlib.contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turns errors of the disk and of the database into one line about the run folder."""
    try:
        yield
    except OSError as error:
        known = _of_system(folder, error)
        if known is None:
            raise
        raise known from error
    except (DBAPIError, sqlite3.Error) as error:
        origin = error.orig if isinstance(error, DBAPIError) else error
        known = _of_database(folder, origin) if isinstance(origin, sqlite3.Error) else None
        if known is None:
            raise
        raise known from error
    except (json.JSONDecodeError, UnicodeDecodeError, NotAFact) as error:
        raise corrupted(folder, f"study.sqlite: {error}") from error


def corrupted(folder: Path, saw: str) -> UserError:
    """The store cannot be read as one."""
    remedy = "restore study.sqlite (with its -wal file) from a copy, or search into another folder; the other files are untouched"
    return UserError(f"run folder {folder}", saw=saw, remedy=remedy, exit_code=FAILED, cause="corrupted")


def disk_full(folder: Path) -> UserError:
    """No space is left."""
    remedy = f"free some space; {KEPT.format(folder=folder)}"
    return UserError(f"run folder {folder}", saw="the disk is full", remedy=remedy, exit_code=FAILED, cause="disk_full")


def read_only(folder: Path) -> UserError:
    """The folder cannot be written."""
    remedy = f"make it writable, or choose another with --out; {KEPT.format(folder=folder)}"
    return UserError(f"run folder {folder}", saw="it cannot be written", remedy=remedy, exit_code=FAILED, cause="read_only")


def _of_system(folder: Path, error: OSError) -> UserError | None:
    if error.errno in FULL:
        return disk_full(folder)
    if error.errno in FORBIDDEN:
        return read_only(folder)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        saw = f"{error.filename} is a file"
        return UserError(f"run folder {folder}", saw=saw, wanted="a folder", cause="bad_folder")
    if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
        return UserError(f"run folder {folder}", saw=f"{error.strerror}: {error.filename}", cause="bad_folder")
    return None


def _of_database(folder: Path, error: sqlite3.Error) -> UserError | None:
    name = str(getattr(error, "sqlite_errorname", "") or "")
    text = str(error)
    if name.startswith("SQLITE_FULL") or "disk is full" in text:
        return disk_full(folder)
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN")):
        return read_only(folder)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        remedy = "wait for the other process or end it, then resume"
        return UserError(f"run folder {folder}", saw="its database is locked", remedy=remedy, exit_code=FAILED, cause="locked")
    if name.startswith("SQLITE_IOERR"):
        remedy = f"check the disk; {KEPT.format(folder=folder)}"
        return UserError(
            f"run folder {folder}", saw=f"the disk failed ({name})", remedy=remedy, exit_code=FAILED, cause="disk_failed"
        )
    # What is left, our own mistakes apart, is a file that does not hold what it should: lost tables, text that is not UTF-8, …
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return None
    return corrupted(folder, f"study.sqlite: {text}")
