"""``sandbox run`` and ``sandbox resume``: a society at work, watched in the terminal."""

from __future__ import annotations

import sys
import time
from collections import Counter

import click
from rich.console import Console
from rich.text import Text

from sandbox import events as ev
from sandbox.blueprint import read_society
from sandbox.commands.console import (
    SEED,
    STOPPED,
    again,
    opened,
    safe,
    terminal,
    with_json,
    with_store,
)
from sandbox.commands.report import dimensions, interactions_table, totals
from sandbox.commands.working import all_events, work
from sandbox.errors import BudgetExhausted, ModelError
from sandbox.models.catalog import require_adapters
from sandbox.progress import fold
from sandbox.records import InteractionRecord, assemble
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.society import Society
from sandbox.societyfile import Overrides
from sandbox.store import sessions
from sandbox.store.log import Handle

_SHOWN = 20
ROUNDS = click.IntRange(0, 100_000)


@click.command()
@click.argument("file", default="society.toml", metavar="[FILE|EXAMPLE]")
@click.option("--rounds", type=ROUNDS, help="Rounds in all.")
@click.option(
    "--questions", metavar="FILE|hf:NAME", help="Questions: a .txt, .jsonl or .csv file, or hf:NAME."
)
@click.option("--per-seat", type=click.IntRange(min=0), help="Questions a seat a round; 0 for all of them.")
@click.option("--seats", metavar="RxC|N", help="Another size: 4x4 for a grid, or a number.")
@click.option("--model", metavar="SPEC", help="One model for all agents and observers.")
@click.option("--answers", metavar="SPEC", help="One model for the agents' answers; who rates keeps theirs.")
@click.option("--seed", type=SEED, help="Another seed.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Pause when this much is spent.")
@with_json
@with_store
def run(
    file: str,
    rounds: int | None,
    questions: str | None,
    per_seat: int | None,
    seats: str | None,
    model: str | None,
    answers: str | None,
    seed: int | None,
    budget: float | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Run the society of FILE (default: society.toml), or a bundled example, and store the session.

    Ctrl-C stops it cleanly; what is done is kept, and `sandbox resume` goes on from there.
    """
    overrides = Overrides(
        rounds=rounds,
        seed=seed,
        model=model,
        answers=answers,
        seats=seats,
        questions=questions,
        per_seat=per_seat,
        budget=budget,
    )
    society = read_society(file, overrides)
    require_adapters(settings, society.models())
    with opened(settings) as store:
        handle = sessions.create(store.database, store.log, society)
        _work(store, handle, settings, rounds=society.rounds, budget=budget, as_json=as_json)


@click.command()
@click.argument("session", default="last")
@click.option("--rounds", type=ROUNDS, help="Rounds in all; more than before prolongs the session.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Another cap on what is spent.")
@with_json
@with_store
def resume(session: str, rounds: int | None, budget: float | None, as_json: bool, settings: Settings) -> None:
    """Go on with SESSION (its name, the beginning of it, or "last") from where it stopped."""
    with opened(settings) as store:
        row = sessions.find(store.database, session)
        handle = sessions.lease(store.database, row.key)
        _work(store, handle, settings, rounds=rounds, budget=budget, as_json=as_json, shown=row.rounds)


def _work(
    store: Store,
    handle: Handle,
    settings: Settings,
    *,
    rounds: int | None,
    budget: float | None,
    as_json: bool,
    shown: int | None = None,
) -> None:
    """Run to the end or until stopped, then say what came out. Exits with 130 after Ctrl-C."""
    console = terminal(to_stderr=as_json)
    started = time.monotonic()
    seen: list[ev.Event] = []
    criteria = dimensions(all_events(store, handle.key))
    if not as_json:
        console.print(
            Text.assemble("Session ", (handle.key, "bold"), f", stored in {store.database.location}"),
            soft_wrap=True,
        )
    try:
        stopped = not work(
            store,
            handle,
            settings,
            console,
            rounds=rounds,
            shown=rounds or shown or 0,
            budget=budget,
            as_json=as_json,
            on_event=seen.append,
        )
    except BudgetExhausted as error:
        console.print(f"Paused: {error}", markup=False, soft_wrap=True)
        resume_by = again(f"resume {handle.key} --budget USD")
        console.print(f"Go on with: {resume_by}", markup=False, soft_wrap=True)
        sys.exit(BudgetExhausted.exit_code)
    records = _finished(store, handle, seen)
    if not as_json and (records or not stopped):
        _conclude(console, store, handle, records, criteria, started)
    if stopped:
        resume_by = again(f"resume {handle.key}")
        console.print(
            f"Stopped; what was done is kept. Go on with: {resume_by}", markup=False, soft_wrap=True
        )
        sys.exit(STOPPED)
    if records and all(record.outcome == "failed" for record in records):
        sys.exit(ModelError.exit_code)


def _finished(store: Store, handle: Handle, seen: list[ev.Event]) -> list[InteractionRecord]:
    """The interactions that ended in this run."""
    touched = {event.interaction for event in seen if isinstance(event, ev.InteractionFinished)}
    return [r for r in assemble(all_events(store, handle.key)) if r.interaction in touched]


def _conclude(
    console: Console,
    store: Store,
    handle: Handle,
    records: list[InteractionRecord],
    criteria: list[str],
    started: float,
) -> None:
    if records:
        console.print()
        console.print(interactions_table(records[-_SHOWN:], console.width, criteria))
        if len(records) > _SHOWN:
            console.print(f"The last {_SHOWN} of {len(records)} are shown.", style="dim")
    console.print(totals(records, started), markup=False)
    _note_on_failures(console, records)
    _note_on_recall(console, fold(all_events(store, handle.key)).society, records)
    _note_on_model(console, records)
    console.print(f"Stored as {handle.key} in {store.database.location}", markup=False, soft_wrap=True)
    seat = records[-1].seat if records else "A1"
    console.print("Try next:", style="bold")
    for command in (
        f"sessions show {handle.key}",
        f'ask "Is it ever right to lie?" --in {handle.key} --seat {seat}',
        f"sessions export {handle.key} --what ratings --format csv",
    ):
        console.print(f"  {again(command)}", markup=False, soft_wrap=True)


def _note_on_failures(console: Console, records: list[InteractionRecord]) -> None:
    failures = Counter((f.error, f.detail) for record in records for f in record.failures)
    if failures:
        ((error, detail), count), *_ = failures.most_common(1)
        told = f"Most frequent failure ({count} of {failures.total()} failed turns): {error}: {detail}"
        console.print(safe(told, "red"), soft_wrap=True)


def _note_on_recall(console: Console, society: Society, records: list[InteractionRecord]) -> None:
    drafts = [record.draft for record in records if record.draft]
    has_memories = society.memories and society.rules.prior_memories
    if drafts and has_memories and not any(draft.recalled for draft in drafts):
        console.print(
            "Note: no question was like a remembered one, so presets and prior memories changed nothing. "
            "Give memories that are like the questions, or raise rules.max_distance (now "
            f"{society.recall_limit:g}).",
            style="yellow",
        )


def _note_on_model(console: Console, records: list[InteractionRecord]) -> None:
    raters = {rating.usage.model for record in records for rating in record.ratings if rating.usage}
    if "local/smollm2" in raters:
        console.print(
            "Note: SmolLM2-135M rates answers at chance level. It shows how the society works; for ratings "
            "that mean something, give peers and observers a larger model.",
            style="dim",
        )
