"""The tables. Rows are only ever added, never changed (leases apart): what is the case now is derived from them.

Plain SQLAlchemy Core with portable types, so that PostgreSQL can stand in for SQLite.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

VERSION = 2

# Version → SQL that makes it the next one. A search applies it to the store, a reader to a copy in memory. Whoever changes a table
# adds the step here and a run folder of the old version to the tests.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE decisions ADD COLUMN ticket VARCHAR(64)",
        "CREATE UNIQUE INDEX decisions_ticket ON decisions (ticket)",
        "CREATE TABLE leases (candidate INTEGER NOT NULL, stage VARCHAR(32) NOT NULL, discriminator VARCHAR(128) NOT NULL,"
        " token INTEGER NOT NULL, owner VARCHAR(128) NOT NULL, expires FLOAT NOT NULL,"
        " PRIMARY KEY (candidate, stage, discriminator))",
    )
}


def steps_from(version: int) -> tuple[str, ...]:
    """All the SQL between a version and this release's; empty if it is this release's."""
    steps = [step for passed in range(version, VERSION) for step in MIGRATIONS[passed]]
    return (*steps, f"UPDATE study SET schema_version = {VERSION}") if version < VERSION else ()


metadata = MetaData()

study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True),  # always 1: one study a run folder
    Column("schema_version", Integer, nullable=False),
    Column("study_key", BigInteger, nullable=False),
    Column("fingerprint", String(128), nullable=False),  # of the data
    Column("config", JSON, nullable=False),
    Column("environment", JSON, nullable=False),
    Column("created", Float, nullable=False),
)

candidates = Table(
    "candidates",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", Integer, nullable=False, unique=True),  # the candidate's number; its chance is fold_in(study key, id)
    Column("parent", Integer),
    Column("generation", Integer, nullable=False),
    Column("graph_hash", String(64), unique=True),  # null where there is no graph, or it is another candidate's
    Column("duplicate_of", Integer),
    Column("graph_json", Text),
    Column("proposal", JSON, nullable=False),  # region, which property was changed from what to what, …
    Column("method", String(64)),
    Column("seconds", Float),
    Column("status", String(32), nullable=False),
    Column("time", Float, nullable=False),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("candidate", Integer, ForeignKey("candidates.id"), nullable=False),
    Column("stage", String(32), nullable=False),
    Column("discriminator", String(128), nullable=False),  # seed, back end, …; empty if there is but one
    Column("status", String(32), nullable=False),
    Column("cause", String(128)),
    Column("message", Text),
    Column("values", JSON, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    UniqueConstraint("candidate", "stage", "discriminator"),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("candidate", Integer, ForeignKey("candidates.id"), nullable=False),
    Column("kind", String(128), nullable=False),
    Column("path", Text, nullable=False),  # relative to the run folder, so that it can be moved
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    UniqueConstraint("candidate", "kind"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("kind", String(64), nullable=False, index=True),
    Column("payload", JSON, nullable=False),
    Column("time", Float, nullable=False),
    Column("ticket", String(64)),  # one entry for a ticket: what is written again after a lost connection is not doubled
    Index("decisions_ticket", "ticket", unique=True),
)

leases = Table(
    "leases",
    metadata,
    Column("candidate", Integer, primary_key=True, autoincrement=False),
    Column("stage", String(32), primary_key=True),
    Column("discriminator", String(128), primary_key=True),
    Column("token", Integer, nullable=False),
    Column("owner", String(128), nullable=False),
    Column("expires", Float, nullable=False),
)
