"""The database: one engine for SQLite or PostgreSQL, its migrations, and its errors in plain words.

It knows no events and no society. Connections are synchronous; callers in an event loop use a thread
(``store.log`` has one of its own).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url

from sandbox.errors import MissingExtra, StoreBusy, StoreError, StoreFull, UserError

BUSY_TIMEOUT_MS = 10_000
CHANNEL = "sandbox"
"""The PostgreSQL channel on which the key of a session is announced when something was written to it."""
_FULL = ("disk is full", "No space left on device", "could not extend file")
_READING = "sandbox_reading"


class Database:
    """A migrated database. Raises ``UserError`` for a bad URL, ``StoreError`` for what the database says."""

    def __init__(self, url: str, *, busy_timeout_ms: int = BUSY_TIMEOUT_MS) -> None:
        self.url = database_url(url)
        self._engine = _engine(self.url, busy_timeout_ms)
        self.is_full = False
        """Whether the last that was to be written found the disk full."""

    @property
    def dialect(self) -> str:
        """``"sqlite"`` or ``"postgresql"``."""
        return self._engine.dialect.name

    @property
    def location(self) -> str:
        """Where the data is, for people; a password is masked."""
        if self.dialect == "sqlite":
            return self.url.database or ":memory:"
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that takes the write lock at once, and commits at the end."""
        with self._explained(), self._engine.begin() as connection:
            yield connection
        self.is_full = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database and never waits for writers."""
        with self._explained(), self._engine.connect() as raw:
            connection = raw.execution_options(**{_READING: True})
            with connection.begin():
                yield connection

    def notify(self, connection: Connection, what: str) -> None:
        """Wake those in other processes who listen, once the transaction is committed. It carries no data."""
        if self.dialect == "postgresql":
            connection.exec_driver_sql("SELECT pg_notify(%s, %s)", (CHANNEL, what))

    def scrub(self) -> None:
        """Have what was overwritten or deleted leave SQLite's files, as far as nobody reads meanwhile."""
        if self.dialect == "sqlite":
            with self._explained(), closing(self._engine.raw_connection()) as connection:
                connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # in no transaction

    def try_to_write(self) -> None:
        """Write something, and take it back. Raises ``StoreError``, ``StoreFull`` if there is no room."""
        with self.writing() as connection:
            connection.execute(sa.text("INSERT INTO holds (key, amount, until) VALUES (-1, 0, 0)"))
        with self.writing() as connection:
            connection.execute(sa.text("DELETE FROM holds WHERE key = -1"))

    def migrate(self) -> None:
        """Bring the schema up to date; safe when several processes do it at once."""
        from sandbox.store.migrate import upgrade

        with self._explained():
            upgrade(self._engine)

    def close(self) -> None:
        """Give up all connections."""
        self._engine.dispose()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            kind = StoreBusy if "locked" in str(error.orig) else StoreError
            if any(words in str(error.orig) for words in _FULL):
                self.is_full, kind = True, StoreFull
            raise kind(_explanation(error, self.location)) from error
        except sa.exc.SQLAlchemyError as error:  # no connection to be had in time, and the like
            raise StoreError(f"The database {self.location} can't be used: {error}.") from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise StoreError(f"The database {self.location} can't hold a value: {error}.") from error


def database_url(text: str) -> URL:
    """A SQLAlchemy URL from a URL or a plain path to a SQLite file. Raises ``UserError``."""
    if "://" not in text:
        try:
            path = Path(text).expanduser()
        except RuntimeError as error:
            raise UserError(f"The path '{text}' can't be read: {error}") from error
        if path.is_dir():
            raise UserError(f"'{text}' is a folder. Name a file in it, such as '{path / 'sandbox.db'}'.")
        return URL.create("sqlite", database=str(path.absolute()))
    try:
        url = make_url(text)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise UserError(
            "The database URL can't be read. Use a file path, sqlite:///path or "
            "postgresql://user:password@host/database."
        ) from error
    name = url.get_backend_name()
    if name in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if name == "sqlite":
        return url.set(drivername="sqlite")
    raise UserError(f"'{name}' databases are not supported. Use SQLite or PostgreSQL.")


def _engine(url: URL, busy_timeout_ms: int) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, busy_timeout_ms)
    try:
        return sa.create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
    except ModuleNotFoundError as error:
        raise MissingExtra("PostgreSQL", "pip install 'social-sandbox[postgres]'") from error


def _sqlite_engine(url: URL, busy_timeout_ms: int) -> Engine:
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"The folder of the database '{url.database}' can't be made ({error.strerror}). "
                "Choose another place with --db."
            ) from error
        if Path(url.database).exists() and not Path(url.database).is_file():
            raise UserError(f"The database '{url.database}' is not a file. Choose another place with --db.")
    engine = sa.create_engine(url, connect_args={"timeout": busy_timeout_ms / 1000})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for pragma in (
            f"busy_timeout={busy_timeout_ms}",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "foreign_keys=ON",
            "secure_delete=ON",
            "wal_autocheckpoint=4000",
        ):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that turns into a write fails at once when another writes; IMMEDIATE waits.
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _explanation(error: sa.exc.DBAPIError, location: str) -> str:
    said = str(error.orig).strip().splitlines()[0] if error.orig else str(error)
    kept = "What was committed before stands."
    if "locked" in said:
        return (
            f"The database {location} is locked by another program. End that program, or wait for it, "
            f"and try again. {kept}"
        )
    if "disk is full" in said or "No space left" in said:
        return f"The disk of the database {location} is full. Free some space and try again. {kept}"
    if "readonly" in said or "read-only" in said:
        return f"The database {location} can't be written. Check its permissions. {kept}"
    if "not a database" in said or "malformed" in said:
        return f"The file {location} is not a (whole) SQLite database. Name another with --db."
    if "unable to open" in said:
        return f"The database {location} can't be opened. Check that its folder exists and may be written."
    if "connection" in said.lower():
        return f"The database {location} can't be reached: {said}. Check that it runs and the URL is right."
    return f"The database {location} refused: {said}. {kept}"
