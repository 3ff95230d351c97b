"""What the commands share: options, output that is safe for a terminal, and JSON lines for programs.

Everything that models or people wrote passes ``safe`` before it reaches the terminal.
"""

from __future__ import annotations

import functools
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sandbox.running import Store, calm_collector
from sandbox.settings import Settings, load_settings
from sandbox.text import one_line, printable

F = TypeVar("F", bound=Callable[..., Any])


STOPPED = 130
"""The exit code after Ctrl-C."""
POSITIVE = click.IntRange(1, 2**31 - 1)
NATURAL = click.IntRange(0, 2**31 - 1)
SEED = click.IntRange(-(2**63), 2**63 - 1)


with_yes = click.option("--yes", is_flag=True, help="Don't ask.")


def sure(question: str, *, yes: bool) -> None:
    """Ask before what can't be undone, unless told ``yes``. Ends the command for any other answer."""
    if yes:
        return
    try:
        click.confirm(printable(question), abort=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise click.UsageError("Nothing was done: nobody said yes. Programs say --yes.") from None


def safe(text: str, style: str = "") -> Text:
    """Text from anywhere, without control sequences and with markup off."""
    return Text(printable(text), style=style)


def short(text: str, width: int, style: str = "") -> Text:
    """``safe`` on one line of at most ``width`` characters."""
    return Text(one_line(text, width), style=style)


def program() -> str:
    """How to call this program from here: its name, or its path if the name would not be found."""
    if shutil.which("sandbox"):
        return "sandbox"
    called = Path(sys.argv[0])
    if not called.name.startswith("sandbox"):
        return "sandbox"
    here = Path.cwd()
    return str(called.relative_to(here) if called.is_relative_to(here) else called)


def again(command: str) -> str:
    """``command`` as it is to be typed here, for the same database."""
    context = click.get_current_context(silent=True)
    db = context.params.get("db") if context else None
    if db is None:
        return f"{program()} {command}"
    return f"{program()} {command} --db {shlex.quote(masked(db))}"


def masked(db: str) -> str:
    """A database's name without its password, which must not be shown."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", db)


def counted(count: int, noun: str) -> str:
    """A count with its noun: "1 agent", "2 agents"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float | None) -> str:
    """A rating with one decimal, or a dash for none."""
    return "–" if value is None else f"{value:.1f}"


def change(before: float | None, after: float | None) -> str:
    """Two ratings as "before → after"."""
    return f"{number(before)} → {number(after)}"


def terminal(*, to_stderr: bool = False) -> Console:
    """The console. Rich honours NO_COLOR and leaves out styles where the output is no terminal."""
    return Console(stderr=to_stderr, highlight=False, soft_wrap=False)


def name_column(table: Table, title: str, names: Iterable[str]) -> None:
    """Add a column of names: they are kept whole, to be copied, however wide the others are."""
    shown = [printable(name) for name in names]
    table.add_column(title, no_wrap=True, min_width=max((cell_len(name) for name in shown), default=None))


def print_table(console: Console, table: Table) -> None:
    """Print a table, wider than the terminal if its names would not be whole otherwise."""
    least = Measurement.get(console, console.options, table).minimum
    console.print(table, width=max(console.width, least), crop=False, no_wrap=True)


def print_json(value: Any) -> None:
    """One JSON value on a line of standard output."""
    # On a terminal, what is not ASCII is escaped, control characters among it.
    sys.stdout.write(json.dumps(value, ensure_ascii=sys.stdout.isatty(), default=str) + "\n")
    sys.stdout.flush()


def with_store(command: F) -> F:
    """Adds ``--db``; the command gets ``settings``."""

    @click.option(
        "--db",
        metavar="FILE|URL",
        help="The database: a SQLite file or postgresql://… (default: SANDBOX_DB, else the data folder).",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, db: str | None, **options: Any) -> Any:
        return command(*args, settings=load_settings(db=db), **options)

    return wrapped  # type: ignore[return-value]


def with_json(command: F) -> F:
    """Adds ``--json``; the command gets ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON lines, for programs.")(command)


@contextmanager
def opened(settings: Settings) -> Iterator[Store]:
    """The store, closed at the end."""
    calm_collector()
    store = Store.open(settings.database)
    try:
        yield store
    finally:
        store.close()
