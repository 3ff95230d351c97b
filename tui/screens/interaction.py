"""One interaction whole: draft, what peers and observers said of it, and what the revision changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Header, Static

from sandbox import events as ev
from sandbox.records import InteractionRecord
from server.wire import commands as do
from tui.diffs import word_diff
from tui.lines import number
from tui.safe import content, plain
from tui.screens.dialogs import AskLine, RateMessage, Target
from tui.state import Watched, is_masked

Send = Callable[[do.Command], None]
_STYLES = {"same": "", "gone": "strike $text-error", "new": "underline $text-success"}


class Interaction(Screen[None]):
    """See the module. It follows the interaction as it goes on."""

    BINDINGS = [
        Binding("escape,q", "app.pop_screen", "Back"),
        Binding("w", "raw", "Raw text", id="interaction.raw"),
        Binding("m", "marks", "Changes", id="interaction.changes"),
        Binding("v", "rate", "Rate", id="interaction.rate"),
        Binding("e", "react", "React", id="interaction.react"),
        Binding("y", "copy", "Copy", id="interaction.copy"),
        Binding("left_square_bracket", "go(-1)", "Earlier", id="interaction.earlier"),
        Binding("right_square_bracket", "go(1)", "Later", id="interaction.later"),
    ]

    def __init__(self, watched: Watched, number: int, send: Send | None) -> None:
        super().__init__()
        self._watched, self._number, self._send = watched, number, send
        self._is_raw = False
        self._marks = True
        self._seq = -1

    @property
    def record(self) -> InteractionRecord | None:
        """What is shown."""
        return self._watched.records.get(self._number)

    def compose(self) -> ComposeResult:
        """One long text."""
        yield Header()
        with VerticalScroll(id="whole"):
            yield Static("", id="account")
        yield Footer()

    def on_mount(self) -> None:
        """Keep it up to date."""
        self.query_one("#whole").focus()
        self.set_interval(0.2, self._refresh)
        self._refresh()

    def _refresh(self, *, force: bool = False) -> None:
        if not force and self._seq == self._watched.view.seq and not self._watched.typing:
            return
        self._seq = self._watched.view.seq
        self.sub_title = f"interaction {self._number}"
        record = self.record
        if record is None:
            self.query_one("#account", Static).update("The log does not tell of it.")
            return
        pieces = account(record, self._watched, raw=self._is_raw, marks=self._marks)
        self.query_one("#account", Static).update(Content("\n").join(pieces))

    def action_raw(self) -> None:
        """What raters answered, word for word."""
        self._is_raw = not self._is_raw
        self._refresh(force=True)

    def action_marks(self) -> None:
        """The revision with or without what changed."""
        self._marks = not self._marks
        self._refresh(force=True)

    def action_go(self, by: int) -> None:
        """The interaction before or after this one."""
        numbers = sorted(self._watched.records)
        if self._number in numbers:
            self._number = numbers[min(max(numbers.index(self._number) + by, 0), len(numbers) - 1)]
            self.query_one("#whole").scroll_home(animate=False)
            self._refresh(force=True)

    def action_rate(self) -> None:
        """Rate one of its messages."""
        record = self.record
        if record is None or self._send is None or not record.messages:
            self.notify("There is nothing that you could rate here.", severity="warning")
            return
        targets = [Target(m.message, plain(f"{m.role} of {m.seat}")) for m in record.messages]
        self.app.push_screen(RateMessage(targets, self._watched.view.rubric), self._sent)

    def action_react(self) -> None:
        """React to its last message: no rating."""
        record = self.record
        if record is None or self._send is None or not record.messages:
            return
        last = record.messages[-1]

        def given(sign: str | None) -> None:
            if sign:
                self._sent(do.React(message=last.message, reaction=sign[:16]))

        asked = AskLine(f"A sign or a short word about the {last.role} of {last.seat}", placeholder="+1")
        self.app.push_screen(asked, given)

    def _sent(self, command: do.Command | None) -> None:
        if command is not None and self._send is not None:
            self._send(command)

    def action_copy(self) -> None:
        """Copy the newest text as it is stored."""
        record = self.record
        if record is not None and record.messages:
            self.app.run_worker(self.app.copy_text(record.messages[-1].text))  # type: ignore[attr-defined]


def account(record: InteractionRecord, watched: Watched, *, raw: bool, marks: bool) -> list[Content]:
    """An interaction as text, part by part."""
    return list(_account(record, watched, raw, marks))


def _account(record: InteractionRecord, watched: Watched, raw: bool, marks: bool) -> Iterator[Content]:
    where = f"round {record.round}" if record.round is not None else "outside rounds"
    yield content(f"{record.interaction}  {record.seat}, {record.kind}, {where}", "bold")
    if record.question:
        yield content(f"Question: {record.question}")
    for message in record.messages:
        yield from _message(message, record, marks)
        rated = [rating for rating in record.ratings if rating.target == message.message]
        for rating in rated:
            yield _rating(rating, raw)
    for (interaction, step), text in watched.typing.items():
        if interaction == record.interaction:
            yield Content("")
            yield content(f"{step} …", "bold $text-warning")
            yield content(text, "italic")
    for failure in record.failures:
        yield content(
            f"{failure.seat} gave no answer at {failure.step} ({failure.error}): {failure.detail}",
            "$text-error",
        )
    yield Content("")
    yield from _before_and_after(record, watched)
    yield _took(record)


def _message(message: ev.MessagePosted, record: InteractionRecord, marks: bool) -> Iterator[Content]:
    usage = message.usage
    through = f"{usage.model}, {usage.completion_tokens} tokens, {usage.latency_ms:,.0f} ms" if usage else ""
    who = (
        f"{message.person} as {message.seat}"
        if message.person and message.person != message.seat
        else message.seat
    )
    yield Content("")
    yield Content.assemble(
        content(f"{message.role} of {who}", "bold $text-success"), content(f"  {through}", "dim")
    )
    if message.recalled:
        yield content(f"(recalled: {message.recalled})", "dim")
    if marks and message.role == "revision" and record.draft is not None:
        yield Content.assemble(
            *(
                _piece(change, text)
                for change, text in word_diff(plain(record.draft.text), plain(message.text))
            )
        )
    else:
        yield content(message.text)


def _piece(change: str, text: str) -> Content:
    """Marked by signs as well as by style: colour is not all."""
    if change == "same" or not text.strip():
        return Content(text)
    signs = ("[-", "-]") if change == "gone" else ("{+", "+}")
    return Content.styled(f"{signs[0]}{text}{signs[1]}", _STYLES[change])


def _rating(rating: ev.RatingGiven, raw: bool) -> Content:
    who = rating.person or rating.rater
    if is_masked(rating):
        said = "hidden until yours is in"
    elif rating.value is None:
        said = f"unparsed ({rating.unparsed})"
    else:
        said = f"{number(rating.value)} of {rating.scale.high}"
    parts = [
        content(f"  {who:<8} {rating.dimension}: ", "$text-accent"),
        content(said, "bold"),
        content(f"  {rating.method}", "dim"),
    ]
    if rating.reason:
        parts.append(content(f"  {rating.reason}"))
    if raw and rating.raw:
        parts.append(content(f"\n           raw: {rating.raw}", "dim"))
    return Content.assemble(*parts)


def _before_and_after(record: InteractionRecord, watched: Watched) -> Iterator[Content]:
    peers = record.peers_mean()
    if peers is not None:
        yield content(f"peers' mean of the draft: {peers:.2f}")
    for criterion in watched.view.rubric.criteria:
        before, after = record.observed("draft", criterion.name), record.observed("revision", criterion.name)
        if before is not None or after is not None:
            said = f"observers, {criterion.name}: {_shown(before)} → {_shown(after)}"
            if before is not None and after is not None:
                said += f"  ({after - before:+.2f})"
            yield content(said)


def _took(record: InteractionRecord) -> Content:
    prompt, completion = record.tokens()
    return content(
        f"{record.calls()} calls, {prompt:,} + {completion:,} tokens, ${record.cost():.4f}, "
        f"{record.unparsed()} unparsed; {record.outcome or 'goes on'}",
        "dim",
    )


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
