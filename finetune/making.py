"""Makes datasets: out of stored sessions, or of files from elsewhere; and puts them on record."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

from finetune import datasets, formats
from finetune.comparisons import Choice, compare
from finetune.datasets import Card, Dataset, require_name
from finetune.groups import Group
from finetune.intake import Intake
from finetune.reading import read_rows
from finetune.rows import Pairing
from finetune.selecting import Selectable, capped, mixed, parted
from sandbox.errors import SandboxError, UserError
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import lineage, sessions
from sandbox.store.consents import versions_of


class Held(Selectable, Protocol):
    """A group, or what stands for it, as far as it says whose words it holds."""

    @property
    def size(self) -> int: ...
    @property
    def session(self) -> str: ...
    @property
    def people(self) -> tuple[str, ...]: ...


H = TypeVar("H", bound=Held)


class Selection(NamedTuple):
    """Which of the groups are taken. ``mix`` are the shares of the kinds, ``split`` what is held out."""

    mix: tuple[float, ...] | None = None
    cap: int | None = None
    split: float = 0.0
    seed: int = 0
    least: int = 1


def datasets_dir(settings: Settings) -> Path:
    """The folder in which datasets lie by name."""
    return settings.data_dir / "datasets"


def find(settings: Settings, reference: str) -> Dataset:
    """The dataset of a name, else that in a folder. Raises ``UserError``."""
    return datasets.read(folder_of(settings, reference))


def folder_of(settings: Settings, reference: str) -> Path:
    """The folder of the dataset of a name, else that folder."""
    named = datasets_dir(settings) / reference
    folder = Path(reference).expanduser()
    is_named = datasets.NAME.fullmatch(reference) and named.is_dir()
    return named if is_named or not folder.is_dir() else folder


def build(
    store: Store,
    settings: Settings,
    name: str,
    references: Sequence[str],
    choice: Choice,
    selection: Selection,
) -> Card:
    """A dataset of what some sessions said and rated. Raises ``UserError`` if nothing of it can be used."""
    require_name(name)
    groups: list[Group] = []
    dropped: Counter[str] = Counter()
    epochs: dict[str, str] = {}
    for reference in references:
        row = sessions.find(store.database, reference)
        key = row.key
        if key in epochs:
            continue
        epochs[key] = row.epoch
        compared = compare(key, (recorded.event for recorded in store.log.read(key)), choice)
        groups += compared.groups
        dropped += compared.dropped
    if not groups:
        reasons = (
            "; ".join(f"{count} {reason}" for reason, count in dropped.most_common()) or "nothing was said"
        )
        raise UserError(
            f"Nothing in {', '.join(epochs)} can be trained on: {reasons}. A session needs answers that "
            "observers or people rated."
        )
    made: dict[str, Any] = {
        "kinds": choice.kinds,
        "raters": choice.raters,
        "weight_people": choice.weight_people,
    }
    made |= {"rubric": choice.rubric, "dimension": choice.dimension, "with_peers": choice.with_peers}
    return _keep(store, settings, name, groups, iter, selection, dropped, made, epochs)


def take_in(
    store: Store,
    settings: Settings,
    name: str,
    file: Path,
    form: str,
    pairing: Pairing,
    selection: Selection,
    licence: str = "",
    *,
    strict: bool = False,
) -> Card:
    """A dataset of a file's rows. Rows that can't be read are left out and counted in the card.

    Raises ``UserError``, which with ``strict`` names the first row that can't be read.
    """
    require_name(name)
    dropped: Counter[str] = Counter()

    def leave_out(why: str) -> None:
        dropped[f"rows that can't be read: {why}"] += 1

    with Intake(datasets_dir(settings)) as intake:
        intake.take(form, read_rows(file, None if strict else leave_out), pairing, dropped, strict=strict)
        if not intake.sketches:
            if dropped:  # not one row could be read: the first says why
                formats.read(form, read_rows(file), pairing)
            raise UserError(f"There is no row in {file}.")
        unrated = sum(sketch.unrated for sketch in intake.sketches)
        on_scale = f"on the scale {pairing.low:g}–{pairing.high:g}"
        dropped[f"candidates without a rating {on_scale} (kept, not trained on)"] = unrated
        made = {"imported": file.name, "format": form, **pairing._asdict()}
        return _keep(
            store, settings, name, intake.sketches, intake.groups, selection, dropped, made, {}, licence
        )


def delete(store: Store, settings: Settings, name: str) -> None:
    """Delete a dataset, on record or left without one; adapters trained on it stay. Raises ``UserError``."""
    row = lineage.dataset(store.database, name)
    folder = Path(row.path) if row else datasets_dir(settings) / require_name(name)
    if row is None and not folder.is_dir():
        raise UserError(f"There is no dataset '{name}'. List them with: sandbox dataset list")
    if folder.is_dir():
        datasets.remove(folder, name)
    lineage.forget_dataset(store.database, name)


def _keep(
    store: Store,
    settings: Settings,
    name: str,
    groups: list[H],
    load: Callable[[Iterable[H]], Iterator[Group]],
    selection: Selection,
    dropped: Counter[str],
    made: dict[str, Any],
    epochs: dict[str, str],
    licence: str = "",
) -> Card:
    """Select of the groups, or of what stands for them, and write those, as ``load`` has them."""
    if lineage.dataset(store.database, name) is not None:
        raise UserError(f"There is a dataset '{name}' already. Choose another --name, or delete it first.")
    kept = [group for group in groups if group.size >= selection.least]
    dropped["groups of fewer rated candidates than wanted"] += len(groups) - len(kept)
    if selection.cap is not None:
        kept = capped(kept, selection.cap, selection.seed, dropped)
    if selection.mix is not None:
        kept = mixed(kept, selection.mix, selection.seed, dropped)
    parts = parted(kept, selection.split, selection.seed)
    if not parts.train:
        raise UserError(
            "Nothing is left to train on. Take more sessions, or a smaller --split, --least or --mix."
        )
    held = sorted(_sources(kept))
    people = sorted({source.person for source in held if source.person})
    consents = versions_of(store.database, [(source.session, source.person) for source in held])
    chosen = {"mix": selection.mix, "cap": selection.cap, "split": selection.split, "seed": selection.seed}
    card = datasets.write(
        datasets_dir(settings) / name,
        (load(parts.train), load(parts.heldout)),
        dropped,
        sessions=tuple(epochs),
        people=len(people),
        consents=consents,
        licence=licence,
        made=made | chosen | {"least": selection.least},
    )
    folder = datasets_dir(settings) / name
    try:
        lineage.add_dataset(
            store.database, name, str(folder), card.digest, card.model_dump_json(), held, epochs
        )
    except SandboxError:
        shutil.rmtree(folder)
        raise
    return card


def _sources(groups: Sequence[Held]) -> set[lineage.Source]:
    """The sessions that groups come from, with each person whose words or ratings are in them."""
    of_sessions = [group for group in groups if group.session]
    return {lineage.Source(group.session, person) for group in of_sessions for person in ("", *group.people)}


def rows_with(dataset: Dataset, reference: str) -> list[tuple[int, Group]]:
    """The rows (from 1, held-out ones after the others) that know a message or rating by its id."""
    found = []
    for place, group in enumerate([*dataset.parts.train, *dataset.parts.heldout], 1):
        known = {reference for c in group.candidates for reference in c.messages}
        known |= {j.reference for c in group.candidates for j in c.judgements}
        known |= {j.target for c in group.candidates for j in c.judgements}
        if reference in known:
            found.append((place, group))
    return found
