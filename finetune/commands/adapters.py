"""``sandbox adapters``: what was trained, where it serves, and what can be done with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import click
from rich.markdown import Markdown
from rich.table import Table

from finetune.datasets import remove, require_name
from finetune.merging import Dtype
from sandbox.commands.console import (
    again,
    counted,
    name_column,
    opened,
    print_json,
    print_table,
    safe,
    sure,
    terminal,
    with_json,
    with_store,
    with_yes,
)
from sandbox.errors import UserError
from sandbox.models.weights import CARD
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.store import lineage
from sandbox.store.tables import AdapterRow
from sandbox.text import printable

_with_dtype = click.option(
    "--dtype",
    type=click.Choice(get_args(Dtype), case_sensitive=False),
    help="Of the whole model (default: float32; 16 bits are half the size, and round what was learnt).",
)


@click.group()
def adapters() -> None:
    """List, show, merge, export and delete trained adapters."""


@adapters.command("list")
@with_json
@with_store
def list_adapters(as_json: bool, settings: Settings) -> None:
    """The adapters, newest first."""
    with opened(settings) as store:
        rows = lineage.adapters(store.database)
    console = terminal()
    if not rows and not as_json:
        console.print("No adapters yet. Train one with: sandbox train DATASET --base local/smollm2")
        return
    table = Table(pad_edge=False)
    name_column(table, "adapter", [row.name for row in rows])
    for column in ("base", "method"):
        table.add_column(column, overflow="fold")
    name_column(table, "dataset", [json.loads(row.card)["lineage"]["dataset"] for row in rows])
    for column in ("preference", "made", "state"):
        table.add_column(column, overflow="fold")
    for row in rows:
        card = json.loads(row.card)
        if as_json:
            print_json(card | {"path": row.path, "flagged": row.flagged, "is_there": _is_there(row)})
        state = "flagged" if row.flagged else "" if _is_there(row) else "missing"
        table.add_row(
            safe(row.name),
            safe(row.base),
            safe(card["options"]["method"]),
            safe(card["lineage"]["dataset"]),
            _preference(card["metrics"]),
            f"{row.created:%Y-%m-%d %H:%M}",
            safe(state, "bold red"),
        )
    if not as_json:
        print_table(console, table)


@adapters.command()
@click.argument("name")
@with_json
@with_store
def show(name: str, as_json: bool, settings: Settings) -> None:
    """One adapter: what it was made from, how it did, which seats it serves."""
    with opened(settings) as store:
        row = _row(store, name)
        services = lineage.services(store.database, name)
        data = next((d for d in lineage.datasets(store.database) if d.digest == row.dataset), None)
        sources = lineage.sources(store.database, data.name) if data else []
    card = json.loads(row.card)
    if as_json:
        print_json(
            card
            | {
                "path": row.path,
                "flagged": row.flagged,
                "sources": [source._asdict() for source in sources],
                "seats": [service._asdict() for service in services],
            }
        )
        return
    from finetune.adapters import Card, told

    console = terminal()
    text = told(Card.model_validate(card)).split("---\n", 2)[2].strip()
    if console.is_terminal:  # a pipe gets what it can pass on
        console.print(Markdown(printable(text), hyperlinks=False))
    else:
        console.print(safe(text), soft_wrap=True)
    console.print()
    if row.flagged:
        console.print(safe(f"flagged: {row.flagged}", "bold red"))
    if not _is_there(row):
        console.print(safe(f"Its files are missing: {row.path}", "bold red"))
    for service in services:
        console.print(safe(f"seat {service.seat} of {service.session}: {counted(service.calls, 'call')}"))
    if not services:
        seated = again(f"run village --answers {row.base}#{row.name}")
        console.print(f"It serves no seat yet. Seat it: {seated}", markup=False, soft_wrap=True)


@adapters.command()
@click.argument("name")
@with_yes
@with_store
def delete(name: str, yes: bool, settings: Settings) -> None:
    """Delete an adapter with its files."""
    with opened(settings) as store:
        row = lineage.adapter(store.database, name)
        if row is None and not (settings.adapters_dir / require_name(name, "adapter") / CARD).is_file():
            raise _no_adapter(name)
        seats = len({(s.session, s.seat) for s in lineage.services(store.database, name)})
        served = f" {counted(seats, 'seat')} spoke through it." if seats else ""
        where = f" in {row.path}" if row else ""
        sure(f"Delete {name} and its files{where} for good?{served}", yes=yes)
        folder = Path(row.path) if row else settings.adapters_dir / name
        if folder.exists():
            remove(folder, name)
        lineage.forget_adapter(store.database, name)
    click.echo(f"{name} is deleted.")


@adapters.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@click.option("--merge", "merged", is_flag=True, help="The base model with the adapter in it.")
@_with_dtype
@with_store
def export(name: str, out: Path, merged: bool, dtype: Dtype | None, settings: Settings) -> None:
    """Copy an adapter for PEFT or vLLM; or, with --merge, write a whole model."""
    if dtype and not merged:
        raise click.UsageError("--dtype is that of a whole model. Add --merge, or leave it out.")
    if merged:
        _merge(name, out, dtype, settings)
        return
    from finetune import adapters as files

    files.export(_files(name, settings), out)
    click.echo(f"{name} is written to {out}", err=True)


@adapters.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
@_with_dtype
@with_store
def merge(name: str, out: Path, dtype: Dtype | None, settings: Settings) -> None:
    """Write the base model with the adapter in it, as a whole model."""
    _merge(name, out, dtype, settings)


def _merge(name: str, out: Path, dtype: Dtype | None, settings: Settings) -> None:
    from finetune import merging

    kind = dtype or "float32"
    off = merging.merge(_files(name, settings), settings.cache_dir, out, kind)
    click.echo(
        f"{name} is written to {out} in {kind}: its logits are within {off:.2g} of base and adapter", err=True
    )


def _files(name: str, settings: Settings) -> Path:
    """The folder of an adapter. Raises ``UserError`` if there is none."""
    with opened(settings) as store:
        row = _row(store, name)
    if not _is_there(row):
        raise UserError(
            f"The files of '{name}' are missing: {row.path}. Restore them, or delete the adapter."
        )
    return Path(row.path)


def _row(store: Store, name: str) -> AdapterRow:
    row = lineage.adapter(store.database, name)
    if row is None:
        raise _no_adapter(name)
    return row


def _no_adapter(name: str) -> UserError:
    return UserError(f"There is no adapter '{name}'. List them with: sandbox adapters list")


def _is_there(row: AdapterRow) -> bool:
    return (Path(row.path) / "adapter_model.safetensors").is_file()


def _preference(metrics: dict[str, Any]) -> str:
    before, after = metrics.get("before"), metrics.get("after")
    return f"{before['accuracy']:.2f} → {after['accuracy']:.2f}" if before and after else ""
