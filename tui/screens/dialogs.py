"""Small windows that ask one thing: a yes, a line of text, a new session, a seat to take, a rating."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Select, Static

from sandbox.errors import SandboxError
from sandbox.rubric import Rubric
from server.wire import commands as do
from server.wire.views import CreateSession, SessionView
from tui.safe import content, plain
from tui.widgets.words import Line

_CLOSE = Binding("escape", "dismiss(None)", "Close")


T = TypeVar("T")


class Dialog(ModalScreen[T]):
    """A question over the screen, answered once: a key that is pressed again says nothing more."""

    _is_answered = False

    def dismiss(self, result: T | None = None) -> AwaitComplete:
        """Close it with an answer."""
        if self._is_answered:
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)


class Confirm(Dialog[bool]):
    """Asks whether something is meant that can't be taken back."""

    BINDINGS = [Binding("y", "dismiss(True)", "Yes"), Binding("n,escape", "dismiss(False)", "No")]

    def __init__(self, question: str, yes: str) -> None:
        super().__init__()
        self._question, self._yes = question, yes

    def compose(self) -> ComposeResult:
        """The question and two buttons."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Static(content(self._question))
            with Horizontal(classes="buttons"):
                yield Button(f"{self._yes} (y)", id="yes", variant="error")
                yield Button("No (n)", id="no")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "yes")


class AskLine(Dialog[str | None]):
    """Asks for one line."""

    BINDINGS = [_CLOSE]

    def __init__(self, question: str, value: str = "", placeholder: str = "") -> None:
        super().__init__()
        self._question, self._value, self._placeholder = question, value, placeholder

    def compose(self) -> ComposeResult:
        """The question and a line."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Label(content(self._question))
            yield Line(self._value, placeholder=self._placeholder)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer."""
        self.dismiss(event.value.strip())


class NewSession(Dialog[SessionView | None]):
    """Asks what society a new session is to be of, and has ``make`` make it; what can't be is said here."""

    BINDINGS = [_CLOSE, Binding("ctrl+j,ctrl+enter", "submit", "Create")]

    def __init__(self, examples: list[str], make: Callable[[CreateSession], Awaitable[SessionView]]) -> None:
        super().__init__()
        self._examples, self._make = examples, make
        self._is_making = False

    def compose(self) -> ComposeResult:
        """Example or file, and what may differ from it."""
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Label("A new session of a bundled society, or of a society file")
            first = "scripted" if "scripted" in self._examples else self._examples[0]
            yield Select(
                [(name, name) for name in self._examples], value=first, allow_blank=False, id="example"
            )
            yield Line(placeholder="or the path of a society.toml", id="file")
            yield Line(placeholder="seats, as 3x3 (its own, if empty)", id="seats")
            yield Line(placeholder="rounds (its own, if empty)", id="rounds", type="integer")
            yield Static("", id="problem")
            with Horizontal(classes="buttons"):
                yield Button("Create and start", id="start", variant="primary")
                yield Button("Create", id="create")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Create it."""
        self._create(start=event.button.id == "start")

    def on_input_submitted(self) -> None:
        """Create it, and start."""
        self._create(start=True)

    def action_submit(self) -> None:
        """Create it, and start."""
        self._create(start=True)

    def _create(self, *, start: bool) -> None:
        if not self._is_making:  # at once: whoever presses Enter again means the same session
            self._is_making = True
            self.run_worker(self._made(start))

    async def _made(self, start: bool) -> None:
        try:
            made = await self._make(self._wanted(start))
        except (OSError, RuntimeError, ValueError, SandboxError) as error:
            self.query_one("#problem", Static).update(content(f"That can't be: {error}", "$text-error"))
        else:
            self.dismiss(made)
        finally:
            self._is_making = False

    def _wanted(self, start: bool) -> CreateSession:
        from pathlib import Path

        file = self.query_one("#file", Input).value.strip()
        rounds = self.query_one("#rounds", Input).value.strip()
        seats = self.query_one("#seats", Input).value.strip() or None
        example = None if file else str(self.query_one("#example", Select).value)
        return CreateSession(
            example=example,
            toml=Path(file).expanduser().read_text("utf-8") if file else None,
            seats=seats,
            rounds=int(rounds) if rounds else None,
            start=start,
        )


class TakeSeat(Dialog[do.Take | None]):
    """Asks how a seat is to be taken."""

    BINDINGS = [_CLOSE, Binding("ctrl+j,ctrl+enter", "submit", "Take it")]

    def __init__(self, seat: str, has_model: bool) -> None:
        super().__init__()
        self._seat, self._has_model = seat, has_model

    def compose(self) -> ComposeResult:
        """The policy for when one is away, and for how long is waited."""
        policies = [("abstain: no answer, on record", "abstain"), ("wait: everybody waits for me", "wait")]
        if self._has_model:
            policies.append(("stand_in: its model answers", "stand_in"))
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Label(content(f"Take the seat {self._seat}. When I don't answer in time:"))
            yield Select(policies, value="abstain", allow_blank=False, id="absent")
            yield Label("Seconds that a request waits for me")
            yield Line("300", type="integer", id="patience")
            with Horizontal(classes="buttons"):
                yield Button("Take the seat", id="take", variant="primary")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take it."""
        self.action_submit()

    def action_submit(self) -> None:
        """Take it."""
        patience = self.query_one("#patience", Input).value
        chosen = str(self.query_one("#absent", Select).value)
        try:
            wanted = do.Take.model_validate(
                {"seat": self._seat, "absent": chosen, "patience_s": float(patience or 300)}
            )
        except ValueError:
            self.notify("Between 1 second and 30 days.", severity="error")
            return
        self.dismiss(wanted)


@dataclass(frozen=True, slots=True)
class Target:
    """A message that can be rated."""

    message: str
    label: str


class RateMessage(Dialog[do.Rate | None]):
    """Asks for a rating of one message: number keys choose, Enter or ``ctrl+j`` sends."""

    AUTO_FOCUS = ""  # the number keys come first
    BINDINGS = [
        _CLOSE,
        Binding("ctrl+j,ctrl+enter,enter", "submit", "Send"),
        *(Binding(str(number % 10), f"value({number})", show=False) for number in range(1, 11)),
    ]

    def __init__(self, targets: list[Target], rubric: Rubric) -> None:
        super().__init__()
        self._targets, self._rubric = targets, rubric
        self._value: int | None = None

    def compose(self) -> ComposeResult:
        """Message, dimension, value, reason."""
        scale = self._rubric.scale
        with VerticalScroll(classes="dialog", can_focus=False):
            yield Label("Rate a message")
            yield Select(
                [(plain(target.label), target.message) for target in self._targets],
                value=self._targets[-1].message,
                allow_blank=False,
                id="target",
            )
            yield Select(
                [(plain(criterion.name), criterion.name) for criterion in self._rubric.criteria],
                value=self._rubric.peer,
                allow_blank=False,
                id="dimension",
            )
            yield Static(content(f"Press a number from {scale.low} to {scale.high}."), id="value")
            yield Line(placeholder="why (you may leave it out)", id="reason", max_length=do.MAX_TEXT)
            with Horizontal(classes="buttons"):
                yield Button("Send", id="send", variant="primary")

    def on_button_pressed(self) -> None:
        """Send."""
        self.action_submit()

    def action_value(self, number: int) -> None:
        """Choose a value."""
        scale = self._rubric.scale
        value = number if scale.holds(number) else number % 10
        if scale.holds(value):
            self._value = value
            named = self._rubric.criterion(str(self.query_one("#dimension", Select).value))
            end = named.worst if value == scale.low else named.best if value == scale.high else ""
            said = f"{value} of {scale.high}" + (f" ({end})" if end else "")
            self.query_one("#value", Static).update(content(f"{said}. Enter sends it; Tab to say why."))

    def on_input_submitted(self) -> None:
        """Send."""
        self.action_submit()

    def action_submit(self) -> None:
        """Send."""
        if self._value is None:
            self.notify("Choose a number first.", severity="warning")
            return
        self.dismiss(
            do.Rate(
                message=str(self.query_one("#target", Select).value),
                value=self._value,
                dimension=str(self.query_one("#dimension", Select).value),
                reason=self.query_one("#reason", Input).value,
            )
        )
