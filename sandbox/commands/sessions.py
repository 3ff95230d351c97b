"""``sandbox sessions``: what is stored, and what can be done with it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, get_args

import click
from rich.table import Table
from rich.text import Text

from sandbox import events as ev
from sandbox.commands.console import (
    NATURAL,
    POSITIVE,
    SEED,
    STOPPED,
    again,
    counted,
    name_column,
    opened,
    print_json,
    print_table,
    safe,
    short,
    sure,
    terminal,
    with_json,
    with_store,
    with_yes,
)
from sandbox.commands.report import dimensions, interactions_table
from sandbox.progress import fold
from sandbox.records import InteractionRecord, assemble, mean
from sandbox.settings import Settings
from sandbox.store import sessions as stored
from sandbox.store import withdrawal
from sandbox.store.export import Format, What, export
from sandbox.store.tables import SessionRow
from sandbox.text import printable


@click.group()
def sessions() -> None:
    """List, show, export, replay, fork and delete stored sessions."""


@sessions.command("list")
@click.option("--limit", type=POSITIVE, default=50, show_default=True)
@with_json
@with_store
def list_sessions(limit: int, as_json: bool, settings: Settings) -> None:
    """The stored sessions, newest first."""
    with opened(settings) as store:
        rows = stored.listing(store.database, limit)
    if as_json:
        for row in rows:
            print_json(_summary(row))
        return
    console = terminal()
    if not rows:
        console.print("No sessions yet. Start one with: sandbox run scripted")
        return
    table = Table(pad_edge=False)
    name_column(table, "session", [row.key for row in rows])
    for name in ("status", "round", "events", "seed", "started", "from"):
        table.add_column(name, no_wrap=name == "status")
    for row in rows:
        table.add_row(
            Text(row.key),
            _status(row),
            f"{row.round}/{row.rounds}",
            str(row.head),
            str(row.seed),
            f"{row.created:%Y-%m-%d %H:%M}",
            Text(f"{row.parent} @{row.parent_seq}" if row.parent else ""),
        )
    print_table(console, table)


@sessions.command()
@click.argument("session", default="last")
@click.option("--interaction", type=int, help="One interaction in full, with every rating and reason.")
@click.option("--limit", type=POSITIVE, default=20, show_default=True, help="Newest interactions.")
@with_json
@with_store
def show(session: str, interaction: int | None, limit: int, as_json: bool, settings: Settings) -> None:
    """One session: its seats, its interactions and their ratings."""
    with opened(settings) as store:
        row = stored.find(store.database, session)
        events = [recorded.event for recorded in store.log.read(row.key)]
    records = assemble(events)
    if interaction is not None:
        records = [record for record in records if record.interaction == interaction]
        if not records:
            raise click.UsageError(f"Session {row.key} has no interaction {interaction}.")
    if as_json:
        print_json(_summary(row) | {"interactions": [_as_json(record) for record in records[-limit:]]})
        return
    console = terminal()
    if interaction is not None:
        _print_interaction(records[0])
        return
    progress = fold(events)
    society = progress.society
    console.print(
        safe(
            f"{row.key}: {society.name}, {counted(len(society.agents), 'agent')}, "
            f"{counted(len(society.observers), 'observer')}, "
            f"round {row.round} of {row.rounds}, {counted(row.head, 'event')}, {_status(row)}"
        )
    )
    console.print(
        safe(
            f"models: {', '.join(society.models())}; seed {progress.seed}; "
            f"questions: {len(society.questions)}"
        )
    )
    deliberations = [record for record in records if record.kind == "deliberation"]
    if deliberations:
        console.print(interactions_table(deliberations[-limit:], console.width, dimensions(events)))
        _print_means(deliberations, dimensions(events))
    for record in [r for r in records if r.kind in ("answer", "chat")][-limit:]:
        for message in record.messages:
            console.print(safe(f"[{message.message}] {message.seat}: {message.text}"))
    console.print(
        f"\nOne interaction in full: {again(f'sessions show {row.key} --interaction N')}",
        style="dim",
        markup=False,
    )


@sessions.command("export")
@click.argument("session", default="last")
@click.option(
    "--what", type=click.Choice(get_args(What), case_sensitive=False), default="events", show_default=True
)
@click.option(
    "--format",
    "form",
    type=click.Choice(get_args(Format), case_sensitive=False),
    default="jsonl",
    show_default=True,
)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A file; else standard output.")
@with_store
def export_session(session: str, what: Any, form: Any, out: Path | None, settings: Settings) -> None:
    """A session's log or one of its tables, as JSON lines, CSV or Parquet."""
    with opened(settings) as store:
        row = stored.find(store.database, session)
        if out is None and form == "csv" and sys.stdout.isatty():
            raise click.UsageError(
                "CSV would bring raw text to the terminal. Name a file with --out, or pipe it."
            )
        count = export(store.database, store.log, row.key, what, form, out, sys.stdout)
    if out is not None:
        click.echo(f"{count} rows of {what} written to {out}", err=True)


@sessions.command()
@click.argument("session", default="last")
@click.option("--speed", type=click.FloatRange(min=0), default=1.0, show_default=True, help="0: no waiting.")
@click.option("--from", "after", type=NATURAL, default=0, help="Begin after this seq.")
@click.option("--max-pause", type=click.FloatRange(min=0), default=5.0, show_default=True, metavar="SECONDS")
@with_json
@with_store
def replay(
    session: str, speed: float, after: int, max_pause: float, as_json: bool, settings: Settings
) -> None:
    """What happened, in order and in time. Ctrl-C ends it."""
    console = terminal()
    with opened(settings) as store:
        row = stored.find(store.database, session)
        before = None
        for recorded in store.log.read(row.key, after=after):
            if speed and before:
                _wait(min(max((recorded.time - before).total_seconds(), 0) / speed, max_pause))
            before = recorded.time
            if as_json:
                print_json(recorded.as_json())
            else:
                console.print(_told(recorded), soft_wrap=True)


@sessions.command()
@click.argument("session", default="last")
@click.option("--at", type=POSITIVE, metavar="SEQ", help="The last event to keep (default: all).")
@click.option("--seed", type=SEED, help="Another seed for what comes after.")
@with_json
@with_store
def fork(session: str, at: int | None, seed: int | None, as_json: bool, settings: Settings) -> None:
    """A new session with the same past, up to any event. Go on with it by `sandbox resume`."""
    with opened(settings) as store:
        handle = stored.fork(store.database, store.log, session, at, seed)
    if as_json:
        print_json({"session": handle.key})
    else:
        resume_by = again(f"resume {handle.key}")
        click.echo(f"{handle.key}\nGo on with: {resume_by}")


@sessions.command()
@click.argument("session")
@with_yes
@with_store
def delete(session: str, yes: bool, settings: Settings) -> None:
    """Delete a session with all its messages, ratings and calls."""
    with opened(settings) as store:
        row = stored.find(store.database, session)
        sure(f"Delete {row.key} with its {row.head} events for good?", yes=yes)
        stored.delete(store.database, row.key)
    click.echo(f"{row.key} is deleted.")


@sessions.command()
@click.argument("session")
@click.argument("person")
@with_yes
@with_json
@with_store
def forget(session: str, person: str, yes: bool, as_json: bool, settings: Settings) -> None:
    """Take out what PERSON said and rated in SESSION and its forks, and their name, for good.

    Datasets and adapters that were made from it are marked, evaluations are named; what models answered
    to it stays.
    """
    with opened(settings) as store:
        row = stored.find(store.database, session)
        forks = withdrawal.copies(store.database, row.key)
        withdrawal.require_part(store.database, store.log, [row.key, *forks], person)
        also = f" and {counted(len(forks), 'fork')} of it" if forks else ""
        sure(f"Take {person} out of {row.key}{also} for good?", yes=yes)
        told = withdrawal.forget(store.database, store.log, row.key, person)
    for done in told.done:
        if as_json:
            print_json(done._asdict())
            continue
        click.echo(
            f"{counted(done.events, 'event')} of {done.session} changed; {done.alias} stands for the name."
        )
        for what, names in (("datasets", done.datasets), ("adapters", done.adapters)):
            if names:
                click.echo(f"Marked {what}, which still hold it: {', '.join(names)}. Delete them.")
        if done.mentions:
            click.echo(
                f"Others' words have the name {counted(len(done.mentions), 'time')}, and stay as they are: "
                f"{', '.join(map(printable, done.mentions))}."
            )
        if done.evaluations:
            told_of = ", ".join(done.evaluations)
            click.echo(
                f"Reports written before may tell of it: those of {told_of}. Delete or write them anew."
            )


def _wait(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        sys.exit(STOPPED)


def _status(row: SessionRow) -> str:
    if row.status == "running" and not stored.in_use(row.lease_owner, row.lease_until):
        return "interrupted"
    return row.status


def _summary(row: SessionRow) -> dict[str, Any]:
    return {
        "session": row.key,
        "name": row.name,
        "status": _status(row),
        "round": row.round,
        "rounds": row.rounds,
        "events": row.head,
        "epoch": row.epoch,
        "seed": row.seed,
        "created": row.created.isoformat(),
        "parent": row.parent,
        "parent_seq": row.parent_seq,
    }


def _as_json(record: InteractionRecord) -> dict[str, Any]:
    return {
        "interaction": record.interaction,
        "kind": record.kind,
        "round": record.round,
        "seat": record.seat,
        "question": record.question,
        "outcome": record.outcome,
        "messages": [{"message": m.message, **m.model_dump(mode="json")} for m in record.messages],
        "ratings": [rating.model_dump(mode="json") for rating in record.ratings],
        "failures": [failure.model_dump(mode="json") for failure in record.failures],
        "peers_mean": record.peers_mean(),
    }


def _print_means(records: list[InteractionRecord], criteria: list[str]) -> None:
    console = terminal()
    for dimension in criteria:
        pairs = [(r.observed("draft", dimension), r.observed("revision", dimension)) for r in records]
        whole = [(before, after) for before, after in pairs if before is not None and after is not None]
        if whole:
            before, after = mean(b for b, _ in whole), mean(a for _, a in whole)
            console.print(
                f"{dimension}: draft {before:.2f}, revision {after:.2f} (means of {len(whole)} interactions)"
            )


def _print_interaction(record: InteractionRecord) -> None:
    console = terminal()
    console.print(safe(f"{record.interaction}. {record.seat} ({record.kind}, {record.outcome or 'open'})"))
    if record.question:
        console.print(safe(f"question: {record.question}"))
    for message in record.messages:
        console.print(safe(f"\n[{message.message}] {message.seat}, {message.role}:", "bold"))
        console.print(safe(message.text))
        if message.recalled:
            console.print(safe(f"recalled: {message.recalled}", "dim"))
        for rating in record.ratings:
            if rating.target == message.message:
                console.print(_rating(rating))
    for rating in record.ratings:
        if not rating.target.startswith(f"{record.interaction}."):
            console.print(_rating(rating))
    for failure in record.failures:
        console.print(safe(f"  failed: {failure.step}: {failure.error}: {failure.detail}", "red"))


def _rating(rating: ev.RatingGiven) -> Text:
    value = f"{rating.value:g}" if rating.value is not None else f"unparsed ({rating.unparsed})"
    words = rating.reason or ("" if rating.value is not None else rating.raw)
    return safe(f"  {rating.rater}: {rating.dimension} {value} ({rating.method})  {words}")


def _told(recorded: ev.Recorded) -> Text:
    """One event as a line."""
    event = recorded.event
    line = Text(f"{recorded.seq:>6}  ", style="dim")
    match event:
        case ev.MessagePosted():
            line.append_text(safe(f"[{event.message}] {event.seat}: ", "bold")).append_text(safe(event.text))
        case ev.RatingGiven():
            line.append_text(_rating(event)).append_text(safe(f"  on {event.target}", "dim"))
        case ev.TurnFailed():
            line.append_text(
                safe(f"{event.seat} failed at {event.step}: {event.error}: {event.detail}", "red")
            )
        case ev.InteractionStarted():
            line.append_text(short(f"{event.interaction}. {event.seat} is asked: {event.question}", 200))
        case ev.InteractionFinished():
            line.append(f"{event.interaction}. {event.outcome}", style="dim")
        case ev.SessionCreated():
            line.append_text(safe(f"session of {event.society.name} created"))
        case _:
            line.append_text(safe(event.model_dump_json(exclude={"rubric"})))
    return line
