"""Evaluations: what was measured of which models, item by item, so that it can be gone on with and compared.

It knows names, scores and plans as JSON; not what they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from sandbox.errors import UserError
from sandbox.store.database import Database
from sandbox.store.tables import EvaluationItemRow, EvaluationRow
from sandbox.text import storable

EVALUATIONS: sa.Table = EvaluationRow.__table__  # type: ignore[attr-defined]
ITEMS: sa.Table = EvaluationItemRow.__table__  # type: ignore[attr-defined]


class Measured(NamedTuple):
    """How a model did on an item. ``detail`` are texts by what they are."""

    model: str
    suite: str
    item: str
    scores: Mapping[str, float | None]
    detail: Mapping[str, str] | None = None


def require_free(database: Database, name: str) -> None:
    """Raise ``UserError`` if an evaluation can't have that name."""
    if name == "last":
        raise UserError("'last' means the newest evaluation. Choose another --name.")
    if any(row.name == name for row in listing(database)):
        raise _taken(name)


def _taken(name: str) -> UserError:
    return UserError(
        f"There is an evaluation '{name}' already. Go on with it by --resume {name}, choose another --name, "
        f"or delete it: sandbox evaluations delete {name}"
    )


def create(database: Database, name: str, plan: str) -> EvaluationRow:
    """Put an evaluation on record. Raises ``UserError`` if it can't have that name."""
    require_free(database, name)
    with database.writing() as connection:
        try:
            connection.execute(sa.insert(EVALUATIONS).values(name=name, plan=plan, created=datetime.now(UTC)))
        except IntegrityError as error:
            raise _taken(name) from error
    return find(database, name)


def find(database: Database, name: str) -> EvaluationRow:
    """The evaluation of that name, or the ``last``. Raises ``UserError``."""
    rows = listing(database)
    if name == "last" and rows:
        return rows[0]
    for row in rows:
        if row.name == name:
            return row
    raise UserError(f"There is no evaluation '{name}'. List them with: sandbox evaluations list")


def listing(database: Database) -> list[EvaluationRow]:
    """All evaluations, newest first."""
    query = sa.select(EVALUATIONS).order_by(EVALUATIONS.c.created.desc(), EVALUATIONS.c.id.desc())
    with database.reading() as connection:
        return [EvaluationRow(**row) for row in connection.execute(query).mappings()]


def add(database: Database, row: EvaluationRow, measured: Iterable[Measured]) -> None:
    """Keep what was measured. What is there already stays: it was measured by another process first."""
    rows = [
        {
            "evaluation_id": row.id,
            "model": one.model,
            "suite": one.suite,
            "item": one.item,
            "scores": json.dumps(dict(one.scores)),
            "detail": None if one.detail is None else storable(json.dumps(dict(one.detail))),
        }
        for one in measured
    ]
    if not rows:
        return
    keys = ["evaluation_id", "model", "suite", "item"]
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert
        else:
            from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
        connection.execute(insert(ITEMS).on_conflict_do_nothing(index_elements=keys), rows)


def finish(database: Database, row: EvaluationRow) -> None:
    """Say that nothing is missing."""
    with database.writing() as connection:
        connection.execute(
            sa.update(EVALUATIONS).where(EVALUATIONS.c.id == row.id).values(finished=datetime.now(UTC))
        )


def measured(database: Database, row: EvaluationRow, *, with_detail: bool = False) -> list[Measured]:
    """Everything that was measured in an evaluation, in no order that means anything."""
    columns: list[Any] = [ITEMS.c.model, ITEMS.c.suite, ITEMS.c.item, ITEMS.c.scores]
    columns += [ITEMS.c.detail] if with_detail else []
    with database.reading() as connection:
        rows = connection.execute(sa.select(*columns).where(ITEMS.c.evaluation_id == row.id)).all()
    return [
        Measured(
            found.model,
            found.suite,
            found.item,
            json.loads(found.scores),
            json.loads(found.detail) if with_detail and found.detail else None,
        )
        for found in rows
    ]


def delete(database: Database, name: str) -> None:
    """Forget an evaluation with all its items. Raises ``UserError``."""
    row = find(database, name)
    with database.writing() as connection:
        connection.execute(sa.delete(EVALUATIONS).where(EVALUATIONS.c.id == row.id))


def forget(connection: Connection, session: str) -> list[str]:
    """Delete what suites of a session (``…:SESSION``) measured; the evaluations whose plan names it."""
    rows = connection.execute(sa.select(EVALUATIONS.c.id, EVALUATIONS.c.name, EVALUATIONS.c.plan)).all()
    looked = [row for row in rows if f'"{session}"' in row.plan or f':{session}"' in row.plan]
    for row in looked:
        connection.execute(
            sa.delete(ITEMS).where(
                ITEMS.c.evaluation_id == row.id, ITEMS.c.suite.endswith(f":{session}", autoescape=True)
            )
        )
    return [row.name for row in looked]
