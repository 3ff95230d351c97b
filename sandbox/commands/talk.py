"""``sandbox ask``, ``chat`` and ``rate``: questions, free talk and ratings outside rounds."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from rich.console import Console

from sandbox import events as ev
from sandbox.blueprint import examples, read_society
from sandbox.commands.console import (
    STOPPED,
    change,
    number,
    opened,
    print_json,
    safe,
    terminal,
    with_json,
    with_store,
)
from sandbox.commands.prompting import prompted
from sandbox.conversation import PERSON
from sandbox.engine import Engine
from sandbox.errors import ModelError, SessionError
from sandbox.names import normal
from sandbox.records import InteractionRecord, assemble
from sandbox.running import Store, at_work
from sandbox.settings import Settings, redactor
from sandbox.societyfile import Overrides
from sandbox.store import sessions
from sandbox.store.log import Handle
from sandbox.text import is_blank

T = TypeVar("T")
DEFAULT = "village"


def _in_nfc(_context: click.Context, _option: click.Parameter, name: str) -> str:
    return normal(name)


with_place = click.option(
    "--in",
    "place",
    metavar="SESSION|FILE|EXAMPLE",
    help=f"A stored session, a society file or an example (default: a new session of '{DEFAULT}').",
)


@click.command()
@click.argument("question")
@click.option("--seat", help="Who answers (default: the first seat).")
@click.option("--society", is_flag=True, help="Draft, peers' and observers' ratings, and a revision.")
@click.option("--model", metavar="SPEC", help="One model for all seats of a new session.")
@with_place
@with_json
@with_store
def ask(
    question: str,
    seat: str | None,
    society: bool,
    model: str | None,
    place: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Put one QUESTION to a seat, or with --society to the seat and its peers. The session is kept."""
    question = _given(question)
    with opened(settings) as store:
        handle = _enter(store, place, model, [seat] if seat else [])

        async def put(engine: Engine) -> int:
            name = seat or engine.progress.society.agents[0].name
            return await engine.ask(question, name, society=society)

        interaction = _work(store, handle, settings, put, as_json)
        record = _record(store, handle, interaction)
    if not as_json:
        _print_answer(terminal(), record, handle)
    if record.outcome == "failed":
        sys.exit(ModelError.exit_code)


@click.command()
@click.argument("text", required=False)
@click.option(
    "--to", "recipients", default="all", show_default=True, help="Seats, parted by commas, or 'all'."
)
@click.option(
    "--from",
    "author",
    default=PERSON,
    callback=_in_nfc,
    show_default=True,
    help="Who speaks: a name or a seat.",
)
@click.option("--model", metavar="SPEC", help="One model for all seats of a new session.")
@with_place
@with_json
@with_store
def chat(
    text: str | None,
    recipients: str,
    author: str,
    model: str | None,
    place: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Send TEXT to seats, who answer; without TEXT, talk until an empty line or Ctrl-D."""
    console = terminal()
    with opened(settings) as store:
        handle = _enter(store, place, model, [] if recipients == "all" else _named(recipients))

        def names(engine: Engine) -> list[str]:
            agents = [agent.name for agent in engine.progress.society.agents if agent.active]
            chosen = agents if recipients == "all" else _named(recipients)
            return [name for name in chosen if name != author]

        async def talk(engine: Engine) -> None:
            if not as_json:
                engine.watch(lambda recorded: _print_said(console, recorded, author))
            if text is not None:
                await engine.say(_given(text), names(engine), author)
                return
            async for line in prompted("you> "):
                await engine.say(line, names(engine), author)

        _work(store, handle, settings, talk, as_json)
    if not as_json:
        console.print(f"Kept in session {handle.key}.", style="dim", markup=False)


@click.command()
@click.argument("message")
@click.option("--in", "place", default="last", metavar="SESSION", show_default=True)
@click.option("--dimension", help="The criterion (default: the one that peers rate by).")
@click.option("--seat", help="A seat that is to rate it.")
@click.option("--value", type=float, help="Your own rating.")
@click.option("--reason", default="", help="Why.")
@click.option("--as", "rater", default=PERSON, callback=_in_nfc, show_default=True, help="Your pseudonym.")
@with_json
@with_store
def rate(
    message: str,
    place: str,
    dimension: str | None,
    seat: str | None,
    value: float | None,
    reason: str,
    rater: str,
    as_json: bool,
    settings: Settings,
) -> None:
    """Rate MESSAGE (as "3.draft"): yourself with --value, or by a seat with --seat."""
    if (seat is None) == (value is None):
        raise click.UsageError("Give either --value, to rate it yourself, or --seat, to have a seat rate it.")
    with opened(settings) as store:
        row = sessions.find(store.database, place)
        target, question = _message(store, row.key, message)
        handle = sessions.lease(store.database, row.key)

        async def give(engine: Engine) -> int:
            by = dimension or engine.progress.society.rubric.peer
            if seat is not None:
                return await engine.judge(target, question, seat, by)
            assert value is not None
            return await engine.vote(target.message, by, value, reason, rater)

        interaction = _work(store, handle, settings, give, as_json)
        record = _record(store, handle, interaction)
    if as_json:
        return
    console = terminal()
    for rating in record.ratings:
        value_said = f"{rating.value:g}" if rating.value is not None else f"unparsed ({rating.unparsed})"
        console.print(
            safe(f"{rating.rater} rates {rating.target}: {rating.dimension} {value_said}. {rating.reason}")
        )
    _print_failures(console, record)


def _named(recipients: str) -> list[str]:
    return [name.strip() for name in recipients.split(",")]


def _enter(store: Store, place: str | None, model: str | None, seats: list[str]) -> Handle:
    """The session to work in: a stored one, leased, or a new one, of a description with ``seats``."""
    bundled = examples()
    if place is None or place in bundled or place.endswith(".toml"):
        society = read_society(place or DEFAULT, Overrides(rounds=0, model=model))
        names = [agent.name for agent in society.agents]
        if missing := [seat for seat in seats if seat not in names]:
            raise SessionError(f"There is no seat '{missing[0]}'. The seats are: {', '.join(names)}.")
        return sessions.create(store.database, store.log, society)
    if model is not None:
        raise SessionError("--model is for new sessions; a stored session keeps its models.")
    return sessions.lease(store.database, place)


def _work(
    store: Store,
    handle: Handle,
    settings: Settings,
    work: Callable[[Engine], Awaitable[T]],
    as_json: bool,
) -> T:
    console = terminal(to_stderr=True)

    def listener(recorded: ev.Recorded) -> None:
        if as_json:
            print_json(recorded.as_json())

    async def run() -> T:
        async with at_work(
            store,
            handle,
            settings,
            redactor(),
            listener=listener,
            on_load=lambda name: None if as_json else console.print(safe(f"loading local/{name} …", "dim")),
        ) as engine:
            return await work(engine)

    try:
        return asyncio.run(run())
    except (asyncio.CancelledError, KeyboardInterrupt):
        click.echo("\nStopped; what was done is kept.", err=True)
        sys.exit(STOPPED)


def _record(store: Store, handle: Handle, interaction: int) -> InteractionRecord:
    events = [recorded.event for recorded in store.log.read(handle.key)]
    return next(record for record in assemble(events) if record.interaction == interaction)


def _message(store: Store, key: str, message: str) -> tuple[ev.MessagePosted, str]:
    """The message of that id and the question it answered, if any. Raises ``SessionError``."""
    for record in assemble(recorded.event for recorded in store.log.read(key)):
        for posted in record.messages:
            if posted.message == message:
                return posted, "" if record.kind == "chat" else record.question
    raise SessionError(
        f"Session {key} has no message '{message}'. "
        f"See how they are named with: sandbox sessions replay --speed 0 {key}"
    )


def _given(text: str) -> str:
    if is_blank(text):
        raise click.UsageError("The text is empty. Write what you want to say.")
    return text.strip()


def _print_said(console: Console, recorded: ev.Recorded, author: str) -> None:
    event = recorded.event
    if isinstance(event, ev.MessagePosted) and event.seat != author:
        console.print(safe(f"{event.seat}: ", "bold").append_text(safe(event.text)))
    elif isinstance(event, ev.TurnFailed):
        console.print(safe(f"{event.seat} did not answer ({event.error}): {event.detail}", "red"))


def _print_answer(console: Console, record: InteractionRecord, handle: Handle) -> None:
    if record.draft:
        whole = record.kind == "deliberation"
        console.print(safe(f"{record.seat}{', draft' if whole else ''}:", "bold"))
        console.print(safe(record.draft.text))
    for rating in record.peer_ratings():
        value = number(rating.value) if rating.value is not None else f"unparsed ({rating.unparsed})"
        console.print(safe(f"  {rating.rater} rates it {value}: {rating.reason}", "dim"))
    if record.revision:
        console.print(safe(f"\n{record.seat}, revision:", "bold"))
        console.print(safe(record.revision.text))
        criteria = dict.fromkeys(r.dimension for r in record.ratings if r.rated_as == "observer")
        told = ", ".join(
            f"{name} {change(record.observed('draft', name), record.observed('revision', name))}"
            for name in criteria
        )
        console.print(safe(f"\npeers {number(record.peers_mean())}; observers: {told}", "dim"))
    _print_failures(console, record)
    console.print(
        f"Kept as interaction {record.interaction} of session {handle.key}.", style="dim", markup=False
    )


def _print_failures(console: Console, record: InteractionRecord) -> None:
    for failure in record.failures:
        console.print(
            safe(f"{failure.seat} failed ({failure.step}): {failure.error}: {failure.detail}", "red")
        )
