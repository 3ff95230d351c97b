"""The Textual app: wiring only. Screens show what ``tui.state`` knows, and ask the server by ``tui.api``."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.events import Resize
from textual.geometry import Size
from textual.screen import Screen
from textual.theme import BUILTIN_THEMES, Theme

from sandbox.errors import UserError
from tui import clipboard
from tui.api import Api
from tui.safe import plain
from tui.screens.agreement import AgreementScreen
from tui.screens.interaction import Interaction
from tui.screens.live import LiveSociety
from tui.screens.monitors import MonitorsScreen
from tui.screens.queue import QueueScreen
from tui.screens.replayed import ReplayedSociety
from tui.screens.sessions import Sessions
from tui.settings import THEMES, AppSettings
from tui.widgets.feed import Feed
from tui.widgets.grid import SeatGrid

LEAST = Size(60, 18)
"""Below this, parts of the screens are cut."""
CONTRAST = Theme(
    name="sandbox-contrast",
    primary="#ffff00",
    secondary="#00ffff",
    accent="#00ffff",
    foreground="#ffffff",
    background="#000000",
    surface="#000000",
    panel="#1a1a1a",
    success="#00ff00",
    warning="#ffff00",
    error="#ff8080",
    dark=True,
    variables={"text-muted": "#ffffff", "footer-key-foreground": "#ffff00", "border": "#ffffff"},
)


def check_theme(name: str) -> str:
    """The theme as Textual calls it. Raises ``UserError`` for one that there is not."""
    chosen = THEMES.get(name.lower(), name.lower())
    known = {*BUILTIN_THEMES, CONTRAST.name}
    if chosen not in known:
        raise UserError(f"There is no theme '{name}'. There are: {', '.join((*THEMES, *sorted(known)))}.")
    return chosen


def check_keys(keys: Mapping[str, str]) -> None:
    """Raise ``UserError`` for a key that is given to nothing, or to two things of one screen."""
    for action in keys:
        if not any(action in known for known in _actions()):
            names = sorted({name for known in _actions() for name in known})
            raise UserError(f"[keys] names '{action}', which is no action. There are: {', '.join(names)}.")
    for known in _actions():
        given: dict[str, str] = {}
        for action in known:
            for key in keys.get(action, "").split(","):
                if key and (other := given.setdefault(key, action)) != action:
                    raise UserError(f"[keys] gives '{key}' to {other} and to {action}. Give each another.")


def _actions() -> list[set[str]]:
    """The names of the actions that each screen knows, those of its widgets and of the app included."""
    society = (SeatGrid, Feed)
    screens: tuple[tuple[type, ...], ...] = (
        (Sessions,),
        (LiveSociety, *society),
        (ReplayedSociety, *society),
        (QueueScreen,),
        (Interaction,),
        (AgreementScreen,),
        (MonitorsScreen,),
    )
    return [
        {
            binding.id
            for part in (*screen, SandboxApp)
            for kind in part.__mro__
            for binding in vars(kind).get("BINDINGS", ())
            if isinstance(binding, Binding) and binding.id
        }
        for screen in screens
    ]


class SandboxApp(App[None]):
    """See the module. ``session`` is watched (or replayed) at once, if one is named."""

    CSS_PATH = Path("theme.tcss")
    TITLE = "social-sandbox"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS = [
        Binding("f1", "help", "Help", id="app.help"),
        Binding("ctrl+q", "quit", "Quit", id="app.quit"),
        Binding("ctrl+t", "theme", "Theme", show=False, id="app.theme"),
    ]

    def __init__(self, settings: AppSettings, session: str | None = None, *, replay: bool = False) -> None:
        super().__init__(ansi_color=False)  # an ANSI theme under NO_COLOR would be black on black
        self._settings = settings
        self._session, self._replays = session, replay
        self.api = Api(settings.url, settings.key, settings.person)
        self._notices: dict[str, float] = {}

    def notify(self, message: str, *, timeout: float | None = None, **options: Any) -> None:
        """Show a notice, once at a time: the same again would only cover the screen."""
        now, seconds = time.monotonic(), timeout or self.NOTIFICATION_TIMEOUT
        if self._notices.get(message, 0.0) > now:
            return
        self._notices = {told: until for told, until in self._notices.items() if until > now}
        self._notices[message] = now + seconds
        super().notify(message, timeout=seconds, **options)

    def on_mount(self) -> None:
        """Show the sessions, and on top the one that was asked for."""
        self.register_theme(CONTRAST)
        self.theme = check_theme(self._settings.theme)
        self.set_keymap(self._settings.keys)
        self.push_screen(Sessions(self.api))
        if self._session is not None:
            if self._replays:
                self.action_replay(self._session)
            else:
                self.action_watch(self._session)

    def on_resize(self, event: Resize) -> None:
        """Say so where it does not fit."""
        if event.size.width < LEAST.width or event.size.height < LEAST.height:
            self.notify(
                f"This terminal has {event.size.width}×{event.size.height} characters; parts need "
                f"{LEAST.width}×{LEAST.height}. `sandbox watch --plain` needs none.",
                severity="warning",
            )

    async def on_unmount(self) -> None:
        """Give the connections back."""
        await self.api.close()

    def action_watch(self, session: str) -> None:
        """Watch a session live."""
        self.push_screen(LiveSociety(self.api, session, self._settings.person))

    def action_replay(self, session: str) -> None:
        """Play a session again."""
        self.push_screen(ReplayedSociety(self.api, session))

    def action_help(self) -> None:
        """The keys for what is focused; away again with the same key."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        else:
            self.action_show_help_panel()

    def action_theme(self) -> None:
        """The next of our three themes."""
        names = list(THEMES.values())
        place = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(place + 1) % len(names)]

    async def copy_text(self, text: str) -> None:
        """Copy a text as it is stored, and say what became of it."""
        self.notify(plain(await clipboard.copy(text, self.copy_to_clipboard)), markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Every action of the screen, by name, in the command palette."""
        yield from super().get_system_commands(screen)
        for active in screen.active_bindings.values():
            binding = active.binding
            if binding.description and not binding.system and active.enabled:
                keys = self.get_key_display(binding)
                yield SystemCommand(
                    binding.description,
                    f"as with the key {keys}",
                    lambda node=active.node, action=binding.action: self.call_later(
                        self.run_action, action, node
                    ),
                )
