"""Options of how an adapter is trained, for every command that trains."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from pydantic import ValidationError

from finetune.settings import METHODS, TrainingOptions
from sandbox.commands.console import POSITIVE
from sandbox.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])
_DEFAULTS = TrainingOptions()
_OPTIONS = (
    (
        "--method",
        {
            "type": click.Choice(METHODS, case_sensitive=False),
            "help": "Stable Alignment, or a baseline on the same data.",
        },
    ),
    ("--ratio", {"type": float, "help": "λ: how much the lesser candidates weigh."}),
    ("--margin", {"type": float, "help": "M: how far apart ratings push candidates."}),
    (
        "--flow",
        {
            "type": click.Choice(["mean", "max", "each"], case_sensitive=False),
            "help": "Over the lesser candidates: mean, largest, or each one's sum as in the paper.",
        },
    ),
    ("--beta", {"type": float, "help": "DPO's β."}),
    ("--candidates", {"type": int, "help": "Most candidates a group: best, worst, and evenly between."}),
    ("--rank", {"type": int, "help": "LoRA's r. vLLM serves up to 16 by default."}),
    ("--alpha", {"type": int, "help": "LoRA's alpha."}),
    ("--dropout", {"type": float, "help": "LoRA's dropout."}),
    ("--learning-rate", {"type": float}),
    ("--warmup", {"type": float, "help": "Share of the steps."}),
    ("--schedule", {"type": click.Choice(["linear", "cosine", "constant"], case_sensitive=False)}),
    ("--weight-decay", {"type": float}),
    ("--clip", {"type": float, "help": "Largest norm of the gradient."}),
    ("--epochs", {"type": int, "help": "Of each stage, if there are stages."}),
    ("--batch", {"type": int, "help": "Groups a step, on each device."}),
    ("--accumulate", {"type": int, "help": "Steps whose gradients are added up."}),
    ("--max-length", {"type": int, "help": "Tokens of query and reply together."}),
    ("--seed", {"type": int}),
    ("--dtype", {"type": click.Choice(["auto", "float32", "bfloat16", "float16"], case_sensitive=False)}),
    ("--device", {"help": "cpu, cuda, cuda:1, mps."}),
    ("--save-steps", {"type": int, "help": "Steps between checkpoints."}),
)
_FLAGS = (
    click.option("--max-steps", type=POSITIVE, help="End early."),
    click.option("--stages", default="", metavar="KIND,…", help="Kinds, one after another; else mixed."),
    click.option("--target", "targets", multiple=True, help="Modules to adapt; or all-linear."),
    click.option("--no-sharing", is_flag=True, help="Compute the query anew for every candidate."),
    click.option("--checkpointing", is_flag=True, help="Less memory, more time: compute activations twice."),
    click.option("--fsdp", is_flag=True, help="Shard the model over the processes of torchrun."),
    click.option("--eval-steps", type=POSITIVE, help="Measure held-out loss every so many steps."),
    click.option("--patience", type=POSITIVE, help="Stop after so many without improvement."),
    click.option("--report-to", multiple=True, help="tensorboard, wandb, …: each takes its own package."),
)


def with_training(command: F) -> F:
    """Adds the options of training; the command gets them as ``training``."""

    @functools.wraps(command)
    def wrapped(*args: Any, stages: str, no_sharing: bool, **options: Any) -> Any:
        given = {name: options.pop(name) for name in TrainingOptions.model_fields if name in options}
        given["stages"] = tuple(part.strip() for part in stages.split(",") if part.strip())
        given["sharing"] = "off" if no_sharing else "auto"
        return command(*args, training=_read(given), **options)

    chosen: Any = wrapped
    for flag in reversed(_FLAGS):
        chosen = flag(chosen)
    for name, about in reversed(_OPTIONS):
        default = getattr(_DEFAULTS, name[2:].replace("-", "_"))
        chosen = click.option(name, default=default, show_default=True, **about)(chosen)
    return chosen  # type: ignore[no-any-return]


def _read(given: dict[str, Any]) -> TrainingOptions:
    try:
        return TrainingOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "The options"
        raise UserError(f"{name}: {first['msg'].removeprefix('Value error, ')}.") from error
