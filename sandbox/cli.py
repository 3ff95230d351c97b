"""The ``sandbox`` command: finds commands by name and loads only the one that is called.

Other packages add tables like ``COMMANDS`` through the entry point group ``sandbox.commands``. A table lies
in a module that imports nothing else, so that ``--help`` loads no command.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click

GROUP = "sandbox.commands"
COMMANDS = {
    "init": ("sandbox.commands.setup:init", "Write a commented society.toml."),
    "run": ("sandbox.commands.run:run", "Run a society from a file or an example."),
    "resume": ("sandbox.commands.run:resume", "Go on with a stored session."),
    "ask": ("sandbox.commands.talk:ask", "Put one question to a seat, or to the whole society."),
    "chat": ("sandbox.commands.talk:chat", "Talk with one seat, several or all."),
    "rate": ("sandbox.commands.talk:rate", "Rate a message, or have a seat rate it."),
    "sessions": ("sandbox.commands.sessions:sessions", "List, show, export, replay, fork, delete sessions."),
    "monitor": (
        "sandbox.commands.monitor:monitor",
        "Say what goes wrong in a session: inflation, likeness, bias.",
    ),
    "doctor": ("sandbox.commands.setup:doctor", "Say what works here, and what to install for the rest."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and short help, and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our own commands in order, then those of other packages."""
        return list(_all())

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command itself, imported."""
        if name not in (known := _all()):
            return None
        module, _, attribute = known[name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; Ctrl-C where it is not awaited ends it as anywhere else, and is no failure."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in ``--help``, from short helps that need no import."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in _all().items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="social-sandbox", prog_name="sandbox")
def cli() -> None:
    """Societies of language-model agents that answer, rate and revise one another.

    Begin with:  sandbox run scripted   (no model needed)   or   sandbox doctor
    """


def _all() -> dict[str, tuple[str, str]]:
    """Every command by name: where it is, and its short help."""
    known = dict(COMMANDS)
    for point in sorted(entry_points(group=GROUP)):
        for name, told in point.load().items():
            known.setdefault(name, told)
    return known


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; errors made on purpose end with their message and exit code."""
    from sandbox.errors import SandboxError

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks a character shows a question mark
            stream.reconfigure(errors="replace")
    try:
        return cli.main(args=arguments, prog_name="sandbox", standalone_mode=True)
    except SandboxError as error:
        click.echo(f"Error: {_safe(str(error))}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # who read us has had enough
        _say_no_more()
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
            raise
        _say_no_more()
        click.echo(f"Error: The output can't be written: {error.strerror}.", err=True)
        sys.exit(2)


def _say_no_more() -> None:
    """What is left to be written to standard output goes nowhere, and without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _safe(text: str) -> str:
    from sandbox.text import printable

    return printable(text)


if __name__ == "__main__":
    main()
