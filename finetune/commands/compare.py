"""``sandbox compare``: a stored society, without and with an adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.commands.reporting import (
    alone,
    begun,
    command_line,
    fresh_name,
    only_with_resume,
    require_packages,
    tell,
)
from finetune.datasets import require_name
from finetune.evaluate.plan import Plan
from sandbox.commands.console import (
    STOPPED,
    again,
    opened,
    safe,
    terminal,
    with_json,
    with_store,
)
from sandbox.commands.working import work
from sandbox.errors import BudgetExhausted
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import evaluations as records
from sandbox.store import sessions
from sandbox.text import printable

if TYPE_CHECKING:
    from finetune.evaluate.societies import Run


@click.command()
@click.argument("session", required=False)
@click.option(
    "--with",
    "given",
    metavar="ADAPTER|MODEL",
    help="Through what the agents answer instead; with --seeds also several (A,B), as of several trainings.",
)
@click.option(
    "--agents", default="", metavar="NAME,…", help="These agents only (default: all it is made for)."
)
@click.option(
    "--seeds",
    "runs",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="Run both so often, with a seed each, and tell how far the runs lie apart.",
)
@click.option("--afresh", is_flag=True, help="Run the society again without it, too.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="Stop a society that costs more.")
@click.option("--name", help="The comparison's name (default: after the time).")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder of the report.")
@click.option("--resume", metavar="NAME", help="Go on with a comparison that was interrupted, or 'last'.")
@with_json
@with_store
def compare(
    session: str | None,
    given: str | None,
    agents: str,
    runs: int,
    afresh: bool,
    budget: float | None,
    name: str | None,
    out: Path | None,
    resume: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Run the society of SESSION again with an adapter, and tell what is different.

    The same seats, peers, questions and seed; whoever rates is the same as before. Seat by seat and question
    by question: ratings, unparsed ratings, length, diversity. The report is one of `sandbox evaluations`.
    """
    require_packages()
    from finetune.evaluate import comparing

    with opened(settings) as store:
        if resume:
            only_with_resume("budget", "out")
            row = begun(store, resume, "compare")
        else:
            if not session or not given:
                raise click.UsageError("Name a session, and an adapter: sandbox compare last --with ADAPTER")
            name = require_name(name or fresh_name(), "comparison")
            named = tuple(part.strip() for part in agents.split(",") if part.strip())
            plan, to_run = comparing.prepare(
                store,
                settings,
                session,
                given,
                seats=named,
                afresh=afresh,
                runs=runs,
                budget=budget,
                command=command_line(),
            )
            row = comparing.create(store, name, plan, to_run)
        if budget is None:
            budget = Plan.model_validate_json(row.plan).options.budget
        go_on = again(f"compare --resume {row.name}")
        run = runner(store, settings, budget=budget, quiet=as_json)
        try:
            with alone(settings, row.name):
                records.find(store.database, row.name)  # it may have been deleted meanwhile
                done = comparing.carry_out(store, row, run)
        except BudgetExhausted as error:
            click.echo(f"{printable(str(error))} Go on with: {go_on} --budget USD", err=True)
            sys.exit(BudgetExhausted.exit_code)
        if not done:
            click.echo(f"Stopped; what was done is kept. Go on with: {go_on}", err=True)
            sys.exit(STOPPED)
        tell(store, settings, records.find(store.database, row.name), out, as_json=as_json)


def runner(store: Store, settings: Settings, *, budget: float | None, quiet: bool) -> Run:
    """What has a session go on to its end, unless it is there; shown unless ``quiet``."""

    def run(label: str, key: str) -> bool:
        row = sessions.find(store.database, key)
        if row.status == "finished":
            return True
        console = terminal(to_stderr=True)
        console.quiet = quiet
        console.print(safe(f"{label}: {row.key}", "bold"))
        handle = sessions.lease(store.database, row.key)
        return work(store, handle, settings, console, rounds=None, shown=row.rounds, budget=budget)

    return run
