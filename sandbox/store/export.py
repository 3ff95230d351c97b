"""A session's contents as JSON lines, CSV or Parquet: the log itself, or one of its projections."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import sqlalchemy as sa

from sandbox.errors import UserError
from sandbox.events import dump
from sandbox.output import writing
from sandbox.store.database import Database
from sandbox.store.log import SESSIONS, Log
from sandbox.store.tables import InteractionRow, MessageRow, ModelCallRow, RatingRow, RubricRow, SeatRow

Format = Literal["jsonl", "csv", "parquet"]
What = Literal["events", "interactions", "messages", "ratings", "calls", "seats", "rubrics"]

_TABLES = {
    "interactions": InteractionRow,
    "messages": MessageRow,
    "ratings": RatingRow,
    "calls": ModelCallRow,
    "seats": SeatRow,
    "rubrics": RubricRow,
}
_JSON_COLUMNS = frozenset({"recipients", "distribution", "body", "event"})
_BATCH = 5_000


def export(
    database: Database, log: Log, key: str, what: What, form: Format, target: Path | None, stdout: IO[str]
) -> int:
    """Write ``what`` of a session to ``target`` (standard output, if None); returns the number of rows.

    Raises ``UserError`` if it can't be written.
    """
    rows = _events(log, key) if what == "events" else _table_rows(database, key, what)
    if target is None:
        if form == "parquet":
            raise UserError("Parquet needs a file. Name one with --out FILE.")
        return _write_text(rows, form, stdout, _columns(what))
    if form == "parquet":
        with writing(target, "bytes") as file:
            return _write_parquet(rows, file, what)
    with writing(target) as file:
        return _write_text(rows, form, file, _columns(what))


def _events(log: Log, key: str) -> Iterator[dict[str, Any]]:
    for recorded in log.read(key):
        yield {
            "session": recorded.session,
            "epoch": recorded.epoch,
            "seq": recorded.seq,
            "time": recorded.time.isoformat(),
            "event": dump(recorded.event),
        }


def _table_rows(database: Database, key: str, what: What) -> Iterator[dict[str, Any]]:
    table: sa.Table = _TABLES[what].__table__  # type: ignore[attr-defined]
    keys = [column for column in table.primary_key.columns if column.name != "session_id"]
    query = (
        sa.select(table)
        .join(SESSIONS, SESSIONS.c.id == table.c.session_id)
        .where(SESSIONS.c.key == key)
        .order_by(*keys)
    )
    with database.reading() as connection:
        for row in connection.execution_options(yield_per=_BATCH).execute(query).mappings():
            kept = {_called(what, name): value for name, value in row.items() if name != "session_id"}
            yield {"session": key} | kept


def _columns(what: What) -> list[str]:
    if what == "events":
        return ["session", "epoch", "seq", "time", "event"]
    table: sa.Table = _TABLES[what].__table__  # type: ignore[attr-defined]
    kept = (column.name for column in table.columns if column.name != "session_id")
    return ["session", *(_called(what, name) for name in kept)]


def _called(what: What, column: str) -> str:
    """What a column is called outside: an interaction is `interaction` in every table, so that they join."""
    return "interaction" if (what, column) == ("interactions", "number") else column


def _write_text(rows: Iterator[dict[str, Any]], form: Format, file: IO[str], columns: list[str]) -> int:
    count = 0
    if form == "csv":
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for count, row in enumerate(rows, 1):  # noqa: B007 - the last count is returned
            writer.writerow(row)
        return count
    for count, row in enumerate(rows, 1):  # noqa: B007
        file.write(json.dumps(_opened(row), ensure_ascii=file.isatty()) + "\n")
    return count


def _opened(row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns that hold JSON as the values they stand for."""
    return {
        name: json.loads(value) if name in _JSON_COLUMNS and isinstance(value, str) else value
        for name, value in row.items()
    }


def _write_parquet(rows: Iterator[dict[str, Any]], file: IO[bytes], what: What) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, _arrow_type(pa, what, name)) for name in _columns(what)])
    count = 0
    with parquet.ParquetWriter(file, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(row)
            if len(batch) == _BATCH:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                count, batch = count + len(batch), []
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))
        count += len(batch)
    return count


def _arrow_type(pa: Any, what: What, name: str) -> Any:
    if what == "events":
        return pa.int64() if name == "seq" else pa.string()
    table: sa.Table = _TABLES[what].__table__  # type: ignore[attr-defined]
    if name == "session":
        return pa.string()
    kind = next(column.type for column in table.columns if _called(what, column.name) == name)
    if isinstance(kind, sa.Integer):
        return pa.int64()
    return pa.float64() if isinstance(kind, sa.Float) else pa.string()
