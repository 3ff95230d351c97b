"""Datasets for others: pseudonyms for people, files in any form, Parquet with a card, and the hub."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from finetune.datasets import Dataset, building
from finetune.formats import FORMATS
from finetune.groups import Group
from finetune.rows import Pairing
from sandbox.errors import MissingExtra, UserError

PARQUET = "parquet"


def pseudonymous(groups: Iterable[Group]) -> list[Group]:
    """The groups with "person-1", "person-2", … for the people in them, in the order in which they appear.

    A person who rated from outside the society stands as rater under their name; it is replaced as well.
    """
    names: dict[str, str] = {}

    def name(person: str | None) -> str | None:
        return None if person is None else names.setdefault(person, f"person-{len(names) + 1}")

    told = []
    for group in groups:
        candidates = []
        for candidate in group.candidates:
            judgements = tuple(
                judgement.model_copy(
                    update={
                        "person": name(judgement.person),
                        "rater": name(judgement.person)
                        if judgement.person == judgement.rater
                        else judgement.rater,
                        "reference": _without(judgement.reference, judgement.person, name(judgement.person)),
                    }
                )
                for judgement in candidate.judgements
            )
            seat = name(candidate.person) if candidate.person == candidate.seat else candidate.seat
            candidates.append(
                candidate.model_copy(
                    update={"person": name(candidate.person), "seat": seat, "judgements": tuple(judgements)}
                )
            )
        people = tuple(sorted(names.setdefault(p, f"person-{len(names) + 1}") for p in group.people))
        told.append(group.model_copy(update={"candidates": tuple(candidates), "people": people}))
    return told


def export(dataset: Dataset, form: str, part: str, pairing: Pairing, out: IO[str], *, names: bool) -> int:
    """Write a part of a dataset ("train", "heldout" or "all"); returns how many rows.

    As JSON lines; or as one JSON list, a row a line, where the format's own programs read nothing else.
    """
    groups = chosen(dataset, part)
    is_list = FORMATS[form].is_list
    count = 0
    for row in FORMATS[form].write(groups if names else pseudonymous(groups), pairing):
        before = "" if not is_list else ",\n" if count else "[\n"
        out.write(before + json.dumps(row, ensure_ascii=out.isatty()) + ("" if is_list else "\n"))
        count += 1
    if is_list:
        out.write("\n]\n" if count else "[]\n")
    return count


def chosen(dataset: Dataset, part: str) -> list[Group]:
    """The groups of a part."""
    train, heldout = dataset.parts
    return {"train": train, "heldout": heldout, "all": [*train, *heldout]}[part]


def export_parquet(dataset: Dataset, folder: Path, *, names: bool) -> int:
    """Write a dataset as Parquet with a card, as hubs show it; whole or not at all. Returns how many rows."""
    import pyarrow as pa
    from pyarrow import parquet

    if folder.exists():
        raise UserError(f"{folder} is there already. Name another folder with --out.")
    count = 0
    with building(folder) as workshop:
        (workshop / "data").mkdir()
        for part, groups in zip(("train", "heldout"), dataset.parts, strict=True):
            rows = [flat(group) for group in (groups if names else pseudonymous(groups))]
            if rows:
                parquet.write_table(pa.Table.from_pylist(rows), workshop / "data" / f"{part}.parquet")
            count += len(rows)
        (workshop / "README.md").write_text(readme(dataset), "utf-8")
    return count


def flat(group: Group) -> dict[str, Any]:
    """A group as a row of columns that every reader of Parquet knows; importing takes it as it is."""
    return group.model_dump(mode="json")


def readme(dataset: Dataset) -> str:
    """The dataset card, with the header that hubs read."""
    card = dataset.card
    files = "".join(
        f"      - split: {part}\n        path: data/{part}.parquet\n"
        for part, groups in zip(("train", "heldout"), dataset.parts, strict=True)
        if groups
    )
    licence = f"license: {card.licence}\n" if card.licence else ""
    report = card.report
    rows = ", ".join(f"{count} {kind}" for kind, count in report.rows.items())
    agreed = "\n".join(
        f"- {who}: alpha {_number(a.alpha)} ({_number(a.low)} to {_number(a.high)}), "
        f"{a.units} messages, {a.ratings} ratings"
        for who, a in report.agreement.items()
    )
    dropped = "\n".join(f"- {reason}: {count}" for reason, count in report.dropped.items())
    return f"""---
{licence}tags:
  - alignment
  - preference
  - social-sandbox
configs:
  - config_name: default
    data_files:
{files}---

# {card.name}

Prompts with rated candidates, made by social-sandbox. Digest of the rows: `{card.digest}`.

- {report.train} groups to train on, {report.heldout} held out ({rows or "none"})
- sessions: {", ".join(card.sessions) or "imported"}
- people whose words or ratings are in it: {card.people}, under pseudonyms
- consents they gave, by version: {", ".join(card.consents) or "none on record"}
- made with: `{json.dumps(card.made)}`

Each candidate's `rating` lies between the group's `low` and `high`; `judgements` are the ratings that count,
with their ids in the session.

## Agreement of the raters (Krippendorff's ordinal alpha)

{agreed or "No message was rated by two."}

## Left out

{dropped or "Nothing."}
"""


def push(dataset: Dataset, repository: str, workshop: Path, *, private: bool = True) -> str:
    """Upload a dataset to a hub, as Parquet with its card and under pseudonyms. Returns its address.

    Raises ``UserError`` with the remedy where the hub can't be reached or will not have it.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise MissingExtra("Pushing a dataset", "pip install 'social-sandbox[train]'") from error
    import httpx

    folder = workshop / dataset.card.name
    export_parquet(dataset, folder, names=False)
    api = HfApi()
    try:
        url = api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=dataset.card.digest[:12],
        )
    except (HfHubHTTPError, httpx.HTTPError, OSError, ValueError) as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The hub did not take {repository}: {said}. Look at the name (OWNER/NAME) and the network, and "
            "log in with: hf auth login"
        ) from error
    return str(url)


def _without(reference: str, person: str | None, pseudonym: str | None) -> str:
    """A rating's id; of one given from outside, it names the person."""
    if person is None or pseudonym is None:
        return reference
    return reference.replace(f"judge.{person}.", f"judge.{pseudonym}.")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
