"""How people come in: invitations, what they agree to, and the tickets of browsers."""

from __future__ import annotations

import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from guarding import Guarded, closed_with, guard
from serving import Live, app_in, create, live, serve, wait_for
from support import small_society
from websockets.exceptions import ConnectionClosed

from sandbox.errors import StoreError
from sandbox.running import Store
from sandbox.store import sessions
from sandbox.store.tables import ConsentRow, KeyRow
from server import auth, invitations
from server.auth import Keys, Unauthorized
from server.wire.views import CreateInvite, CreateKey, Join


def test_an_invitation_is_good_once_however_many_hurry(guarded: Guarded) -> None:
    session = create(guarded.admin)
    ticket = guarded.invited(session)
    with guarded.client(None) as nobody, ThreadPoolExecutor(8) as pool:
        bodies = [{"ticket": ticket, "person": f"P{n}"} for n in range(8)]
        codes = sorted(
            pool.map(lambda body: nobody.post("/api/v1/invites/join", json=body).status_code, bodies)
        )
    assert codes == [201, *[401] * 7]
    people = [key["person"] for key in guarded.admin.get("/api/v1/keys").json() if key["person"]]
    assert len(people) == 1


def test_an_invitation_ends(guarded: Guarded) -> None:
    session = create(guarded.admin)
    short = guarded.invited(session, expires_in_s=0.05)
    time.sleep(0.1)
    with guarded.client(None) as nobody:
        for way in ("look", "join"):
            body = {"ticket": short} | ({"person": "Ann"} if way == "join" else {})
            refused = nobody.post(f"/api/v1/invites/{way}", json=body)
            assert refused.status_code == 401
            assert "expired" in refused.json()["error"]["message"]
        deleted = guarded.invited(session)
        guarded.admin.delete(f"/api/v1/sessions/{session}").raise_for_status()
        assert nobody.post("/api/v1/invites/look", json={"ticket": deleted}).status_code == 401
        gone = guarded.admin.post(f"/api/v1/sessions/{session}/invites", json={})
        assert gone.status_code == 404


@pytest.mark.parametrize("name", ["Ann", "ann", "ANN", "Ann ", "\u0410nn", "\uff21nn", "A\uff4en"])
def test_two_people_never_look_the_same(guarded: Guarded, name: str) -> None:
    session, other = create(guarded.admin), create(guarded.admin)
    invitations.join(guarded.keys.database, Join(ticket=guarded.invited(session, person="Ann")))
    ticket = guarded.invited(session)
    with guarded.client(None) as nobody:
        refused = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "person": name})
        assert refused.status_code == 422, refused.text
        joined = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "person": "Bob"})
        assert joined.status_code == 201, "a refusal costs no ticket"
        elsewhere = nobody.post(
            "/api/v1/invites/join", json={"ticket": guarded.invited(other), "person": "Ann"}
        )
        assert elsewhere.status_code == 201


def test_a_name_in_either_form_is_one_person(guarded: Guarded) -> None:
    """Invited in one form of Unicode, invited again and taken out in the other."""
    composed, apart = "J\u00f6rg", "Jo\u0308rg"
    session = create(guarded.admin)
    path = f"/api/v1/sessions/{session}"
    first = guarded.invited(session, person=apart)
    joined = invitations.join(guarded.keys.database, Join(ticket=first))
    assert joined.person == composed
    again = guarded.admin.post(f"{path}/invites", json={"person": apart, "again": True}).json()
    assert again["person"] == composed
    taken = guarded.admin.post(f"{path}/invites", json={"person": composed})
    assert taken.status_code == 422
    assert guarded.admin.delete(f"{path}/people/{apart}").status_code == 200
    assert composed not in guarded.admin.get("/api/v1/keys").text
    assert guarded.admin.delete(f"{path}/people/{composed}").status_code == 404


def test_an_invitation_is_good_once_on_either_database(store: Store) -> None:
    database = store.database
    session = sessions.create(database, store.log, small_society(), lease=False).key
    for _ in range(5):
        ticket = invitations.invite(database, session, CreateInvite()).ticket

        def join(number: int, ticket: str = ticket) -> bool:
            try:
                invitations.join(database, Join(ticket=ticket, person=f"P{secrets.token_hex(4)}"))
            except (Unauthorized, StoreError):
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(join, range(8))) == 1


@pytest.mark.parametrize("name", ["key 25", "KEY 1", "person", "Person"])
def test_nobody_is_invited_as_a_key(guarded: Guarded, name: str) -> None:
    session = create(guarded.admin)
    named = guarded.admin.post(f"/api/v1/sessions/{session}/invites", json={"person": name})
    assert named.status_code == 422
    with guarded.client(None) as nobody:
        body = {"ticket": guarded.invited(session), "person": name}
        assert nobody.post("/api/v1/invites/join", json=body).status_code == 422


def test_who_has_lost_their_key_is_invited_again_and_is_the_same_person(guarded: Guarded) -> None:
    session = create(guarded.admin, rounds=0)
    path = f"/api/v1/sessions/{session}"
    first = invitations.join(guarded.keys.database, Join(ticket=guarded.invited(session, person="Ann")))
    with guarded.client(first.key) as ann:
        ann.post(f"{path}/seats/A1/take").raise_for_status()
    twice = guarded.admin.post(f"{path}/invites", json={"person": "ann"})
    assert twice.status_code == 422
    assert "again" in twice.json()["error"]["message"]
    assert guarded.admin.post(f"{path}/invites", json={"again": True}).status_code == 422
    invited = guarded.admin.post(f"{path}/invites", json={"person": "Ann", "again": True})
    with guarded.client(None) as nobody:
        joined = nobody.post("/api/v1/invites/join", json={"ticket": invited.json()["ticket"]})
    assert joined.status_code == 201, joined.text
    with guarded.client(joined.json()["key"]) as ann:
        ann.post(f"{path}/seats/A1/leave").raise_for_status()
    with guarded.client(first.key) as old:
        wait_for(lambda: old.get("/api/v1/me").status_code == 401)  # what was lost is good for nobody


def test_invitations_and_consents_are_seen_and_open_ones_taken_back(guarded: Guarded) -> None:
    session = create(guarded.admin)
    path = f"/api/v1/sessions/{session}"
    text = {"consent_text": "May we keep it?", "consent_version": "v1"}
    ticket = guarded.invited(session, person="Ann", **text)
    spare = guarded.invited(session, seat="A1")
    joined = Join(ticket=ticket, consent="v1")
    invitations.join(guarded.keys.database, joined)
    second, first = guarded.admin.get(f"{path}/invites").json()
    assert (first["person"], first["used"] is not None, second["seat"], second["used"]) == (
        *("Ann", True),
        *("A1", None),
    )
    assert ticket not in str((first, second))
    (agreed,) = guarded.admin.get(f"{path}/consents").json()
    assert (agreed["person"], agreed["version"], agreed["text"]) == ("Ann", "v1", "May we keep it?")
    assert guarded.admin.delete(f"{path}/invites/{second['id']}").status_code == 204
    for number in (second["id"], first["id"], 99):
        assert guarded.admin.delete(f"{path}/invites/{number}").status_code == 422
    with guarded.client(None) as nobody:
        assert nobody.post("/api/v1/invites/look", json={"ticket": spare}).status_code == 401


async def test_a_browsers_ticket_is_for_the_person_too(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        session = create(client)
        ticket = client.post(
            f"/api/v1/tickets?session={session}", headers={"X-Sandbox-Person": "Ann"}
        ).json()["ticket"]
        async with live(base, session, subprotocols=["sandbox.v1", f"ticket.{ticket}"]) as connection:
            hello = await Live(connection).next("session.hello")
        assert (hello["data"]["person"], hello["data"]["blind"]) == ("Ann", True)
        assert client.post("/api/v1/tickets?session=nobody").status_code == 404


def test_an_invitation_that_can_not_be_kept_is_refused(guarded: Guarded) -> None:
    session = create(guarded.admin, seats="2x2")
    path = f"/api/v1/sessions/{session}/invites"
    for wanted, why in (
        ({"seat": "Z9"}, "no seat 'Z9'"),
        ({"person": "A1"}, "is a seat"),
        ({"person": "a1"}, "is a seat"),
        ({"consent_text": "May we keep it?"}, "consent_version"),
    ):
        refused = guarded.admin.post(path, json=wanted)
        assert refused.status_code == 422, wanted
        assert why in refused.json()["error"]["message"]
    ticket = guarded.admin.post(path, json={"seat": "A1"}).json()["ticket"]
    with guarded.client(None) as nobody:
        refused = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "person": "b2"})
        assert refused.status_code == 422
        assert "is a seat" in refused.json()["error"]["message"]
        joined = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "person": "Ann"})
        assert joined.json()["seat"] == "A1"


def test_who_joins_agrees_to_the_version_shown_and_that_is_kept(guarded: Guarded) -> None:
    session = create(guarded.admin)
    ticket = guarded.invited(session, consent_version="v2", consent_text="May we keep it?")
    with guarded.client(None) as nobody:
        for consent in (None, "", "v1", "V2", "v2 "):
            body = {"ticket": ticket, "person": "Ann", "consent": consent}
            refused = nobody.post("/api/v1/invites/join", json=body)
            assert refused.status_code == 422, consent
            assert "'v2'" in refused.json()["error"]["message"]
        table = ConsentRow.__table__  # type: ignore[attr-defined]
        with guarded.keys.database.reading() as connection:
            assert connection.execute(sa.select(table)).all() == []
        began = time.time()
        body = {"ticket": ticket, "person": "Ann", "consent": "v2"}
        assert nobody.post("/api/v1/invites/join", json=body).status_code == 201
    with guarded.keys.database.reading() as connection:
        (row,) = connection.execute(sa.select(table)).mappings().all()
    assert (row["person"], row["version"], row["text"]) == ("Ann", "v2", "May we keep it?")
    assert began - 1 <= row["time"] <= time.time() + 1


async def test_who_joined_is_that_person_in_that_session_whatever_they_say(guarded: Guarded) -> None:
    session, other = create(guarded.admin, rounds=0), create(guarded.admin)
    joined = invitations.join(
        guarded.keys.database, Join(ticket=guarded.invited(session, person="Ann"), person="Eve")
    )
    assert joined.person == "Ann", "an invitation by name is for that name"
    with guarded.client(joined.key, **{"X-Sandbox-Person": "Bob"}) as ann:
        me = ann.get("/api/v1/me").json()
        assert (me["person"], me["session"], me["scopes"]) == ("Ann", session, ["join", "watch"])
        ann.post(
            f"/api/v1/sessions/{session}/messages", json={"text": "Hello", "to": ["B1"]}
        ).raise_for_status()
        taken = ann.post(f"/api/v1/sessions/{session}/seats/A1/take", json={})
        taken.raise_for_status()
        assert ann.get(f"/api/v1/sessions/{other}").status_code == 403
        for path in ("start", "pause", "fork", "invites"):
            assert ann.post(f"/api/v1/sessions/{session}/{path}", json={}).status_code == 403, path
    async with guarded.live(session, joined.key, query={"person": "Bob"}) as connection:
        client = Live(connection)
        hello = await client.next("session.hello")
        assert hello["data"]["person"] == "Ann"
        assert (await client.command("1", do="say", text="Hello", to=["B1"]))["type"] == "ack"
    items = guarded.admin.get(f"/api/v1/sessions/{session}/messages").json()["items"]
    assert {item["seat"] for item in items} == {"Ann", "B1"}
    events = guarded.admin.get(f"/api/v1/sessions/{session}/events").json()["items"]
    assert [e["event"]["person"] for e in events if e["event"]["type"] == "seat_taken"] == ["Ann"]
    assert "Bob" not in str(events)
    rows = KeyRow.__table__  # type: ignore[attr-defined]
    with guarded.keys.database.reading() as connection:
        row = connection.execute(sa.select(rows).where(rows.c.person == "Ann")).mappings().one()
    assert (row["session"], row["scopes"]) == (session, "watch,join")


async def test_a_ticket_opens_one_socket_of_its_session(shared: Guarded) -> None:
    session, other = create(shared.admin), create(shared.admin)

    def ticket() -> str:
        made = shared.admin.post("/api/v1/tickets", params={"session": session})
        assert made.status_code == 201
        return str(made.json()["ticket"])

    async def code(where: str, *offered: str, **options: Any) -> int:
        async with live(shared.base, where, subprotocols=["sandbox.v1", *offered], **options) as connection:
            return await closed_with(connection)

    good = ticket()
    async with live(shared.base, session, subprotocols=["sandbox.v1", f"ticket.{good}"]) as connection:
        assert connection.subprotocol == "sandbox.v1", "never the ticket: it would be shown"
        await Live(connection).next("session.snapshot")
    assert await code(session, f"ticket.{good}") == 4401
    wrong = ticket()
    assert await code(other, f"ticket.{wrong}") == 4403
    assert await code(session, f"ticket.{wrong}") == 4401, "a wrong try spends it"
    assert await code(session, "ticket.") == 4401
    assert await code(session, "ticket.unknown") == 4401
    assert await code(session, query={"ticket": ticket()}) == 4401
    assert await code(session, additional_headers={"Authorization": f"Bearer {ticket()}"}) == 4401


async def test_a_ticket_ends_with_its_time_and_with_its_key(
    shared: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = create(shared.admin)
    key = shared.key("watch")
    with shared.client(key.key) as client:
        early = client.post("/api/v1/tickets", params={"session": session}).json()["ticket"]
        monkeypatch.setattr(auth, "TICKET_S", 0.05)
        short = client.post("/api/v1/tickets", params={"session": session}).json()["ticket"]
    time.sleep(0.1)
    for ticket in (short, early):
        if ticket is early:
            shared.keys.revoke(str(key.id))
        async with live(shared.base, session, subprotocols=["sandbox.v1", f"ticket.{ticket}"]) as connection:
            with pytest.raises(ConnectionClosed) as closed:
                await connection.recv()  # not even a greeting
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_a_persons_ticket_makes_nobody_else(guarded: Guarded) -> None:
    session = create(guarded.admin)
    joined = invitations.join(guarded.keys.database, Join(ticket=guarded.invited(session, person="Ann")))
    with guarded.client(joined.key) as ann:
        ticket = ann.post("/api/v1/tickets").json()["ticket"]
    offered = ["sandbox.v1", f"ticket.{ticket}"]
    async with live(guarded.base, session, subprotocols=offered, query={"person": "Bob"}) as connection:
        hello = await Live(connection).next("session.hello")
    assert (hello["data"]["person"], hello["data"]["scopes"]) == ("Ann", ["join", "watch"])


def test_a_server_without_keys_takes_any_and_inviting_somebody_locks_nobody_out(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, _client(base, "sk-of-another-server") as client:
        session = create(client)
        ticket = client.post(f"/api/v1/sessions/{session}/invites", json={"person": "Ann"}).json()["ticket"]
        key = client.post("/api/v1/invites/join", json={"ticket": ticket}).json()["key"]
        with _client(base, key) as ann:
            assert ann.get("/api/v1/me").json()["person"] == "Ann"
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=1)
    assert not keys.any_usable()
    keys.create(CreateKey(name="me", scopes=("admin",)))
    assert keys.any_usable()
    store.close()


def _client(base: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=30)


def test_a_whole_class_joins_from_one_address_within_a_minute(tmp_path: Path) -> None:
    with guard(tmp_path, tries_per_minute=60) as guarded:
        _class_joins(guarded)


def _class_joins(guarded: Guarded) -> None:
    session = create(guarded.admin)
    tickets = [guarded.invited(session) for _ in range(60)]
    with guarded.client(None) as pupils, ThreadPoolExecutor(8) as pool:

        def joins(number: int) -> list[int]:
            ticket = {"ticket": tickets[number]}
            mistyped = {"ticket": f"{tickets[number]}x"}
            answers = [pupils.post("/api/v1/invites/look", json=mistyped)] if number % 2 else []
            answers.append(pupils.post("/api/v1/invites/look", json=ticket))
            answers.append(pupils.post("/api/v1/invites/join", json=ticket | {"person": f"Pupil {number}"}))
            return [answer.status_code for answer in answers]

        codes = list(pool.map(joins, range(60)))
    assert [found[-2:] for found in codes] == [[200, 201]] * 60
    with guarded.client(None) as nobody:
        wrong = [nobody.post("/api/v1/invites/look", json={"ticket": "x" * 32}) for _ in range(60)]
    assert wrong[-1].status_code == 429, "nor can tickets be tried by the thousand"


@pytest.mark.parametrize("consent", [True, 1])
def test_consent_names_the_version_that_was_read(guarded: Guarded, consent: object) -> None:
    session = create(guarded.admin)
    ticket = guarded.invited(session, person="Ann", consent_version="v2", consent_text="I take part.")
    with guarded.client(None) as nobody:
        refused = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": consent})
        assert refused.status_code == 422
        assert "consent_version" in refused.text
        other = nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": "yes"})
        assert "'v2'" in other.json()["error"]["message"]
        assert nobody.post("/api/v1/invites/join", json={"ticket": ticket, "consent": "v2"}).is_success
