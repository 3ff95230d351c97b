"""Options of which groups make a dataset, and how what is typed is read."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from finetune.datasets import Dataset
from finetune.groups import KINDS
from finetune.making import Selection
from sandbox.commands.console import POSITIVE, SEED, opened
from sandbox.settings import Settings
from sandbox.store import lineage
from sandbox.text import printable

F = TypeVar("F", bound=Callable[..., Any])


def _mix(_: object, __: object, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    parts = text.split(":")
    if len(parts) != len(KINDS) or not all(re.fullmatch(r"\d{1,6}(\.\d{1,6})?", part) for part in parts):
        raise click.BadParameter(f"Write the shares of {', '.join(KINDS)}, as 5:1:1.")
    shares = tuple(float(part) for part in parts)
    if not any(shares):
        raise click.BadParameter("At least one share must be more than 0.")
    return shares


def kinds(_: object, __: object, text: str) -> tuple[Any, ...]:
    """The kinds of groups that are wanted, in their own order."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted or (unknown := set(wanted) - set(KINDS)):
        named = ", ".join(sorted(unknown)) if wanted else "none"
        raise click.BadParameter(f"The kinds are {', '.join(KINDS)}; not {named}.")
    return tuple(kind for kind in KINDS if kind in wanted)


def licence(_: object, __: object, text: str) -> str:
    """A licence by its short name."""
    if not re.fullmatch(r"[A-Za-z0-9.+-]{0,60}", text):
        raise click.BadParameter("Write its short name, as mit, apache-2.0 or cc-by-4.0.")
    return text


def scale(text: str) -> tuple[float, float]:
    """The ends of a scale that is written LOW-HIGH."""
    match = re.fullmatch(r"(\d{1,3})-(\d{1,3})", text)
    if match is None or int(match[1]) >= int(match[2]):
        raise click.UsageError("Write the scale as LOW-HIGH, as 1-7.")
    return float(match[1]), float(match[2])


def with_selection(command: F) -> F:
    """Adds the options of which groups are taken; the command gets ``selection``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        mix: tuple[float, ...] | None,
        cap: int | None,
        split: float,
        seed: int,
        least: int,
        **options: Any,
    ) -> Any:
        return command(*args, selection=Selection(mix, cap, split, seed, least), **options)

    chosen: Any = wrapped
    for option in reversed(
        (
            click.option("--mix", callback=_mix, metavar="A:B:C", help="Shares of the kinds, as 5:1:1."),
            click.option("--per-source-cap", "cap", type=POSITIVE, help="Most groups of one seat or person."),
            click.option(
                "--split",
                type=click.FloatRange(0, 0.9),
                default=0.0,
                show_default=True,
                help="Share of the questions to hold out.",
            ),
            click.option(
                "--least",
                type=POSITIVE,
                default=1,
                show_default=True,
                help="Fewest rated candidates a group.",
            ),
            click.option("--seed", type=SEED, default=0, show_default=True),
        )
    ):
        chosen = option(chosen)
    return chosen  # type: ignore[no-any-return]


def with_raters(command: F) -> F:
    """Adds ``--kind``, ``--raters`` and ``--with-peers``: what of a society is trained on."""
    chosen: Any = command
    for option in reversed(
        (
            click.option(
                "--kind",
                "kinds",
                callback=kinds,
                default=",".join(KINDS),
                metavar="KIND,…",
                help=f"Some of {', '.join(KINDS)}, parted by commas (default: all).",
            ),
            click.option(
                "--raters",
                type=click.Choice(["people", "models", "all"], case_sensitive=False),
                default="all",
                show_default=True,
                help="Whose ratings count.",
            ),
            click.option("--with-peers", is_flag=True, help="Let ratings count that models gave as peers."),
        )
    ):
        chosen = option(chosen)
    return chosen  # type: ignore[no-any-return]


def warn_if_flagged(found: Dataset, settings: Settings) -> None:
    """Say it where a dataset should not be used any more."""
    with opened(settings) as store:
        record = lineage.dataset(store.database, found.card.name)
    if record is not None and record.flagged:
        click.echo(printable(f"Warning: {found.card.name} is flagged: {record.flagged}."), err=True)
