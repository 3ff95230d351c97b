"""``sandbox watch`` and ``sandbox play``. Nothing heavy is imported before a command is called."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tui.settings import AppSettings

_person = click.option("--person", metavar="NAME", help="As whom you act (default: SANDBOX_PERSON).")
_theme = click.option("--theme", help="dark, light, contrast, or one of Textual's.")


@click.command()
@click.argument("url", required=False, metavar="[URL]")
@click.argument("session", required=False, metavar="[SESSION]")
@_person
@_theme
@click.option("--plain", is_flag=True, help="Lines of text: for pipes, logs and screen readers.")
@click.option("--json", "as_json", is_flag=True, help="One JSON frame a line: for programs.")
@click.option("--replay", is_flag=True, help="Play the session from its start.")
def watch(
    url: str | None,
    session: str | None,
    person: str | None,
    theme: str | None,
    plain: bool,
    as_json: bool,
    replay: bool,
) -> None:
    """Watch, join and rate the societies of a server: URL, by default http://127.0.0.1:8000.

    SESSION is a session's name, the beginning of it, or `last`. Without, the app lists all; --plain
    and --json take the newest. A server that needs a key takes it from SANDBOX_KEY.
    """
    import asyncio

    from sandbox.errors import UserError
    from tui.settings import load_app_settings

    url, session = _meant(url, session)
    settings = load_app_settings(url=url, person=person, theme=theme)
    if plain or as_json:
        if replay:
            raise UserError(
                "--replay is for the app. To print a stored session: sandbox sessions replay SESSION"
            )
        asyncio.run(_print(settings, session, as_json))
        return
    _check_terminal()
    _run(settings, session, replay)


def _meant(url: str | None, session: str | None) -> tuple[str | None, str | None]:
    """What the two arguments are: one that is no address is a session. Raises ``UserError``."""
    from sandbox.errors import UserError

    if url is None or url.startswith(("http://", "https://")):
        return url, session
    if "://" not in url and (":" in url or "." in url or url == "localhost"):
        return f"http://{url}", session
    if "://" in url or session is not None:
        raise UserError(f"'{url}' is no address of a server. Write: sandbox watch http://HOST:PORT SESSION")
    return None, url


@click.command()
@click.argument("society", required=False, metavar="[FILE|EXAMPLE|SESSION]")
@_person
@_theme
@click.option("--port", type=click.IntRange(1, 65_535), help="Port of the server (default: a free one).")
@click.option("--db", metavar="FILE|URL", help="SQLite file or database URL.")
def play(
    society: str | None, person: str | None, theme: str | None, port: int | None, db: str | None
) -> None:
    """Start a server with a society and watch it, offline, all in one. Both end with the app.

    By default it is 'village', on the packaged model, or 'scripted' where local models are not installed.
    """
    from tui.playing import served
    from tui.settings import load_app_settings

    _check_terminal()
    key = load_app_settings(theme=theme).key
    with served(society, port, db, key) as (url, session):
        _run(load_app_settings(url=url, person=person, theme=theme), session, False)


def _check_terminal() -> None:
    from sandbox.errors import UserError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("This is no terminal. Use: sandbox watch --plain, or --json")


def _run(settings: AppSettings, session: str | None, replay: bool) -> None:
    import asyncio

    from tui.app import SandboxApp, check_keys, check_theme

    check_theme(settings.theme)
    check_keys(settings.keys)
    if session is not None:
        session = asyncio.run(_found(settings, session))
    app = SandboxApp(settings, session, replay=replay)
    app.run()
    if app.return_code:
        raise SystemExit(app.return_code)


async def _found(settings: AppSettings, session: str) -> str:
    """The session that is meant; as it was given where no server answers yet, for the app to wait for it."""
    from tui.api import Api, Unreachable

    api = Api(settings.url, settings.key, settings.person)
    try:
        return await api.find(session)
    except Unreachable:
        return session
    finally:
        await api.close()


async def _print(settings: AppSettings, session: str | None, as_json: bool) -> None:
    from sandbox.errors import UserError
    from tui.api import Api
    from tui.live import Live
    from tui.plain import as_json as print_json
    from tui.plain import as_text

    api = Api(settings.url, settings.key, settings.person)
    try:
        if session is None:
            known = await api.sessions()
            if not known:
                raise UserError("There are no sessions. Make one with: sandbox serve scripted --start")
            session = known[0].session
        else:
            session = await api.find(session)  # a wrong name or no server is said at once
        live = Live(api.base, session, api.headers, settings.person)
        await (print_json if as_json else as_text)(live.items())
    finally:
        await api.close()
