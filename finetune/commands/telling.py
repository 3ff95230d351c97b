"""Datasets on a terminal: what one holds, one row of it, and what became of it."""

from __future__ import annotations

from rich.table import Table

from finetune.datasets import Card
from finetune.groups import Group
from finetune.selecting import Report
from sandbox.agreement import LEAST
from sandbox.commands.console import counted, number, safe, terminal
from sandbox.running import Store
from sandbox.store import lineage
from sandbox.text import one_line


def print_card(card: Card) -> None:
    """What a dataset holds, and what was left out."""
    console = terminal()
    report: Report = card.report
    console.print(
        safe(
            f"{card.name}: {counted(report.train, 'group')} to train on, {report.heldout} held out "
            f"(digest {card.digest[:12]})"
        )
    )
    if card.sessions:
        console.print(safe(f"sessions: {', '.join(card.sessions)}; people: {card.people}"))
    table = Table(pad_edge=False)
    for column in ("kind", "groups", "ratings", "mean", "spread", "by value"):
        table.add_column(column)
    for kind, count in report.rows.items():
        spread = report.spread.get(kind)
        table.add_row(
            safe(kind),
            str(count),
            str(spread.n if spread else 0),
            number(spread.mean if spread else None),
            number(spread.deviation if spread else None),
            safe("  ".join(f"{value}:{n}" for value, n in spread.counts.items()) if spread else ""),
        )
    console.print(table)
    sizes = ", ".join(f"{n} with {size}" for size, n in report.candidates.items())
    console.print(safe(f"candidates a group: {sizes}"))
    for who, agreed in report.agreement.items():
        if agreed.alpha is None:
            continue
        few = f" (no interval: fewer than {LEAST} questions)"
        within = few if agreed.low is None else f" (95 %: {agreed.low:.2f} to {agreed.high:.2f})"
        console.print(
            safe(
                f"agreement, {who}: alpha {agreed.alpha:.2f}{within} over {counted(agreed.units, 'message')}"
            )
        )
    for reason, count in report.dropped.items():
        console.print(safe(f"left out: {_so_many(count, reason)}", "dim"))


def _so_many(count: int, reason: str) -> str:
    """A count with what it counts: of one, "1 row that …" instead of "1 rows that …"."""
    first, gap, rest = reason.partition(" ")
    if count == 1:
        owned = first.endswith("s'")
        first = f"{first[:-2]}'s" if owned else first.removesuffix("s") if first in _SEVERAL else first
    return f"{count:,} {first}{gap}{rest}"


_SEVERAL = ("rows", "groups", "candidates", "ratings", "interactions", "messages", "critiques")


def print_group(place: int, group: Group) -> None:
    """A row in full, with every rating and where it comes from."""
    console = terminal()
    console.print(safe(f"row {place} ({group.id}): {group.kind}, of {group.session or 'a file'}", "bold"))
    for turn in group.prompt:
        console.print(safe(f"{turn.role}:", "bold"))
        console.print(safe(turn.content))
    ranked = group.rated + tuple(c for c in group.candidates if c.rating is None)
    for candidate in ranked:
        rated = "not rated" if candidate.rating is None else f"{candidate.rating:.2f} of {group.high:g}"
        console.print(safe(f"\n{rated}  {candidate.person or candidate.seat} {candidate.model}", "bold"))
        console.print(safe(candidate.text))
        if candidate.messages:
            console.print(safe(f"  said in {', '.join(candidate.messages)}", "dim"))
        for judgement in candidate.judgements:
            who = judgement.person or judgement.rater
            console.print(
                safe(
                    f"  {who}: {judgement.value:g} ({judgement.method}, rubric {judgement.rubric})  "
                    f"{judgement.reference}  {one_line(judgement.reason, 100)}",
                    "dim",
                )
            )


def print_forward(store: Store, digest: str) -> None:
    """What was made of a dataset: the adapters trained on it, the seats they serve."""
    adapters = lineage.trained_on(store.database, digest)
    print_services({a.name: lineage.services(store.database, a.name) for a in adapters})


def print_services(seats: dict[str, list[lineage.Service]]) -> None:
    """Adapters, and the seats that they serve."""
    console = terminal()
    for adapter, served in seats.items():
        console.print(safe(f"  adapter {adapter}", "bold"))
        for service in served:
            console.print(
                safe(f"    seat {service.seat} of {service.session}: {counted(service.calls, 'call')}")
            )
    if not seats:
        console.print("  no adapter was trained on it yet", style="dim")
