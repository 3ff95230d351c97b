"""Somebody is taken out of a session that the server has open: nothing of theirs is served any more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import structlog
from guarding import Guarded, closed_with
from serving import Live, app_in, create, live, serve, status, wait_for

from sandbox.running import Store
from sandbox.store import withdrawal

SECRET = "my very own words"


def take_part(client: httpx.Client, session: str, person: str = "Ann") -> None:
    """Sit at A2, and rate an answer with a reason of one's own; Bob at B1 keeps the interaction open."""
    path = f"/api/v1/sessions/{session}"
    bob = {"X-Sandbox-Person": "Bob"}
    own = {"X-Sandbox-Person": person}
    assert client.post(f"{path}/seats/B1/take", json={"absent": "wait"}, headers=bob).status_code == 200
    assert client.post(f"{path}/seats/A2/take", json={}, headers=own).status_code == 200
    client.post(f"{path}/questions", json={"question": "Why?", "seat": "A1"})
    (turn, *_) = wait_for(lambda: client.get(f"{path}/turns", headers=own).json())
    given = {"interaction": turn["interaction"], "step": turn["step"], "value": 6, "text": SECRET}
    assert client.post(f"{path}/turns", json=given, headers=own).status_code == 200
    wait_for(lambda: client.get(f"{path}/ratings", params={"rater": "A2"}).json()["items"])
    assert SECRET in client.get(f"{path}/snapshot").text, "it is in what is kept in memory"


def free(client: httpx.Client, session: str) -> None:
    """Have Bob leave, so that nothing waits for him."""
    path = f"/api/v1/sessions/{session}/seats/B1/leave"
    assert client.post(path, headers={"X-Sandbox-Person": "Bob"}).status_code == 200


def served(client: httpx.Client, session: str) -> str:
    """All that the server tells of a session."""
    path = f"/api/v1/sessions/{session}"
    parts = [
        client.get(f"{path}/{what}").text
        for what in ("snapshot", "events", "interactions", "messages", "ratings")
    ]
    return "".join([*parts, client.get(f"{path}/monitors").text])


async def test_who_watches_gets_the_session_anew(client: httpx.Client, base: str) -> None:
    session = create(client)
    take_part(client, session)
    asked = {"question": f"Is it right that {SECRET}?", "seat": "C3"}
    client.post(f"/api/v1/sessions/{session}/questions", json=asked, headers={"X-Sandbox-Person": "Ann"})
    wait_for(lambda: asked["question"] in client.get(f"/api/v1/sessions/{session}/interactions").text)
    assert SECRET in served(client, session)
    async with live(base, session) as connection:
        here = Live(connection)
        before = await here.next("session.snapshot")
        told = client.delete(f"/api/v1/sessions/{session}/people/Ann")
        assert told.status_code == 200, told.text
        (done,) = told.json()["sessions"]
        assert (done["session"], done["alias"], done["datasets"]) == (session, "withdrawn-1", [])
        assert done["events"] >= 3
        assert await closed_with(connection) == 4409
    after = served(client, session)
    assert SECRET not in after
    assert "Ann" not in after
    async with live(base, session, f"{before['epoch']}:{before['seq']}") as connection:
        resync = await Live(connection).next("resync.required")
    assert resync["data"]["reason"] == "epoch"
    assert resync["epoch"] != before["epoch"]
    seats = {seat["name"]: seat for seat in resync["data"]["snapshot"]["seats"]}
    assert seats["A2"]["person"] is None, "nobody waits for who is gone"
    # And it goes on, as a society of agents.
    free(client, session)
    assert client.post(f"/api/v1/sessions/{session}/start").status_code == 200
    wait_for(lambda: status(client, session) == "finished")


async def test_rounds_that_run_go_on(client: httpx.Client) -> None:
    session = create(client, rounds=500)
    take_part(client, session)
    free(client, session)
    path = f"/api/v1/sessions/{session}"
    client.post(f"{path}/seats/A2/leave", headers={"X-Sandbox-Person": "Ann"})  # else they wait for her
    client.post(f"{path}/start")
    wait_for(lambda: client.get(path).json()["round"] > 1)
    assert client.delete(f"{path}/people/Ann").status_code == 200
    assert SECRET not in served(client, session)
    reached = client.get(path).json()["round"]
    wait_for(lambda: client.get(path).json()["round"] > reached + 2)
    assert status(client, session) == "running"
    assert "Ann" not in served(client, session)


def test_forks_are_not_forgotten_nor_who_sits_in_them(client: httpx.Client) -> None:
    session = create(client)
    take_part(client, session)
    fork = client.post(f"/api/v1/sessions/{session}/fork").json()["session"]
    assert SECRET in served(client, fork)
    taken = client.post(
        f"/api/v1/sessions/{fork}/seats/A3/take", json={}, headers={"X-Sandbox-Person": "Ann"}
    )
    assert taken.status_code == 200
    told = client.delete(f"/api/v1/sessions/{session}/people/Ann").json()
    assert [done["session"] for done in told["sessions"]] == [session, fork]
    assert told["spared"] == []
    assert SECRET not in served(client, fork)
    client.post(f"/api/v1/sessions/{fork}/start")
    wait_for(lambda: status(client, fork) == "finished")  # nobody waits for a ghost


def test_who_had_no_part_is_not_found_and_stops_nothing(client: httpx.Client) -> None:
    session = create(client, rounds=500)
    client.post(f"/api/v1/sessions/{session}/start")
    for name, code in (("Bob", 404), ("A1", 409), ("%00", 404), ("x" * 300, 422), ("withdrawn-1", 409)):
        answer = client.delete(f"/api/v1/sessions/{session}/people/{name}")
        assert answer.status_code == code, answer.text
    assert client.delete("/api/v1/sessions/nowhere/people/Bob").status_code == 404
    assert status(client, session) == "running"


def test_people_withdraw_themselves_by_their_own_key_and_nobody_else(guarded: Guarded) -> None:
    session = create(guarded.admin)
    keys = {}
    for person in ("Ann", "Bob"):
        ticket = guarded.invited(session, person=person)
        joined = httpx.post(f"{guarded.base}/api/v1/invites/join", json={"ticket": ticket})
        assert joined.status_code == 201, joined.text
        keys[person] = joined.json()["key"]
    for person, key in keys.items():
        with guarded.client(key) as own:
            message = {"text": f"{person} says {SECRET}", "to": ["A1"]}
            assert own.post(f"/api/v1/sessions/{session}/messages", json=message).status_code == 201
    with guarded.client(keys["Bob"]) as bob:
        assert bob.delete(f"/api/v1/sessions/{session}/people/Ann").status_code == 403
    other = create(guarded.admin)
    with guarded.client(keys["Ann"]) as ann:
        assert ann.delete(f"/api/v1/sessions/{other}/people/Ann").status_code == 403
        assert ann.delete(f"/api/v1/sessions/{session}/people/Ann").status_code == 200
        assert ann.get("/api/v1/me").status_code == 401
        late = ann.post(f"/api/v1/sessions/{session}/messages", json={"text": SECRET, "to": ["A1"]})
        assert late.status_code == 401
    told = served(guarded.admin, session)
    assert f"Ann says {SECRET}" not in told
    assert f"Bob says {SECRET}" in told
    for scope, code in (("watch", 403), ("join", 403), ("run", 200)):
        with guarded.client(guarded.key(scope).key) as somebody:  # type: ignore[arg-type]
            answer = somebody.delete(f"/api/v1/sessions/{session}/people/Bob")
            assert answer.status_code == code, answer.text


def test_a_namesake_in_a_fork_is_left_alone(guarded: Guarded) -> None:
    session = create(guarded.admin)
    fork = guarded.admin.post(f"/api/v1/sessions/{session}/fork").json()["session"]
    keys = {}
    for place in (session, fork):
        ticket = guarded.invited(place, person="Ann")
        keys[place] = httpx.post(f"{guarded.base}/api/v1/invites/join", json={"ticket": ticket}).json()["key"]
        with guarded.client(keys[place]) as ann:
            message = {"text": f"In {place}", "to": ["A1"]}
            assert ann.post(f"/api/v1/sessions/{place}/messages", json=message).status_code == 201
    guarded.invited(session, person="Ann", again=True)  # and never used
    with guarded.client(keys[session]) as ann:
        told = ann.delete(f"/api/v1/sessions/{session}/people/Ann").json()
    assert ([done["session"] for done in told["sessions"]], told["spared"]) == ([session], [fork])
    assert f"In {fork}" in served(guarded.admin, fork)
    with guarded.client(keys[fork]) as other:
        assert other.get("/api/v1/me").status_code == 200
    invites = guarded.admin.get(f"/api/v1/sessions/{session}/invites").json()
    assert [invite["person"] for invite in invites if invite["used"] is None] == []


def test_a_key_without_a_person_takes_itself_out(guarded: Guarded) -> None:
    session = create(guarded.admin)
    key = guarded.key("join")
    with guarded.client(key.key) as somebody:
        message = {"text": SECRET, "to": ["A1"]}
        assert somebody.post(f"/api/v1/sessions/{session}/messages", json=message).status_code == 201
        name = somebody.get("/api/v1/me").json()["person"]
        assert somebody.delete(f"/api/v1/sessions/{session}/people/{name}").status_code == 200
    assert SECRET not in served(guarded.admin, session)


def test_who_asked_to_be_forgotten_is_not_named_in_the_log(client: httpx.Client) -> None:
    session = create(client)
    take_part(client, session, "Annabel")
    with structlog.testing.capture_logs() as told:
        assert client.delete(f"/api/v1/sessions/{session}/people/Annabel").status_code == 200
    (line,) = [line for line in told if line["event"] == "request"]
    assert line["path"] == f"/api/v1/sessions/{session}/people/…"
    assert "Annabel" not in str(told)


async def test_what_another_process_takes_out_is_not_served_from_memory(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=30) as client:
        session = create(client)
        take_part(client, session)
        async with live(base, session) as connection:
            await Live(connection).next("session.snapshot")
            store = Store.open(str(tmp_path / "server.db"))
            withdrawal.forget(store.database, store.log, session, "Ann", take_over=True)
            store.close()
            assert SECRET not in served(client, session)
            assert await closed_with(connection) == 4409
        async with live(base, session) as connection:
            snapshot: dict[str, Any] = await Live(connection).next("session.snapshot")
        assert SECRET not in str(snapshot)
        free(client, session)  # and it is taken up again
        client.post(f"/api/v1/sessions/{session}/start")
        wait_for(lambda: status(client, session) == "finished")


def test_whichever_server_is_asked(tmp_path: Path) -> None:
    database = str(tmp_path / "both.db")
    with (
        serve(app_in(tmp_path / "one", database)) as one,
        serve(app_in(tmp_path / "two", database)) as two,
        httpx.Client(base_url=one, timeout=30) as owner,
        httpx.Client(base_url=two, timeout=30) as other,
    ):
        session = create(owner, rounds=500)
        take_part(owner, session)
        free(owner, session)
        owner.post(f"/api/v1/sessions/{session}/start")
        told = other.delete(f"/api/v1/sessions/{session}/people/Ann")
        assert told.status_code == 200, told.text
        for client in (owner, other):
            text = served(client, session)
            assert SECRET not in text
            assert "Ann" not in text
        reached = owner.get(f"/api/v1/sessions/{session}").json()["round"]
        wait_for(lambda: other.get(f"/api/v1/sessions/{session}").json()["round"] > reached + 1)
