"""An evaluation's report as commands tell it: written to a folder, printed, or as JSON."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.box import SIMPLE_HEAD
from rich.table import Table

from finetune import job
from finetune.evaluate.plan import Plan, SuitePlan
from sandbox.commands.console import again, counted, masked, print_json, safe, terminal
from sandbox.errors import MissingExtra, UserError
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import evaluations as records
from sandbox.store.tables import EvaluationRow

INSTALL = "pip install 'social-sandbox[eval]'"


def require_packages() -> None:
    """Raise ``MissingExtra`` without what reports are made with."""
    for package in ("scipy", "matplotlib"):
        if find_spec(package) is None:
            raise MissingExtra("Evaluation", INSTALL)


def only_with_resume(*allowed: str) -> None:
    """Refuse options that what was begun has already. Raises ``click.UsageError``."""
    context = click.get_current_context()
    free = {*allowed, "resume", "as_json", "db"}
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in free and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            told = (
                parameter.human_readable_name if isinstance(parameter, click.Argument) else parameter.opts[0]
            )
            raise click.UsageError(
                f"What is gone on with has its {told} already. With --resume leave it out."
            )


def fresh_name() -> str:
    """A name after the time."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}"


def command_line() -> str:
    """The command as it was given, without a database's password."""
    return "sandbox " + shlex.join(map(masked, sys.argv[1:]))


def begun(store: Store, name: str, command: str) -> EvaluationRow:
    """The evaluation of a name, if it is ``command`` that goes on with it. Raises ``UserError``."""
    row = records.find(store.database, name)
    by = _command_of(Plan.model_validate_json(row.plan))
    if by != command:
        raise UserError(f"{row.name} was begun otherwise. Go on with: sandbox {by} --resume {row.name}")
    return row


def _command_of(plan: Plan) -> str:
    """The command that goes on with it."""
    return "loop" if plan.lineage else "compare" if plan.sessions else "evaluate"


def report_folder(settings: Settings, name: str) -> Path:
    """Where an evaluation's report is, unless it is told otherwise."""
    return settings.data_dir / "evaluations" / name


@contextmanager
def alone(settings: Settings, name: str) -> Iterator[None]:
    """An evaluation, for one process at a time: two would pay twice. Raises ``UserError``."""
    with job.alone(report_folder(settings, name), f"'{name}' is being measured"):
        yield


def tell(store: Store, settings: Settings, row: EvaluationRow, out: Path | None, *, as_json: bool) -> None:
    """Write an evaluation's report, and print what it says."""
    from finetune.evaluate import report, societies

    plan = Plan.model_validate_json(row.plan)
    measured = records.measured(store.database, row, with_detail=True)
    monitored = societies.monitored(store, plan)
    found = report.make(row.name, row.created, row.finished, plan, measured, monitored)
    folder = out or report_folder(settings, row.name)
    report.write(found, folder)
    if as_json:
        print_json(found.model_dump(mode="json") | {"folder": str(folder)})
        return
    console = terminal()
    print_report(found)
    console.print(safe(f"The report is in {folder / 'report.html'}"), soft_wrap=True)
    if not row.finished:
        told = again(f"{_command_of(plan)} --resume {row.name}")
        console.print(safe(f"It is not finished. Go on with: {told}"), soft_wrap=True)


def print_report(report: Any) -> None:
    """A report's figures and findings, on a terminal."""
    console = terminal()
    for suite in report.plan.suites:
        console.print(_table(report, suite))
    for finding in report.findings:
        console.print(safe(finding), soft_wrap=True)
    for one in report.by_run:
        console.print(safe(one.told()), soft_wrap=True)
    for one in report.monitored:
        for warning in one.warnings:
            console.print(safe(f"! {one.model}: {warning}", "yellow"), soft_wrap=True)
    for note in report.notes:
        console.print(safe(note, "dim"), soft_wrap=True)


def _table(report: Any, suite: SuitePlan) -> Table:
    """A row for every metric and model: it fits into 80 columns, however many there are of either."""
    title = f"{suite.name}, {counted(suite.items, 'item')}"
    table = Table(title=title, title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    compares = len(report.models) > 1
    for column in ("metric", "model", "mean [95 %]", *(["difference [95 %]"] if compares else [])):
        table.add_column(column, overflow="fold")
    for figure in suite.figures:
        for place, model in enumerate(report.models):
            cell = report.cell(suite.name, figure.name, model)
            digits = 3 if figure.high is not None and figure.high <= 1 else 2
            table.add_row(
                safe("" if place else figure.name),
                safe(model),
                _brief(cell.value, f".{digits}f"),
                *([_brief(cell.change, f"+.{digits}f")] if compares else []),
                end_section=place == len(report.models) - 1,
            )
    return table


def _brief(found: Any, form: str) -> str:
    """A value or a change in few columns; a star where the adjusted p is below 0.05."""
    if found is None:
        return ""
    adjusted = getattr(found, "adjusted", None)
    star = "*" if adjusted is not None and adjusted < 0.05 else ""
    ends = "" if found.low is None else f" [{found.low:{form}}, {found.high:{form}}]"
    return f"{found.mean:{form}}{star}{ends}"
