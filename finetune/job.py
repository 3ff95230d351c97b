"""What is to be trained, and the folder in which the work on it lies: for one training at a time.

It knows no model. A training is gone on with only if it is the same.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, get_args

from finetune.datasets import Dataset
from finetune.settings import TrainingOptions
from sandbox.errors import UserError
from sandbox.models import weights
from sandbox.models.spec import Family, parse
from sandbox.output import make_folder

PLAN = "plan.json"
LOCK = "lock"


class Job(NamedTuple):
    """What is to be trained, where the work lies, and where the adapter goes."""

    dataset: Dataset
    base: str
    name: str
    options: TrainingOptions
    run: Path
    out: Path
    cache: Path


def is_first() -> bool:
    """Whether this is the only process, or the first of those that ``torchrun`` started."""
    return int(os.environ.get("RANK", "0")) == 0


def processes() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def device_of(options: TrainingOptions) -> str:
    """On what it is trained: cpu, cuda, mps."""
    return weights.best_device() if options.device == "auto" else options.device


def base_name(base: str) -> str:
    """The name of the local model that ``base`` means: ``local/NAME``, a folder or a hub's name."""
    family = base.partition("/")[0]
    if family in get_args(Family) and family != "local" and not Path(base).is_dir():
        raise UserError(f"'{base}' is no local model. Train on local/smollm2, a folder, or a hub's name.")
    spec = parse(base if base.startswith("local/") else f"local/{base}")
    if spec.adapter:
        raise UserError("Train on a base model, not on one of its adapters: leave out what stands after '#'.")
    return spec.name


def plan_of(job: Job) -> dict[str, Any]:
    """What is to be done; a training is gone on with only if this is the same."""
    return {
        "dataset": job.dataset.card.digest,
        "base": base_name(job.base),
        "options": job.options.model_dump(mode="json"),
        "processes": processes(),
    }


def check(job: Job, plan: dict[str, Any], resume: bool) -> None:
    """Raise ``UserError`` for what can be seen to be wrong before anything is loaded."""
    options = job.options
    if job.out.exists():
        raise UserError(
            f"There is an adapter '{job.name}' already. Choose another --name, or delete it: "
            f"sandbox adapters delete {job.name}"
        )
    if options.fsdp and (options.method == "dpo" or device_of(options) == "cpu"):
        raise UserError("Only GPUs are sharded over, and not for dpo. Leave out --fsdp.")
    if not is_first():
        return
    try:
        known = json.loads((job.run / PLAN).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        known = None
    if known is None and resume:
        raise UserError(f"There is no interrupted training of '{job.name}'. Leave out --resume.")
    if known is not None and not resume:
        raise UserError(
            f"A training of '{job.name}' was interrupted. Go on with it by --resume, or begin anew by "
            "--restart."
        )
    if known is not None and known != plan:
        changed = [key for key in plan if known.get(key) != plan[key] and key != "options"]
        options, before = plan["options"], known.get("options", {})
        changed += [f"--{key.replace('_', '-')}" for key in options if before.get(key) != options[key]]
        raise UserError(
            f"The training of '{job.name}' was begun with another {' and '.join(changed)}. Go on with the "
            "same, or begin anew by --restart."
        )


@contextmanager
def alone(run: Path, told: str = "") -> Iterator[None]:
    """The run folder, for one process at a time. Raises ``UserError``, as ``told``, while another has it."""
    make_folder(run)
    if not is_first() or sys.platform == "win32":
        yield
        return
    import fcntl

    with (run / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            told = told or f"'{run.name}' is being trained"
            raise UserError(f"{told} by another process. Wait for it, or end it.") from error
        yield


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    half = path.with_suffix(".half")
    half.write_text(text, "utf-8")
    half.replace(path)
