"""What was measured of kernels, kept for each device across studies and processes in one SQLite file.

    with Records.open(default_path()) as records:
        records.known(device)                         # kernel → its fastest record
        with records.claim(device, kernel) as mine:   # False where another process tunes this kernel now
            records.add(device, Record(…))

A device is a CPU as schedules see it, with the versions of TVM and of our kernels: a record says nothing of another one, and stays
for it. Write-ahead log with a busy timeout, every record a transaction of its own. What goes wrong is told once, in `notes`: a
damaged file is put aside and what can be read of it taken over; where the disk is full or nothing may be written, records live as
long as the process. Needs no TVM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from alphanas.errors import FAILED, UserError
from alphanas.hardware.program import Storage
from synth.cache import cache_folder

FORMAT = 4
MIGRATIONS = {
    1: ("ALTER TABLE records ADD COLUMN caches TEXT NOT NULL DEFAULT '[]'",),
    2: ("ALTER TABLE records ADD COLUMN pace REAL", "ALTER TABLE records ADD COLUMN alone REAL"),
    3: ("ALTER TABLE records ADD COLUMN handed TEXT NOT NULL DEFAULT '[]'", "ALTER TABLE records ADD COLUMN exchange REAL"),
}
"""Format → what makes it the next one."""
BUSY_S = 30.0
LARGEST = 1 << 30
TEMPLATE, METASCHEDULE = "template", "metaschedule"
FEW_BYTES = 1 << 18
"""What a core's own caches hold of other data."""

TABLES = (
    """CREATE TABLE IF NOT EXISTS devices (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, cpu TEXT, model TEXT, lanes INTEGER, registers INTEGER, threads INTEGER,
        tvm TEXT, code TEXT, overhead TEXT)""",
    """CREATE TABLE IF NOT EXISTS records (
        device INTEGER NOT NULL REFERENCES devices(id), kernel TEXT NOT NULL, how TEXT NOT NULL, kind TEXT NOT NULL,
        work INTEGER NOT NULL, storage TEXT NOT NULL, schedule TEXT NOT NULL, seconds REAL NOT NULL, spread REAL NOT NULL,
        trials INTEGER NOT NULL, time REAL NOT NULL, caches TEXT NOT NULL DEFAULT '[]', pace REAL, alone REAL,
        handed TEXT NOT NULL DEFAULT '[]', exchange REAL,
        PRIMARY KEY (device, kernel, how))""",
)

COLUMNS = "device, kernel, how, kind, work, storage, schedule, seconds, spread, trials, time, caches, pace, alone, handed, exchange"


@dataclass(frozen=True)
class Device:
    """What records hold for: LLVM's name of the CPU, its maker's, lanes and registers of its vectors, threads, versions."""

    cpu: str
    model: str
    lanes: int
    registers: int
    threads: int
    tvm: str
    code: str

    @property
    def name(self) -> str:
        """All of it as one text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


@dataclass(frozen=True)
class Record:
    """One kernel's best schedule of a kind (`how`), with the seconds of a run, their spread, and the candidates that were timed.

    `seconds` is the lower quartile of the repeats, since what disturbs a kernel only ever adds, and `spread` their interquartile
    range. `storage` is how the result lies in memory; `work` counts multiply-adds. `caches` says how many seconds more a run takes
    whose weights were last read so many bytes of other weights ago, in rising order: in a loop of its own, a kernel finds what it
    reads in the nearest caches. The first is for FEW_BYTES.

    `handed` says how many seconds more a run takes after other kernels. Two by two: the values that it reads written by one thread,
    or by every thread its share; and for each, its last result read by the threads that wrote it, or otherwise (by one thread where
    threads share this kernel, by all where they do not). With one thread the first alone; empty where it was not measured.

    `pace` and `exchange` are what `hardware.pace` took beside it, and None in records of before that was measured. `alone` is a run
    on one thread that follows another kernel's, where the schedule shares its work among threads; None where it does not.
    """

    kernel: str
    how: str
    kind: str
    work: int
    storage: Storage
    schedule: Mapping[str, Any]
    seconds: float
    spread: float = 0.0
    trials: int = 0
    time: float = field(default_factory=time.time)
    caches: tuple[tuple[int, float], ...] = ()
    pace: float | None = None
    alone: float | None = None
    handed: tuple[float, ...] = ()
    exchange: float | None = None

    @property
    def shares(self) -> bool:
        """Whether threads share its work."""
        return bool(self.schedule.get("parallel", self.how == METASCHEDULE))

    @property
    def unsteadiness(self) -> float:
        """The spread as a share of the seconds."""
        return self.spread / self.seconds if self.seconds > 0 else float("inf")


def default_path() -> Path | None:
    """`records.sqlite` in `$ALPHANAS_CACHE`, or in `alphanas` in the user's cache folder; None with `ALPHANAS_CACHE=off`."""
    base = cache_folder()
    return None if base is None else base / "records.sqlite"


def device(cpu: str, lanes: int, registers: int, threads: int) -> Device:
    """The device of a CPU by LLVM's name, as it is here and now."""
    return Device(cpu, _model(), lanes, registers, threads, tvm_version(), code())


def tvm_version() -> str:
    """The installed TVM's version, without loading it."""
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return "none"


@functools.cache
def code() -> str:
    """A hash of all that decides what a kernel's code is: with other kernels, what was measured of the old ones says nothing."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        if path.stem not in NO_KERNELS:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


NO_KERNELS = frozenset(
    {
        "__init__",
        "backends",
        "compiled",
        "conditions",
        "contest",
        "devices",
        "doctor",
        "filling",
        "library",
        "machine",
        "metaschedule",
        "outline",
    }
    | {"overhead", "pace", "predicting", "profile", "records", "spending", "tasks", "timing", "tuning"}
)
"""The modules of this room that a kernel's code does not depend on."""


@functools.cache
def _model() -> str:
    """The CPU's name as its maker has it, and how many there are."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} x{os.cpu_count()}"
    return f"{platform.processor() or platform.machine()} x{os.cpu_count()}"


class Records:
    """An open file of records. Not for use by two threads at once."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.notes: list[str] = []
        self._ids: dict[Device, int] = {}
        self._unkept: dict[tuple[Device, str, str], Record] = {}
        self._overheads: dict[Device, Mapping[str, float]] = {}
        self._claims: int | None = None
        self._writes = path is not None
        self._connection = self._connected()

    @staticmethod
    def open(path: Path | None) -> Records:
        """The records of a file, made if there is none; with None, records that end with the process.

        Raises UserError where the path is a folder, or the file is of a newer version of alphanas or no file of records.
        """
        return Records(path)

    def known(self, device: Device, how: str | None = None) -> dict[str, Record]:
        """The fastest record of every kernel; of one kind alone, if `how` is given."""
        found: dict[str, Record] = {}
        rows = self._rows("SELECT records.* FROM records JOIN devices ON device = devices.id WHERE name = ?", device.name)
        mine = [record for (where, _, _), record in self._unkept.items() if where == device]
        for record in (*filter(None, map(_record, rows)), *mine):
            before = found.get(record.kernel)
            if how not in (None, record.how):
                continue
            if before is None or record.seconds < before.seconds:
                found[record.kernel] = record
        return found

    def find(self, device: Device, kernel: str, how: str = TEMPLATE) -> Record | None:
        """A kernel's record of one kind."""
        if (device, kernel, how) in self._unkept:
            return self._unkept[device, kernel, how]
        query = "SELECT records.* FROM records JOIN devices ON device = devices.id WHERE name = ? AND kernel = ? AND how = ?"
        rows = self._rows(query, device.name, kernel, how)
        return _record(rows[0]) if rows else None

    def add(self, device: Device, record: Record) -> None:
        """Keeps a record, unless there is one of its kind that was found by as many trials and spreads no more."""
        before = self.find(device, record.kernel, record.how)
        better = before is not None and before.trials >= record.trials and before.unsteadiness <= record.unsteadiness
        less = before is not None and any(old < new for old, new in zip(_told(before), _told(record), strict=True))
        if better and not less:
            return
        storage = json.dumps(dataclasses.asdict(record.storage))
        schedule = json.dumps(record.schedule)
        row = (record.kernel, record.how, record.kind, record.work, storage, schedule, record.seconds, record.spread)
        more = (json.dumps(record.caches), record.pace, record.alone, json.dumps(record.handed), record.exchange)
        values = (*row, record.trials, record.time, *more)
        kept = self._write(device, f"INSERT OR REPLACE INTO records ({COLUMNS}) VALUES ({', '.join('?' * 16)})", *values)
        if not kept:
            self._unkept[device, record.kernel, record.how] = record

    def overhead(self, device: Device) -> Mapping[str, float] | None:
        """What a network costs beside its kernels, if it was measured."""
        if device in self._overheads:
            return self._overheads[device]
        rows = self._rows("SELECT overhead FROM devices WHERE name = ?", device.name)
        found = _json(rows[0]["overhead"]) if rows and rows[0]["overhead"] else None
        return found if isinstance(found, dict) else None

    def set_overhead(self, device: Device, overhead: Mapping[str, float]) -> None:
        """Keeps what a network costs beside its kernels."""
        self._overheads[device] = dict(overhead)
        self._write(device, "UPDATE devices SET overhead = ?2 WHERE id = ?1", json.dumps(dict(overhead)))

    def others(self, device: Device) -> dict[str, int]:
        """How many records the file holds that say nothing of this device, by what differs."""
        counts: dict[str, int] = {}
        query = "SELECT devices.*, count(*) AS number FROM records JOIN devices ON device = devices.id GROUP BY device"
        for row in self._rows(query):
            if row["name"] == device.name:
                continue
            own = dataclasses.asdict(device)
            first = next((name for name in ("cpu", "model", "threads", "tvm", "code") if row[name] != own[name]), "lanes")
            reasons = {"tvm": f"TVM {row['tvm']}", "code": "another version of our kernels", "threads": f"{row['threads']} threads"}
            reason = reasons.get(first, f"another CPU, {row['cpu']}")
            counts[reason] = counts.get(reason, 0) + int(row["number"])
        return counts

    @contextmanager
    def claim(self, device: Device, kernel: str) -> Iterator[bool]:
        """Whether this process is the one that tunes the kernel now: False while another one does. It ends with the process."""
        if self._claims is None and self._writes and self.path is not None:
            with contextlib.suppress(OSError):
                self._claims = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if self._claims is None:
            yield True
            return
        # A byte of the lock file for each kernel: the system frees it when the process ends, however it does.
        byte = int.from_bytes(hashlib.sha256(f"{device.name} {kernel}".encode()).digest()[:7])
        try:
            fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, byte)

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()
        if self._claims is not None:
            os.close(self._claims)
            self._claims = None

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *stop: object) -> None:
        self.close()

    # ---- the file ------------------------------------------------------------------------------------------------------------

    def _connected(self) -> sqlite3.Connection:
        if self.path is None:
            return _prepared(sqlite3.connect(":memory:", isolation_level=None))
        if self.path.is_dir():
            raise UserError(f"records {self.path}", saw="a folder", wanted="the path of a file, such as records.sqlite")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._opened(self.path)
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                return self._unwritable(str(error))
            return self._mended(self.path, str(error))
        except OSError as error:
            return self._unwritable(error.strerror or str(error))

    def _opened(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            format_, tables = _looked_at(connection)
            if format_ > FORMAT or (tables and "records" not in tables):
                saw = f"records of format {format_}" if format_ > FORMAT else "a database of something else"
                remedy = "give another path with --records, or use the version of alphanas that wrote it"
                wanted = f"records of format {FORMAT} or older"
                raise UserError(f"records {path}", saw=saw, wanted=wanted, remedy=remedy, exit_code=FAILED, cause="other_version")
            return _prepared(connection)
        except BaseException:
            connection.close()
            raise

    def _unwritable(self, why: str) -> sqlite3.Connection:
        """Reads what there is; new records live as long as the process."""
        self._writes = False
        self._note(f"nothing new is kept: {why}")
        memory = _prepared(sqlite3.connect(":memory:", isolation_level=None))
        with contextlib.suppress(sqlite3.Error, OSError):
            if self.path is not None and self.path.is_file():
                with contextlib.closing(sqlite3.connect(f"file:{self.path}?mode=ro&immutable=1", uri=True)) as source:
                    source.backup(memory)
        return memory

    def _mended(self, path: Path, why: str) -> sqlite3.Connection:
        """A new file with what can be read of the damaged one, which is put aside. One process mends, the others wait for it."""
        with contextlib.ExitStack() as stack:
            lock = os.open(path.with_name(path.name + ".mend"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            with contextlib.suppress(sqlite3.DatabaseError):
                return self._opened(path)  # another process has mended it
            aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}")
            os.rename(path, aside)
            for end in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path.with_name(path.name + end), aside.with_name(aside.name + end))
            connection = self._opened(path)
            saved = _salvaged(aside, connection)
            self._note(f"the file was damaged ({why}); it is kept as {aside.name}, {saved} records of it were taken over")
            return connection

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error) or self.path is None:
                raise self._refused(error) from error
            self._connection.close()
            self._ids.clear()
            self._connection = self._mended(self.path, str(error))
            return self._connection.execute(query, values).fetchall()

    def _write(self, device: Device, statement: str, *values: Any) -> bool:
        """Whether the statement, whose first value is the device's number, was committed."""
        if not self._writes:
            return False
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute(statement, (self._id(device), *values))
            self._connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            self._ids.clear()
            self._note(f"a record could not be kept: {error}")
            return False
        return True

    def _id(self, device: Device) -> int:
        if device not in self._ids:
            row = dataclasses.asdict(device)
            columns = ("cpu", "model", "lanes", "registers", "threads", "tvm", "code")
            self._connection.execute(
                f"INSERT OR IGNORE INTO devices (name, {', '.join(columns)}) VALUES ({', '.join('?' * (1 + len(columns)))})",
                (device.name, *(row[name] for name in columns)),
            )
            found = self._connection.execute("SELECT id FROM devices WHERE name = ?", (device.name,)).fetchone()
            self._ids[device] = int(found["id"])
        return self._ids[device]

    def _note(self, text: str) -> None:
        note = f"records {self.path}: {text}"
        if note not in self.notes:
            self.notes.append(note)

    def _refused(self, error: sqlite3.Error) -> UserError:
        return UserError(f"records {self.path}", saw=str(error), remedy="give another path with --records", exit_code=FAILED)


def _looked_at(connection: sqlite3.Connection) -> tuple[int, set[str]]:
    """(format, names of the tables) of a file; raises sqlite3.DatabaseError where it is damaged."""
    connection.row_factory = sqlite3.Row
    tables = {str(row["name"]) for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return int(connection.execute("PRAGMA user_version").fetchone()[0]), tables


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    format_, tables = _looked_at(connection)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    if 0 < format_ < FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        for passed in range(_looked_at(connection)[0], FORMAT):  # another process may have come first
            for statement in MIGRATIONS[passed]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {passed + 1}")
        connection.execute("COMMIT")
    if not {"devices", "records"} <= tables:
        for table in TABLES:
            connection.execute(table)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
    return connection


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return any(word in str(error) for word in ("malformed", "not a database", "corrupt", "disk image"))


def _salvaged(aside: Path, target: sqlite3.Connection) -> int:
    """Copies the rows of a damaged file that can still be read; returns how many records."""
    saved = 0
    with contextlib.suppress(sqlite3.Error, OSError), tempfile.TemporaryDirectory(prefix="alphanas-") as folder:
        copy = Path(folder) / "records.sqlite"
        copy.write_bytes(_whole(aside.read_bytes()))
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(aside.with_name(aside.name + "-wal"), copy.with_name(copy.name + "-wal"))
        with contextlib.closing(sqlite3.connect(copy)) as source:
            for table in ("devices", "records"):
                cursor = source.execute(f"SELECT * FROM {table}")
                columns = ", ".join(column[0] for column in cursor.description)
                statement = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({', '.join('?' * len(cursor.description))})"
                with contextlib.suppress(sqlite3.DatabaseError):
                    while (row := cursor.fetchone()) is not None:
                        target.execute(statement, row)
                        saved += table == "records"
    return saved


def _whole(content: bytes) -> bytes:
    """A file that breaks off, filled up to the length that its head tells: SQLite reads nothing of a shorter one."""
    size, count = int.from_bytes(content[16:18]), int.from_bytes(content[28:32])
    return content.ljust(min(size * count, LARGEST), b"\0")


def _record(row: sqlite3.Row) -> Record | None:
    """A row as a record; None for one that we never wrote."""
    storage, schedule = _json(row["storage"]), _json(row["schedule"])
    if not isinstance(storage, dict) or not isinstance(schedule, dict):
        return None
    try:
        kept = Storage(tuple(map(int, storage["shape"])), tuple(map(int, storage["filled"])), str(storage["dtype"]))
        numbers = float(row["seconds"]), float(row["spread"]), int(row["trials"]), float(row["time"])
        caches = tuple((int(size), float(more)) for size, more in _json(row["caches"]))
        handed = tuple(float(more) for more in _json(row["handed"]))
        pace, alone, exchange = (None if row[name] is None else float(row[name]) for name in ("pace", "alone", "exchange"))
        head = str(row["kernel"]), str(row["how"]), str(row["kind"]), int(row["work"]), kept, schedule
        return Record(*head, *numbers, caches, pace, alone, handed, exchange)
    except (KeyError, TypeError, ValueError):
        return None


def _told(record: Record) -> tuple[int, ...]:
    """How much a record tells beside its seconds."""
    return len(record.caches), len(record.handed), record.pace is not None, record.exchange is not None


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return None
