"""What keys spend: never more than their budgets, whoever calls at the same time, and from where."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from fake_provider import FakeProvider, say
from serving import app_in, create, serve, wait_for

from sandbox.errors import BudgetExhausted, StoreError
from sandbox.running import Store
from sandbox.store.tables import HoldRow
from server.auth import Keys
from server.purse import KeyPurse, Purses, dollars
from server.wire.views import CreateKey, NewKey, Scope

MODEL = "litellm/openai/gpt-4o"


@pytest.fixture
def keys(tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """The keys of a server whose provider's calls have a price."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    store = Store.open(str(tmp_path / "server.db"))
    yield Keys(store.database, required=True, per_minute=1000)
    store.close()


def made(keys: Keys, *scopes: Scope, budget: float | None = None) -> NewKey:
    return keys.create(CreateKey(name="k", scopes=scopes, budget=budget))


def spent(keys: Keys, key: NewKey) -> float:
    return next(found.spent for found in keys.listing() if found.id == key.id)


def chat(base: str, key: NewKey, session: str, seat: str = "A1") -> httpx.Response:
    body = {
        "model": f"sandbox/{session}/{seat}",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 20,
    }
    headers = {"Authorization": f"Bearer {key.key}"}
    return httpx.post(f"{base}/v1/chat/completions", json=body, headers=headers, timeout=60)


@pytest.mark.parametrize("seat", ["A1", "society"])
def test_parallel_calls_of_a_key_in_two_processes_never_overspend(
    tmp_path: Path, keys: Keys, seat: str
) -> None:
    admin = made(keys, "admin")
    with (
        serve(app_in(tmp_path, keyless=False)) as base,
        serve(app_in(tmp_path, keyless=False)) as other,
        ThreadPoolExecutor(50) as pool,
    ):
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {admin.key}"}) as client:
            session = create(client, model=MODEL, seats="2x2", rounds=0)
        assert chat(base, admin, session, seat).status_code == 200
        one = wait_for(lambda: spent(keys, admin))
        poor = made(keys, "ask", budget=12.5 * one)
        answers = list(pool.map(lambda n: chat(base if n % 2 else other, poor, session, seat), range(50)))
        codes = Counter(answer.status_code for answer in answers)
        assert set(codes) <= {200, 402}
        assert codes[402] >= 37
        assert one * codes[200] * 0.9 <= spent(keys, poor) <= 12.5 * one
        assert codes[200] >= 1 or seat == "society", (
            "a society's turn needs many calls, and all begin at once"
        )
        refused = next(answer for answer in answers if answer.status_code == 402).json()["error"]
        assert refused["type"] == "insufficient_quota"
        assert "budget" in refused["message"]


def test_a_run_of_a_key_keeps_to_its_budget_while_the_key_asks_beside_it(
    tmp_path: Path, keys: Keys, provider: FakeProvider
) -> None:
    # Dear, so that it takes few calls; but no dearer than what the smallest of them holds.
    provider.script = say("Fine.", prompt_tokens=60, completion_tokens=20)
    poor = made(keys, "run", "ask", "watch", budget=0.03)
    headers = {"Authorization": f"Bearer {poor.key}"}
    with (
        serve(app_in(tmp_path, keyless=False)) as base,
        httpx.Client(base_url=base, headers=headers, timeout=60) as client,
    ):
        session = create(client, model=MODEL, seats="2x2", rounds=50)
        client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
        with ThreadPoolExecutor(4) as pool:
            asked = pool.map(lambda _: chat(base, poor, session), range(8))
            assert {answer.status_code for answer in asked} <= {200, 402}
        snapshot = f"/api/v1/sessions/{session}/snapshot"
        wait_for(lambda: client.get(snapshot).json()["paused"] == "budget", 60)
    assert 0.015 < spent(keys, poor) <= 0.03


CALLS = """
import asyncio, sys
from pathlib import Path
from sandbox.errors import BudgetExhausted
from sandbox.exchange import Reply, Usage
from sandbox.models.limits import Ledger, Paid, paid_by
from sandbox.store.database import Database
from server.purse import KeyPurse, Purses
from fake_provider import asking

class Dear:
    async def generate(self, request, on_delta=None):
        await asyncio.sleep(0.01)
        return Reply("Fine.", usage=Usage(cost=0.09))

async def main(url, key, ready, go):
    purses = Purses(Database(url))
    model = Paid(Dear(), lambda _: 0.1, Ledger(5.0))
    Path(ready).touch()
    while not Path(go).exists():
        await asyncio.sleep(0.01)
    with paid_by(KeyPurse(purses, int(key))):
        found = await asyncio.gather(*(model.generate(asking()) for _ in range(10)), return_exceptions=True)
    assert all(isinstance(one, (Reply, BudgetExhausted)) for one in found), found
    print(sum(isinstance(one, Reply) for one in found))

asyncio.run(main(*sys.argv[1:]))
"""


def test_two_processes_never_overspend_a_key(database_url: str, tmp_path: Path) -> None:
    """One wrapper holds for session and key; the key's holds are in the database, so in every process."""
    store = Store.open(database_url)
    keys = Keys(store.database, required=True, per_minute=1000)
    poor = made(keys, "ask", budget=1.0)
    go = tmp_path / "go"
    here = Path(__file__).parents[1]
    path = os.pathsep.join([str(here), str(here.parent)])
    ready = [tmp_path / f"ready-{number}" for number in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CALLS, database_url, str(poor.id), str(one), str(go)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
        )
        for one in ready
    ]
    wait_for(lambda: all(one.exists() for one in ready), 60)
    go.touch()
    answered = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(answered) == 11, "at 0.09 a call, the eleventh leaves too little for a twelfth"
    assert spent(keys, poor) == pytest.approx(0.99)
    with store.database.reading() as connection:
        assert connection.execute(sa.select(HoldRow.id)).all() == [], "nothing is left promised"
    store.close()


async def test_a_hold_that_nobody_waits_for_any_more_is_given_back(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = made(keys, "ask", budget=1.0)
    purses = Purses(keys.database)
    held, gone = threading.Event(), threading.Event()
    hold = purses._try_hold

    def slowly(number: int, amount: float) -> int | None:
        made = hold(number, amount)
        held.set()
        gone.wait(60)
        return made

    monkeypatch.setattr(purses, "_try_hold", slowly)
    asking = asyncio.create_task(purses.hold(key.id, 0.9))
    await asyncio.to_thread(held.wait, 20)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    gone.set()
    assert await asyncio.wait_for(purses.hold(key.id, 0.9), 20), "the first one is not in its way"
    await purses.close()


async def test_a_call_waits_for_holds_and_is_refused_by_what_is_spent(keys: Keys) -> None:
    key = made(keys, "ask", budget=1.0)
    here, elsewhere = (KeyPurse(Purses(keys.database), key.id) for _ in range(2))
    first = await here.hold(0.6)
    waiting = asyncio.create_task(elsewhere.hold(0.6))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done
    await here.settle(first, 0.1)
    second = await waiting
    assert second is not None
    await elsewhere.settle(second, 0.6)
    with pytest.raises(BudgetExhausted, match=r"may cost \$0.60.*\$0.70 is spent"):
        await here.hold(0.6)
    third = await here.hold(0.3)
    await here.settle(third, 0.0)
    assert spent(keys, key) == pytest.approx(0.7)


async def test_what_cannot_be_booked_is_booked_later(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    key = made(keys, "ask", budget=1.0)
    purses = Purses(keys.database)
    with monkeypatch.context() as away:

        def fails(*_: object) -> None:
            raise StoreError("away")

        away.setattr(purses, "_settle", fails)
        assert await purses.settle(key.id, None, 0.25) is None
    assert spent(keys, key) == 0
    await purses.close()
    assert spent(keys, key) == pytest.approx(0.25)


async def test_a_hold_is_given_back_once_the_database_is_there_again(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the next hold, even where no other call of the key is under way: nobody else would."""
    key = made(keys, "ask", budget=1.0)
    purses = Purses(keys.database)
    held = [await purses.hold(key.id, amount) for amount in (0.5, 0.4)]
    with monkeypatch.context() as away:

        def fails(*_: object) -> None:
            raise StoreError("away")

        away.setattr(purses, "_settle", fails)
        assert [await purses.settle(key.id, one, 0.1) for one in held] == [None, None]
    assert await asyncio.wait_for(purses.hold(key.id, 0.8), 20)
    assert spent(keys, key) == pytest.approx(0.2)


def test_small_amounts_are_told() -> None:
    assert [dollars(amount) for amount in (0, 0.5, 12, 0.00042)] == ["$0.00", "$0.50", "$12.00", "$0.00042"]
