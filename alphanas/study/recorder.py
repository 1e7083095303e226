"""The writing side of a study: one process, one lock, every call a committed transaction."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, insert

from alphanas.errors import FAILED, UserError
from alphanas.study import engine as engines
from alphanas.study import leases, postgres, schema, store
from alphanas.study.candidate import Candidate
from alphanas.study.faults import corrupted, translated
from alphanas.study.files import ARTIFACTS, CONFIG, DATABASE, LOCK, PART, SCRATCH, sweep, write_atomic
from alphanas.study.files import store as store_file
from alphanas.study.leases import Lease, Superseded
from alphanas.study.lock import Lock
from alphanas.study.patience import IMPATIENT, Patience
from alphanas.study.place import POINTER, Place, holds_study, new_place, point_to
from alphanas.study.records import STAGES, STATUSES, Artifact, Outcome
from alphanas.study.study import Study, check_version, require_store

Answer = TypeVar("Answer")
CONDUCTS = "conduct"
"""What the lease is of that the conductor of a search holds, among the leases of stages."""
PROBE_BYTES = 1 << 20
"""So much must fit before a study that found the disk full goes on."""


class Recorder:
    """Records facts of a study. When a call has returned, no death of the process can lose what it recorded."""

    def __init__(self, place: Place, engine: Engine, lock: Lock, patience: Patience) -> None:
        self.folder = place.folder
        self.place = place
        self.patience = patience
        self._engine = engine
        self._lock = lock
        self._thread = threading.RLock()
        self._open: Connection | None = None
        self._owner = f"{lock.identity}:{uuid.uuid4().hex}"
        self._renewed = time.monotonic()
        # Inside a transaction nothing is asked again: what was lost with it must be made anew as a whole.
        self.study = Study(self.folder, self._reading, patience=lambda: IMPATIENT if self._open is not None else patience)
        with translated(self.folder), self._reading() as connection:
            sweep(self.folder, {artifact.path for _, artifact in store.artifacts_after(connection, 0)})
        # Whoever held this folder's lock before is dead, or we would not hold it; and a file has no other writers.
        before = f"{lock.identity}:" if place.remote else ""
        self._write(lambda connection, again: leases.drop(connection, before))
        self.decide("status", {"status": "running"})

    def candidate(
        self,
        id: int,
        *,
        status: str = "ok",
        graph_json: str | None = None,
        graph_hash: str | None = None,
        parent: int | None = None,
        generation: int = 0,
        proposal: Mapping[str, Any] | None = None,
        method: str | None = None,
        seconds: float | None = None,
        cause: str | None = None,
        message: str | None = None,
        artifacts: Mapping[str, Path | bytes] | None = None,
    ) -> Candidate:
        """Records a proposal together with the outcome of its synthesis; an id that is there already stays as it is.

        A graph whose hash another candidate has makes this one a "duplicate" of it.
        """
        _check("status", status, STATUSES)
        files = self._store(id, artifacts)

        def write(connection: Connection, again: bool) -> Candidate:
            if store.has_candidate(connection, id):
                if not again:
                    late = {"candidate": id, "status": status, "graph_hash": graph_hash}
                    store.add_decision(connection, "late_candidate", late)
                return self.study.candidate(id)
            twin = None if graph_hash is None else store.candidate_with_hash(connection, graph_hash)
            said = status if twin is None else "duplicate"
            store.add_candidate(
                connection,
                {
                    "id": id,
                    "parent": parent,
                    "generation": generation,
                    "graph_hash": graph_hash if twin is None else None,
                    "duplicate_of": twin,
                    "graph_json": graph_json if twin is None else None,
                    "proposal": dict(proposal or {}),
                    "method": method,
                    "seconds": seconds,
                    "status": said,
                    "time": time.time(),
                },
            )
            store.add_outcome(connection, Outcome(id, "synthesis", "", said, cause, message, {"seconds": seconds}))
            self._add_artifacts(connection, files)
            return self.study.candidate(id)

        return self._write(write)

    def outcome(
        self,
        candidate: int,
        stage: str,
        status: str = "ok",
        *,
        discriminator: str | int = "",
        values: Mapping[str, Any] | None = None,
        cause: str | None = None,
        message: str | None = None,
        started: float | None = None,
        ended: float | None = None,
        artifacts: Mapping[str, Path | bytes] | None = None,
        lease: Lease | None = None,
    ) -> Outcome:
        """Records what a stage said, with its files, at once; if that is known already, the first stays and this one is logged.

        With a lease that another process has taken over since, nothing is recorded but that it came late: raises `Superseded`.
        """
        _check("status", status, STATUSES)
        _check("stage", stage, STAGES)
        files = self._store(candidate, artifacts)
        fresh = Outcome(candidate, stage, str(discriminator), status, cause, message, dict(values or {}), started, ended)

        def write(connection: Connection, again: bool) -> Outcome | None:
            in_time = lease is None or leases.is_current(connection, lease)
            if in_time and store.add_outcome(connection, fresh):
                self._add_artifacts(connection, files)
                if lease is not None:
                    leases.forget(connection, lease)
                return fresh
            if not again:
                late = {"candidate": candidate, "stage": stage, "discriminator": str(discriminator), "status": status}
                token = {} if lease is None else {"token": lease.token, "owner": lease.owner}
                store.add_decision(connection, "late_outcome", {**late, **token, "values": fresh.values, "cause": cause})
            return store.find_outcome(connection, candidate, stage, str(discriminator))

        recorded = self._write(write)
        if recorded is None:
            raise Superseded(f"candidate {candidate}, {stage} {discriminator}".strip())
        return recorded

    def lease(self, candidate: int, stage: str, discriminator: str | int = "", *, seconds: float = leases.LEASE_S) -> Lease | None:
        """The right to record a stage of a candidate; None while another process has it. It ends by itself unless renewed."""
        _check("stage", stage, STAGES)
        key = (candidate, stage, str(discriminator))
        return self._write(lambda connection, again: leases.take(connection, *key, owner=self._owner, seconds=seconds))

    def renew(self, *, seconds: float = leases.LEASE_S) -> None:
        """Makes this process's leases hold on; may be called as often as one likes."""
        if time.monotonic() - self._renewed < seconds / 6:
            return
        self._renewed = time.monotonic()
        self._write(lambda connection, again: leases.renew(connection, self._owner, seconds))

    def lead(self) -> None:
        """Makes this process the one that conducts the search; UserError while one with another run folder does.

        Each needs the files that the other's workers leave in its folder. The lock of the folder refuses a second process on it.
        """
        if not self.place.remote:
            return
        key = (0, CONDUCTS, "")
        held = self._write(lambda connection, again: leases.take(connection, *key, owner=self._owner, seconds=leases.LEASE_S))
        if held is not None:
            return
        saw = "another process conducts its search, from another run folder"
        remedy = f"stop that one; if it died, it counts as gone {leases.LEASE_S:.0f} s after its last word"
        raise UserError(f"{self.place}", saw=saw, remedy=remedy, exit_code=FAILED, cause="locked")

    def artifact(self, candidate: int, kind: str, content: Path | bytes) -> None:
        """Records a file of a candidate; one of that kind that is there already stays."""
        files = self._store(candidate, {kind: content})
        self._write(lambda connection, again: self._add_artifacts(connection, files))

    def decide(self, kind: str, payload: Mapping[str, Any], *, once: str = "") -> bool:
        """Appends to the log; with `once`, only if the log has no entry of that name, and says whether it had none."""
        ticket = once or uuid.uuid4().hex
        return self._write(lambda connection, again: store.add_decision(connection, kind, payload, ticket))

    def find(self, candidate: int, stage: str, discriminator: str | int = "") -> Outcome | None:
        """The outcome of a stage if it is known."""
        return self._write(lambda connection, again: store.find_outcome(connection, candidate, stage, str(discriminator)))

    def done(self, candidate: int, stage: str, discriminator: str | int = "") -> bool:
        """Whether a stage has an outcome, good or bad."""
        return self.find(candidate, stage, discriminator) is not None

    def scratch(self, name: str) -> Path:
        """A path for a worker's output; it is emptied when the study is resumed, and `artifacts=` moves a file out of it."""
        return self.folder / SCRATCH / Path(name).name

    def finish(self, status: str = "done") -> None:
        """Records how the search ended."""
        self.decide("status", {"status": status})

    def together(self, calls: Callable[[], Answer]) -> Answer:
        """What `calls` returns, whose calls of this recorder are recorded as a whole or, if one raises, not at all.

        They are made anew after a pause: `calls` must bear that.
        """
        return self._write(lambda connection, again: calls())

    def patiently(self, action: Callable[[], Answer]) -> Answer:
        """What an action returns that writes into the run folder; done again after a full disk, or one that cannot be written."""

        def attempt(again: bool) -> Answer:
            with translated(self.folder):
                return action()

        return self.patience.keep_trying(attempt)

    def wait_until_writable(self) -> None:
        """Waits as long as the run folder cannot be written; `UserError` when that is not mended in time."""
        probe = self.folder / f".probe{PART}"

        def attempt() -> None:
            (self.folder / SCRATCH).mkdir(exist_ok=True)
            try:
                write_atomic(probe, bytes(PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)

        self.patiently(attempt)

    def _write(self, action: Callable[[Connection, bool], Answer]) -> Answer:
        """What an action returns in a transaction of its own, or in the open one; made again after what somebody could mend."""

        def attempt(again: bool) -> Answer:
            with self.transaction() as connection:
                return action(connection, again)

        with self._thread:
            return attempt(False) if self._open is not None else self.patience.keep_trying(attempt)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Makes the calls inside one transaction: all of them are recorded or, if one raises, none."""
        with self._thread, translated(self.folder):
            if self._open is not None:
                yield self._open
                return
            try:
                with self._engine.begin() as connection:
                    self._open = connection
                    yield connection
            except BaseException:
                self.study.forget()  # it may have read what is now undone
                raise
            finally:
                self._open = None

    def close(self) -> None:
        """Folds the log into the database file, which then holds all, and lets another process write."""
        if not self._lock.held():
            return
        try:
            self._step_down()
            self._engine.dispose()
            if not self.place.remote:
                engines.fold(self.folder)
        finally:
            self._lock.release()

    def _step_down(self) -> None:
        """Ends this process's leases where others may wait for them; a database that is gone ends them by itself."""
        if not self.place.remote:
            return
        with contextlib.suppress(UserError), translated(self.folder), self._engine.begin() as connection:
            leases.drop(connection, self._owner)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _store(self, candidate: int, artifacts: Mapping[str, Path | bytes] | None) -> list[Artifact]:
        """Files first, rows after: a row never points to what is not there."""
        keep = self.patience.keep_trying
        return [
            Artifact(candidate, kind, *keep(lambda again: store_file(self.folder, content, _suffix(kind, content))))  # noqa: B023
            for kind, content in (artifacts or {}).items()
        ]

    def _add_artifacts(self, connection: Connection, files: list[Artifact]) -> None:
        for file in files:
            store.add_artifact(connection, file)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """The connection of the open transaction, so that a reader inside sees what it has written; otherwise one of its own."""
        with self._thread:
            if self._open is not None:
                yield self._open
                return
            with self._engine.connect() as connection:
                yield connection


def create_study(
    folder: str | Path,
    *,
    config: Mapping[str, Any],
    config_toml: str,
    key: int,
    fingerprint: str,
    environment: Mapping[str, Any],
    store: str = "",
    name: str = "",
    patience: Patience = IMPATIENT,
) -> Recorder:
    """Starts a study in a new or empty folder; `UserError` when the folder has a study or anything else in it.

    `store`: the address of a PostgreSQL database for its rows, and `name` the study's name there (the folder's unless given). A
    password in the address is not written down. `patience`: how long to wait for what can be mended.
    """
    place = new_place(Path(folder), store, name)
    folder = place.folder
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_strangers(folder)
    lock = Lock(folder)
    engine = engines.writer(place)
    row = {
        "id": 1,
        "schema_version": schema.VERSION,
        "study_key": key,
        "fingerprint": fingerprint,
        "config": dict(config),
        "environment": dict(environment),
        "created": time.time(),
    }
    try:
        with translated(folder):
            _refuse_another(place, engine, config)
            write_atomic(folder / CONFIG, config_toml)
            with engine.begin() as connection:
                if place.remote:
                    postgres.make_schema(connection, place)
                schema.metadata.create_all(connection)
                connection.execute(insert(schema.study), row)
            if place.remote:
                point_to(place)
        return Recorder(place, engine, lock, patience)
    except BaseException:
        engine.dispose()
        lock.release()
        raise


def resume_study(
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    fingerprint: str | None = None,
    patience: Patience = IMPATIENT,
) -> Recorder:
    """Opens a study to go on with it; `UserError` when the folder holds none, another one is writing, or it is of another config.

    `config` is compared with the stored one key by key, where given: hand over only the keys that must agree. `fingerprint`, where
    given, must be that of the study's data.
    """
    folder = Path(folder)
    place = require_store(folder)
    lock = Lock(folder)
    engine = engines.writer(place)
    try:
        version = check_version(place, engine)
        if not place.remote:
            with translated(folder), engine.connect() as connection:
                verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
            if verdict != "ok":
                raise corrupted(folder, f"study.sqlite: {verdict}")
        with translated(folder), engine.begin() as connection:
            for step in schema.steps_from(version):
                connection.exec_driver_sql(step)
        with translated(folder):
            study = Study(folder, engine.connect)
        _require_same(folder, study, config, fingerprint)
        return Recorder(place, engine, lock, patience)
    except BaseException:
        engine.dispose()
        lock.release()
        raise


def _suffix(kind: str, content: Path | bytes) -> str:
    if isinstance(content, Path) and content.suffix:
        return content.suffix
    return Path(kind).suffix or (".safetensors" if kind.startswith("weights") else "")


def _refuse_strangers(folder: Path) -> None:
    """A folder with files of somebody else stays as it is."""
    ours = {DATABASE, LOCK, CONFIG, POINTER, ARTIFACTS, SCRATCH, f"{DATABASE}-wal", f"{DATABASE}-shm"}
    names = sorted(path.name for path in folder.iterdir())
    strangers = [name for name in names if name not in ours and not name.startswith((f".{CONFIG}", f".{POINTER}"))]
    if strangers and not holds_study(folder):
        saw = f"not empty: {', '.join(strangers[:3])}{', …' if len(strangers) > 3 else ''}"
        raise UserError(
            f"run folder {folder}", saw=saw, wanted="a new or empty folder", remedy="choose another with --out", cause="bad_folder"
        )


def _refuse_another(place: Place, engine: Engine, config: Mapping[str, Any]) -> None:
    """A folder that holds a study, or a name in a database that is taken, is not searched into again."""
    folder = place.folder
    if (folder / POINTER).is_file() or (place.remote and holds_study(folder)):
        remedy = f"go on with it by `python -m alphanas resume {folder}`, or choose another folder with --out"
        raise UserError(f"run folder {folder}", saw="it holds a study already", remedy=remedy, cause="other_study")
    with engine.connect() as connection:
        row = store.study_row(connection) if "study" in store.table_names(connection) else None
    if row is not None and place.remote:
        remedy = "choose another study.name (or --out), or go on with it from its own run folder"
        raise UserError(f"study.name {place.name}", saw=f"there is a {place} already", remedy=remedy, cause="other_study")
    if row is None:
        return
    same = dict(row.config) == dict(config)
    saw = (
        "it holds a study of this config already"
        if same
        else f"it holds a study of another config ({_differing(row.config, config)})"
    )
    remedy = f"go on with it by `python -m alphanas resume {folder}`, or choose another folder with --out"
    raise UserError(f"run folder {folder}", saw=saw, remedy=remedy, cause="other_study")


def _require_same(folder: Path, study: Study, config: Mapping[str, Any] | None, fingerprint: str | None) -> None:
    """A study goes on with its own config and data, or not at all."""
    differing = _differing(study.config, config or {})
    if differing:
        remedy = "resume with the study's own config, or search into another folder"
        raise UserError(f"run folder {folder}", saw=f"a study of another config ({differing})", remedy=remedy, cause="other_study")
    if fingerprint not in (None, study.fingerprint):
        saw = f"data of fingerprint {str(fingerprint)[:12]}…"
        wanted = f"the data of its start, fingerprint {study.fingerprint[:12]}…"
        raise UserError(f"run folder {folder}", saw=saw, wanted=wanted, remedy="mend data.source", cause="other_study")


def _differing(stored: Mapping[str, Any], given: Mapping[str, Any], prefix: str = "") -> str:
    parts = []
    for key, value in given.items():
        before = stored.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            parts.append(_differing(before, value, f"{prefix}{key}."))
        elif value != before:
            parts.append(f"{prefix}{key} = {value!r} here, {before!r} there")
    return ", ".join(part for part in parts if part)


def _check(thing: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        raise ValueError(f"{thing} {word!r} is none of {', '.join(known)}")
