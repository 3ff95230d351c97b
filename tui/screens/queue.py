"""What waits for you: one request at a time, by number keys or in words."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Header, Static, TextArea

from sandbox import events as ev
from sandbox.errors import SandboxError
from server.wire import commands as do
from server.wire import frames as fr
from tui.safe import content, plain
from tui.state import Watched
from tui.turns import Queue
from tui.widgets.words import Words

Send = Callable[[do.Command], Awaitable[fr.Ack]]
_ASKS = {
    "draft": "Answer the question.",
    "revise": "Revise your answer, with what your peers said in mind.",
    "chat": "Reply.",
    "rate": "Rate this answer.",
    "observe": "Rate this answer.",
}


_NOTHING = object()
"""No request is shown yet, nor that there is none."""


class QueueScreen(Screen[None]):
    """See the module. Names of authors are left out: what counts is what was said."""

    BINDINGS = [
        Binding("escape", "back", "Back"),
        Binding("ctrl+j,ctrl+enter", "submit", "Send", id="queue.send", priority=True),
        Binding("enter", "submit", "Send", id="queue.enter", show=False),
        Binding("r", "reason", "Reason", id="queue.reason"),
        Binding("s", "skip", "Skip", id="queue.skip"),
        Binding("u", "undo", "Undo", id="queue.undo"),
        Binding("n,tab", "go(1)", "Next", id="queue.next"),
        Binding("b", "go(-1)", "Before", id="queue.before"),
        *(Binding(str(number), f"value({number})", show=False) for number in range(10)),
    ]

    def __init__(
        self, watched: Watched, queue: Queue, send: Send, is_away: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__()
        self._watched, self._queue, self._send = watched, queue, send
        self._is_away = is_away
        self._shown: object = _NOTHING
        self._undoing: ev.TurnAwaited | None = None
        self._is_held = False
        """Whether the request went away under somebody's hands: their keys are not for the next one."""
        self._skips: object = None
        """The request that is skipped when it is said once more."""

    def compose(self) -> ComposeResult:
        """The request, then a place to write."""
        yield Header()
        with VerticalScroll(id="request"):
            yield Static("", id="turn")
        yield Words(id="words", soft_wrap=True, tab_behavior="focus", show_line_numbers=False)
        yield Static("", id="choice")
        yield Footer()

    def on_mount(self) -> None:
        """Keep it up to date."""
        self.set_interval(0.25, self.look)
        self.look()

    def look(self) -> None:
        """What waits now."""
        if not self.is_attached:
            return
        self._queue.show(self._watched.waiting())
        turn = self._queue.front
        key = (turn.interaction, turn.step) if turn else None
        if key != self._shown and isinstance(self._shown, tuple) and self.query_one(TextArea).has_focus:
            self._is_held = True
            self.set_focus(None)
        if self._undoing is not None:
            self.query_one("#choice", Static).update(self._choice(turn))
            return  # first that, then what has come meanwhile
        if self._is_held:
            gone = "Its time is over, or it was answered elsewhere. Copy what you need; n goes on."
            self.query_one("#choice", Static).update(content(gone, "$text-warning"))
            return
        if key != self._shown:
            self._shown = key
            self._skips = None
            words = self.query_one(TextArea)
            words.load_text(self._queue.draft().text if turn else "")
            words.display = turn is not None and turn.scale is None
            if words.display:
                words.focus()
            else:
                self.set_focus(None)
            self.query_one("#request").scroll_home(animate=False)
        self._draw(turn)

    def _draw(self, turn: ev.TurnAwaited | None) -> None:
        count = len(self._queue.turns)
        under_way = f", {len(self._queue.under_way)} on the way" if self._queue.under_way else ""
        away = " — the server is away: what you send goes out when it is back" if self._is_away() else ""
        self.sub_title = f"{self._queue.at + 1 if count else 0} of {count} wait for you{under_way}{away}"
        shown = self.query_one("#turn", Static)
        if turn is None:
            seats = ", ".join(self._watched.own_seats())
            said = (
                f"Nothing waits for you in {seats}. It comes here as it is asked."
                if seats
                else ("You sit nowhere. Go back, choose a seat and press t to take it.")
            )
            shown.update(content(said, "$text-muted"))
        else:
            shown.update(_request(turn, self._watched))
        self.query_one("#choice", Static).update(self._choice(turn))

    def _choice(self, turn: ev.TurnAwaited | None) -> Content:
        again = self._undoing
        scale = again.scale if again else turn.scale if turn else None
        if scale is None:
            if turn is None:
                return content("")
            writing = self.query_one(TextArea).has_focus
            keys = "Escape for the other keys" if writing else "r writes, s skips, n next, b before, u undo"
            return content(f"ctrl+j sends it; {keys}. What you wrote stays.", "$text-muted")
        value = self._queue.draft().value
        parts = [Content("Once more: ") if again else Content("")]
        for number in scale.values:
            chosen = not again and number == value
            parts.append(
                Content.styled(f"[{number}]" if chosen else f" {number} ", "bold reverse" if chosen else "")
            )
        if self._queue.draft().text and not again:
            parts.append(content(f"   because: {self._queue.draft().text}", "italic"))
        parts.append(content("   number, then Enter; r why, s skip, u undo", "$text-muted"))
        return Content.assemble(*parts)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """What is written belongs to the request."""
        if self._queue.front is not None:
            self._queue.draft().text = event.text_area.text

    def action_back(self) -> None:
        """Leave the place to write, or the screen."""
        words = self.query_one(TextArea)
        turn = self._queue.front
        if self._undoing is not None:
            self._undoing = None
            self.look()
        elif words.has_focus:
            words.display = turn is not None and turn.scale is None
            self.set_focus(None)
            self.look()
        else:
            self.app.pop_screen()

    def action_value(self, number: int) -> None:
        """Choose a value."""
        if self._is_held:
            return
        again = self._undoing
        if again is not None and again.scale is not None:
            if again.scale.holds(number):
                self._undoing = None
                self.app.run_worker(self._rate_again(again, number))
            return
        if not self._queue.choose(number) and self._queue.front is not None:
            self.notify("That number is not on the scale.", severity="warning")
        self.look()

    def action_reason(self) -> None:
        """Say why."""
        turn = self._queue.front
        if turn is not None:
            words = self.query_one(TextArea)
            words.load_text(self._queue.draft().text)
            words.display = True
            words.focus()

    def action_go(self, by: int) -> None:
        """The next request, or the one before."""
        if self._is_held:
            self._is_held, self._shown = False, _NOTHING
        else:
            self._queue.go(by)
        self.look()

    def action_submit(self) -> None:
        """Send the answer."""
        if self._is_held:
            return
        words = self.query_one(TextArea)
        if words.display:  # keys may come faster than its messages
            self._queue.draft().text = words.text
        turn = self._queue.front
        answer = self._queue.answer()
        if isinstance(answer, str) or turn is None:
            self.notify(str(answer), severity="warning")
            return
        self._begin(turn, answer)

    def action_skip(self) -> None:
        """Abstain."""
        if self._is_held:
            return
        turn = self._queue.front
        if turn is None:
            return
        if self._skips != self._shown:
            self._skips = self._shown
            self.notify("It can't be taken back: s once more skips it.", severity="warning")
            return
        self._begin(turn, do.Skip(interaction=turn.interaction, step=turn.step))

    def _begin(self, turn: ev.TurnAwaited, command: do.Command) -> None:
        self._queue.begin(turn)
        self._shown = _NOTHING
        self.app.run_worker(self._answer(turn, command))  # it is sent, whatever is on the screen then
        self.look()

    async def _answer(self, turn: ev.TurnAwaited, command: do.Command) -> None:
        try:
            await self._send(command)
        except SandboxError as error:
            self._queue.failed(turn)
            self.app.notify(
                f"Not sent: {plain(str(error))} What you wrote is kept.", severity="error", markup=False
            )
        else:
            self._queue.taken(turn)
        self.look()

    def action_undo(self) -> None:
        """Give the last rating anew; the later one counts."""
        last = self._queue.last_rated()
        if last is None:
            self.app.notify("There is no rating of yours to change here.", severity="warning")
            return
        self._undoing = last
        self.notify(f"Rate {last.target} once more: press a number.", markup=False)
        self.look()

    async def _rate_again(self, turn: ev.TurnAwaited, value: int) -> None:
        try:
            await self._send(do.Rate(message=turn.target, value=value, dimension=turn.dimension or None))
            self.app.notify(f"{turn.target} is now rated {value}.", markup=False)
        except SandboxError as error:
            self.app.notify(plain(str(error)), severity="error", markup=False)


def _request(turn: ev.TurnAwaited, watched: Watched) -> Content:
    parts = [content(f"{_ASKS[turn.purpose]}  (as {turn.seat}, {_deadline(turn)})", "bold"), Content("")]
    if turn.question:
        parts += [content("Question", "$text-muted"), content(turn.question), Content("")]
    if turn.text:
        parts += [content("Answer" if turn.scale else "Said", "$text-muted"), content(turn.text), Content("")]
    if turn.mean is not None:
        parts.append(content(f"Your peers' mean: {turn.mean:.1f}"))
    parts += [content(f"- {reason}") for reason in turn.reasons]
    if turn.scale is not None and turn.dimension:
        criterion = watched.view.rubric.criterion(turn.dimension)
        parts += [
            content(criterion.question),
            content(
                f"{turn.scale.low} = {criterion.worst}; {turn.scale.high} = {criterion.best}", "$text-muted"
            ),
        ]
    return Content("\n").join(parts)


def _deadline(turn: ev.TurnAwaited) -> str:
    if turn.deadline is None:
        return "no deadline"
    left = turn.deadline - time.time()
    if left < 0:
        return "its time is over"
    return f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left"
