"""Trains one adapter: from a dataset and a base model to a folder with its card; can be interrupted.

The work lies in a run folder until the adapter is saved. Under ``torchrun`` every process runs this; only the
first writes. It knows no database and no command line.
"""

from __future__ import annotations

import json
import math
import shutil
import time
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from finetune import adapters
from finetune.adapters import Card, Lineage, Metrics
from finetune.datasets import Dataset
from finetune.dpo import dpo_trainer, pairs_of
from finetune.encode import BETTER, Encoded, Encoding, encode
from finetune.job import (
    LOCK,
    PLAN,
    Job,
    alone,
    base_name,
    check,
    device_of,
    is_first,
    plan_of,
    processes,
    write,
)
from finetune.ordering import order
from finetune.pairwise import Preference
from finetune.preference import preference
from finetune.scoring import Found, Way, find_way
from finetune.settings import TrainingOptions
from finetune.trainer import AlignmentTrainer, JsonLines, Rows, TrainingFailed, last_complete
from sandbox.errors import UserError
from sandbox.models import fingerprint, weights

_BEFORE = "before.json"
LOG = "log.jsonl"


class Progress(NamedTuple):
    """Where a training stands: what it does, how far it is, and the loss."""

    doing: str
    done: int
    of: int
    loss: float | None = None


Listener = Callable[[Progress], None]


def train(
    job: Job, *, resume: bool = False, restart: bool = False, on_progress: Listener = lambda _: None
) -> Card:
    """Train, save, and return the adapter's card; ``restart`` forgets what was begun under its name.

    Raises ``UserError`` for what can't be trained, ``ModelError`` for a base model that can't be had and
    ``TrainingFailed`` when the loss is no number any more.
    """
    with alone(job.run):
        if restart and is_first():
            for path in job.run.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        return _trained(job, resume, on_progress)


def _trained(job: Job, resume: bool, on_progress: Listener) -> Card:
    from transformers import set_seed

    start = time.monotonic()
    options = job.options
    plan = plan_of(job)
    check(job, plan, resume)
    set_seed(options.seed)
    name = base_name(job.base)
    on_progress(Progress(f"loading local/{name}", 0, 0))
    loaded = weights.load(name, job.cache, device=options.device, dtype=_dtype(options))
    model = _with_adapter(loaded.model, options)
    rows, held, encoding = _rows(job, loaded)
    pad = loaded.tokenizer.pad_token_id
    found = _way(model, [*rows, *held], pad, options)
    before = _measured_before(job, model, held, found.way, pad, on_progress)
    groups = job.dataset.parts.train
    places = order(
        [row.length for row in rows],
        [groups[row.place].kind for row in rows],
        options.stages,
        options.epochs,
        options.batch * processes(),
        options.seed,
    )
    if not places:
        raise UserError(f"No row is of the stages {', '.join(options.stages)}. Build the dataset with them.")
    log = JsonLines(job.run / LOG)
    trainer = _trainer(job, model, loaded.tokenizer, rows, places, held, found.way, [log, _told(on_progress)])
    if is_first():
        write(job.run / PLAN, json.dumps(plan))
    checkpoint = last_complete(job.run, tidy=is_first()) if resume else None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.accelerator.get_state_dict(trainer.model) if options.fsdp else None
    model = trainer.accelerator.unwrap_model(trainer.model)
    _require_finite(model)
    metrics = Metrics(
        steps=trainer.state.global_step,
        groups=len(rows),
        seconds=round(log.before + time.monotonic() - start, 1),
        loss=_last_loss(trainer.state.log_history),
        dropped=dict(encoding.dropped),
        cut=encoding.cut,
        sharing=found.way + (f": {found.why}" if found.why else ""),
        before=before,
        after=_measured(job, model, held, found.way, pad, "measuring", on_progress),
    )
    digests = (fingerprint.of_weights(loaded.source), fingerprint.of_tokenizer(loaded.tokenizer))
    card = adapters.new_card(job.name, f"local/{name}", digests, options, _lineage(job.dataset), metrics)
    if is_first():
        adapters.save(job.out, model, card, job.run / LOG, state)
        shutil.rmtree(job.run, ignore_errors=True)
    return card


def _dtype(options: TrainingOptions) -> str:
    """float16, which generation may take by itself, would need its losses scaled: then float32."""
    if options.dtype != "auto":
        return options.dtype
    return "float32" if str(weights.best_dtype(device_of(options))) == "torch.float16" else "auto"


def _rows(job: Job, loaded: weights.Loaded) -> tuple[list[Encoded], list[Encoded], Encoding]:
    """What is trained on, what is held out, and what became of the groups. Raises ``UserError``."""
    options = job.options
    window = min(loaded.window, options.max_length)
    chain = options.method == "chain-of-hindsight"
    parts, tokenizer = job.dataset.parts, loaded.tokenizer
    encoding = encode(parts.train, tokenizer, window, candidates=options.candidates, chain=chain)
    if not encoding.rows:
        raise UserError(f"Nothing can be trained on: {_reasons(encoding.dropped)}.")
    held = encode(parts.heldout, tokenizer, window, every=True, cue=BETTER if chain else "")
    return encoding.rows, held.rows, encoding


def _require_finite(model: Any) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not torch.isfinite(parameter).all():
            raise TrainingFailed(
                f"The adapter holds numbers that are not finite ({name}), so it is not saved. Lower "
                "--learning-rate, or train in --dtype float32; --restart begins anew."
            )


def _with_adapter(model: Any, options: TrainingOptions) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=_targets(options.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    if options.checkpointing:
        model.enable_input_require_grads()
    model.config.use_cache = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # PEFT and transformers about each other
            return get_peft_model(model, config)
    except ValueError as error:
        raise UserError(
            f"The base model can't take an adapter there: {str(error).splitlines()[0]} Name its modules with "
            "--target, as --target q_proj --target v_proj, or --target all-linear."
        ) from error


def _targets(named: tuple[str, ...]) -> list[str] | str | None:
    if named == ("all-linear",):
        return "all-linear"
    return list(named) or None


def _way(model: Any, rows: list[Encoded], pad: int, options: TrainingOptions) -> Found:
    if options.sharing == "off":
        return Found("apart", "switched off")
    if options.method == "dpo":  # TRL has its own
        return Found(find_way(model, rows, pad).way, "for measuring only")
    return find_way(model, rows, pad, whole_head=not options.fsdp)


def _trainer(
    job: Job,
    model: Any,
    tokenizer: Any,
    rows: list[Encoded],
    places: list[int],
    held: list[Encoded],
    way: Way,
    callbacks: list[Any],
) -> Any:
    options = job.options
    measures = bool(held) and bool(options.eval_steps or options.patience)
    if options.patience:
        from transformers import EarlyStoppingCallback

        if not held:
            raise UserError("To stop early takes held-out groups. Build the dataset with --split 0.1.")
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.patience))
    count = sum(len(pairs_of(rows[place])) for place in places) if options.method == "dpo" else len(places)
    arguments = _arguments(job, measures, count)
    if options.method == "dpo":
        trainer = dpo_trainer(model, tokenizer, rows, places, held, arguments, options, callbacks)
    else:
        from transformers import TrainingArguments

        trainer = AlignmentTrainer(
            model,
            TrainingArguments(**arguments),
            train_dataset=Rows(rows, places),
            eval_dataset=Rows(held) if measures else None,
            callbacks=callbacks,
            options=options,
            way=way,
            pad=tokenizer.pad_token_id,
        )
    from transformers import PrinterCallback, ProgressCallback

    for callback in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(callback)
    return trainer


def _arguments(job: Job, measures: bool, rows: int) -> dict[str, Any]:
    from dataclasses import fields

    from transformers import TrainingArguments

    options = job.options
    on_cpu = device_of(options) == "cpu"
    steps = options.eval_steps or options.save_steps
    there_are = -(-rows // (options.batch * processes() * options.accumulate))
    total = min(options.max_steps or there_are, there_are)
    told: dict[str, Any] = {
        "output_dir": str(job.run),
        "per_device_train_batch_size": options.batch,
        "per_device_eval_batch_size": options.batch,
        "gradient_accumulation_steps": options.accumulate,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": options.schedule,
        # None in a short training: its first step would be idle.
        "warmup_steps": math.floor(options.warmup * total + 1e-9),
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.clip,
        "num_train_epochs": 1,  # the order of the rows holds the epochs
        "max_steps": total,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": steps if options.patience else options.save_steps,
        "eval_strategy": "steps" if measures else "no",
        "eval_steps": steps,
        "load_best_model_at_end": bool(options.patience),
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "seed": options.seed,
        "data_seed": options.seed,
        "use_cpu": on_cpu,
        "ddp_backend": "gloo" if on_cpu and processes() > 1 else None,
        "ddp_find_unused_parameters": False,
        "report_to": list(options.report_to) or "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "train_sampling_strategy": "sequential",
        "dataloader_pin_memory": not on_cpu,
    }
    if options.fsdp:
        told["fsdp"] = True
    if options.checkpointing:
        known = {field.name for field in fields(TrainingArguments)}
        named = "activation_checkpointing"
        told[named if named in known else "gradient_checkpointing"] = True
    return told


def _told(on_progress: Listener) -> Any:
    from transformers import TrainerCallback

    class Told(TrainerCallback):
        """Tells how far training is."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            loss = (logs or {}).get("loss")
            if loss is not None and state.is_world_process_zero:
                on_progress(Progress("training", state.global_step, state.max_steps, float(loss)))

    return Told()


def _measured_before(
    job: Job, model: Any, held: list[Encoded], way: Way, pad: int, on_progress: Listener
) -> Preference | None:
    """The held-out preference of the base model; of a resumed run, as it was measured then."""
    file = job.run / _BEFORE
    with suppress(OSError, ValueError):
        return Preference.model_validate_json(file.read_bytes())
    found = _measured(job, model, held, way, pad, "measuring the base model", on_progress)
    if found is not None and is_first():
        write(file, found.model_dump_json())
    return found


def _measured(
    job: Job, model: Any, held: list[Encoded], way: Way, pad: int, doing: str, on_progress: Listener
) -> Preference | None:
    done = 0

    def on_more(count: int) -> None:
        nonlocal done
        done += count
        on_progress(Progress(doing, done, len(held)))

    asked = [group.asked for group in job.dataset.parts.heldout]
    return preference(model, held, way, pad, asked=asked, on_progress=on_more) if held else None


def _last_loss(history: list[dict[str, float]]) -> float | None:
    """The mean loss of the last tenth of the steps."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last) if last else None


def _lineage(dataset: Dataset) -> Lineage:
    card = dataset.card
    return Lineage(
        dataset=card.name,
        digest=card.digest,
        sessions=card.sessions,
        people=card.people,
        consents=card.consents,
        agreement={who: agreed.model_dump() for who, agreed in card.report.agreement.items()},
        licence=card.licence,
    )


def _reasons(dropped: Counter[str]) -> str:
    return "; ".join(f"{why}: {count}" for why, count in dropped.most_common()) or "there is no group"
