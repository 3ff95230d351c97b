"""People over REST and websocket: joining, blind rating, votes, and coming back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from guarding import guard
from serving import Live, app_in, create, live, serve, status, wait_for

from sandbox.running import Store
from server import invitations
from server.auth import Keys
from server.wire.views import CreateInvite, CreateKey, Join


def as_person(client: httpx.Client, session: str, person: str) -> Any:
    """Calls one of the session's routes as a person."""

    def call(method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"X-Sandbox-Person": person}
        return client.request(
            method, f"/api/v1/sessions/{session}/{path}", json=body or None, headers=headers
        )

    return call


def turn_of(ann: Any) -> dict[str, Any]:
    """What waits first for a person."""
    turn: dict[str, Any] = wait_for(lambda: ann("GET", "turns").json())[0]
    return turn


def ratings(client: httpx.Client, session: str, **where: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get(f"/api/v1/sessions/{session}/ratings", params=where).json()[
        "items"
    ]
    return items


def test_a_person_takes_a_seat_answers_what_waits_and_hands_it_back(client: httpx.Client) -> None:
    session = create(client)
    ann = as_person(client, session, "Ann")
    assert ann("POST", "seats/A2/take", absent="abstain", patience_s=60).status_code == 200
    assert ann("GET", "turns").json() == []
    asked = client.post(f"/api/v1/sessions/{session}/questions", json={"question": "Why?", "seat": "A1"})
    assert asked.status_code == 201
    turn = turn_of(ann)
    assert turn["purpose"] == "rate"
    assert turn["question"] == "Why?"
    assert turn["deadline"]
    wrong = ann("POST", "turns", interaction=turn["interaction"], step=turn["step"], value=9)
    assert wrong.status_code == 409
    assert "1 to 7" in wrong.json()["error"]["message"]
    given = ann("POST", "turns", interaction=turn["interaction"], step=turn["step"], value=6, text="Kind.")
    assert given.status_code == 200
    wait_for(lambda: ratings(client, session, rater="A2"))
    (rating,) = ratings(client, session, rater="A2")
    assert (rating["value"], rating["reason"], rating["person"], rating["method"]) == (
        6,
        "Kind.",
        "Ann",
        "human",
    )
    twice = ann("POST", "turns", interaction=turn["interaction"], step=turn["step"], value=1)
    assert twice.status_code == 409
    assert ann("POST", "seats/A2/leave").status_code == 200
    assert ann("POST", "seats/A2/leave").status_code == 409


def test_what_waits_is_there_after_a_restart_and_is_answered_then(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        session = create(client)
        ann = as_person(client, session, "Ann")
        ann("POST", "seats/A1/take", absent="wait")
        client.post(f"/api/v1/sessions/{session}/questions", json={"question": "Why?", "seat": "A1"})
        turn = turn_of(ann)
        assert turn["deadline"] is None
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base) as client:
        ann = as_person(client, session, "Ann")
        assert turn_of(ann) == turn
        sent = ann("POST", "turns", interaction=turn["interaction"], step=turn["step"], text="Because.")
        assert sent.status_code == 200, sent.text
        messages = wait_for(lambda: client.get(f"/api/v1/sessions/{session}/messages").json()["items"])
        assert (messages[0]["text"], messages[0]["person"]) == ("Because.", "Ann")


async def test_others_ratings_are_hidden_until_ones_own_is_in(base: str, client: httpx.Client) -> None:
    session = create(client)
    async with live(base, session, query={"person": "Ann"}) as mine, live(base, session) as open_to_all:
        ann, watcher = Live(mine), Live(open_to_all)
        assert (await ann.next("session.hello"))["data"]["blind"] is True
        assert (await watcher.next("session.hello"))["data"]["blind"] is False
        ack = await ann.command("1", do="ask", question="Why?", seat="A1")
        target = f"{ack['data']['interaction']}.draft"
        await ann.event("interaction_finished")
        hidden = [frame for frame in ann.frames if frame["type"] == "event" and frame["data"].get("masked")]
        assert hidden
        for frame in hidden:
            event = frame["data"]["event"]
            assert not {"value", "raw", "reason", "distribution"} & event.keys(), "nothing shows through"
        seqs = [frame["seq"] for frame in ann.frames if frame["type"] == "event"]
        assert seqs == list(range(seqs[0], seqs[-1] + 1)), "hidden is not left out"
        await ann.command("2", do="rate", message=target, value=3)
        shown = await ann.next("ratings.revealed")
        values = [event["value"] for event in shown["data"]["ratings"] if event["rater"] != "Ann"]
        assert values
        assert all(event["target"] == target for event in shown["data"]["ratings"])
        await watcher.event("interaction_finished")
        assert not [f for f in watcher.frames if f["type"] == "event" and f["data"].get("masked")]


async def test_a_person_with_a_key_of_their_own_is_blind_everywhere(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=30) as client:
        session = create(client)
        invite = client.post(f"/api/v1/sessions/{session}/invites", json={"person": "Ann"}).json()
        key = client.post("/api/v1/invites/join", json={"ticket": invite["ticket"]}).json()["key"]
        asked = client.post(f"/api/v1/sessions/{session}/questions", json={"question": "Why?", "seat": "A1"})
        target = f"{asked.json()['interaction']}.draft"
        wait_for(lambda: len(ratings(client, session)) >= 6)
        mine = httpx.Client(base_url=base, headers={"Authorization": f"Bearer {key}"})
        with mine:
            hidden = ratings(mine, session, target=target)
            assert all(row["masked"] and row["value"] is None and not row["raw"] for row in hidden)
            page = mine.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
            told = [item["event"] for item in page if item["event"]["type"] == "rating_given"]
            assert told
            assert all(event["value"] is None and not event["reason"] for event in told)
            assert mine.get(f"/api/v1/sessions/{session}/export").status_code == 403
            sent = mine.post(f"/api/v1/sessions/{session}/ratings", json={"message": target, "value": 2})
            assert sent.status_code == 201
            shown = ratings(mine, session, target=target)
            assert any(row["value"] is not None and row["rater"] != "Ann" for row in shown)


@pytest.mark.parametrize("how", ["named", "plain key", "invited"])
def test_what_is_hidden_shows_through_nowhere(tmp_path: Path, how: str) -> None:
    store = Store.open(str(tmp_path / "server.db"))
    keys = Keys(store.database, required=True, per_minute=10_000)
    admin = keys.create(CreateKey(name="admin", scopes=("admin",))).key
    with serve(app_in(tmp_path, keyless=False)) as base:
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {admin}"}) as operator:
            session = create(operator, rounds=1)
            operator.post(f"/api/v1/sessions/{session}/start").raise_for_status()
            wait_for(lambda: status(operator, session) == "finished")
        headers = {"Authorization": f"Bearer {admin}", "X-Sandbox-Person": "Jörg"}
        if how == "plain key":
            plain = keys.create(CreateKey(name="plain", scopes=("watch", "join")))
            headers = {"Authorization": f"Bearer {plain.key}"}
        elif how == "invited":
            ticket = invitations.invite(store.database, session, CreateInvite(person="Jörg")).ticket
            headers = {"Authorization": f"Bearer {invitations.join(store.database, Join(ticket=ticket)).key}"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        with httpx.Client(base_url=base, headers=raw) as client:
            view = client.get(f"/api/v1/sessions/{session}/snapshot").json()
            assert not any(seat["drafted"] or seat["revised"] for seat in view["seats"])
            assert not any(round["ratings"] for round in view["history"])
            rows = ratings(client, session, target="1.draft")
            assert rows
            assert all(row["value"] is None and row["masked"] for row in rows)
            page = client.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
            told = [item["event"] for item in page if item["event"]["type"] == "rating_given"]
            assert told
            assert not any(event["value"] or event["raw"] or event["reason"] for event in told)
            mine = client.post(f"/api/v1/sessions/{session}/ratings", json={"message": "1.draft", "value": 2})
            assert mine.status_code == 201
            assert any(
                row["value"] for row in ratings(client, session, target="1.draft") if not row["person"]
            )
            assert not any(row["value"] for row in ratings(client, session, target="2.draft"))
    store.close()


def test_a_vote_is_changed_and_its_history_kept_and_nobody_rates_their_own(client: httpx.Client) -> None:
    session = create(client)
    ann, bob = as_person(client, session, "Ann"), as_person(client, session, "Bob")
    said = ann("POST", "messages", text="Hello all", to=["A1"]).json()["interaction"]
    own = ann("POST", "ratings", message=f"{said}.message", value=7)
    assert own.status_code == 409
    assert "yours" in own.json()["error"]["message"]
    for value in (2, 5):
        assert bob("POST", "ratings", message=f"{said}.message", value=value).status_code == 201
    kept = ratings(client, session, target=f"{said}.message")
    assert [row["value"] for row in kept] == [2, 5]
    carol = as_person(client, session, "Carol")
    assert carol("POST", "ratings", message=f"{said}.message", value=3).status_code == 201
    counting = ratings(client, session, current=True)
    assert [(row["person"], row["value"]) for row in counting] == [("Bob", 5), ("Carol", 3)]
    assert bob("POST", "ratings", message=f"{said}.message", value=9).status_code == 409
    assert bob("POST", "ratings", message="99.draft", value=5).status_code == 409
    assert bob("POST", "ratings", message="nonsense", value=5).status_code == 422
    assert ann("POST", "reactions", message=f"{said}.reply.A1", reaction="+1").status_code == 201


def test_talk_reaches_one_seat_or_all(client: httpx.Client) -> None:
    session = create(client)
    ann = as_person(client, session, "Ann")
    one = ann("POST", "messages", text="Only you", to=["A1"]).json()["interaction"]
    everybody = ann("POST", "messages", text="All of you").json()["interaction"]

    def replies(interaction: int) -> set[str]:
        found = client.get(f"/api/v1/sessions/{session}/messages", params={"interaction": interaction})
        return {row["seat"] for row in found.json()["items"]} - {"Ann"}

    wait_for(lambda: len(replies(everybody)) == 9)
    assert replies(one) == {"A1"}
    nobody = ann("POST", "messages", text="Hi", to=["Z9"])
    assert nobody.status_code == 409
    assert "no seat 'Z9'" in nobody.json()["error"]["message"]


def test_a_new_seat_for_a_person(client: httpx.Client) -> None:
    session = create(client, rounds=1)
    made = client.post(f"/api/v1/sessions/{session}/seats", json={"seat": "juror", "role": "observer"})
    assert made.status_code == 201
    ann = as_person(client, session, "Ann")
    ann("POST", "seats/juror/take", patience_s=30)
    client.post(f"/api/v1/sessions/{session}/questions", json={"question": "Why?", "seat": "A1"})
    done: set[tuple[int, str]] = set()
    while len(done) < 4:
        for turn in ann("GET", "turns").json():
            ann("POST", "turns", interaction=turn["interaction"], step=turn["step"], value=4)
            done.add((turn["interaction"], turn["step"]))
    wait_for(lambda: len(ratings(client, session, rater="juror")) == 4)


async def test_what_an_author_is_told_of_the_ratings_is_hidden_from_others(
    base: str, client: httpx.Client
) -> None:
    session = create(client, seats="2x2", rounds=1)
    ann, bob = as_person(client, session, "Ann"), as_person(client, session, "Bob")
    assert ann("POST", "seats/A1/take", absent="wait").status_code == 200
    async with live(base, session, query={"person": "Bob"}) as connection:
        watcher = Live(connection)
        await watcher.next("session.snapshot")
        client.post(f"/api/v1/sessions/{session}/step").raise_for_status()
        draft = wait_for(lambda: [t for t in ann("GET", "turns").json() if t["purpose"] == "draft"])[0]
        number = draft["interaction"]
        sent = ann("POST", "turns", interaction=number, step="draft", text="No.")
        assert sent.status_code == 200

        def revision(call: Any) -> dict[str, Any] | None:
            opened = call("GET", "snapshot").json()["open"].get(str(number), {})
            return next((t for t in opened.get("awaited", []) if t["purpose"] == "revise"), None)

        own = wait_for(lambda: revision(ann))
        assert own["mean"] is not None
        assert own["reasons"]
        seen = [revision(bob)]
        page = bob("GET", "events").json()["items"]
        seen += [row["event"] for row in page if row["event"].get("purpose") == "revise"]
        while (told := await watcher.event("turn_awaited")).get("purpose") != "revise":
            pass
        seen.append(told)
        assert len(seen) == 3
        for turn in seen:
            assert turn is not None
            assert turn.get("mean") is None
            assert not turn.get("reasons")
        message = f"{number}.draft"
        assert bob("POST", "ratings", message=message, value=4).status_code == 201
        shown = revision(bob)
        assert shown is not None
        assert shown["mean"] == own["mean"]


async def test_what_was_hidden_is_shown_after_a_reconnect_too(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    epoch = client.get(f"/api/v1/sessions/{session}").json()["epoch"]
    client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    wait_for(lambda: status(client, session) == "finished")
    head = client.get(f"/api/v1/sessions/{session}").json()["events"]
    bob = as_person(client, session, "Bob")
    async with live(base, session, f"{epoch}:1", query={"person": "Bob"}) as connection:
        watcher = Live(connection)
        while (await watcher.next("event"))["seq"] < head:
            pass
    assert bob("POST", "ratings", message="1.draft", value=4).status_code == 201
    async with live(base, session, f"{epoch}:{head}", query={"person": "Bob"}) as connection:
        shown = await Live(connection).next("ratings.revealed")
    values = [rating.get("value") for rating in shown["data"]["ratings"] if rating["target"] == "1.draft"]
    assert len(values) > 1
    assert None not in values


def test_a_person_exports_nothing_that_is_hidden_from_them(client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    refused = as_person(client, session, "Ann")("GET", "export")
    assert refused.status_code == 403
    assert client.get(f"/api/v1/sessions/{session}/export").status_code == 200


@pytest.mark.parametrize("value", [True, "5", [5], {"value": 5}])
def test_a_rating_is_a_number(client: httpx.Client, value: Any) -> None:
    session = create(client, seats="2x2", rounds=0)
    said = as_person(client, session, "Ann")("POST", "messages", text="Hello", to=["A1"]).json()[
        "interaction"
    ]
    bob = as_person(client, session, "Bob")
    assert bob("POST", "ratings", message=f"{said}.message", value=value).status_code == 422
    assert bob("POST", "messages", text="  \n ").status_code == 422


def test_a_seat_has_nobodys_name(tmp_path: Path) -> None:
    with guard(tmp_path, max_seats=20) as guarded:
        session = create(guarded.admin, seats="2x2", rounds=0)
        path = f"/api/v1/sessions/{session}"
        invitations.join(guarded.keys.database, Join(ticket=guarded.invited(session, person="Ann")))
        guarded.admin.headers["X-Sandbox-Person"] = "Bob"
        guarded.admin.post(f"{path}/seats/A1/take").raise_for_status()
        for name in ("Ann", "ann", "Bob"):
            refused = guarded.admin.post(f"{path}/seats", json={"seat": name})
            assert refused.status_code == 409, refused.text
            assert "is a person here" in refused.json()["error"]["message"]
        seats = len(guarded.admin.get(f"{path}/snapshot").json()["seats"])
        for number in range(20 - seats):
            guarded.admin.post(f"{path}/seats", json={"seat": f"guest{number}"}).raise_for_status()
        refused = guarded.admin.post(f"{path}/seats", json={"seat": "one-more"})
        assert refused.status_code == 409
        assert "20 seats" in refused.json()["error"]["message"]


def test_an_operator_frees_a_seat_and_nobody_else_does(tmp_path: Path) -> None:
    with guard(tmp_path) as guarded:
        session = create(guarded.admin, seats="2x2", rounds=0)
        path = f"/api/v1/sessions/{session}/seats/A1"
        ticket = Join(ticket=guarded.invited(session, person="Ann"))
        key = invitations.join(guarded.keys.database, ticket).key
        with guarded.client(key) as ann, guarded.client(guarded.key("join").key) as other:
            ann.post(f"{path}/take").raise_for_status()
            assert other.post(f"{path}/leave").status_code == 409
            assert other.post(f"{path}/leave", json={"force": True}).status_code == 403
            with guarded.client(guarded.key("run").key) as operator:
                operator.post(f"{path}/leave", json={"force": True}).raise_for_status()
                again = operator.post(f"{path}/leave", json={"force": True})
                assert again.status_code == 409
                assert "Nobody sits" in again.json()["error"]["message"]
            other.post(f"{path}/take").raise_for_status()


def test_two_people_do_not_sit_on_one_chair(client: httpx.Client) -> None:
    session = create(client)
    assert as_person(client, session, "Ann")("POST", "seats/A1/take").status_code == 200
    taken = as_person(client, session, "Bob")("POST", "seats/A1/take")
    assert taken.status_code == 409
    assert "Somebody sits" in taken.json()["error"]["message"]
