"""Connections to a study's rows; here to a run folder's SQLite file, for its one writer and for any number of readers.

Write-ahead log with `synchronous=NORMAL`: a commit is in the operating system's hands before the call returns, so that no death of
our process can lose it. A power cut can lose the last commits, never break the file; that work is done again, and costs less than a
disk flush for every commit. What a row points to (an artifact) is flushed before the row is written.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, QueuePool, create_engine, event

from alphanas.study.files import DATABASE
from alphanas.study.place import Place

BUSY_S = 30.0
LOG_PAGES = 4000
"""The log is folded into the file, which takes disk flushes, when it has grown to so many pages (16 MiB)."""


def writer(place: Place) -> Engine:
    """The engine for those who record: the one process that holds the folder's lock, or many on PostgreSQL."""
    if place.remote:
        from alphanas.study import postgres

        return postgres.writer(place)
    return _file_writer(place.folder)


def reader(place: Place, steps: Sequence[str] = ()) -> Engine:
    """An engine that cannot write; it sees every commit of a running writer. With migration steps, a migrated copy in memory."""
    if place.remote:
        from alphanas.study import postgres

        return postgres.reader(place)
    return _file_reader(place.folder, steps)


def _file_writer(folder: Path) -> Engine:
    """The engine of the one process that holds the folder's lock."""
    path = folder / DATABASE

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    return _engine(connect, "BEGIN IMMEDIATE")


def fold(folder: Path) -> None:
    """Brings the log into the file and leaves the file alone in the folder, readable without any other from any medium.

    What does not go (a full disk, a reader that has the file open) does not matter: with its log beside it the file is as good.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(folder / DATABASE, timeout=0.2)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")


def _file_reader(folder: Path, steps: Sequence[str]) -> Engine:
    path = folder / DATABASE

    def connect() -> sqlite3.Connection:
        return _migrated(_open(path), steps) if steps else _open(path)

    return _engine(connect, "BEGIN")


def _open(path: Path) -> sqlite3.Connection:
    try:
        return _open_read_only(path, "mode=ro")
    except sqlite3.OperationalError:
        # On read-only media the log cannot be joined with the file in place; without a log there is nothing to join.
        log = path.with_name(path.name + "-wal")
        if not path.is_file():
            raise
        if not log.exists() or log.stat().st_size == 0:
            return _open_read_only(path, "mode=ro&immutable=1")
        return _open_copy(path, log)


def _migrated(source: sqlite3.Connection, steps: Sequence[str]) -> sqlite3.Connection:
    memory = _in_memory(source)
    for step in steps:
        memory.execute(step)
    return memory


def _in_memory(source: sqlite3.Connection) -> sqlite3.Connection:
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        source.backup(memory)
    finally:
        source.close()
    return memory


def _open_read_only(path: Path, options: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?{options}", uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _open_copy(path: Path, log: Path) -> sqlite3.Connection:
    with tempfile.TemporaryDirectory(prefix="alphanas-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        return _in_memory(sqlite3.connect(copy))


def _engine(connect: Callable[[], sqlite3.Connection], begin: str) -> Engine:
    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, json_serializer=to_json)

    # The driver would begin a transaction only at its first write; it is told to leave that to us.
    @event.listens_for(engine, "begin")
    def begins(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine


def to_json(value: object) -> str:
    """JSON with numpy numbers as numbers and what is not finite as null."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | str | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return _plain(value.tolist())
