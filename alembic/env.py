"""Runs the migrations: on the connection given by ``sandbox.store.migrate``, or on ``-x db=URL``."""

from __future__ import annotations

import sqlmodel  # noqa: F401  (its types appear in generated versions)
from alembic import context
from sqlalchemy import create_engine

from sandbox.store.database import database_url
from sandbox.store.tables import METADATA


def run(connection) -> None:  # type: ignore[no-untyped-def]
    context.configure(
        connection=connection,
        target_metadata=METADATA,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.get_x_argument(as_dictionary=True).get("db")
    if not url:
        raise SystemExit("Name the database: alembic -x db=URL ...")
    with create_engine(database_url(url)).begin() as own:
        run(own)
