"""Schema migrations: the versions that travel with the package are applied by alembic."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.engine import Engine

from sandbox.errors import StoreError

_LOCK = 7_264_001  # any number that other programs are unlikely to use for an advisory lock


def scripts() -> Path:
    """The folder of ``env.py`` and ``versions``: in the wheel, or at the top of the source tree."""
    packaged = Path(__file__).parent / "migrations"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"


def configuration() -> Config:
    """What alembic needs to know to find our versions."""
    config = Config()
    config.set_main_option("script_location", str(scripts()))
    return config


def upgrade(engine: Engine) -> None:
    """Apply the versions that the database lacks. Raises ``StoreError`` if it is newer than this program."""
    config = configuration()
    head = ScriptDirectory.from_config(config).get_current_head()
    with engine.connect() as connection:
        if MigrationContext.configure(connection).get_current_revision() == head:
            return
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise StoreError(
                "The database was made by a newer version of social-sandbox. Upgrade this one with: "
                "pip install --upgrade social-sandbox"
            ) from error
