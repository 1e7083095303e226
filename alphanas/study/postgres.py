"""Connections to a PostgreSQL database; each study is a schema of it.

Writers take turns by a lock of the database that is held to the end of each transaction: rows get their numbers in the order in
which they are committed, so that whoever reads on from a number misses none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event

from alphanas.errors import FAILED, UserError
from alphanas.study.engine import to_json
from alphanas.study.place import Place

# A server that went away without a word is noticed: the system asks after 5 s, and gives up what was sent 15 s ago.
ALIVE = {"connect_timeout": 10, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2, "tcp_user_timeout": 15_000}
# A client that went away without a word does not keep its turn: the server asks for it, and ends what it left open.
TURNS = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "idle_in_transaction_session_timeout": "'60s'",
    "lock_timeout": "'30s'",
}
KEEPS_PASSWORDS = 160_000
"""The version of libpq that can refuse to send a password as it is."""


def writer(place: Place) -> Engine:
    """An engine that writes the study's schema, which need not be there."""

    def begins(connection: Any) -> None:
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext(%s))", (place.schema,))

    return _engine(place, begins)


def reader(place: Place) -> Engine:
    """An engine that cannot write; it sees every commit of the running writers."""

    def begins(connection: Any) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    return _engine(place, begins)


def make_schema(connection: Connection, place: Place) -> None:
    """The study's schema, if it is not there."""
    connection.exec_driver_sql(f'CREATE SCHEMA IF NOT EXISTS "{place.schema}"')


def _engine(place: Place, begins: Callable[[Any], None]) -> Engine:
    driver = _driver(place)
    json = importlib.import_module("psycopg.types.json")
    options: dict[str, Any] = {"application_name": "alphanas", **ALIVE}
    if driver.pq.version() >= KEEPS_PASSWORDS and "require_auth" not in place.url:
        options["require_auth"] = "!password"  # a run folder of a stranger may name the stranger's server

    def connect() -> Any:
        connection = driver.connect(place.url, autocommit=True, **options)
        json.set_json_dumps(to_json, connection)
        connection.execute(f'SET search_path TO "{place.schema}"')
        for name, value in TURNS.items():
            connection.execute(f"SET {name} = {value}")
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=QueuePool, pool_pre_ping=True, hide_parameters=True)
    event.listen(engine, "begin", begins)
    return engine


def _driver(place: Place) -> Any:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        remedy = "install it by: pip install 'alphanas[postgres]'"
        raise UserError(
            f"{place}", saw=f"no driver for PostgreSQL ({error})", remedy=remedy, exit_code=FAILED, cause="missing"
        ) from None
