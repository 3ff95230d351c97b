"""Datasets and adapters: what they were made from, where they serve, and what was withdrawn from them.

It knows their names, digests and sources, not what is in their files.
"""

from __future__ import annotations

from collections.abc import Iterable
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
    database: Database, name: str, path: str, digest: str, card: str, sources: Iterable[Source]
) -> None:
    """Put a dataset on record. Raises ``UserError`` if the name is taken."""
    with database.writing() as connection:
        key = _insert(
            connection, DATASETS, "dataset", {"name": name, "path": path, "digest": digest, "card": card}
        )
        rows = [{"dataset_id": key, **source._asdict()} for source in sorted(set(sources))]
        if rows:
            connection.execute(sa.insert(SOURCES), rows)


def add_adapter(database: Database, name: str, base: str, path: str, card: str, dataset: str | None) -> None:
    """Put an adapter on record. Raises ``UserError`` if the name is taken."""
    with database.writing() as connection:
        flagged = connection.execute(
            sa.select(DATASETS.c.flagged).where(DATASETS.c.digest == dataset, DATASETS.c.flagged.is_not(None))
        ).scalar()
        values = {"name": name, "base": base, "path": path, "card": card, "dataset": dataset}
        _insert(connection, ADAPTERS, "adapter", values | {"flagged": flagged})


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
        .join(DATASETS, DATASETS.c.id == SOURCES.c.dataset_id)
        .where(DATASETS.c.name == name)
        .order_by(SOURCES.c.session, SOURCES.c.person)
    )
    with database.reading() as connection:
        return [Source(*row) for row in connection.execute(query)]


def made_from(database: Database, session: str) -> list[DatasetRow]:
    """The datasets that hold something of a session."""
    query = (
        sa.select(DATASETS.c.name)
        .join(SOURCES, DATASETS.c.id == SOURCES.c.dataset_id)
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


def flag(connection: Connection, session: str, person: str, why: str) -> tuple[list[str], list[str]]:
    """Mark what was made from a person's part in a session: the names of datasets, and of adapters."""
    held = sa.select(SOURCES.c.dataset_id).where(SOURCES.c.session == session, SOURCES.c.person == person)
    found = connection.execute(
        sa.update(DATASETS)
        .where(DATASETS.c.id.in_(held))
        .values(flagged=why)
        .returning(DATASETS.c.name, DATASETS.c.digest)
    ).all()
    digests = {row.digest for row in found}
    trained = connection.execute(
        sa.update(ADAPTERS)
        .where(ADAPTERS.c.dataset.in_(digests))
        .values(flagged=why)
        .returning(ADAPTERS.c.name)
    ).scalars()
    return sorted(row.name for row in found), sorted(trained)


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
