"""The sessions of a server: where they stand; to make, run, fork, delete, watch and replay them."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Header, Static

from sandbox.errors import SandboxError
from server.wire import commands as do
from server.wire.snapshot import Snapshot
from server.wire.views import SessionView
from tui.api import Api
from tui.safe import cell, content, cut, plain
from tui.screens.dialogs import Confirm, NewSession
from tui.screens.looking import LookingScreen
from tui.state import series

_COLUMNS = ("session", "society", "status", "round", "seats", "alignment", "events", "changed")


class Sessions(LookingScreen):
    """See the module."""

    BINDINGS = [
        Binding("enter", "watch", "Watch", id="sessions.watch"),
        Binding("n", "new", "New", id="sessions.new"),
        Binding("s", "command('start')", "Start", id="sessions.start"),
        Binding("p", "command('pause')", "Pause", id="sessions.pause"),
        Binding("o", "command('step')", "One round", id="sessions.step"),
        Binding("x", "command('stop')", "Stop", id="sessions.stop"),
        Binding("f", "fork", "Fork", id="sessions.fork"),
        Binding("r", "replay", "Replay", id="sessions.replay"),
        Binding("delete", "delete", "Delete", id="sessions.delete"),
    ]

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._rows: list[SessionView] = []
        self._views: dict[str, Snapshot] = {}

    def compose(self) -> ComposeResult:
        """A table, and a line for what is wrong."""
        yield Header()
        table: DataTable[object] = DataTable(cursor_type="row", zebra_stripes=True, id="sessions")
        table.add_columns(*((name, name) for name in _COLUMNS))
        yield table
        yield Static("", id="state")
        yield Footer()

    def on_mount(self) -> None:
        """The table first."""
        self.sub_title = cut(self._api.base, 60)
        self.query_one(DataTable).focus()

    def on_screen_resume(self) -> None:
        """What happened meanwhile."""
        self.look()

    async def read(self) -> str:
        """The list; then, for the newest, what their snapshots say."""
        self._rows = await self._api.sessions()
        known = {row.session for row in self._rows}
        self._views = {key: view for key, view in self._views.items() if key in known}
        self._fill()
        for row in self._rows[:20]:
            view = self._views.get(row.session)
            if view is None or view.seq != row.events:
                self._views[row.session] = await self._api.snapshot(row.session)
        self._fill()
        return "" if self._rows else "There are no sessions yet. Press n to make one."

    def _fill(self) -> None:
        table = self.query_one(DataTable)
        wanted = {row.session for row in self._rows}
        for key in [key.value for key in table.rows if key.value not in wanted]:
            table.remove_row(str(key))
        for row in self._rows:
            cells = self._cells(row)
            if row.session in table.rows:
                for name, cell in zip(_COLUMNS, cells, strict=True):
                    table.update_cell(row.session, name, cell, update_width=True)
            else:
                table.add_row(*cells, key=row.session)

    def _cells(self, row: SessionView) -> tuple[object, ...]:
        view = self._views.get(row.session)
        return (
            cell(row.session),
            cell(cut(row.name, 24)),
            cell(row.status, "bold" if row.status == "running" else ""),
            f"{row.round}/{row.rounds}",
            str(len(view.seats)) if view else "",
            _alignment(view) if view else "",
            f"{row.events:,}",
            f"{row.updated.astimezone():%m-%d %H:%M}",
        )

    @property
    def chosen(self) -> str | None:
        """The session under the cursor."""
        table = self.query_one(DataTable)
        if not table.row_count:
            return None
        return str(table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value)

    def on_data_table_row_selected(self) -> None:
        """Enter, or a click."""
        self.action_watch()

    def action_watch(self) -> None:
        """Watch the session."""
        if key := self.chosen:
            self.app.call_later(self.app.run_action, f"watch({key!r})")

    def action_replay(self) -> None:
        """Play it from the start."""
        if key := self.chosen:
            self.app.call_later(self.app.run_action, f"replay({key!r})")

    def action_command(self, name: str) -> None:
        """Start, pause, step or stop it."""
        kinds = {"start": do.Start, "pause": do.Pause, "step": do.Step, "stop": do.Stop}
        if key := self.chosen:
            self.run_worker(self._do(key, kinds[name]()), group="do")

    async def _do(self, key: str, command: do.Command) -> None:
        try:
            await self._api.perform(key, command)
        except SandboxError as error:
            self.notify(content(str(error)).plain, severity="error", markup=False)
        self.look()

    def action_new(self) -> None:
        """Make a session."""
        self.run_worker(self._new(), group="do")

    async def _new(self) -> None:
        try:
            examples = list(await self._api.examples())
            made: SessionView | None = await self.app.push_screen_wait(NewSession(examples, self._api.create))
        except SandboxError as error:
            self.notify(content(str(error)).plain, severity="error", timeout=10, markup=False)
            return
        self.look()
        if made is not None:
            self.app.call_later(self.app.run_action, f"watch({made.session!r})")

    def action_fork(self) -> None:
        """Another future for the same past."""
        if key := self.chosen:
            self.run_worker(self._fork(key), group="do")

    async def _fork(self, key: str) -> None:
        try:
            made = await self._api.fork(key)
            self.notify(plain(f"{made.session} has the same past."), markup=False)
        except SandboxError as error:
            self.notify(content(str(error)).plain, severity="error", markup=False)
        self.look()

    def action_delete(self) -> None:
        """Delete it, if that is meant."""
        if key := self.chosen:
            self.run_worker(self._delete(key), group="do")

    async def _delete(self, key: str) -> None:
        asked = Confirm(
            f"Delete {key} with all its messages and ratings? It can't be brought back.", "Delete"
        )
        if not await self.app.push_screen_wait(asked):
            return
        try:
            await self._api.delete(key)
        except SandboxError as error:
            self.notify(content(str(error)).plain, severity="error", markup=False)
        self.look()


def _alignment(view: Snapshot) -> str:
    """The peers' dimension by round so far: its first and its newest mean."""
    means = [
        tally.mean
        for _, tally in series(view.history, "revision", view.rubric.peer)
        if tally.mean is not None
    ]
    if not means:
        return ""
    return f"{means[-1]:.2f}" if len(means) == 1 else f"{means[0]:.2f} → {means[-1]:.2f}"
