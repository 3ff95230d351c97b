"""What an operator relies on: settings, caps on cost, and nothing heavy at the start."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import sqlalchemy as sa
from fake_provider import FakeProvider
from serving import app_in, create, serve, wait_for

from sandbox.errors import StoreFull, UserError
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings, load_settings
from server.auth import Identity, Keys, TooMany
from server.cli import reachable
from server.services import assemble
from server.settings import ServerSettings, load_server_settings
from server.wire.views import CreateKey

MODEL = "litellm/openai/gpt-4"


@pytest.fixture
def priced(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> FakeProvider:
    """A provider whose calls have a price."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    return provider


def paused(client: httpx.Client, session: str) -> str | None:
    """Why a session is paused."""
    reason: str | None = client.get(f"/api/v1/sessions/{session}/snapshot").json()["paused"]
    return reason


def test_a_sessions_budget_pauses_its_run(tmp_path: Path, priced: FakeProvider) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=60) as client:
        session = create(client, model=MODEL, seats="2x2", rounds=50, budget=0.2)
        client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        wait_for(lambda: paused(client, session) == "budget", 60)
        spent = client.get(f"/api/v1/sessions/{session}/snapshot").json()["totals"]["cost"]
        assert 0 < spent <= 0.2
        more = client.post(f"/api/v1/sessions/{session}/start", json={"budget": 0.4})
        assert more.status_code == 200
        wait_for(lambda: paused(client, session) == "budget", 60)
        again = client.get(f"/api/v1/sessions/{session}/snapshot").json()["totals"]["cost"]
        assert spent < again <= 0.4


def test_a_keys_budget_pauses_the_run_it_started(tmp_path: Path, priced: FakeProvider) -> None:
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1000)
    poor = keys.create(CreateKey(name="poor", scopes=("run", "watch", "ask"), budget=0.1))
    with serve(app_in(tmp_path, keyless=False)) as base:
        headers = {"Authorization": f"Bearer {poor.key}"}
        with httpx.Client(base_url=base, timeout=60, headers=headers) as client:
            session = create(client, model=MODEL, seats="2x2", rounds=50)
            client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
            wait_for(lambda: paused(client, session) == "budget", 60)
            cost = client.get(f"/api/v1/sessions/{session}/snapshot").json()["totals"]["cost"]
            chat = {"model": f"sandbox/{session}/A1", "messages": [{"role": "user", "content": "Hi"}]}
            refused = client.post("/v1/chat/completions", json=chat | {"max_tokens": 4000})
            assert refused.status_code == 402
            assert refused.json()["error"]["type"] == "insufficient_quota"
    (listed,) = keys.listing()
    assert listed.spent == pytest.approx(cost)
    assert 0.05 < listed.spent <= 0.1, "calls are held before they are made"
    store.close()


def test_what_a_key_asks_on_the_record_is_its_own_cost(tmp_path: Path, priced: FakeProvider) -> None:
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1000)
    admin = keys.create(CreateKey(name="admin", scopes=("admin",)))
    asker = keys.create(CreateKey(name="asker", scopes=("ask",), budget=5))
    with serve(app_in(tmp_path, keyless=False)) as base:
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {admin.key}"}) as client:
            session = create(client, model=MODEL, seats="2x2", rounds=0)
        with httpx.Client(
            base_url=base, timeout=60, headers={"Authorization": f"Bearer {asker.key}"}
        ) as client:
            chat = {"model": f"sandbox/{session}/A1", "messages": [{"role": "user", "content": "Hi"}]}
            for record in ("false", "true"):
                before = keys.listing()[0].spent
                headers = {"X-Sandbox-Record": record}
                answer = client.post("/v1/chat/completions", json=chat, headers=headers)
                assert answer.status_code == 200, answer.text
                wait_for(lambda before=before: keys.listing()[0].spent > before)
    asked, other = keys.listing()
    assert (asked.name, other.spent) == ("asker", 0)
    store.close()


def test_settings_come_from_a_file_the_environment_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "server.toml"
    file.write_text('port = 8001\nmax_lag = 50\norigins = ["https://a.example"]\n[extra]\n')
    with pytest.raises(UserError, match="'extra'"):
        load_server_settings(file)
    file.write_text('port = 8001\nmax_lag = 50\norigins = ["https://a.example"]\n')
    monkeypatch.setenv("SANDBOX_SERVER_PORT", "8002")
    chosen = load_server_settings(file, host="127.0.0.2")
    assert (chosen.port, chosen.max_lag, chosen.host) == (8002, 50, "127.0.0.2")
    assert chosen.origins == ("https://a.example",)
    assert load_server_settings(file, port=8003).port == 8003
    for text, word in (("port = 'x'", "port"), ("port = ", "can't be read"), ("max_lag = 0", "max_lag")):
        file.write_text(text)
        monkeypatch.delenv("SANDBOX_SERVER_PORT", raising=False)
        with pytest.raises(UserError, match=word):
            load_server_settings(file)


@pytest.mark.parametrize(
    ("given", "level"),
    [("WARNING", "warning"), (" Info", "info"), ("WARN", "warning"), ("Critical", "critical")],
)
def test_a_choice_is_one_in_any_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, level: str
) -> None:
    file = tmp_path / "server.toml"
    file.write_text(f'log_level = "{given}"\nlog_format = "JSON"\n')
    chosen = load_server_settings(file)
    assert (chosen.log_level, chosen.log_format) == (level, "json")
    monkeypatch.setenv("SANDBOX_SERVER_LOG_LEVEL", given)
    assert load_server_settings().log_level == level
    monkeypatch.setenv("SANDBOX_SERVER_LOG_LEVEL", "loud")
    with pytest.raises(UserError, match=r"log_level.*'debug', 'info'"):
        load_server_settings()
    monkeypatch.setenv("SANDBOX_DTYPE", "BFloat16")
    monkeypatch.setenv("SANDBOX_DEVICE", "CPU")
    assert (load_settings().dtype, load_settings().device) == ("bfloat16", "cpu")


def test_every_choice_of_every_command_is_one_in_any_case() -> None:
    from sandbox.cli import cli

    def choices(command: click.Command, context: click.Context) -> Iterator[click.Choice[Any]]:
        yield from (option.type for option in command.params if isinstance(option.type, click.Choice))
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                below = command.get_command(context, name)
                assert below is not None
                yield from choices(below, click.Context(below, parent=context))

    found = list(choices(cli, click.Context(cli)))
    assert len(found) > 5
    assert [choice for choice in found if choice.case_sensitive] == []


@pytest.mark.parametrize("host", ["LOCALHOST", "LocalHost", "localhost"])
def test_a_hosts_name_is_one_in_any_case(base: str, host: str) -> None:
    port = base.rpartition(":")[2]
    headers = {"Host": f"{host}:{port}", "Origin": f"http://{host.title()}:{port}"}
    assert (
        httpx.post(f"{base}/api/v1/estimate", json={"example": "scripted"}, headers=headers).status_code
        == 200
    )
    foreign = {"Host": f"{host}.example:{port}"}
    assert httpx.get(f"{base}/healthz", headers=foreign).status_code == 403


def test_people_without_keys_lose_none_of_their_ratings(tmp_path: Path) -> None:
    """They share one address and one identity: by default nothing bounds them."""
    people = [f"Person {number}" for number in range(30)]

    def rates(client: httpx.Client, here: str, person: str, message: str) -> int:
        headers = {"X-Sandbox-Person": person}
        rating = {"message": message, "value": 5, "reason": f"by {person}"}
        return client.post(f"{here}/ratings", json=rating, headers=headers).status_code

    def answered(client: httpx.Client) -> tuple[str, str]:
        here = f"/api/v1/sessions/{create(client, seats='2x2', rounds=0)}"
        body = {"question": "Why?", "seat": "A1", "society": False}
        number = client.post(f"{here}/questions", json=body).json()["interaction"]
        asked = {"interaction": number}
        said = wait_for(lambda: client.get(f"{here}/messages", params=asked).json()["items"])
        return here, f"{number}.{said[0]['step']}"

    with serve(app_in(tmp_path, per_minute=None)) as base, httpx.Client(base_url=base, timeout=60) as client:
        here, message = answered(client)
        with ThreadPoolExecutor(8) as pool:
            codes = list(pool.map(lambda person: rates(client, here, person, message), people * 2))
        assert codes == [201] * 60
        kept = client.get(f"{here}/ratings", params={"limit": 1000}).json()["items"]
        assert Counter(rating["person"] for rating in kept) == dict.fromkeys(people, 2)


async def test_what_bounds_requests_by_default(tmp_path: Path) -> None:
    """Ten thousand requests at one moment: nothing bounds the keyless, 600 a minute each key."""
    settings = Settings(data_dir=tmp_path, cache_dir=tmp_path)
    for keyless, given, most in ((True, None, 10_000), (False, None, 600), (True, 20, 20), (False, 20, 20)):
        services = assemble(settings, ServerSettings(per_minute=given), Redactor(), keyless=keyless)
        who = Identity("somebody", frozenset())
        passed = 0
        with suppress(TooMany):
            for _ in range(10_000):
                services.keys.count(who, now=1.0)
                passed += 1
        assert passed == most
        services.keys.count(Identity("somebody else", frozenset()), now=1.0)
        services.store.close()


def test_the_server_and_its_help_load_neither_torch_nor_litellm() -> None:
    check = "import sys; sys.exit(','.join({'torch', 'litellm', 'transformers'} & sys.modules.keys()) or 0)"
    for start in (
        "import server.app",
        "from sandbox.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass",
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{start}\n{check}"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_a_full_disk_is_told_and_the_server_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_in(tmp_path)
    with serve(app) as base, httpx.Client(base_url=base) as client:
        session = create(client, seats="2x2")
        assert client.get("/readyz").status_code == 200
        database = app.state.services.store.database
        with database.reading() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

        def fill(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA max_page_count = {pages}")

        sa.event.listen(database._engine, "checkout", fill)
        here = f"/api/v1/sessions/{session}/invites"
        answers = [
            client.post(here, json={"consent_text": "x" * 9_000, "consent_version": "1"}) for _ in range(20)
        ]
        assert answers[-1].status_code == 503
        assert "full" in answers[-1].json()["error"]["message"]
        assert database.is_full

        def fails() -> None:
            raise StoreFull("no room")

        with monkeypatch.context() as full:
            full.setattr(database, "try_to_write", fails)
            answer = client.get("/readyz")
            assert (answer.status_code, "full" in answer.text) == (503, True)
        sa.event.remove(database._engine, "checkout", fill)
        database._engine.dispose()
        assert client.get("/readyz").status_code == 200, "there is room again"
        assert not database.is_full


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("fe80::1", "[fe80::1]"), ("example.org", "example.org")],
)
def test_the_address_told_at_the_start_can_be_opened(host: str, shown: str) -> None:
    assert reachable(host) == shown
