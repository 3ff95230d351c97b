"""What measured models are: their weights' digests, what they were trained on, and what measures them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from finetune import datasets
from finetune.evaluate.items import normal
from sandbox.errors import MissingExtra, ModelRefused, UserError
from sandbox.models import fingerprint, weights
from sandbox.models.spec import parse
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import lineage

_PACKAGES = ("social-sandbox", "torch", "transformers", "peft", "lm_eval", "litellm")


def seen(store: Store, models: Sequence[str]) -> tuple[set[str], list[str]]:
    """The questions that the models' adapters were trained on, and what can't be told of them."""
    known: set[str] = set()
    notes = []
    for model in models:
        name = parse(model).adapter
        row = lineage.adapter(store.database, name) if name else None
        if not name:
            continue
        data = next(
            (data for data in lineage.datasets(store.database) if row and data.digest == row.dataset), None
        )
        try:
            found = datasets.read(Path(data.path)) if data else None
        except UserError:
            found = None
        if found is None:
            notes.append(
                f"What {model} was trained on is not on record any more, so items that it has seen may count."
            )
            continue
        known |= {normal(group.question) for group in found.parts.train}
    return known, notes


def versions() -> dict[str, str]:
    """The versions of the packages that measure."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digests(settings: Settings, models: Sequence[str]) -> dict[str, str]:
    """The digests of local models' weights: by base, and by adapter."""
    found = {}
    for model in models:
        spec = parse(model)
        if spec.family != "local":
            continue
        try:
            known = fingerprint.of_weights(weights.locate(spec.name, settings.cache_dir))
        except (ModelRefused, MissingExtra, ValueError):
            known = None
        if known:
            found[f"local/{spec.name}"] = known[:16]
        if spec.adapter and (own := fingerprint.of_weights(str(settings.adapters_dir / spec.adapter))):
            found[model] = own[:16]
    return found
