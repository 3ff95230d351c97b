"""``sandbox monitor``: what goes wrong in a session, once or as it goes on."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Table

from sandbox import events as ev
from sandbox.commands.console import (
    STOPPED,
    counted,
    opened,
    print_json,
    safe,
    terminal,
    with_json,
    with_store,
)
from sandbox.figures import Figures, tables, verdict
from sandbox.monitored import Monitors
from sandbox.monitors import monitor as found_in
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import following
from sandbox.store import sessions as stored


@click.command()
@click.argument("session", default="last")
@click.option("--follow", is_flag=True, help="Look anew when more has happened. Ctrl-C ends it.")
@with_json
@with_store
def monitor(session: str, follow: bool, as_json: bool, settings: Settings) -> None:
    """What goes wrong in SESSION: ratings that inflate, likeness of answers, partial judges.

    With an interval for each, and a sentence on what is worth a look.
    """
    with opened(settings) as store:
        row = stored.find(store.database, session)
        recorded = list(store.log.read(row.key))
        events = [one.event for one in recorded]
        head = recorded[-1].seq if recorded else 0
        _show(row.key, head, events, as_json)
        if follow:
            try:
                _follow(store, row.key, head, as_json)
            except KeyboardInterrupt:
                sys.exit(STOPPED)


def _follow(store: Store, key: str, head: int, as_json: bool) -> None:
    for _ in following.heads(store.database, key, head):
        recorded = list(store.log.read(key))  # all of it: a person may have taken their words back
        _show(key, len(recorded), [one.event for one in recorded], as_json)


def _show(key: str, head: int, events: list[ev.Event], as_json: bool) -> None:
    found = found_in(events)
    if as_json:
        print_json({"session": key, "events": head, **found.model_dump(mode="json")})
        return
    console = terminal()
    if console.is_terminal:
        console.rule(safe(f"{key}, {counted(head, 'event')}"))
    else:
        console.print(safe(f"{key}, {counted(head, 'event')}"))
    print_monitors(console, found)


def print_monitors(console: Console, found: Monitors) -> None:
    """The tables that have something to show, then the warnings."""
    shown = [figures for figures in tables(found) if figures.rows]
    if not shown:
        console.print("Nothing has been said or rated in it yet. Go on with: sandbox resume")
        return
    for figures in shown:
        console.print(_table(figures))
        console.print(safe(figures.explained, "dim"))
        console.print()
    if not found.warnings:
        console.print(verdict(found), soft_wrap=True)
    for warning in found.warnings:
        console.print(safe(f"! {warning}", "yellow"))


def _table(figures: Figures) -> Table:
    table = Table(title=figures.title, title_justify="left", title_style="bold", pad_edge=False, box=None)
    for place, name in enumerate(figures.columns):
        is_text = place == 0 or name in ("", "among", "trend")
        table.add_column(
            name,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=place > 0,
            header_style="dim",
        )
    for row in figures.rows:
        table.add_row(*(safe(text) for text in row))
    return table
