"""``sandbox loop``: society → dataset → adapter → society, N times; ``sandbox loops``: those begun."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from finetune import looping
from finetune.commands.choosing import with_raters
from finetune.commands.compare import runner
from finetune.commands.progress import shown
from finetune.commands.reporting import command_line, fresh_name, only_with_resume, require_packages, tell
from finetune.commands.train import require_reporters
from finetune.commands.training_options import with_training
from finetune.datasets import require_name
from finetune.groups import Raters
from finetune.looping import Loop, State
from finetune.settings import TrainingOptions
from sandbox.blueprint import read_society
from sandbox.commands.console import (
    STOPPED,
    again,
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
from sandbox.commands.run import ROUNDS
from sandbox.errors import BudgetExhausted, UserError
from sandbox.models.catalog import require_adapters
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.societyfile import Overrides
from sandbox.store import evaluations
from sandbox.store.tables import EvaluationRow
from sandbox.text import printable


@click.command()
@click.argument("file", required=False, metavar="[FILE|EXAMPLE]")
@click.option("--iterations", type=click.IntRange(1, 100), default=2, show_default=True)
@click.option("--base", default="", metavar="MODEL", help="Which of several local models to train.")
@click.option("--name", help="The loop's name, and the beginning of its adapters' (default: after the time).")
@click.option("--rounds", type=ROUNDS, help="Rounds of each society.")
@click.option("--per-seat", type=click.IntRange(min=0), help="Questions a seat a round; 0 for all of them.")
@click.option("--seats", metavar="RxC|N", help="Another size: 4x4 for a grid, or a number.")
@click.option("--questions", metavar="FILE|hf:NAME", help="Other questions.")
@with_raters
@click.option("--recent", is_flag=True, help="Train on the newest society only, in place of all so far.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="What each society may cost.")
@with_training
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The folder of the report.")
@click.option("--resume", metavar="NAME", help="Go on with a loop that was interrupted, or 'last'.")
@with_json
@with_store
def loop(
    file: str | None,
    iterations: int,
    base: str,
    name: str | None,
    rounds: int | None,
    per_seat: int | None,
    seats: str | None,
    questions: str | None,
    kinds: Any,
    raters: Raters,
    with_peers: bool,
    recent: bool,
    budget: float | None,
    training: TrainingOptions,
    out: Path | None,
    resume: str | None,
    as_json: bool,
    settings: Settings,
) -> None:
    """Run the society of FILE, train on it, seat the adapter, run it again: N times, and report the trend.

    Societies are of the same seats, questions and seed, and who rates stays the same. Ctrl-C or a crash keeps
    what is done; --resume NAME goes on from there.
    """
    require_packages()
    from sandbox.models.weights import require_local

    require_local()
    require_reporters(training.report_to)
    overrides = Overrides(rounds=rounds, per_seat=per_seat, seats=seats, questions=questions)
    with opened(settings) as store:
        if resume:
            only_with_resume("budget", "out")
            begun = looping.find(settings, resume).loop
        else:
            society = read_society(file or "society.toml", overrides)
            require_adapters(settings, society.models())
            begun = Loop(
                name=require_name(name or fresh_name(), "loop"),
                society=society,
                base=looping.base_in(society, base),
                iterations=iterations,
                kinds=kinds,
                raters=raters,
                with_peers=with_peers,
                recent=recent,
                training=training,
                budget=budget,
                command=command_line(),
            )
        with looping.alone(settings, begun.name):
            state = looping.find(settings, begun.name) if resume else looping.begin(store, settings, begun)
            budget = begun.budget if budget is None else budget
            row = _carry_out(store, settings, state, budget, quiet=as_json)
        tell(store, settings, row, out, as_json=as_json)
    if not as_json:
        _try_next(state)


@click.group()
def loops() -> None:
    """List loops, and forget them."""


@loops.command("list")
@with_json
@with_store
def list_loops(as_json: bool, settings: Settings) -> None:
    """The loops, the one that was last worked on first."""
    found = []
    for known in looping.listing(settings):
        try:
            found.append(looping.find(settings, known))
        except UserError as error:
            click.echo(printable(f"{error} Or forget it: {again(f'loops delete {known}')}"), err=True)
    with opened(settings) as store:
        reported = {row.name for row in evaluations.listing(store.database) if row.finished}
    if as_json:
        for state in found:
            print_json(state.model_dump(mode="json") | {"finished": state.loop.name in reported})
        return
    if not found:
        terminal().print("No loops yet. Begin with: sandbox loop village")
        return
    table = Table(pad_edge=False)
    name_column(table, "loop", [state.loop.name for state in found])
    for column in ("state", "society", "trains", "adapters", "sessions"):
        table.add_column(column, overflow="fold")
    for state in found:
        made = sum(bool(step.adapter) for step in state.steps)
        table.add_row(
            safe(state.loop.name),
            "" if state.loop.name in reported else "unfinished",
            safe(state.loop.society.name),
            safe(state.loop.base),
            f"{made} of {state.loop.iterations}",
            safe(", ".join(step.session for step in state.steps)),
        )
    print_table(terminal(), table)


@loops.command()
@click.argument("name")
@with_yes
@with_store
def delete(name: str, yes: bool, settings: Settings) -> None:
    """Forget a loop: it can't be gone on with. Its sessions, datasets, adapters and report stay."""
    sure(f"Forget the loop {name}?", yes=yes)
    looping.delete(settings, name)
    click.echo(printable(f"{name} is forgotten; its sessions, datasets, adapters and report stay."))


def _carry_out(
    store: Store, settings: Settings, state: State, budget: float | None, *, quiet: bool
) -> EvaluationRow:
    """Do what is missing. Exits where it is stopped, or the budget is spent."""
    go_on = again(f"loop --resume {state.loop.name}")
    run = runner(store, settings, budget=budget, quiet=quiet)
    try:
        row = looping.carry_out(store, settings, state, run, partial(shown, quiet=quiet))
    except KeyboardInterrupt:
        row = None
    except BudgetExhausted as error:
        click.echo(printable(f"Paused: {error} Go on with: {go_on} --budget USD"), err=True)
        sys.exit(BudgetExhausted.exit_code)
    if row is None:
        click.echo(f"Stopped; what was done is kept. Go on with: {go_on}", err=True)
        sys.exit(STOPPED)
    return row


def _try_next(state: State) -> None:
    loop = state.loop
    adapters = " ".join(f"{loop.base}#{step.adapter}" for step in state.steps if step.adapter)
    console = terminal()
    console.print("Try next, on questions that it was not trained on:", style="bold")
    told = again(f"evaluate {loop.base} {adapters} --suite hh-pref --data FOLDER")
    console.print(safe(f"  {told}"), soft_wrap=True)
