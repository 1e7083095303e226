"""The reading side of a study: what users get. Never writes, needs no jax."""

from __future__ import annotations

import functools
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row

from alphanas.errors import FAILED, UserError, nearest
from alphanas.limits import Limit, Limits, broken, excess
from alphanas.options import Refused
from alphanas.study import engine as engines
from alphanas.study import schema, store
from alphanas.study.candidate import Candidate
from alphanas.study.faults import corrupted, translated
from alphanas.study.files import verified
from alphanas.study.front import Front
from alphanas.study.lock import is_locked
from alphanas.study.patience import IMPATIENT, Patience
from alphanas.study.place import Place, holds_study, place_of
from alphanas.study.records import Artifact, Decision, Outcome
from alphanas.study.summary import SEED, summary

Answer = TypeVar("Answer")
Connect = Callable[[], AbstractContextManager[Connection]]


class Study:
    """A study in its run folder. What it says is what is committed at the moment of the question."""

    def __init__(
        self,
        folder: Path,
        connect: Connect,
        *,
        dispose: Callable[[], None] | None = None,
        patience: Callable[[], Patience] = lambda: IMPATIENT,
    ) -> None:
        self.folder = folder
        self._connect = connect
        self._dispose = dispose
        self._patience = patience
        row = self._read(store.study_row)
        if row is None:
            raise not_a_run_folder(folder, "its store holds no study")
        self._row = row
        self._touched: list[int] = []
        self._forgotten = 0
        self.forget()

    @property
    def key(self) -> int:
        """The study's key, from which all its chance comes."""
        return int(self._row.study_key)

    @property
    def config(self) -> Mapping[str, Any]:
        """The config as it was at the start; `Config.from_mapping` reads it."""
        return dict(self._row.config)

    @property
    def environment(self) -> Mapping[str, Any]:
        """What the study was started on."""
        return dict(self._row.environment)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the data."""
        return str(self._row.fingerprint)

    @property
    def objectives(self) -> tuple[str, ...]:
        """The numbers that the search makes small."""
        return tuple(self._option("search", "objectives", ("error", "params", "macs")))

    @functools.cached_property
    def limits(self) -> tuple[Limit, ...]:
        """The constraints of the config that the study was started with."""
        try:
            return Limits().read(self.config.get("constraints", {}))
        except Refused as refused:
            raise corrupted(self.folder, f"constraints in study.sqlite: wanted {refused}") from None

    def breaks(self, candidate: Candidate) -> tuple[Limit, ...]:
        """The constraints that a candidate breaks, as far as its numbers and the seed's were known at the last question."""
        seed = self._candidates.get(SEED)
        return broken(self.limits, candidate.objective, seed.objective) if self.limits and seed else ()

    def excess(self, candidate: Candidate) -> float:
        """By how much it breaks them, each as a share of its bound; 0 if it breaks none."""
        seed = self._candidates.get(SEED)
        return excess(self.limits, candidate.objective, seed.objective) if self.limits and seed else 0.0

    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates by id; the seed model is number 0."""
        self._refresh()
        return tuple(self._candidates[key] for key in self._ids)

    def since(self, first: int) -> tuple[Candidate, ...]:
        """The candidates from an id on."""
        self._refresh()
        return tuple(self._candidates[key] for key in self._ids[bisect_left(self._ids, first) :])

    def news(self, mark: int = 0) -> tuple[int, tuple[Candidate, ...]]:
        """(a new mark, the candidates that are new or have new outcomes since a mark), by id: to follow a study step by step.

        A mark is a number that an earlier call gave. One from before a transaction that was undone gives all candidates again.
        """
        self._refresh()
        ids = set(self._touched[mark - self._forgotten :]) if mark >= self._forgotten else set(self._ids)
        return self._forgotten + len(self._touched), tuple(self._candidates[one] for one in sorted(ids))

    def candidate(self, candidate: int) -> Candidate:
        """The candidate of this id; `UserError` when there is none."""
        self._refresh()
        if candidate not in self._candidates:
            known = f"ids up to {max(self._candidates)}" if self._candidates else "an id of this study, which has no candidates yet"
            raise UserError(f"candidate {candidate}", saw="not in this study", wanted=known)
        return self._candidates[candidate]

    def seed(self) -> Candidate:
        """The seed model."""
        return self.candidate(SEED)

    def pareto(self, objectives: Sequence[str] | None = None) -> tuple[Candidate, ...]:
        """Candidates that no other beats, by the config's objectives; those for which all of them are known.

        Those that break a constraint are left out.

        The error is that of the short training, which starts from the parent's weights.
        """
        names = tuple(objectives or self.objectives)
        front = self._fronts.setdefault(names, Front(names))
        front.follow(self)
        return tuple(self._candidates[one] for one in front.ids)

    def best(self) -> Candidate:
        """The smallest model that is as accurate as the seed, by the validation part alone.

        The search's last decision where there is one; until then, the fewest parameters among those whose validation accuracy in
        the longest training that they share with the seed is at least the seed's minus `finish.tolerance`; the seed if none is.
        """
        decided = [entry.payload.get("candidate") for entry in self.decisions("best")]
        if decided and isinstance(decided[-1], int):
            return self.candidate(decided[-1])
        seed = self.seed()
        tolerance = float(self._option("finish", "tolerance", 0.0))
        for stage in ("full", "short"):
            bar = seed.accuracies(stage)
            able = [one for one in self.candidates() if one.params is not None and one.accuracies(stage) and bar and not one.excess]
            good = [one for one in able if fmean(one.accuracies(stage)) >= fmean(bar) - tolerance]
            if len(able) > 1 and good:
                return min(good, key=lambda one: (one.params or 0, one.id))
        return seed

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return summary(self)

    def version(self) -> str:
        """A text that changes whenever something was added to the study."""
        with self._reading() as connection:
            return ".".join(map(str, store.newest(connection)))

    def status(self) -> str:
        """running, done, or the word the search ended with; interrupted if it did not come to its end."""
        entries = self.decisions("status")
        last = str(entries[-1].payload.get("status", "running")) if entries else "running"
        if last != "running":
            return last
        return "running" if is_locked(self.folder) else "interrupted"

    def decisions(self, kind: str | None = None) -> tuple[Decision, ...]:
        """The log of the search, or its entries of one kind, oldest first."""
        for one in self._read(lambda connection: store.decisions_after(connection, self._seen[3])):
            self._seen[3] = one.sequence
            self._log[None].append(one)
            self._log[one.kind].append(one)
        return tuple(self._log[kind]) if kind in self._log else ()

    def outcomes_of(self, candidate: int) -> tuple[Outcome, ...]:
        """A candidate's outcomes as of the last question to the study."""
        return tuple(self._outcomes.get(candidate, ()))

    def artifacts_of(self, candidate: int) -> tuple[Artifact, ...]:
        """A candidate's files as of the last question to the study."""
        return tuple(self._artifacts.get(candidate, ()))

    def verified(self, artifact: Artifact) -> Path:
        """The path of a file whose content is what was recorded."""
        return verified(self.folder, artifact.path, artifact.sha256, artifact.bytes)

    def graph_json(self, candidate: int) -> str | None:
        """A candidate's graph as JSON."""
        return self._read(lambda connection: store.graph_json(connection, candidate))

    def close(self) -> None:
        """Lets go of the file; not needed at the end of a program."""
        if self._dispose is not None:
            self._dispose()

    def forget(self) -> None:
        """Drops what was read, so that the next question reads it anew."""
        self._candidates: dict[int, Candidate] = {}
        self._outcomes: dict[int, list[Outcome]] = defaultdict(list)
        self._artifacts: dict[int, list[Artifact]] = defaultdict(list)
        self._log: dict[str | None, list[Decision]] = defaultdict(list)
        self._seen = [0, 0, 0, 0]
        self._ids: list[int] = []
        self._forgotten += len(self._touched) + 1
        self._touched.clear()
        self._fronts: dict[tuple[str, ...], Front] = {}

    def __repr__(self) -> str:
        return f"Study({str(self.folder)!r}, {len(self.candidates())} candidates, {self.status()})"

    def _repr_html_(self) -> str:
        from alphanas.study.html import table

        shown = {one.id: one for one in (*self.candidates()[:1], *self.pareto())}
        return table(list(shown.values())[:30], caption=f"{self!r}: the seed and the Pareto front")

    def _option(self, section: str, key: str, default: Any) -> Any:
        """A value of the stored config, which may be of another release and lack it."""
        table = self.config.get(section)
        return table.get(key, default) if isinstance(table, dict) else default

    def _refresh(self) -> None:
        """Reads what was added since the last time; rows are never changed, so that what was read stays true."""
        candidates, outcomes, artifacts = self._read(self._unseen)
        for row in candidates:
            self._seen[0] = row.sequence
            self._candidates[row.id] = Candidate(
                row.id,
                row.parent,
                row.generation,
                row.status,
                row.graph_hash,
                row.duplicate_of,
                row.proposal,
                row.method,
                row.seconds,
                self,
            )
            insort(self._ids, row.id)
            self._touched.append(row.id)
        for self._seen[1], outcome in outcomes:
            self._outcomes[outcome.candidate].append(outcome)
            self._touched.append(outcome.candidate)
        for self._seen[2], artifact in artifacts:
            self._artifacts[artifact.candidate].append(artifact)

    def _unseen(self, connection: Connection) -> tuple[list[Row[Any]], list[tuple[int, Outcome]], list[tuple[int, Artifact]]]:
        return (
            store.candidates_after(connection, self._seen[0]),
            store.outcomes_after(connection, self._seen[1]),
            store.artifacts_after(connection, self._seen[2]),
        )

    def _read(self, question: Callable[[Connection], Answer]) -> Answer:
        """The answer of a question that may be asked again, as often as the study's patience has it."""

        def attempt(again: bool) -> Answer:
            with self._reading() as connection:
                return question(connection)

        return self._patience().keep_trying(attempt)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self.folder), self._connect() as connection:
            yield connection


def open_study(folder: str | Path) -> Study:
    """The study in a run folder, for reading; `UserError` when the folder holds none or it cannot be read."""
    folder = Path(folder)
    place = require_store(folder)
    engine = engines.reader(place)
    try:
        steps = schema.steps_from(check_version(place, engine))
        if steps and place.remote:
            remedy = "resume it once, which brings it up to date"
            raise UserError(f"run folder {folder}", saw="a database of an older release", remedy=remedy, cause="older_schema")
        if steps:
            engine.dispose()
            engine = engines.reader(place, steps)
        return Study(folder, engine.connect, dispose=engine.dispose)
    except BaseException:
        engine.dispose()
        raise


def require_store(folder: Path) -> Place:
    """Where a folder's study is; `UserError` unless the folder has a database file, or names a database."""
    with translated(folder):
        if holds_study(folder):
            return place_of(folder)
        if folder.exists():
            raise not_a_run_folder(folder, "no study.sqlite in it")
        near = [path.name for path in folder.parent.iterdir() if holds_study(path)] if folder.parent.is_dir() else []
    hint = nearest(folder.name, near) if near else "give the folder that a search wrote"
    raise UserError(f"run folder {folder}", saw="no such folder", remedy=hint, cause="missing_file")


def not_a_run_folder(folder: Path, saw: str) -> UserError:
    """There is no study here."""
    return UserError(
        f"run folder {folder}",
        saw=f"not a run folder: {saw}",
        remedy="give the folder that a search wrote",
        cause="not_a_run_folder",
    )


def check_version(place: Place, engine: Engine) -> int:
    """The schema version of a store; `UserError` when it is not one of ours or from a later release."""
    folder = place.folder
    with translated(folder), engine.connect() as connection:
        tables = store.table_names(connection)
        if "study" not in tables:
            raise not_a_run_folder(folder, f"there is no {place}" if place.remote else "its study.sqlite holds no study")
        version = connection.exec_driver_sql("SELECT max(schema_version) FROM study").scalar_one()
    if version is None:
        raise not_a_run_folder(folder, "its study.sqlite holds no study")
    lacking = version == schema.VERSION and not set(schema.metadata.tables) <= tables
    if not isinstance(version, int) or version < 1 or lacking:
        where = "its database" if place.remote else "study.sqlite"
        raise corrupted(folder, f"{where}: schema version {version!r}, tables {', '.join(sorted(tables))}")
    if version > schema.VERSION:
        raise UserError(
            f"run folder {folder}",
            saw=f"written by a later release (schema {version})",
            wanted=f"schema {schema.VERSION} or older",
            remedy="upgrade alphanas",
            exit_code=FAILED,
            cause="newer_schema",
        )
    return version
