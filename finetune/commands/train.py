"""``sandbox train``: a dataset and a base model → an adapter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from finetune import making
from finetune.commands.progress import shown
from finetune.datasets import require_name
from finetune.settings import METHODS, TrainingOptions
from sandbox.commands.console import (
    POSITIVE,
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

_DEFAULTS = TrainingOptions()
_OPTIONS = (
    (
        "--method",
        {"type": click.Choice(METHODS), "help": "Stable Alignment, or a baseline on the same data."},
    ),
    ("--ratio", {"type": float, "help": "λ: how much the lesser candidates weigh."}),
    ("--margin", {"type": float, "help": "M: how far apart ratings push candidates."}),
    (
        "--flow",
        {"type": click.Choice(["mean", "max"]), "help": "Over the lesser candidates: mean or largest."},
    ),
    ("--beta", {"type": float, "help": "DPO's β."}),
    ("--candidates", {"type": int, "help": "Most candidates a group: best, worst, and evenly between."}),
    ("--rank", {"type": int, "help": "LoRA's r. vLLM serves up to 16 by default."}),
    ("--alpha", {"type": int, "help": "LoRA's alpha."}),
    ("--dropout", {"type": float, "help": "LoRA's dropout."}),
    ("--learning-rate", {"type": float}),
    ("--warmup", {"type": float, "help": "Share of the steps."}),
    ("--schedule", {"type": click.Choice(["linear", "cosine", "constant"])}),
    ("--weight-decay", {"type": float}),
    ("--clip", {"type": float, "help": "Largest norm of the gradient."}),
    ("--epochs", {"type": int, "help": "Of each stage, if there are stages."}),
    ("--batch", {"type": int, "help": "Groups a step, on each device."}),
    ("--accumulate", {"type": int, "help": "Steps whose gradients are added up."}),
    ("--max-length", {"type": int, "help": "Tokens of query and reply together."}),
    ("--seed", {"type": int}),
    ("--dtype", {"type": click.Choice(["auto", "float32", "bfloat16", "float16"])}),
    ("--device", {"help": "cpu, cuda, cuda:1, mps."}),
    ("--save-steps", {"type": int, "help": "Steps between checkpoints."}),
)


def _options(command: Any) -> Any:
    for name, given in reversed(_OPTIONS):
        default = getattr(_DEFAULTS, name[2:].replace("-", "_"))
        command = click.option(name, default=default, show_default=True, **given)(command)
    return command


@click.command()
@click.argument("dataset")
@click.option("--base", required=True, metavar="MODEL", help="local/smollm2, a folder, or a hub's name.")
@click.option("--name", help="The adapter's name (default: DATASET-METHOD).")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Another folder; to be seated, it must be where adapters lie.",
)
@_options
@click.option("--max-steps", type=POSITIVE, help="End early.")
@click.option("--stages", default="", metavar="KIND,…", help="Kinds, one after another; else all are mixed.")
@click.option("--target", "targets", multiple=True, help="Modules to adapt; or all-linear.")
@click.option("--no-sharing", is_flag=True, help="Compute the query anew for every candidate.")
@click.option("--checkpointing", is_flag=True, help="Less memory, more time: compute activations twice.")
@click.option("--fsdp", is_flag=True, help="Shard the model over the processes of torchrun.")
@click.option("--eval-steps", type=POSITIVE, help="Measure held-out loss every so many steps.")
@click.option("--patience", type=POSITIVE, help="Stop when it has not improved so many times; keep the best.")
@click.option("--report-to", multiple=True, help="tensorboard, wandb, …: each takes its own package.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted training of this name.")
@click.option("--restart", is_flag=True, help="Forget an interrupted training of this name.")
@with_json
@with_store
def train(
    dataset: str,
    base: str,
    name: str | None,
    out: Path | None,
    stages: str,
    no_sharing: bool,
    resume: bool,
    restart: bool,
    as_json: bool,
    settings: Settings,
    **given: Any,
) -> None:
    """Train a LoRA adapter on DATASET, by Stable Alignment or a baseline.

    The adapter is put on record, and can be seated as MODEL#NAME at once, in running sessions too. What was
    interrupted goes on with --resume. On several devices: torchrun --nproc-per-node N --no-python sandbox
    train ….
    """
    found = making.find(settings, dataset)
    options = _read(given | {"stages": _split(stages), "sharing": "off" if no_sharing else "auto"})
    name = require_name(name or f"{found.card.name}-{options.method}"[:100], "adapter")
    from sandbox.models.weights import require_local

    require_local()
    _require(options.report_to)
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
    job = Job(found, f"local/{base_name(base)}", name, options, run, place.absolute(), settings.cache_dir)
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
    for why, count in metrics.dropped.items():
        console.print(safe(f"left out: {count} groups: {why}"))
    if metrics.cut:
        console.print(f"cut short: {metrics.cut} replies that did not fit into the window")
    if metrics.sharing.startswith("apart"):
        console.print(safe(f"queries were not shared: {metrics.sharing.partition(': ')[2]}"))
    if metrics.before and metrics.after:
        console.print("held-out pairs whose better reply is the likelier one (95 % interval):")
        for when, found in (("before", metrics.before), ("after", metrics.after)):
            console.print(
                f"  {when:<7}{found.accuracy:.3f} ({found.low:.3f} to {found.high:.3f}) "
                f"of {found.pairs} pairs"
            )
    console.print(safe(f"saved in {out}"))
    if out.parent != adapters:
        console.print(f"To seat it, copy it to {adapters / card.name}.", markup=False, soft_wrap=True)
        return
    seated = again(f"run village --answers {card.base}#{card.name}")
    console.print(f"\nSeat it: {seated}", style="dim", markup=False, soft_wrap=True)


def _read(given: dict[str, Any]) -> TrainingOptions:
    try:
        return TrainingOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "The options"
        raise UserError(f"{name}: {first['msg'].removeprefix('Value error, ')}.") from error


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _require(reporters: tuple[str, ...]) -> None:
    from importlib.util import find_spec

    for name in reporters:
        if name not in ("none", "all") and find_spec(name) is None:
            raise MissingExtra(f"Reporting to {name}", f"pip install {name}")
