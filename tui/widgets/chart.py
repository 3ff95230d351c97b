"""Charts of ratings by round, with the totals of the session below."""

from __future__ import annotations

from textual.content import Content
from textual.widget import Widget

from server.wire.snapshot import Tally
from tui.charts import BOTH, DRAFT, REVISION, SPREAD, chart
from tui.safe import cut
from tui.state import Watched, series, spread

Rounds = list[tuple[int, Tally]]


class Charts(Widget):
    """One chart a dimension: draft and revision by round, with spread; then what it took."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._watched: Watched | None = None

    def show(self, watched: Watched) -> None:
        """Show how things stand."""
        self._watched = watched
        self.refresh()

    def render(self) -> Content:
        """All charts, below one another, as high as there is room."""
        if self._watched is None:
            return Content("")
        view = self._watched.view
        width = max(self.size.width - 5, 8)
        criteria = view.rubric.criteria
        height = max(min((self.size.height - 6) // max(len(criteria), 1) - 3, 13), 3)
        lines = [f"{REVISION} revision  {DRAFT} draft  {BOTH} both  {SPREAD} spread (standard deviation)"]
        for criterion in criteria:
            drafts = series(view.history, "draft", criterion.name)
            revisions = series(view.history, "revision", criterion.name)
            lines.append("")
            told = _newest(drafts, revisions, is_blind=self._watched.is_blind)
            lines.append(cut(f"{criterion.name}: {told}", self.size.width))
            drawn = chart(drafts, revisions, view.rubric.scale.low, view.rubric.scale.high, width, height)
            lines += [f"{label:>3} {row}" for label, row in drawn.rows]
            lines.append(f"    {drawn.ticks}")
        lines += ["", *totals(self._watched)]
        return Content("\n".join(lines))


def totals(watched: Watched) -> list[str]:
    """What the session took so far."""
    told = watched.view.totals
    read = told.ratings - told.unparsed
    share = f" ({told.unparsed / told.ratings:.0%})" if told.ratings else ""
    return [
        f"{told.interactions:,} interactions, {told.messages:,} messages, {told.failures:,} failed turns",
        f"{told.recalled:,} of {told.drafts:,} drafts recalled a memory",
        f"{read:,} ratings, {told.unparsed:,} unparsed{share}",
        f"{told.calls:,} calls, {told.prompt_tokens:,} + {told.completion_tokens:,} tokens, ${told.cost:.4f}",
    ]


def _newest(drafts: Rounds, revisions: Rounds, *, is_blind: bool) -> str:
    if not drafts and not revisions:
        return "hidden from you, who rate blind" if is_blind else "no round has been rated yet"
    said = []
    for name, known in (("draft", drafts), ("revision", revisions)):
        if known:
            tally = known[-1][1]
            if tally.mean is None:
                said.append(f"{name} unread")
            else:
                said.append(f"{name} {tally.mean:.2f} ± {spread(tally):.2f} (n = {tally.n})")
            if tally.unparsed:
                said[-1] += f", {tally.unparsed} unparsed"
    number = (revisions or drafts)[-1][0]
    return f"round {number}: {', '.join(said)}"
