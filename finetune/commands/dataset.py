"""``sandbox dataset``: what sessions said and rated, as training data; from other programs, and for them."""

from __future__ import annotations

import itertools
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from finetune import datasets, making, publishing, reference
from finetune.commands import choosing
from finetune.commands.choosing import warn_if_flagged, with_raters, with_selection
from finetune.commands.telling import print_card, print_forward, print_group, print_services
from finetune.comparisons import Choice
from finetune.datasets import Card
from finetune.formats import FORMATS
from finetune.groups import Group
from finetune.making import Selection
from finetune.rows import Pairing
from sandbox.commands.console import (
    POSITIVE,
    again,
    counted,
    name_column,
    opened,
    print_json,
    print_table,
    safe,
    short,
    sure,
    terminal,
    with_json,
    with_store,
    with_yes,
)
from sandbox.errors import UserError
from sandbox.output import writing
from sandbox.settings import Settings
from sandbox.store import lineage
from sandbox.text import printable

_FORMS = click.Choice([*FORMATS, publishing.PARQUET], case_sensitive=False)
_HELP = f"One of {', '.join((*FORMATS, publishing.PARQUET))}."


@click.group()
def dataset() -> None:
    """Build training data from sessions; import, show, export and push it."""


@dataset.command(short_help="Rated candidates out of sessions.")
@click.argument("sessions", nargs=-1, required=True)
@click.option("--name", help="The dataset's name (default: that of the first session).")
@with_raters
@click.option(
    "--weight-people",
    type=click.FloatRange(min=0, max=1e6),
    default=1.0,
    show_default=True,
    help="How much a person's rating counts beside a model's.",
)
@click.option("--rubric", type=POSITIVE, help="Only ratings given under this version of the norms.")
@click.option("--dimension", help="What is rated (default: what the peers rate by).")
@with_selection
@with_json
@with_store
def build(
    sessions: tuple[str, ...],
    name: str | None,
    kinds: Any,
    raters: Any,
    weight_people: float,
    rubric: int | None,
    dimension: str | None,
    with_peers: bool,
    selection: Selection,
    as_json: bool,
    settings: Settings,
) -> None:
    """Rated candidates out of SESSIONS (keys, beginnings of keys, or `last`)."""
    choice = Choice(kinds, raters, weight_people, rubric, dimension, with_peers)
    with opened(settings) as store:
        if name is None:
            from sandbox.store.sessions import find

            name = find(store.database, sessions[0]).key
        card = making.build(store, settings, name, sessions, choice, selection)
    _told(card, settings, as_json)


@dataset.command("import")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.option("--format", "form", type=_FORMS, required=True, metavar="FORMAT", help=_HELP)
@click.option("--name", help="The dataset's name (default: the file's).")
@click.option("--chosen", type=float, default=6.0, show_default=True, help="Rating of what has no score.")
@click.option("--rejected", type=float, default=2.0, show_default=True, help="And of the worse of a pair.")
@click.option(
    "--scale", default="1-7", show_default=True, metavar="LOW-HIGH", help="What ratings range over."
)
@click.option(
    "--licence",
    default="",
    callback=choosing.licence,
    help="Of what is imported, as mit or apache-2.0.",
)
@click.option("--strict", is_flag=True, help="Import nothing if a row can't be read (else it is left out).")
@with_selection
@with_json
@with_store
def import_(
    file: Path,
    form: str,
    name: str | None,
    chosen: float,
    rejected: float,
    scale: str,
    licence: str,
    strict: bool,
    selection: Selection,
    as_json: bool,
    settings: Settings,
) -> None:
    """Take FILE (JSON lines, a JSON list, either gzipped, or Parquet) as training data."""
    low, high = choosing.scale(scale)
    for rating in (chosen, rejected):
        if not low <= rating <= high:
            raise click.UsageError(
                f"A rating of {rating:g} is not on the scale {scale}. Name another --scale."
            )
    pairing = Pairing(chosen=chosen, rejected=rejected, low=low, high=high)
    form = "groups" if form == publishing.PARQUET else form
    name = name or re.sub(r"[^A-Za-z0-9._-]+", "-", file.name.split(".")[0]).strip("-.") or "imported"
    with opened(settings) as store:
        card = making.take_in(store, settings, name, file, form, pairing, selection, licence, strict=strict)
    _told(card, settings, as_json)


@dataset.command("list")
@with_json
@with_store
def list_datasets(as_json: bool, settings: Settings) -> None:
    """The datasets, newest first."""
    with opened(settings) as store:
        rows = lineage.datasets(store.database)
        trained = {row.digest: lineage.trained_on(store.database, row.digest) for row in rows}
    console = terminal()
    if not rows and not as_json:
        console.print("No datasets yet. Build one with: sandbox dataset build last --name NAME")
        return
    table = Table(pad_edge=False)
    name_column(table, "dataset", [row.name for row in rows])
    for column in ("groups", "held out", "sessions", "adapters", "made", "state"):
        table.add_column(column, overflow="fold")
    for row in rows:
        card = Card.model_validate_json(row.card)
        adapters = [adapter.name for adapter in trained[row.digest]]
        if as_json:
            print_json(
                card.model_dump(mode="json")
                | {"path": row.path, "flagged": row.flagged, "adapters": adapters}
            )
        table.add_row(
            Text(row.name),
            str(card.report.train),
            str(card.report.heldout),
            str(len(card.sessions)),
            safe(", ".join(adapters)),
            f"{row.created:%Y-%m-%d %H:%M}",
            safe("flagged" if row.flagged else "", "bold red"),
        )
    if not as_json:
        print_table(console, table)


@dataset.command()
@click.argument("name")
@click.option("--row", type=POSITIVE, help="One row in full, with every rating and where it comes from.")
@click.option("--limit", type=click.IntRange(0, 100_000), default=5, show_default=True, help="Rows to show.")
@with_json
@with_store
def show(name: str, row: int | None, limit: int, as_json: bool, settings: Settings) -> None:
    """What a dataset holds."""
    folder = making.folder_of(settings, name)
    chosen: list[tuple[int, Group]] = []
    if row is not None:
        card = datasets.read_card(folder)
        chosen = [(row, datasets.read_row(folder, row))]
    else:
        numbers = itertools.count(1)

        def take(_: str, group: Group) -> None:
            number = next(numbers)
            if number <= limit:
                chosen.append((number, group))

        card = datasets.check(folder, take)
    with opened(settings) as store:
        record = lineage.dataset(store.database, card.name)
        flagged = record.flagged if record and record.digest == card.digest else None
        if as_json:
            print_json(card.model_dump(mode="json") | {"flagged": flagged})
            for place, group in chosen:
                print_json({"row": place, "id": group.id, **group.model_dump(mode="json")})
            return
        console = terminal()
        if row is not None:
            print_group(*chosen[0])
            print_forward(store, card.digest)
            return
        print_card(card)
        if flagged:
            console.print(safe(f"flagged: {flagged}", "bold red"))
    for place, group in chosen:
        console.print(short(f"{place:>5} {group.kind}: {group.question}", console.width))
    if card.report.train:
        console.print(
            f"\nOne row in full: {again(f'dataset show {card.name} --row N')}",
            style="dim",
            markup=False,
        )


@dataset.command()
@click.argument("reference")
@with_json
@with_store
def trace(reference: str, as_json: bool, settings: Settings) -> None:
    """What became of a message or rating: SESSION/ID, as village-k3m9ab/4.draft.

    The rows that know it, the adapters trained on them, the seats they serve.
    """
    session, _, local = reference.partition("/")
    if not session or not local:
        raise click.UsageError(
            "Write SESSION/MESSAGE, as village-k3m9ab/4.draft; see `sandbox sessions show`."
        )
    console = terminal()
    found = 0
    with opened(settings) as store:
        from sandbox.store.sessions import find

        key = find(store.database, session).key
        for row in lineage.made_from(store.database, key):
            try:
                held = making.find(settings, row.path)
            except UserError as error:
                click.echo(printable(f"{row.name}: {error}"), err=True)
                continue
            for place, group in making.rows_with(held, f"{key}/{local}"):
                found += 1
                adapters = lineage.trained_on(store.database, row.digest)
                seats = {a.name: lineage.services(store.database, a.name) for a in adapters}
                if as_json:
                    print_json(
                        {
                            "dataset": row.name,
                            "row": place,
                            "id": group.id,
                            "kind": group.kind,
                            "adapters": {n: [s._asdict() for s in served] for n, served in seats.items()},
                        }
                    )
                    continue
                console.print(safe(f"dataset {row.name}, row {place} ({group.kind})", "bold"))
                print_services(seats)
    if not found and not as_json:
        console.print(safe(f"No dataset knows {key}/{local}."))


@dataset.command()
@click.argument("name")
@click.option("--format", "form", type=_FORMS, default="groups", metavar="FORMAT", help=_HELP)
@click.option(
    "--part",
    type=click.Choice(["train", "heldout", "all"], case_sensitive=False),
    default="train",
    show_default=True,
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="A file (a folder for parquet); else standard output."
)
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="How far apart the ratings of a pair are at least; equal ones are never a pair.",
)
@click.option("--names", is_flag=True, help="People's names instead of pseudonyms.")
@with_store
def export(
    name: str, form: str, part: str, out: Path | None, margin: float, names: bool, settings: Settings
) -> None:
    """A dataset in another program's format."""
    found = making.find(settings, name)
    warn_if_flagged(found, settings)
    if form == publishing.PARQUET:
        if out is None:
            raise click.UsageError("Parquet is a folder: name it with --out.")
        count = publishing.export_parquet(found, out, names=names)
    elif out is None:
        publishing.export(found, form, part, Pairing(margin=margin), sys.stdout, names=names)
        return
    else:
        with writing(out) as file:
            count = publishing.export(found, form, part, Pairing(margin=margin), file, names=names)
    click.echo(f"{counted(count, 'row')} of {form} written to {out}", err=True)
    if form == "reference" and (unit := reference.unit_of(publishing.chosen(found, part))) > 1:
        click.echo(
            f"Its scores are {unit} times the ratings: multiply its --rating_scale by {unit}.", err=True
        )


@dataset.command()
@click.argument("name")
@click.argument("repository")
@click.option("--public", is_flag=True, help="For everybody to see; else for you alone.")
@with_store
def push(name: str, repository: str, public: bool, settings: Settings) -> None:
    """Upload a dataset to the Hugging Face hub as REPOSITORY (OWNER/NAME), under pseudonyms."""
    found = making.find(settings, name)
    warn_if_flagged(found, settings)
    with tempfile.TemporaryDirectory() as workshop:
        address = publishing.push(found, repository, Path(workshop), private=not public)
    click.echo(printable(address))


@dataset.command()
@click.argument("name")
@with_yes
@with_store
def delete(name: str, yes: bool, settings: Settings) -> None:
    """Delete a dataset. The adapters trained on it stay, and keep its digest."""
    with opened(settings) as store:
        sure(f"Delete the dataset {name} for good?", yes=yes)
        making.delete(store, settings, name)
    click.echo(f"{name} is deleted.")


def _told(card: Card, settings: Settings, as_json: bool) -> None:
    if as_json:
        print_json(card.model_dump(mode="json") | {"path": str(making.datasets_dir(settings) / card.name)})
        return
    print_card(card)
    terminal().print(
        f"\nTrain on it: {again(f'train {card.name} --base local/smollm2 --name ADAPTER')}",
        style="dim",
        markup=False,
    )
