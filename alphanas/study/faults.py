"""What the disk and the database say, in the user's words."""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

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
        known = _of_database(folder, origin) if isinstance(origin, sqlite3.Error) else _of_server(folder, origin)
        if known is None:
            raise
        raise known from error
    except (json.JSONDecodeError, UnicodeDecodeError, NotAFact) as error:
        raise corrupted(folder, f"study.sqlite: {error}") from error
    except PoolTimeout as error:
        raise store_lost(folder, "its database gives no connection") from error


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


def store_lost(folder: Path, saw: str) -> UserError:
    """The database cannot be reached."""
    remedy = f"see to the server, the network, the password (PGPASSWORD, ~/.pgpass, ALPHANAS_STORE); {KEPT.format(folder=folder)}"
    return UserError(f"run folder {folder}", saw=saw, remedy=remedy, exit_code=FAILED, cause="store_lost")


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


def _of_server(folder: Path, error: BaseException | None) -> UserError | None:
    """What PostgreSQL said, by the class of its SQLSTATE; without one, no server answered."""
    if error is None or not type(error).__module__.startswith("psycopg"):
        return None
    state = getattr(error, "sqlstate", None) or ""
    text = " ".join(str(error).split())[:300]
    if state == "53100":
        return disk_full(folder)
    if state == "25006":
        return read_only(folder)
    if state[:2] in ("28", "3D", "42") and state not in ("42P01", "42703", "42P07"):
        remedy = "check study.store, its user and password (PGPASSWORD, ~/.pgpass, ALPHANAS_STORE)"
        return UserError(f"run folder {folder}", saw=f"its database refuses: {text}", remedy=remedy, cause="store_refused")
    if state in ("42P01", "42703"):
        return corrupted(folder, f"its database: {text}")
    if state[:2] in ("", "08", "40", "53", "55", "57", "58") and not isinstance(error, _mistakes(error)):
        return store_lost(folder, f"its database cannot be reached: {text}" if text else "its database cannot be reached")
    return None


def _mistakes(error: BaseException) -> tuple[type[BaseException], ...]:
    """The kinds of errors of a database driver that are our own mistakes."""
    module = importlib.import_module(type(error).__module__.split(".")[0])
    return (module.ProgrammingError, module.IntegrityError, module.DataError, module.NotSupportedError)
