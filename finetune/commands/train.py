"""``sandbox train``: a dataset and a base model → an adapter."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from finetune import making
from finetune.commands.choosing import warn_if_flagged
from finetune.commands.progress import shown
from finetune.commands.training_options import with_training
from finetune.datasets import require_name
from finetune.pairwise import interval_of
from finetune.settings import TrainingOptions
from sandbox.commands.console import (
    STOPPED,
    again,
    opened,
    print_json,
    safe,
    terminal,
    with_json,
    with_store,
)
from sandbox.errors import MissingExtra, UserError
from sandbox.settings import Settings
from sandbox.store import lineage
from sandbox.text import printable


@click.command()
@click.argument("dataset")
@click.option("--base", required=True, metavar="MODEL", help="local/smollm2, a folder, or a hub's name.")
@click.option("--name", help="The adapter's name (default: DATASET-METHOD).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Another folder; to be seated, it must be where adapters lie.",
)
@with_training
@click.option("--resume", is_flag=True, help="Go on with an interrupted training of this name.")
@click.option("--restart", is_flag=True, help="Forget an interrupted training of this name.")
@with_json
@with_store
def train(
    dataset: str,
    base: str,
    name: str | None,
    out: Path | None,
    training: TrainingOptions,
    resume: bool,
    restart: bool,
    as_json: bool,
    settings: Settings,
) -> None:
    """Train a LoRA adapter on DATASET, by Stable Alignment or a baseline.

    The adapter is put on record, and can be seated as MODEL#NAME at once, in running sessions too. What was
    interrupted goes on with --resume. On several devices: torchrun --nproc-per-node N --no-python sandbox
    train ….
    """
    found = making.find(settings, dataset)
    warn_if_flagged(found, settings)
    name = require_name(name or f"{found.card.name}-{training.method}"[:100], "adapter")
    from sandbox.models.weights import require_local

    require_local()
    require_reporters(training.report_to)
    from finetune.job import Job, base_name, is_first
    from finetune.training import train as carry_out

    place = out or settings.adapters_dir / name
    run = settings.data_dir / "training" / name
    with opened(settings) as store:
        taken = lineage.adapter(store.database, name) is not None
    if taken and is_first():
        raise UserError(
            f"There is an adapter '{name}' already. Choose another --name, or delete it: "
            f"sandbox adapters delete {name}"
        )
    job = Job(found, f"local/{base_name(base)}", name, training, run, place.absolute(), settings.cache_dir)
    if resume and restart:
        raise click.UsageError("Give either --resume or --restart.")
    with shown(quiet=as_json or not is_first()) as on_progress:
        try:
            card = carry_out(job, resume=resume, restart=restart, on_progress=on_progress)
        except KeyboardInterrupt:
            if is_first():
                click.echo(printable(_stopped(run, name)), err=True)
            sys.exit(STOPPED)
    if not is_first():
        return
    with opened(settings) as store:
        lineage.add_adapter(
            store.database, name, card.base, str(job.out), card.model_dump_json(), found.card.digest
        )
    if as_json:
        print_json(card.model_dump(mode="json") | {"path": str(job.out)})
        return
    _tell(card, job.out, settings.adapters_dir.absolute())


def _stopped(run: Path, name: str) -> str:
    if not (run / "plan.json").is_file():
        return "Stopped before the first step."
    return f"Stopped. Go on from the last checkpoint of '{name}' with the same command and --resume."


def _tell(card: Any, out: Path, adapters: Path) -> None:
    console = terminal()
    metrics = card.metrics
    console.print(
        safe(
            f"{card.name}: {metrics.steps} steps over {metrics.groups} groups in {metrics.seconds:.0f} s, "
            f"last loss {metrics.loss:.3f}"
            if metrics.loss is not None
            else f"{card.name}: {metrics.steps} steps"
        )
    )
    if not card.options.patience and metrics.steps < (most := card.options.max_steps or 0):
        console.print(f"fewer steps than {most}: the groups were gone through; for more, raise --epochs")
    for why, count in metrics.dropped.items():
        console.print(safe(f"left out: {why} ({count})"))
    if metrics.cut:
        console.print(f"cut short: {metrics.cut} replies that did not fit into the window")
    if metrics.sharing.startswith("apart"):
        console.print(safe(f"queries were not shared: {metrics.sharing.partition(': ')[2]}"))
    if metrics.before and metrics.after:
        console.print("held-out pairs whose better reply is the likelier one (95 % interval):")
        for when, found in (("before", metrics.before), ("after", metrics.after)):
            console.print(f"  {when:<7}{found.accuracy:.3f} ({interval_of(found)}) of {found.pairs} pairs")
    console.print(safe(f"saved in {out}"))
    if out.parent != adapters:
        console.print(f"To seat it, copy it to {adapters / card.name}.", markup=False, soft_wrap=True)
        return
    seated = again(f"run village --answers {card.base}#{card.name}")
    console.print(f"\nSeat it: {seated}", style="dim", markup=False, soft_wrap=True)


def require_reporters(reporters: tuple[str, ...]) -> None:
    """Raise ``MissingExtra`` for where progress can't be reported to."""
    for name in reporters:
        if name not in ("none", "all") and find_spec(name) is None:
            raise MissingExtra(f"Reporting to {name}", f"pip install {name}")
