"""Rows in, rows out: the one place that speaks SQL for a study."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Column, Connection, Executable, Row, Select, Table, bindparam, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from alphanas.study import schema
from alphanas.study.faults import NotAFact
from alphanas.study.records import Artifact, Decision, Outcome

# Never read into memory with the rest: a graph is kilobytes, and a study may hold a hundred thousand.
# Made once: putting a statement together takes longer than the database needs for it.
FOUND = select(schema.outcomes).where(
    *(schema.outcomes.c[name] == bindparam(name) for name in ("candidate", "stage", "discriminator"))
)
TWIN = select(schema.candidates.c.id).where(schema.candidates.c.graph_hash == bindparam("hash"))
TAKEN = select(schema.candidates.c.id).where(schema.candidates.c.id == bindparam("id"))
NEW_OUTCOME: Mapping[str, Executable] = {
    "sqlite": sqlite.insert(schema.outcomes).on_conflict_do_nothing().inline(),
    "postgresql": postgresql.insert(schema.outcomes).on_conflict_do_nothing().inline(),
}
NEW_CANDIDATE = insert(schema.candidates).inline()
NEW_DECISION = insert(schema.decisions).inline()
TICKET = select(schema.decisions.c.sequence).where(schema.decisions.c.ticket == bindparam("ticket"))

DECISION_COLUMNS = [column for column in schema.decisions.c if column.name != "ticket"]
CANDIDATE_COLUMNS = [column for column in schema.candidates.c if column.name != "graph_json"]


def _after(table: Table, columns: Iterable[Column[Any]]) -> Select[Any]:
    """The rows of a table that were added after a sequence number, in order."""
    return select(*columns).where(table.c.sequence > bindparam("after")).order_by(table.c.sequence)


NEW_CANDIDATES = _after(schema.candidates, CANDIDATE_COLUMNS)
NEW_OUTCOMES = _after(schema.outcomes, schema.outcomes.c)
NEW_ARTIFACTS = _after(schema.artifacts, schema.artifacts.c)
NEW_DECISIONS = _after(schema.decisions, DECISION_COLUMNS)


def candidates_after(connection: Connection, sequence: int) -> list[Row[Any]]:
    """Candidate rows added after a sequence number, without their graphs."""
    rows = connection.execute(NEW_CANDIDATES, {"after": sequence})
    return [_typed(row, CANDIDATE_TYPES) for row in rows]


def outcomes_after(connection: Connection, sequence: int) -> list[tuple[int, Outcome]]:
    """(sequence, outcome) of outcomes added after a sequence number."""
    rows = connection.execute(NEW_OUTCOMES, {"after": sequence})
    return [(row.sequence, _outcome(row)) for row in rows]


def artifacts_after(connection: Connection, sequence: int) -> list[tuple[int, Artifact]]:
    """(sequence, artifact) of artifacts added after a sequence number."""
    rows = connection.execute(NEW_ARTIFACTS, {"after": sequence})
    typed = (_typed(row, ARTIFACT_TYPES) for row in rows)
    return [(row.sequence, Artifact(row.candidate, row.kind, row.path, row.sha256, row.bytes)) for row in typed]


def decisions_after(connection: Connection, sequence: int) -> list[Decision]:
    """The entries of the log that were added after a sequence number."""
    rows = connection.execute(NEW_DECISIONS, {"after": sequence})
    typed = (_typed(row, DECISION_TYPES) for row in rows)
    return [Decision(row.sequence, row.kind, row.payload, row.time) for row in typed]


def study_row(connection: Connection) -> Row[Any] | None:
    """The row about the study as a whole."""
    row = connection.execute(select(schema.study).where(schema.study.c.id == 1)).one_or_none()
    return None if row is None else _typed(row, STUDY_TYPES)


def graph_json(connection: Connection, candidate: int) -> str | None:
    """A candidate's graph; a duplicate's is that of the candidate it repeats."""
    table = schema.candidates
    row = connection.execute(select(table.c.graph_json, table.c.duplicate_of).where(table.c.id == candidate)).one_or_none()
    if row is None:
        return None
    if row.graph_json is None and row.duplicate_of is not None and row.duplicate_of != candidate:
        original = connection.execute(select(table.c.graph_json).where(table.c.id == row.duplicate_of)).one_or_none()
        return None if original is None else original.graph_json
    return None if row.graph_json is None else str(row.graph_json)


def candidate_with_hash(connection: Connection, graph_hash: str) -> int | None:
    """The candidate that has this graph."""
    row = connection.execute(TWIN, {"hash": graph_hash}).one_or_none()
    return None if row is None else int(row.id)


def has_candidate(connection: Connection, candidate: int) -> bool:
    """Whether this id is taken."""
    return connection.execute(TAKEN, {"id": candidate}).one_or_none() is not None


def find_outcome(connection: Connection, candidate: int, stage: str, discriminator: str) -> Outcome | None:
    """The outcome of a stage, if it is known."""
    row = connection.execute(FOUND, {"candidate": candidate, "stage": stage, "discriminator": discriminator}).one_or_none()
    return None if row is None else _outcome(row)


def add_candidate(connection: Connection, values: Mapping[str, Any]) -> None:
    """A new candidate row."""
    connection.execute(NEW_CANDIDATE, dict(values))


def add_outcome(connection: Connection, outcome: Outcome) -> bool:
    """A new outcome row; False when there is one of this candidate, stage and discriminator already."""
    row = {name: getattr(outcome, name) for name in OUTCOME_COLUMNS}
    row |= {name: _text(row[name]) for name in ("cause", "message")}
    added = connection.execute(NEW_OUTCOME[connection.dialect.name], row, execution_options={"preserve_rowcount": True})
    return added.rowcount > 0


def _text(text: str | None) -> str | None:
    """Text that every store takes: PostgreSQL has none with the character zero, and none has half a surrogate pair."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def add_artifact(connection: Connection, artifact: Artifact) -> bool:
    """A new artifact row; False when the candidate has one of that kind already."""
    table = schema.artifacts
    known = select(func.count()).select_from(table).where(table.c.candidate == artifact.candidate, table.c.kind == artifact.kind)
    if connection.execute(known).scalar_one():
        return False
    connection.execute(insert(table), {name: getattr(artifact, name) for name in ("candidate", "kind", "path", "sha256", "bytes")})
    return True


def add_decision(connection: Connection, kind: str, payload: Mapping[str, Any], ticket: str | None = None) -> bool:
    """A new entry of the log; False when there is one of this ticket already."""
    if ticket is not None and connection.execute(TICKET, {"ticket": ticket}).first() is not None:
        return False
    connection.execute(NEW_DECISION, {"kind": kind, "payload": dict(payload), "time": time.time(), "ticket": ticket})
    return True


def table_names(connection: Connection) -> set[str]:
    """The tables of the store."""
    if connection.dialect.name == "sqlite":
        return set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
    return set(connection.exec_driver_sql(query).scalars())


def newest(connection: Connection) -> tuple[int, ...]:
    """The sequence numbers of the last rows of all tables that grow; 0 where there is none."""
    tables = (schema.candidates, schema.outcomes, schema.artifacts, schema.decisions)
    return tuple(connection.execute(select(func.max(table.c.sequence))).scalar() or 0 for table in tables)


OUTCOME_COLUMNS = tuple(column.name for column in schema.outcomes.c if column.name != "sequence")


def _outcome(row: Row[Any]) -> Outcome:
    fields: list[Any] = list(_typed(row, OUTCOME_TYPES))[1:]  # all but the sequence number, in the order of the columns
    return Outcome(*fields)


Types = tuple[tuple[str, tuple[type, ...]], ...]


def _types(columns: Iterable[Column[Any]]) -> Types:
    """(name, what Python has for it) of each column. SQLite itself takes anything anywhere."""
    kinds: Mapping[type, tuple[type, ...]] = {int: (int,), float: (float, int), str: (str,), object: (dict,)}
    nothing = (type(None),)
    return tuple((one.name, kinds[one.type.python_type] + (nothing if one.nullable else ())) for one in columns)


def _typed(row: Row[Any], types: Types) -> Row[Any]:
    """The same row; `NotAFact` if a value is not of its column's type."""
    for value, (name, kinds) in zip(row, types, strict=True):
        if not isinstance(value, kinds):
            raise NotAFact(f"{name} of a row is {str(value)[:60]!r}")
    return row


CANDIDATE_TYPES = _types(CANDIDATE_COLUMNS)
OUTCOME_TYPES = _types(schema.outcomes.c)
ARTIFACT_TYPES = _types(schema.artifacts.c)
DECISION_TYPES = _types(DECISION_COLUMNS)
STUDY_TYPES = _types(schema.study.c)
