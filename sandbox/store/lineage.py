"""Datasets and adapters: what they were made from, where they serve, and what was withdrawn from them.

It knows their names, digests and sources, not what is in their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from sandbox.errors import UserError
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS
from sandbox.store.tables import (
    AdapterRow,
    DatasetRow,
    DatasetSourceRow,
    ModelCallRow,
    SeatRow,
    Table,
)

DATASETS: sa.Table = DatasetRow.__table__  # type: ignore[attr-defined]
SOURCES: sa.Table = DatasetSourceRow.__table__  # type: ignore[attr-defined]
ADAPTERS: sa.Table = AdapterRow.__table__  # type: ignore[attr-defined]
_SEATS: sa.Table = SeatRow.__table__  # type: ignore[attr-defined]
_CALLS: sa.Table = ModelCallRow.__table__  # type: ignore[attr-defined]
R = TypeVar("R", bound=Table)


class Source(NamedTuple):
    """A session, and a person in it ("" for its models)."""

    session: str
    person: str = ""


class Service(NamedTuple):
    """A seat that speaks or spoke through a model: how many calls it took there."""

    session: str
    seat: str
    model: str
    calls: int


def add_dataset(
    database: Database,
    name: str,
    path: str,
    digest: str,
    card: str,
    sources: Iterable[Source],
    epochs: Mapping[str, str] | None = None,
) -> None:
    """Put a dataset on record, with what it was made from.

    ``epochs`` are those that its sessions had when they were read. Raises ``UserError`` if one has another
    since (somebody withdrew what they said), or if the name is taken.
    """
    with database.writing() as connection:
        for key, epoch in (epochs or {}).items():
            now = connection.execute(sa.select(SESSIONS.c.epoch).where(SESSIONS.c.key == key)).scalar()
            if now != epoch:
                raise UserError(f"Session {key} was changed or deleted meanwhile. Build the dataset again.")
        query = sa.select(SOURCES.c.session, SOURCES.c.person).where(SOURCES.c.digest == digest)
        known = {Source(*row) for row in connection.execute(query)}
        rows = [
            {"digest": digest, **source._asdict()} for source in sorted(set(sources)) if source not in known
        ]
        if rows:
            connection.execute(sa.insert(SOURCES), rows)
        values = {"name": name, "path": path, "digest": digest, "card": card}
        _insert(connection, DATASETS, "dataset", values | {"flagged": _flagged(connection, digest)})


def add_adapter(database: Database, name: str, base: str, path: str, card: str, dataset: str | None) -> None:
    """Put an adapter on record. Raises ``UserError`` if the name is taken."""
    with database.writing() as connection:
        values = {"name": name, "base": base, "path": path, "card": card, "dataset": dataset}
        _insert(connection, ADAPTERS, "adapter", values | {"flagged": _flagged(connection, dataset)})


def _flagged(connection: Connection, digest: str | None) -> str | None:
    """Why what has these rows should not be used, if so."""
    found: str | None = connection.execute(
        sa.select(SOURCES.c.flagged).where(SOURCES.c.digest == digest, SOURCES.c.flagged.is_not(None))
    ).scalar()
    return found


def datasets(database: Database) -> list[DatasetRow]:
    """All datasets, newest first."""
    return _all(database, DATASETS, DatasetRow)


def adapters(database: Database) -> list[AdapterRow]:
    """All adapters, newest first."""
    return _all(database, ADAPTERS, AdapterRow)


def dataset(database: Database, name: str) -> DatasetRow | None:
    """The dataset of that name."""
    return next((row for row in datasets(database) if row.name == name), None)


def adapter(database: Database, name: str) -> AdapterRow | None:
    """The adapter of that name."""
    return next((row for row in adapters(database) if row.name == name), None)


def sources(database: Database, name: str) -> list[Source]:
    """What a dataset was made from."""
    query = (
        sa.select(SOURCES.c.session, SOURCES.c.person)
        .join(DATASETS, DATASETS.c.digest == SOURCES.c.digest)
        .where(DATASETS.c.name == name)
        .order_by(SOURCES.c.session, SOURCES.c.person)
    )
    with database.reading() as connection:
        return [Source(*row) for row in connection.execute(query)]


def made_from(database: Database, session: str) -> list[DatasetRow]:
    """The datasets that hold something of a session."""
    query = (
        sa.select(DATASETS.c.name)
        .join(SOURCES, DATASETS.c.digest == SOURCES.c.digest)
        .where(SOURCES.c.session == session)
    )
    with database.reading() as connection:
        names = set(connection.execute(query).scalars())
    return [row for row in datasets(database) if row.name in names]


def trained_on(database: Database, digest: str) -> list[AdapterRow]:
    """The adapters that were trained on a dataset."""
    return [row for row in adapters(database) if row.dataset == digest]


def services(database: Database, name: str) -> list[Service]:
    """The seats that an adapter was seated in, with the calls it answered there."""
    ending = f"#{name}"
    called = (
        sa.select(SESSIONS.c.key, _CALLS.c.seat, _CALLS.c.model, sa.func.count())
        .join(SESSIONS, SESSIONS.c.id == _CALLS.c.session_id)
        .where(_CALLS.c.model.endswith(ending, autoescape=True))
        .group_by(SESSIONS.c.key, _CALLS.c.seat, _CALLS.c.model)
    )
    seated = (
        sa.select(SESSIONS.c.key, _SEATS.c.name, _SEATS.c.model, sa.literal(0))
        .join(SESSIONS, SESSIONS.c.id == _SEATS.c.session_id)
        .where(_SEATS.c.model.endswith(ending, autoescape=True))
    )
    found: dict[tuple[str, str, str], int] = {}
    with database.reading() as connection:
        for query in (seated, called):
            for session, seat, model, calls in connection.execute(query):
                found[session, seat, model] = max(calls, found.get((session, seat, model), 0))
    return [Service(*key, calls) for key, calls in sorted(found.items())]


def forget_dataset(database: Database, name: str) -> None:
    """Take a dataset off the record; adapters trained on it keep its digest."""
    with database.writing() as connection:
        connection.execute(sa.delete(DATASETS).where(DATASETS.c.name == name))


def forget_adapter(database: Database, name: str) -> None:
    """Take an adapter off the record."""
    with database.writing() as connection:
        connection.execute(sa.delete(ADAPTERS).where(ADAPTERS.c.name == name))


def flag(
    connection: Connection, session: str, person: str, alias: str, why: str
) -> tuple[list[str], list[str]]:
    """Mark what was made from a person's part in a session, and put an alias in the place of their name.

    Returns the names of datasets, and of adapters.
    """
    digests = (
        connection.execute(
            sa.update(SOURCES)
            .where(SOURCES.c.session == session, SOURCES.c.person == person)
            .values(flagged=why, person=alias)
            .returning(SOURCES.c.digest)
        )
        .scalars()
        .all()
    )
    marked: list[list[str]] = []
    for table, column in ((DATASETS, DATASETS.c.digest), (ADAPTERS, ADAPTERS.c.dataset)):
        change = sa.update(table).where(column.in_(digests)).values(flagged=why).returning(table.c.name)
        marked.append(sorted(connection.execute(change).scalars()))
    return marked[0], marked[1]


def _insert(connection: Connection, table: sa.Table, noun: str, values: dict[str, Any]) -> int:
    row = values | {"created": datetime.now(UTC)}
    try:
        return int(connection.execute(sa.insert(table).values(**row).returning(table.c.id)).scalar_one())
    except IntegrityError as error:
        raise UserError(
            f"There is {'an' if noun[0] in 'aeiou' else 'a'} {noun} '{values['name']}' already. "
            "Choose another name, or delete it first."
        ) from error


def _all(database: Database, table: sa.Table, kind: type[R]) -> list[R]:
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.created.desc(), table.c.id.desc()))
        return [kind(**row) for row in rows.mappings()]
