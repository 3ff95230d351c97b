"""How far long work is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sandbox.commands.console import terminal
from sandbox.text import printable


@contextmanager
def shown(*, quiet: bool) -> Iterator[Callable[[Any], None]]:
    """A function to be told of steps: ``doing``, ``done``, ``of``, and a ``loss`` where there is one."""
    if quiet:
        yield lambda _: None
    elif sys.stderr.isatty():
        yield from _bar()
    else:
        yield _lines()


def _lines() -> Callable[[Any], None]:
    last = ""

    def line(step: Any) -> None:
        nonlocal last
        tenth = step.done * 10 // step.of if step.of else 0
        if last != (now := f"{step.doing} {tenth}"):
            last = now
            where = f" {step.done} of {step.of}{_loss(step)}" if step.of else ""
            click.echo(printable(f"{step.doing}{where}"), err=True)

    return line


def _bar() -> Iterator[Callable[[Any], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=terminal(to_stderr=True), transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(step: Any) -> None:
            if step.doing not in tasks:
                tasks[step.doing] = bar.add_task(printable(step.doing), total=step.of or None, loss="")
            told = _loss(step).removeprefix(", ")
            bar.update(tasks[step.doing], completed=step.done, total=step.of or None, loss=told)

        yield show


def _loss(step: Any) -> str:
    loss = getattr(step, "loss", None)
    return "" if loss is None else f", loss {loss:.3f}"
