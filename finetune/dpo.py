"""Direct preference optimisation by TRL, on the same tokens as the other methods: the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.encode import Encoded
from finetune.settings import TrainingOptions
from finetune.trainer import keep
from sandbox.errors import MissingExtra, UserError


def dpo_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Encoded],
    places: Sequence[int],
    held: Sequence[Encoded],
    arguments: dict[str, Any],
    options: TrainingOptions,
    callbacks: list[Any],
) -> Any:
    """TRL's trainer for the pairs in rows; the reference is the model without its adapter."""
    try:
        from trl import DPOConfig, DPOTrainer
    except ImportError as error:
        raise MissingExtra("Training by dpo", "pip install 'social-sandbox[train]'") from error
    from pathlib import Path

    from datasets import Dataset

    pairs = [pair for place in places for pair in pairs_of(rows[place])]
    if not pairs:
        raise UserError("There is no pair of differently rated candidates. Choose another --method.")

    class Tokenized(DPOTrainer):
        """TRL's trainer on tokens that are there already, with checkpoints that are whole or not used."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                keep(Path(self.args.output_dir), self.state.global_step, self.state.best_model_checkpoint)

    measures = arguments["eval_strategy"] != "no"
    return Tokenized(
        model=model,
        args=DPOConfig(
            # TRL's own defaults are another precision than the model's, and to compute activations twice.
            **arguments | {"gradient_checkpointing": options.checkpointing, "bf16": False},
            beta=options.beta,
            max_length=options.max_length,
        ),
        train_dataset=Dataset.from_list(pairs),
        eval_dataset=Dataset.from_list([p for row in held for p in pairs_of(row)]) if measures else None,
        processing_class=tokenizer,
        callbacks=callbacks,
    )


def pairs_of(row: Encoded) -> list[dict[str, list[int]]]:
    """The best rated candidate with each that is rated lower, as TRL's collator takes them."""
    best = max(range(len(row.ratings)), key=lambda place: row.ratings[place])
    return [
        {
            "prompt_ids": row.query,
            "chosen_ids": row.replies[best].tokens,
            "rejected_ids": row.replies[place].tokens,
        }
        for place, rating in enumerate(row.ratings)
        if rating < row.ratings[best]
    ]
