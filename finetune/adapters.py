"""Adapters on disk: saved whole or not at all, with a card that says what they are; read, merged, exported.

::

    NAME/adapter_config.json, adapter_model.safetensors   what PEFT and vLLM load
    NAME/card.json                                        what it was made from, and how it did
    NAME/README.md                                        the same, for people
    NAME/training.jsonl                                   the log of its training
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from finetune.datasets import building
from finetune.pairwise import Preference, interval_of
from finetune.settings import TrainingOptions
from sandbox.errors import UserError
from sandbox.models.weights import CARD, PACKAGED, PACKAGED_HUB, known_as

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"


class Lineage(BaseModel):
    """The data that an adapter saw: the dataset's name and digest, and what that came from."""

    model_config = ConfigDict(frozen=True)
    dataset: str
    digest: str
    sessions: tuple[str, ...] = ()
    people: int = 0
    consents: tuple[str, ...] = ()
    agreement: dict[str, Any] = {}
    licence: str = ""


class Metrics(BaseModel):
    """How training went; held-out preference before and after, where something was held out."""

    model_config = ConfigDict(frozen=True)
    steps: int
    groups: int
    seconds: float
    loss: float | None = None
    dropped: dict[str, int] = {}
    cut: int = 0
    sharing: str = ""
    before: Preference | None = None
    after: Preference | None = None


class Card(BaseModel):
    """What an adapter is. ``base_weights`` and ``base_tokenizer`` are from ``sandbox.models.fingerprint``."""

    model_config = ConfigDict(frozen=True)
    name: str
    base: str
    base_weights: str | None
    base_tokenizer: str
    created: datetime
    version: str
    options: TrainingOptions
    lineage: Lineage
    metrics: Metrics


def save(
    folder: Path, model: Any, card: Card, log: Path | None = None, state: dict[str, Any] | None = None
) -> None:
    """Write an adapter into ``folder``, whole or not at all. Raises ``UserError`` if there is one already.

    ``state`` holds the weights of a model that is sharded.
    """
    if folder.exists():
        raise UserError(f"There is an adapter in {folder} already. Choose another --name, or delete it.")
    with building(folder) as workshop:
        model.save_pretrained(
            workshop, safe_serialization=True, save_embedding_layers=False, state_dict=state
        )
        readme = workshop / "README.md"
        readme.unlink(missing_ok=True)  # PEFT's own has only blanks
        _name_base(workshop, card.base.removeprefix("local/"))
        (workshop / CARD).write_text(card.model_dump_json(indent=2) + "\n", "utf-8")
        readme.write_text(told(card), "utf-8")
        if log is not None and log.is_file():
            shutil.copyfile(log, workshop / "training.jsonl")


def read_card(folder: Path) -> Card:
    """The card of an adapter. Raises ``UserError``."""
    try:
        return Card.model_validate_json((folder / CARD).read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"There is no adapter of ours in {folder}: it has no {CARD}.") from error
    except (OSError, ValidationError) as error:
        said = str(error).splitlines()[0]
        raise UserError(f"The card in {folder} can't be read: {said}.") from error


def export(folder: Path, out: Path) -> None:
    """Copy an adapter's files to a new folder, with a base that can be loaded. Raises ``UserError``."""
    require_new(out)
    card = read_card(folder)
    with building(out) as workshop:
        shutil.copytree(folder, workshop, dirs_exist_ok=True)
        named = json.loads((workshop / CONFIG).read_text("utf-8"))["base_model_name_or_path"]
        _name_base(workshop, named)
        (workshop / "README.md").write_text(told(card), "utf-8")


def require_new(out: Path) -> None:
    """Raise ``UserError`` for a folder that is there already."""
    if out.exists():
        raise UserError(f"{out} is there already. Name another folder with --out.")


def _name_base(folder: Path, name: str) -> None:
    """Write into PEFT's file what others can load as base."""
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    config["base_model_name_or_path"] = known_as(name)
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def new_card(
    name: str,
    base: str,
    digests: tuple[str | None, str],
    options: TrainingOptions,
    lineage: Lineage,
    metrics: Metrics,
) -> Card:
    """The card of an adapter made now."""
    from importlib.metadata import version

    return Card(
        name=name,
        base=base,
        base_weights=digests[0],
        base_tokenizer=digests[1],
        created=datetime.now(UTC),
        version=version("social-sandbox"),
        options=options,
        lineage=lineage,
        metrics=metrics,
    )


def told(card: Card, *, merged: bool = False) -> str:
    """The card for people, with the header that hubs read."""
    lineage, metrics = card.lineage, card.metrics
    base = known_as(card.base.removeprefix("local/"))
    header = "" if Path(base).is_absolute() else f"base_model: {base}\n"  # hubs refuse a path
    if lineage.licence:
        header += f"license: {lineage.licence}\n"
    if not merged:
        header += "library_name: peft\n"
    rows = [
        (
            "base",
            f"`{card.base}`, weights {_short(card.base_weights)}, tokenizer {_short(card.base_tokenizer)}",
        ),
        ("dataset", f"{lineage.dataset}, digest `{lineage.digest[:12]}`"),
        ("sessions", ", ".join(lineage.sessions) or "imported data"),
        ("people in the data", str(lineage.people)),
        ("consents, by version", ", ".join(lineage.consents) or "none on record"),
        ("agreement of raters", _agreement(lineage.agreement)),
        ("trained on", f"{metrics.groups} groups, {metrics.steps} steps, {metrics.seconds:.0f} s"),
        ("left out", ", ".join(f"{n} {why}" for why, n in metrics.dropped.items()) or "nothing"),
        ("held-out preference before", _preference(metrics.before)),
        ("held-out preference after", _preference(metrics.after)),
        ("made by", f"social-sandbox {card.version}, {card.created:%Y-%m-%d}"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    options = json.dumps(card.options.model_dump(exclude_defaults=True))
    use = "Load this folder as any causal language model." if merged else _use(card)
    return f"""---
{header}tags:
  - alignment
  - social-sandbox
---

# {card.name}

{"A model" if merged else "A LoRA adapter"} trained by {card.options.method} on rated answers of a society.
{use}

| | |
|---|---|
{table}

Options that differ from the defaults: `{options}`. All of it is in `{CARD}`.
"""


def _use(card: Card) -> str:
    """How an adapter is seated, and how others load it."""
    name = card.base.removeprefix("local/")
    seated = f"Seat it as `{card.base}#{card.name}`."
    if name == PACKAGED:
        return (
            f"{seated} Elsewhere, `peft.AutoPeftModelForCausalLM.from_pretrained(FOLDER)` loads it on "
            f"`{PACKAGED_HUB}`. It was trained on a 4-bit copy of that model, so answers differ a little; "
            f"with `sandbox adapters merge {card.name} --out FOLDER` they are the same."
        )
    if Path(known_as(name)).is_absolute():
        return (
            f"{seated} Elsewhere, `peft.AutoPeftModelForCausalLM.from_pretrained(FOLDER)` loads it as long "
            "as the base model lies where it lay when this was trained; if it was moved, load it first: "
            "`peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), FOLDER)`."
        )
    return (
        f"{seated} Elsewhere, `peft.AutoPeftModelForCausalLM.from_pretrained(FOLDER)` loads it with its base."
    )


def _preference(found: Preference | None) -> str:
    if found is None:
        return "not measured"
    return f"{found.accuracy:.3f} ({interval_of(found)}) of {found.pairs} pairs"


def _agreement(found: dict[str, Any]) -> str:
    told = [
        f"{who}: alpha {values['alpha']:.2f} over {values['units']} messages"
        for who, values in found.items()
        if values.get("alpha") is not None
    ]
    return "; ".join(told) or "no message has two ratings that count (peers' do not, unless --with-peers)"


def _short(digest: str | None) -> str:
    return f"`{digest[:12]}`" if digest else "unknown"
