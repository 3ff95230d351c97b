"""What an evaluation measures, so exactly that it can be gone on with later, and repeated by somebody else.

Pure.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from finetune.evaluate.items import Direction

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Part):
    """A metric of a suite. ``low`` and ``high`` bound what it can be."""

    name: str
    help: str
    better: Direction
    low: float | None
    high: float | None


class SuitePlan(_Part):
    """A suite as it is measured: ``digest`` is that of the items that count, ``items`` how many they are.

    ``dropped`` counts what was left out, by reason.
    """

    name: str
    source: str
    digest: str
    items: int
    dropped: dict[str, int] = Field(default_factory=dict)
    figures: tuple[Figure, ...]


class Options(_Part):
    """What is chosen. ``data`` maps suites to files or datasets, "" to a folder of them.

    ``limit`` are items a suite, drawn by ``seed``. ``chat`` puts the standard suites into the chat template.
    ``keep_seen`` keeps items that an adapter was trained on.
    """

    models: tuple[str, ...] = Field(min_length=1)
    suites: tuple[str, ...] = Field(min_length=1)
    data: dict[str, str] = Field(default_factory=dict)
    judge: str = ""
    limit: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    chat: bool = False
    keep_seen: bool = False
    max_tokens: int = Field(default=128, ge=1, le=100_000)
    temperature: float = Field(default=0.0, ge=0, le=5)
    budget: float | None = Field(default=None, ge=0)
    dtype: Dtype = "float32"


class Step(_Part):
    """What led from one society of a loop to the next: its session, the dataset, the adapter made of it."""

    session: str
    dataset: str = ""
    adapter: str = ""


class Plan(_Part):
    """An evaluation. ``digests`` are those of weights, ``versions`` of the packages that measured.

    Where societies are compared, ``sessions`` maps the label of each, which stands for a model, to its key;
    ``raters`` are the models that rate in them; ``stored`` are those keys that were there before, and are not
    gone on with; ``unseen`` are the questions (as ``items.normal`` has them) that the adapter was not trained
    on, where it was on others; ``runs`` is how often the societies run, with a seed each; ``lineage`` is that
    of a loop.
    """

    options: Options
    suites: tuple[SuitePlan, ...]
    command: str = ""
    sessions: dict[str, str] = Field(default_factory=dict)
    raters: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    runs: int = Field(default=1, ge=1)
    lineage: tuple[Step, ...] = ()
    digests: dict[str, str] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
