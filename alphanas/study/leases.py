"""Leases: who works on which stage of which candidate, where several processes work on one study.

A lease ends by itself unless it is renewed, and another process may then take the work over. Each taking has a larger token, and a
result is recorded only with the newest one: whoever was thought dead and comes back late changes nothing. This is the one table
whose rows change; no fact hangs on it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, text, update

from alphanas.study.schema import leases as table

LEASE_S = 120.0
"""Seconds that a lease holds unless it is renewed."""


class Superseded(Exception):
    """A result came with the token of a lease that another process has taken over; it was logged, and recorded as no outcome."""


@dataclass(frozen=True)
class Lease:
    """The right to record one stage of one candidate."""

    candidate: int
    stage: str
    discriminator: str
    token: int
    owner: str


def now(connection: Connection) -> float:
    """Seconds by the clock that all who share the store share."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def take(connection: Connection, candidate: int, stage: str, discriminator: str, *, owner: str, seconds: float) -> Lease | None:
    """A lease, or None while another owner holds one. An owner that holds it already gets a new token, too."""
    here = (table.c.candidate == candidate) & (table.c.stage == stage) & (table.c.discriminator == discriminator)
    held, time_now = connection.execute(select(table).where(here)).one_or_none(), now(connection)
    if held is not None and held.owner != owner and held.expires > time_now:
        return None
    token, expires = 1 if held is None else int(held.token) + 1, time_now + seconds
    if held is None:
        key = {"candidate": candidate, "stage": stage, "discriminator": discriminator}
        connection.execute(insert(table), {**key, "token": token, "owner": owner, "expires": expires})
    else:
        connection.execute(update(table).where(here).values(token=token, owner=owner, expires=expires))
    return Lease(candidate, stage, discriminator, token, owner)


def is_current(connection: Connection, lease: Lease) -> bool:
    """Whether nobody took a lease over. One that has run out and that nobody took is still good."""
    newest = select(table.c.token).where(
        table.c.candidate == lease.candidate, table.c.stage == lease.stage, table.c.discriminator == lease.discriminator
    )
    return connection.execute(newest).scalar_one_or_none() == lease.token


def renew(connection: Connection, owner: str, seconds: float) -> None:
    """Makes all the leases of an owner hold from now on."""
    connection.execute(update(table).where(table.c.owner == owner).values(expires=now(connection) + seconds))


def drop(connection: Connection, owner: str) -> None:
    """Ends all the leases of an owner whose name begins so; their tokens stay used."""
    connection.execute(update(table).where(table.c.owner.startswith(owner, autoescape=True)).values(expires=0.0))


def forget(connection: Connection, lease: Lease) -> None:
    """Takes away a lease whose outcome is recorded."""
    connection.execute(
        delete(table).where(
            table.c.candidate == lease.candidate, table.c.stage == lease.stage, table.c.discriminator == lease.discriminator
        )
    )


def count(connection: Connection) -> int:
    """How many leases hold now."""
    return int(connection.execute(select(func.count()).select_from(table).where(table.c.expires > now(connection))).scalar_one())
