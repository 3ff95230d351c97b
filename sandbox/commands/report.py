"""What a run looks like: live progress while it goes, and the table and totals at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from sandbox import events as ev
from sandbox.commands.console import change, number, safe, short
from sandbox.progress import fold
from sandbox.records import InteractionRecord, assemble


class LiveProgress:
    """Counts turns as they are recorded and prints a line for every finished interaction."""

    def __init__(self, console: Console, rounds: int, criteria: Sequence[str]) -> None:
        self._console = console
        self._rounds = rounds
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("turns{task.fields[status]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._what = "starting"
        self._task = self._progress.add_task(self._what, total=None, status="")
        self._quiet = False
        self._open: dict[int, list[ev.Event]] = {}
        self._dimension = criteria[0]
        self._observed = 2 * len(criteria)
        self._expected = self._ratings = self._unparsed = self._failed = 0

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def loading(self, name: str) -> None:
        """A local model is about to be loaded; called from its thread."""
        self._progress.update(self._task, description=f"loading local/{name}")

    def catch_up(self, events: Sequence[ev.Event]) -> None:
        """Take what is on record of a round that goes on, without printing it again."""
        begun = [n for n, event in enumerate(events) if isinstance(event, ev.RoundStarted | ev.RoundFinished)]
        if begun and isinstance(events[begun[-1]], ev.RoundStarted):
            self._quiet = True
            for event in events[begun[-1] :]:
                self._take(event)
            self._quiet = False

    def take(self, recorded: ev.Recorded) -> None:
        """Show one more event."""
        self._take(recorded.event)

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.RoundStarted(round=number):
                self._expected = 0
                self._what = f"round {number}/{self._rounds}"
                self._progress.reset(self._task, total=None, description=self._what)
            case ev.InteractionStarted(interaction=interaction):
                self._open[interaction] = [event]
                # Draft, revision, peers' ratings; observers rate both by every criterion.
                self._expected += 2 + len(event.peers) + self._observed * len(event.observers)
                self._progress.update(self._task, total=self._expected)
            case ev.MessagePosted() | ev.RatingGiven() | ev.TurnFailed():
                self._open.setdefault(event.interaction, []).append(event)
                self._count(event)
            case ev.InteractionFinished(interaction=interaction):
                events = self._open.pop(interaction, [])
                self._line([*events, event])
            case _:
                pass

    def _count(self, event: ev.Step) -> None:
        if isinstance(event, ev.RatingGiven):
            self._ratings += 1
            self._unparsed += event.value is None
        self._failed += isinstance(event, ev.TurnFailed)
        status = ""
        if self._unparsed:
            status += f", {self._unparsed} of {self._ratings} ratings unparsed"
        if self._failed:
            status += f", {self._failed} failed"
        self._progress.update(self._task, advance=1, description=self._what, status=status)

    def _line(self, events: Sequence[ev.Event]) -> None:
        if self._quiet or not isinstance(events[0], ev.InteractionStarted):
            return  # of before this run; the table at the end tells of it
        (record,) = assemble(events)
        line = Text.assemble(
            ("✓ " if record.outcome == "revised" else "✗ ", "dim"), (record.seat, "bold"), " "
        )
        line.append_text(short(record.question, 48))
        before, after = (record.observed(role, self._dimension) for role in ("draft", "revision"))
        line.append(
            f"  peers {number(record.peers_mean())}, {self._dimension} {change(before, after)}",
            style="dim",
        )
        self._console.print(line, overflow="ellipsis", no_wrap=True)


def dimensions(events: Sequence[ev.Event]) -> list[str]:
    """The criteria that the session's ratings are given by, in the rubric's order."""
    return [criterion.name for criterion in fold(events).society.rubric.criteria]


def interactions_table(records: Sequence[InteractionRecord], width: int, criteria: Sequence[str]) -> Table:
    """Seat, question, draft → revision, peers' mean, observers' ratings before → after, unparsed count."""
    table = Table(title="What was said and how it was rated", title_justify="left", expand=True)
    table.add_column("seat", no_wrap=True)
    table.add_column("question", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("draft → revision", ratio=2, no_wrap=True, overflow="ellipsis")
    for name in ("peers", *criteria):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unparsed", justify="right")
    for record in records:
        table.add_row(
            safe(record.seat),
            short(record.question, width),
            _words(record, width),
            number(record.peers_mean()),
            *(change(record.observed("draft", name), record.observed("revision", name)) for name in criteria),
            str(record.unparsed()),
        )
    return table


def totals(records: Sequence[InteractionRecord], started: float) -> str:
    """Calls, tokens, cost and seconds in one sentence."""
    calls = sum(record.calls() for record in records)
    prompt = sum(record.tokens()[0] for record in records)
    completion = sum(record.tokens()[1] for record in records)
    failed = sum(len(record.failures) for record in records)
    ratings = sum(len(record.ratings) for record in records)
    unparsed = sum(record.unparsed() for record in records)
    cost = sum(record.cost() for record in records)
    drafts = [record.draft for record in records if record.draft]
    recalled = sum(draft.recalled is not None for draft in drafts)
    said = (
        f"{len(records)} interactions, {calls} calls, "
        f"{prompt:,} prompt and {completion:,} completion tokens, "
        f"{time.monotonic() - started:.1f} s; {ratings} ratings, {unparsed} unparsed; "
        f"{recalled} of {len(drafts)} drafts recalled a memory; {failed} failed turns"
    )
    return f"{said}; ${cost:.4f}." if cost else f"{said}."


def _words(record: InteractionRecord, width: int) -> Text:
    if record.draft is None:
        failure = record.failures[0] if record.failures else None
        return short(f"failed: {failure.error}: {failure.detail}" if failure else "–", width, "red")
    words = short(record.draft.text, width)
    words.append("\n→ ")
    if record.revision is None:
        return words.append("–", style="red")
    return words.append_text(short(record.revision.text, width))
