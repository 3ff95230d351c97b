"""What came out of an evaluation: figures with intervals, differences with tests, and what they carry.

The first model is the one that others are compared with. Every directed comparison of a report is one family
for Holm's adjustment, but for ``UNSEEN``, which is a part of another suite's items. It knows results, not how
they were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from pydantic import BaseModel, ConfigDict

from finetune.evaluate.items import ALPHA, UNSEEN
from finetune.evaluate.plan import Figure, Plan
from finetune.evaluate.replicates import ByRun, by_run
from finetune.evaluate.statistics import RESAMPLES, Difference, Estimate, difference, estimate, holm
from sandbox.agreement import LEAST, agreement
from sandbox.figures import Figures, tables, verdict
from sandbox.models.spec import base_of, parse
from sandbox.monitored import Monitors
from sandbox.output import make_folder, write_text
from sandbox.store.evaluations import Measured
from sandbox.text import printable

_EXAMPLES = 3


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Value(_Part):
    """A model's figure: a mean over ``n`` items with its 95 % bootstrap interval."""

    mean: float
    low: float | None
    high: float | None
    n: int


class Change(_Part):
    """How it differs from the first model's, on the items that both have. ``adjusted`` is Holm's p."""

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None
    adjusted: float | None


class Cell(_Part):
    """One model's figure in one metric of a suite."""

    suite: str
    metric: str
    model: str
    value: Value | None
    change: Change | None = None


class Example(_Part):
    """A question with every model's answer, and what the judge said of each."""

    suite: str
    question: str
    answers: dict[str, str]
    ratings: dict[str, str]


class Monitored(_Part):
    """What monitors found in a session that stands for a model: their tables, and what is worth a look."""

    model: str
    session: str
    figures: tuple[Figures, ...]
    warnings: tuple[str, ...]
    verdict: str


class Report(_Part):
    """An evaluation as it is told. ``findings`` are what the intervals carry, in sentences.

    ``monitored`` is of societies, and empty for suites.
    """

    name: str
    created: datetime
    finished: datetime | None
    plan: Plan
    cells: tuple[Cell, ...]
    findings: tuple[str, ...]
    notes: tuple[str, ...]
    examples: tuple[Example, ...]
    monitored: tuple[Monitored, ...] = ()
    by_run: tuple[ByRun, ...] = ()

    def of(self, suite: str, metric: str) -> list[Cell]:
        """The cells of a metric, by model in order."""
        return [cell for cell in self.cells if (cell.suite, cell.metric) == (suite, metric)]

    def cell(self, suite: str, metric: str, model: str) -> Cell:
        """One cell. Raises ``StopIteration`` if there is none."""
        return next(cell for cell in self.of(suite, metric) if cell.model == model)

    @property
    def models(self) -> tuple[str, ...]:
        """The models in order, the one that others are compared with first."""
        return self.plan.options.models


def make(
    name: str,
    created: datetime,
    finished: datetime | None,
    plan: Plan,
    measured: Sequence[Measured],
    monitored: Mapping[str, Monitors] | None = None,
) -> Report:
    """The report of what was measured, whether or not all of it is there yet.

    ``monitored`` has what monitors found, by the label that stands for a model.
    """
    by_cell: dict[tuple[str, str, str], dict[str, float | None]] = {}
    for one in measured:
        for metric, value in one.scores.items():
            by_cell.setdefault((one.suite, metric, one.model), {})[one.item] = value
    clusters = {suite.name: _questions(measured, suite.name) for suite in plan.suites}
    cells: list[Cell] = []
    changes: dict[int, Difference] = {}
    first, *others = plan.options.models
    seed = plan.options.seed
    for suite in plan.suites:
        for figure in suite.figures:
            base = by_cell.get((suite.name, figure.name, first), {})
            for model in (first, *others):
                values = by_cell.get((suite.name, figure.name, model), {})
                if figure.name == ALPHA:
                    found = _alpha(by_cell, suite.name, model, seed, clusters[suite.name])
                else:
                    asked = [clusters[suite.name].get(item, item) for item in sorted(values)]
                    found = estimate([values[item] for item in sorted(values)], seed, asked)
                if (
                    model != first
                    and (change := difference(base, values, seed, clusters[suite.name])) is not None
                ):
                    changes[len(cells)] = change
                figured = Value(**found._asdict()) if found else None
                cells.append(Cell(suite=suite.name, metric=figure.name, model=model, value=figured))
    figures = {(suite.name, figure.name): figure for suite in plan.suites for figure in suite.figures}
    directed = [place for place in changes if figures[cells[place].suite, cells[place].metric].better]
    for is_part in (False, True):  # part of another suite's items: a family of its own
        family = [place for place in directed if (cells[place].suite == UNSEEN) == is_part]
        changes |= zip(family, holm([changes[place] for place in family]), strict=True)
    for place, apart in changes.items():
        cells[place] = cells[place].model_copy(update={"change": Change(**apart._asdict())})
    return Report(
        name=name,
        created=created,
        finished=finished,
        plan=plan,
        cells=tuple(cells),
        findings=tuple(_findings(cells, figures, first)),
        notes=(*plan.notes, *_notes(plan, measured), *_few(by_cell, clusters)),
        examples=tuple(_examples(plan, measured)),
        by_run=tuple(by_run(plan, by_cell)),
        monitored=tuple(
            Monitored(
                model=model,
                session=plan.sessions[model],
                figures=tuple(one for one in tables(found) if one.rows),
                warnings=found.warnings,
                verdict=verdict(found),
            )
            for model, found in (monitored or {}).items()
        ),
    )


def _alpha(
    by_cell: Mapping[tuple[str, str, str], Mapping[str, float | None]],
    suite: str,
    model: str,
    seed: int,
    clusters: Mapping[str, str],
) -> Estimate | None:
    """How far a judge agrees with people, on the messages that it could rate."""
    judge = by_cell.get((suite, "judge", model), {})
    people = by_cell.get((suite, "people", model), {})
    units = {
        item: {"judge": float(round(value)), "people": float(round(known))}
        for item, value in sorted(judge.items())
        if value is not None and (known := people.get(item)) is not None
    }
    asked = [clusters.get(item, item) for item in units]
    found = agreement(list(units.values()), asked, resamples=RESAMPLES, seed=seed)
    return None if found.alpha is None else Estimate(found.alpha, found.low, found.high, found.units)


def _questions(measured: Sequence[Measured], suite: str) -> dict[str, str]:
    """Of items that know it, the question: they are resampled together."""
    asked = ((one.item, (one.detail or {}).get("question")) for one in measured if one.suite == suite)
    return {item: str(question) for item, question in asked if question}


def _findings(cells: Sequence[Cell], figures: Mapping[tuple[str, str], Figure], first: str) -> list[str]:
    found = []
    for cell in cells:
        figure, change = figures[cell.suite, cell.metric], cell.change
        if change is None or change.adjusted is None or change.adjusted >= 0.05 or not figure.better:
            continue
        better = (change.mean > 0) == (figure.better == "higher")
        found.append(
            f"{cell.suite}, {cell.metric}: {cell.model} is {'better' if better else 'worse'} than {first} by "
            f"{abs(change.mean):.3f} (95 %: {interval(change)}; p {told_p(change.adjusted)} after Holm, "
            f"{change.n} items)."
        )
    if not found and any(cell.change for cell in cells):
        most = max(cell.change.n for cell in cells if cell.change)
        if most < LEAST:
            found.append(
                f"Too few items ({most}) to tell anything. No interval is given for fewer than {LEAST}."
            )
        else:
            found.append(
                f"No difference from {first} is carried, in any figure of which more or less is better. That "
                "is no proof that there are none: with few items only large differences are seen."
            )
    return found


def _notes(plan: Plan, measured: Sequence[Measured]) -> list[str]:
    notes = []
    counts: dict[tuple[str, str], int] = {}
    for one in measured:
        counts[one.suite, one.model] = counts.get((one.suite, one.model), 0) + 1
    for suite in plan.suites:
        for model in plan.options.models:
            if (there := counts.get((suite.name, model), 0)) < suite.items:
                notes.append(
                    f"{suite.name}: {model} has {there} of {suite.items} items; the rest is missing."
                )
        for reason, count in suite.dropped.items():
            notes.append(f"{suite.name}: left out {count}: {reason}.")
    if plan.options.limit:
        notes.append(f"At most {plan.options.limit} items a suite, drawn by seed {plan.options.seed}.")
    if any(base_of(rater) == "local/smollm2" for rater in (plan.options.judge, *plan.raters) if rater):
        notes.append("SmolLM2-135M rates answers at chance level: its ratings show the way, not the models.")
    if any(parse(rater).family == "scripted" for rater in (plan.options.judge, *plan.raters) if rater):
        notes.append(
            "Scripted models rate by the seed and do not read: their ratings show the way, and no difference."
        )
    return notes


def _few(
    by_cell: Mapping[tuple[str, str, str], Mapping[str, float | None]], clusters: Mapping[str, dict[str, str]]
) -> list[str]:
    """Why a suite's figures have no intervals."""
    told = []
    for suite, questions in clusters.items():
        items = {item for (name, _, _), values in by_cell.items() if name == suite for item in values}
        count = len({questions.get(item, item) for item in items})
        if items and count < LEAST:
            told.append(
                f"{suite}: its {len(items)} items are about {count} questions, which are drawn together. "
                f"No interval is given for fewer than {LEAST}."
            )
    return told


def _examples(plan: Plan, measured: Sequence[Measured]) -> list[Example]:
    by_item: dict[tuple[str, str], dict[str, Measured]] = {}
    for one in measured:
        if one.detail and "answer" in one.detail:
            by_item.setdefault((one.suite, one.item), {})[one.model] = one
    found = []
    for suite in plan.suites:
        items = sorted(item for name, item in by_item if name == suite.name)
        for item in islice(items, _EXAMPLES):
            told = by_item[suite.name, item]
            some = next(iter(told.values())).detail or {}
            found.append(
                Example(
                    suite=suite.name,
                    question=printable(some.get("question", "")),
                    answers={m: printable((told[m].detail or {})["answer"]) for m in told},
                    ratings={
                        m: ", ".join(
                            f"{name} {'unread' if value is None else f'{value:.1f}'}"
                            for name, value in told[m].scores.items()
                            if name in ("alignment", "engagement")
                        )
                        for m in told
                    },
                )
            )
    return found


def interval(value: Value | Change) -> str:
    """The interval in words."""
    return "–" if value.low is None or value.high is None else f"{value.low:.3f} to {value.high:.3f}"


def told(value: Value | None) -> str:
    """A figure with its interval."""
    if value is None:
        return "–"
    return f"{value.mean:.3f}" if value.low is None else f"{value.mean:.3f} ({interval(value)})"


def told_change(change: Change | None) -> str:
    """A difference with its interval and p; a star where the adjusted p is below 0.05."""
    if change is None:
        return "–"
    p = change.p if change.adjusted is None else change.adjusted
    return told_apart(change) + ("" if p is None else f", p {told_p(p)}")


def told_apart(change: Change) -> str:
    """A difference with its interval; a star where the adjusted p is below 0.05."""
    star = "*" if change.adjusted is not None and change.adjusted < 0.05 else ""
    within = "" if change.low is None else f" ({change.low:+.3f} to {change.high:+.3f})"
    return f"{change.mean:+.3f}{star}{within}"


def told_p(p: float) -> str:
    """A p with as many digits as it deserves."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown(report: Report) -> str:
    """The report as Markdown."""
    return _render("report.md.j2", report, autoescape=False)


def html(report: Report) -> str:
    """The report as one HTML page, plots and all."""
    from finetune.evaluate import plots

    drawn = {suite.name: plots.forest(report, suite) for suite in report.plan.suites}
    return _render("report.html.j2", report, autoescape=True, plots=drawn)


def write(report: Report, folder: Path) -> None:
    """Write ``report.json``, ``report.md`` and ``report.html`` into a folder, each whole or not at all.

    Raises ``UserError`` if they can't be written.
    """
    make_folder(folder)
    texts = {
        "report.json": report.model_dump_json(indent=1) + "\n",
        "report.md": markdown(report),
        "report.html": html(report),
    }
    for name, text in texts.items():
        write_text(folder / name, text)


def _render(template: str, report: Report, *, autoescape: bool, **more: Any) -> str:
    environment = Environment(
        loader=PackageLoader("finetune.evaluate", "templates"),
        undefined=StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - off for Markdown only
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell_text}
    helpers = {"told": told, "told_change": told_change, "suites": report.plan.suites}
    return environment.get_template(template).render(report=report, **helpers, **more)


_MARKED = str.maketrans({"|": "\\|", "<": "&lt;", ">": "&gt;", "&": "&amp;", "`": "\\`", "\n": " "})


def _cell_text(text: str) -> str:
    """Text from elsewhere as it can stand in Markdown, in a table too."""
    return text.translate(_MARKED)
