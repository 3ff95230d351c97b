"""How an adapter is trained: every option, typed, with its default. Knows nothing of how it is done."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from finetune.groups import KINDS

Method = Literal["stable-alignment", "sft", "dpo", "rrhf", "chain-of-hindsight"]
METHODS: tuple[Method, ...] = get_args(Method)
Sharing = Literal["auto", "off"]


class TrainingOptions(BaseModel):
    """See the command's help. ``ratio`` is λ and ``margin`` M of Stable Alignment; ``beta`` is DPO's.

    ``batch`` are groups a step on each device, before ``accumulate``; ``stages`` empty means all kinds mixed.
    ``targets`` empty means those that PEFT knows for the model. Lengths are in tokens.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = "stable-alignment"
    ratio: float = Field(default=0.2, ge=0)
    margin: float = Field(default=1.0, ge=0)
    flow: Literal["mean", "max", "each"] = "mean"
    beta: float = Field(default=0.1, gt=0)
    candidates: int = Field(default=3, ge=1, le=64)
    stages: tuple[str, ...] = ()
    rank: int = Field(default=8, ge=1, le=512)
    alpha: int = Field(default=16, ge=1, le=4096)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    learning_rate: float = Field(default=2e-4, gt=0, le=1)
    warmup: float = Field(default=0.03, ge=0, lt=1)
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    epochs: int = Field(default=1, ge=1, le=1000)
    max_steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=4, ge=1, le=4096)
    accumulate: int = Field(default=1, ge=1, le=4096)
    max_length: int = Field(default=1024, ge=32, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    sharing: Sharing = "auto"
    checkpointing: bool = False
    fsdp: bool = False
    save_steps: int = Field(default=10, ge=1)
    eval_steps: int | None = Field(default=None, ge=1)
    patience: int | None = Field(default=None, ge=1)
    report_to: tuple[str, ...] = ()

    @field_validator("stages")
    @classmethod
    def _known(cls, stages: tuple[str, ...]) -> tuple[str, ...]:
        for stage in stages:
            if stage not in KINDS:
                raise ValueError(f"the stages are {', '.join(KINDS)}; not '{stage}'")
        return stages
