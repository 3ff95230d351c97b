"""The Hugging Face Trainer with losses over candidates; checkpoints that are whole or not used.

It knows rows of tokens and a model with an adapter; not where either comes from.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from finetune import loss as losses
from finetune.collate import rated
from finetune.encode import Encoded
from finetune.job import write
from finetune.scoring import Way, score
from finetune.settings import TrainingOptions
from sandbox.errors import SandboxError

COMPLETE = "complete"
"""The file in a checkpoint that says that all others are there."""


class TrainingFailed(SandboxError):
    """Training can't go on; the checkpoints stand."""

    exit_code = 1


class Rows(torch.utils.data.Dataset[Encoded]):
    """Rows in a fixed order."""

    def __init__(self, rows: Sequence[Encoded], order: Sequence[int] | None = None) -> None:
        self._rows = rows
        self._order = range(len(rows)) if order is None else order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, place: int) -> Encoded:
        return self._rows[self._order[place]]


def together(rows: list[Encoded]) -> dict[str, Any]:
    """Rows as one batch."""
    return {"rows": rows}


class AlignmentTrainer(Trainer):
    """Trains on groups of rated candidates. ``way`` is how candidates are scored (``scoring.find_way``)."""

    def __init__(self, *arguments: Any, options: TrainingOptions, way: Way, pad: int, **more: Any) -> None:
        super().__init__(*arguments, data_collator=together, **more)
        self.model_accepts_loss_kwargs = False
        self.loss_is_scaled_for_ga = False
        self._options = options
        self._way: Way = way
        self._pad = pad
        self._parts: dict[str, list[float]] = {}

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The mean of the groups' losses. Raises ``TrainingFailed`` if it is not a finite number."""
        rows: list[Encoded] = inputs["rows"]
        scores = score(model, rows, self._way, self._pad)
        weighed = self.weigh(scores.mean, scores.counted, rows)
        value = weighed.loss.mean()
        if not torch.isfinite(value):
            raise TrainingFailed(
                f"The loss is not a finite number at step {self.state.global_step}. Nothing of it was saved. "
                "Lower --learning-rate, or train in --dtype float32."
            )
        part = "eval_" if not model.training else ""
        for name, figure in (("best_loss", weighed.best), ("penalty", weighed.penalty)):
            self._parts.setdefault(part + name, []).append(float(figure.detach().mean()))
        return (value, {}) if return_outputs else value

    def weigh(self, mean: torch.Tensor, counted: torch.Tensor, rows: Sequence[Encoded]) -> losses.Weighed:
        """The method's loss by group; what has no token that counts takes no part."""
        ratings = rated(rows)
        values = torch.where(counted > 0, ratings.ratings.to(mean.device), torch.nan)
        options = self._options
        match options.method:
            case "stable-alignment":
                points = ratings.points.to(mean.device)
                return losses.stable_alignment(
                    mean, values, points, ratio=options.ratio, margin=options.margin, flow=options.flow
                )
            case "rrhf":
                return losses.rrhf(mean, values)
            case _:
                return losses.best_candidate(mean, values)

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, None, None]:
        """The loss alone."""
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None

    def log(self, logs: dict[str, float], *arguments: Any, **more: Any) -> None:
        """Adds the means, since the last time, of what the loss consists of."""
        wanted = "eval_" if "eval_loss" in logs else ""
        if not math.isfinite(logs.get("grad_norm") or 0.0):
            raise TrainingFailed(
                f"The gradient is not a finite number at step {self.state.global_step}. Go on from the last "
                "checkpoint by --resume, or begin anew with a lower --learning-rate or --dtype float32."
            )
        for name in [name for name in self._parts if name.startswith("eval_") == bool(wanted)]:
            figures = self._parts.pop(name)
            if "loss" in logs or wanted:
                logs[name] = round(sum(figures) / len(figures), 6)
        super().log(logs, *arguments, **more)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            keep(Path(self.args.output_dir), self.state.global_step, self.state.best_model_checkpoint)


class JsonLines(TrainerCallback):
    """Writes what the Trainer logs, one JSON object a line, with the seconds of work on it until then.

    Of a training that goes on, what was logged after its checkpoint is taken out: those steps come again.
    ``before`` are the seconds that went into what is kept.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = time.monotonic()
        self.before = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Keep the lines up to the checkpoint."""
        if not state.is_world_process_zero or not self._path.is_file():
            return
        kept = [
            line
            for line in map(_line, self._path.read_bytes().splitlines())
            if line["step"] <= state.global_step
        ]
        self.before = max((line["seconds"] for line in kept), default=0.0)
        write(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Add a line."""
        if state.is_world_process_zero and logs:
            seconds = round(self.before + time.monotonic() - self._start, 2)
            line = {"step": state.global_step, "seconds": seconds, **logs}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def _line(text: bytes) -> dict[str, Any]:
    """A line of the log; one that was cut by a crash is after every checkpoint."""
    try:
        found: dict[str, Any] = json.loads(text)
    except ValueError:
        return {"step": math.inf}
    return found


def mark_complete(checkpoint: Path) -> None:
    """Say that a checkpoint is whole, once all of it is on disk."""
    for path in sorted(checkpoint.rglob("*")):
        if path.is_file():
            _sync(path)
    with (checkpoint / COMPLETE).open("w") as file:
        file.flush()
        os.fsync(file.fileno())
    _sync(checkpoint)


def keep(run: Path, step: int, best: str | None) -> None:
    """Mark the checkpoint of a step as whole; then let older ones go, but for the last and the best."""
    mark_complete(run / f"checkpoint-{step}")
    whole = _complete(run)
    for number in sorted(whole)[:-2]:
        if best is None or Path(best).name != whole[number].name:
            (whole[number] / COMPLETE).unlink()  # half deleted, it must not be taken for whole
            shutil.rmtree(whole[number])


def last_complete(run: Path, *, tidy: bool = True) -> Path | None:
    """The newest whole checkpoint of a run; with ``tidy``, what was left half written is removed."""
    if tidy:
        for folder in run.glob("checkpoint-*"):
            if not (folder / COMPLETE).is_file():
                shutil.rmtree(folder)
    found = _complete(run)
    return found[max(found)] if found else None


def _complete(run: Path) -> dict[int, Path]:
    """The whole checkpoints by their step."""
    numbered = ((folder.name.rpartition("-")[2], folder) for folder in run.glob("checkpoint-*"))
    return {int(n): folder for n, folder in numbered if n.isdecimal() and (folder / COMPLETE).is_file()}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
