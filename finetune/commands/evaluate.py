"""``sandbox evaluate``: models side by side on suites; ``sandbox evaluations``: what was measured before."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from rich.table import Table

from finetune.commands.progress import shown
from finetune.commands.reporting import (
    alone,
    begun,
    command_line,
    fresh_name,
    only_with_resume,
    print_report,
    report_folder,
    require_packages,
    tell,
)
from finetune.datasets import require_name
from finetune.evaluate import people, suites
from finetune.evaluate.plan import Options, Plan
from sandbox.commands.console import (
    POSITIVE,
    STOPPED,
    again,
    counted,
    name_column,
    opened,
    print_json,
    print_table,
    safe,
    sure,
    terminal,
    with_json,
    with_store,
    with_yes,
)
from sandbox.errors import BudgetExhausted, ModelError, UserError
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import evaluations as records
from sandbox.store.tables import EvaluationRow
from sandbox.text import printable


def _suites_told() -> str:
    told = "\n".join(f"  {name:<24}{offer.help}" for name, offer in suites.OFFERED.items())
    return (
        f"\b\nSuites:\n{told}\n  {suites.PREFIX + 'TASK':<24}any likelihood task of lm-eval\n"
        f"  {people.PREFIX + 'SESSION':<24}models as judges, beside the people who rated a session"
    )


@click.command(epilog=_suites_told())
@click.argument("models", nargs=-1, metavar="MODEL[#ADAPTER]…")
@click.option("--suite", "named", multiple=True, metavar="NAME", help="What to measure; may be repeated.")
@click.option(
    "--data",
    multiple=True,
    metavar="FOLDER|SUITE=FILE",
    help="Where the suites' files are; for hh-pref also SUITE=DATASET. Else from the hub, where it has them.",
)
@click.option("--judge", default="", metavar="MODEL", help="Who rates the answers of hh and hh-a.")
@click.option("--force", is_flag=True, help="Let a model judge itself.")
@click.option("--limit", type=POSITIVE, help="Items a suite, drawn by the seed.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--chat", is_flag=True, help="Put standard suites into the chat template; else plain text.")
@click.option("--keep-seen", is_flag=True, help="Keep items that an adapter was trained on.")
@click.option("--max-tokens", type=POSITIVE, default=128, show_default=True, help="Of an answer.")
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="Of answers; 0: the likeliest."
)
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Stop when this much is spent.")
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"], case_sensitive=False),
    default="float32",
    show_default=True,
    help="Precision; float32 gives lm-eval's figures.",
)
@click.option("--name", help="The evaluation's name (default: after the time).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder of the report.")
@click.option("--resume", metavar="NAME", help="Go on with an evaluation that was interrupted, or 'last'.")
@with_json
@with_store
def evaluate(
    models: tuple[str, ...],
    named: tuple[str, ...],
    data: tuple[str, ...],
    force: bool,
    name: str | None,
    out: Path | None,
    resume: str | None,
    as_json: bool,
    settings: Settings,
    **given: Any,
) -> None:
    """Measure models side by side; the others are compared with the first.

    Writes report.json, report.md and report.html, and keeps every item's scores in the database. Ctrl-C
    keeps what is done.
    """
    require_packages()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from finetune.evaluate import estimating, running

    with opened(settings) as store:
        if resume:
            only_with_resume("budget", "out")
            row = begun(store, resume, "evaluate")
            plan = Plan.model_validate_json(row.plan)
            if given["budget"] is not None:
                options = plan.options.model_copy(update={"budget": given["budget"]})
                plan = plan.model_copy(update={"options": options})
            prepared = running.reload(store, settings, plan)
        else:
            options = _options(models, named, data, given)
            _require_other_judge(running.judges_itself(options), options.judge, force)
            name = require_name(name or fresh_name(), "evaluation")
            prepared = running.prepare(store, settings, options, command_line())
            row = records.create(store.database, name, prepared.plan.model_dump_json())
        if not as_json:
            _tell_plan(row.name, estimating.estimate(prepared, running.done_of(store, row)))
        with alone(settings, row.name):
            records.find(store.database, row.name)  # it may have been deleted meanwhile
            _carry_out(store, settings, row, prepared, out, as_json=as_json)


def _carry_out(
    store: Store, settings: Settings, row: EvaluationRow, prepared: Any, out: Path | None, *, as_json: bool
) -> None:
    from finetune.evaluate import running

    go_on = again(f"evaluate --resume {row.name}")
    with shown(quiet=as_json) as on_progress:
        try:
            outcome = running.carry_out(store, settings, row, prepared, on_progress)
        except KeyboardInterrupt:
            click.echo(f"Stopped; what is measured is kept. Go on with: {go_on}", err=True)
            sys.exit(STOPPED)
        except BudgetExhausted as error:
            click.echo(printable(f"Stopped: the budget is spent. {error}"), err=True)
            click.echo(f"What is measured is kept: {go_on}", err=True)
            sys.exit(BudgetExhausted.exit_code)
    row = records.find(store.database, row.name)
    tell(store, settings, row, out, as_json=as_json)
    for why, count in outcome.failures.items():
        told = f"{counted(count, 'item')} failed: {why}. Try them again with: {go_on}"
        click.echo(printable(told), err=True)
    if outcome.failures:
        sys.exit(ModelError.exit_code)


@click.group()
def evaluations() -> None:
    """List, show and delete what was measured."""


@evaluations.command("list")
@with_json
@with_store
def list_evaluations(as_json: bool, settings: Settings) -> None:
    """The evaluations, newest first."""
    with opened(settings) as store:
        rows = records.listing(store.database)
    if not rows and not as_json:
        terminal().print("No evaluations yet. Begin with: sandbox evaluate local/smollm2 --suite truthfulqa")
        return
    table = Table(pad_edge=False)
    name_column(table, "evaluation", [row.name for row in rows])
    for column in ("begun", "state", "models", "suites"):
        table.add_column(column, overflow="fold")
    for row in rows:
        plan = Plan.model_validate_json(row.plan)
        if as_json:
            state = {"name": row.name, "created": row.created, "finished": row.finished}
            print_json(state | {"plan": plan.model_dump(mode="json")})
        table.add_row(
            safe(row.name),
            f"{row.created:%Y-%m-%d %H:%M}",
            "" if row.finished else "unfinished",
            safe(", ".join(plan.options.models)),
            safe(", ".join(suite.name for suite in plan.suites)),
        )
    if not as_json:
        print_table(terminal(), table)


@evaluations.command()
@click.argument("names", nargs=-1, required=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder of the report.")
@with_json
@with_store
def show(names: tuple[str, ...], out: Path | None, as_json: bool, settings: Settings) -> None:
    """Report an evaluation again; or several as one, where they measured the same items."""
    require_packages()
    with opened(settings) as store:
        if len(names) == 1:
            tell(store, settings, records.find(store.database, names[0]), out, as_json=as_json)
            return
        from finetune.evaluate import joining, report

        found = joining.joined(store, names)
        if out:
            report.write(found, out)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return
    print_report(found)


@evaluations.command()
@click.argument("name")
@with_yes
@with_store
def delete(name: str, yes: bool, settings: Settings) -> None:
    """Forget an evaluation with its scores and answers."""
    with opened(settings) as store:
        row = records.find(store.database, name)
        sure(f"Delete {row.name} for good?", yes=yes)
        folder = report_folder(settings, row.name)
        with alone(settings, row.name):
            records.delete(store.database, row.name)
            shutil.rmtree(folder)
    click.echo(printable(f"{row.name} is deleted; a report in another folder (--out) is not."))


def _options(
    models: Sequence[str], named: Sequence[str], data: Sequence[str], given: dict[str, Any]
) -> Options:
    if not models:
        raise click.UsageError("Name a model, such as local/smollm2 or local/smollm2#ADAPTER.")
    if not named:
        raise click.UsageError(f"Name a suite with --suite. There are: {suites.names()}.")
    places: dict[str, str] = {}
    for place in data:
        key, mark, value = place.partition("=")
        if mark and (key in suites.OFFERED):
            file = Path(value).expanduser()
            places[key] = str(file.resolve()) if file.exists() else value
        elif (folder := Path(place).expanduser()).is_dir():
            places[""] = str(folder.resolve())
        else:
            raise UserError(f"--data {place} is neither a folder nor SUITE=FILE.")
    try:
        return Options(models=tuple(models), suites=tuple(dict.fromkeys(named)), data=places, **given)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"--{first['loc'][0]}: {first['msg']}.".replace("_", "-")) from error


def _require_other_judge(selves: Sequence[str], judge: str, force: bool) -> None:
    if selves and not force:
        raise UserError(
            f"{judge} would judge itself: {', '.join(selves)} shares its weights, and models prefer what is "
            "their own. Take another --judge, or say that you want it with --force."
        )


def _tell_plan(name: str, estimate: Any) -> None:
    console = terminal()
    parts = []
    if estimate.scored:
        parts.append(f"{counted(estimate.scored, 'item')} to score")
    if estimate.answers:
        parts.append(counted(estimate.answers, "answer"))
    if estimate.ratings:
        parts.append(f"{counted(estimate.ratings, 'rating')}, about ${estimate.cost:.2f} at most")
    console.print(safe(f"Evaluation {name}: {'; '.join(parts) or 'all is measured'}"))
    if estimate.unpriced:
        console.print(safe(f"No price is known of {', '.join(estimate.unpriced)}.", "dim"))
