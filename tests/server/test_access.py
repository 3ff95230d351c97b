"""Who may do what: every route and command against every scope, and how keys, tickets and invitations end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from guarding import Guarded, closed_with
from serving import Live, app_in, create

from server.rights import SCOPE_OF
from server.wire.commands import Command
from server.wire.views import Scope

SCOPES: tuple[Scope, ...] = get_args(Scope)
LOOK = {"watch", "join", "run"}
ANY = set(SCOPES)
NOBODY: set[str] = set()
"""No key is needed."""
SAY = {"text": "Hello", "to": ["B1"]}
MODEL = {"model": "scripted/kind"}
RATE = {"message": "1.draft", "value": 5}
ROUTES: dict[tuple[str, str], tuple[set[str], dict[str, Any] | None]] = {
    ("GET", "/healthz"): (NOBODY, None),
    ("GET", "/readyz"): (NOBODY, None),
    ("GET", "/metrics"): ({"watch"}, None),
    ("GET", "/api/v1/examples"): (ANY, None),
    ("GET", "/api/v1/me"): (ANY, None),
    ("GET", "/api/v1/schema/frames"): (NOBODY, None),
    ("POST", "/api/v1/tickets"): (LOOK, None),
    ("GET", "/api/v1/keys"): ({"admin"}, None),
    ("POST", "/api/v1/keys"): ({"admin"}, {"name": "x", "scopes": ["watch"]}),
    ("DELETE", "/api/v1/keys/{key}"): ({"admin"}, None),
    ("POST", "/api/v1/invites/look"): (NOBODY, {"ticket": "x" * 32}),
    ("POST", "/api/v1/invites/join"): (NOBODY, {"ticket": "x" * 32}),
    ("GET", "/api/v1/sessions"): (LOOK, None),
    ("POST", "/api/v1/sessions"): ({"run"}, {"example": "scripted", "seats": "2x2"}),
    ("POST", "/api/v1/estimate"): ({"run"}, {"example": "scripted", "seats": "2x2"}),
    ("GET", "/api/v1/sessions/{session}"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/snapshot"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/society"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/estimate"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/events"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/interactions"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/messages"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/ratings"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/monitors"): (LOOK, None),
    ("GET", "/api/v1/sessions/{session}/export"): ({"run"}, None),
    ("POST", "/api/v1/sessions/{session}/fork"): ({"run"}, {}),
    ("POST", "/api/v1/sessions/{session}/invites"): ({"admin"}, {}),
    ("GET", "/api/v1/sessions/{session}/invites"): ({"admin"}, None),
    ("DELETE", "/api/v1/sessions/{session}/invites/{invite}"): ({"admin"}, None),
    ("GET", "/api/v1/sessions/{session}/consents"): ({"admin"}, None),
    ("POST", "/api/v1/sessions/{session}/commands"): ({"run"}, {"do": "pause"}),
    ("POST", "/api/v1/sessions/{session}/start"): ({"run"}, {"rounds": 0}),
    ("POST", "/api/v1/sessions/{session}/step"): ({"run"}, None),
    ("POST", "/api/v1/sessions/{session}/pause"): ({"run"}, None),
    ("POST", "/api/v1/sessions/{session}/resume"): ({"run"}, None),
    ("POST", "/api/v1/sessions/{session}/stop"): ({"run"}, None),
    ("POST", "/api/v1/sessions/{session}/messages"): ({"join"}, SAY),
    ("POST", "/api/v1/sessions/{session}/questions"): ({"ask"}, {"question": "Why?", "society": False}),
    ("POST", "/api/v1/sessions/{session}/ratings"): ({"join"}, RATE),
    ("POST", "/api/v1/sessions/{session}/judgements"): ({"ask"}, {"message": "1.draft", "seat": "A1"}),
    ("POST", "/api/v1/sessions/{session}/reactions"): ({"join"}, {"message": "1.draft", "reaction": "+1"}),
    ("POST", "/api/v1/sessions/{session}/seats"): ({"run"}, {"seat": "guest"}),
    ("PUT", "/api/v1/sessions/{session}/seats/{seat}/model"): ({"run"}, MODEL),
    ("POST", "/api/v1/sessions/{session}/seats/{seat}/model/rollback"): ({"run"}, None),
    ("PUT", "/api/v1/sessions/{session}/rubric"): ({"run"}, {}),
    ("POST", "/api/v1/sessions/{session}/seats/{seat}/take"): ({"join"}, {}),
    ("POST", "/api/v1/sessions/{session}/seats/{seat}/leave"): ({"join"}, None),
    ("GET", "/api/v1/sessions/{session}/turns"): ({"join"}, None),
    ("POST", "/api/v1/sessions/{session}/turns"): ({"join"}, {"interaction": 1, "step": "draft"}),
    ("POST", "/api/v1/sessions/{session}/turns/skip"): ({"join"}, {"interaction": 1, "step": "draft"}),
    ("GET", "/v1/models"): (ANY, None),
    ("GET", "/v1/models/{id}"): ({"ask"}, None),
    ("POST", "/v1/chat/completions"): (
        {"ask"},
        {"model": "sandbox/{session}/A1", "messages": [{"role": "user", "content": "Hi"}]},
    ),
    ("POST", "/v1/responses"): ({"ask"}, {"model": "sandbox/{session}/A1", "input": "Hi"}),
    ("POST", "/v1/completions"): ({"ask"}, {"model": "sandbox/{session}/A1", "prompt": "Hi"}),
    ("POST", "/v1/embeddings"): ({"ask"}, {"model": "sandbox/hashed", "input": "Hi"}),
    ("DELETE", "/api/v1/sessions/{session}/people/{person}"): ({"run"}, None),
    ("DELETE", "/api/v1/sessions/{session}"): ({"run"}, None),
}
"""What each route needs, and a body that it takes; the last one ends the session."""
COMMANDS: dict[str, dict[str, Any]] = {
    "start": {"rounds": 0},
    "step": {},
    "pause": {},
    "stop": {},
    "say": SAY,
    "ask": {"question": "Why?", "society": False},
    "rate": RATE,
    "judge": {"message": "1.draft", "seat": "A1"},
    "react": {"message": "1.draft", "reaction": "+1"},
    "take": {"seat": "A1"},
    "leave": {"seat": "A1"},
    "add_seat": {"seat": "guest"},
    "answer": {"interaction": 1, "step": "draft", "text": "x"},
    "skip": {"interaction": 1, "step": "draft"},
    "change_model": {"seat": "A1", **MODEL},
    "roll_back_model": {"seat": "A1"},
    "change_rubric": {"rubric": {}},
}


def call(client: httpx.Client, method: str, path: str, session: str, key: int) -> httpx.Response:
    body = ROUTES[method, path][1]
    if body and "{session}" in str(body.get("model")):
        body = {**body, "model": body["model"].format(session=session)}
    told = path.format(
        session=session, seat="A1", key=key, invite=1, person="Nobody", id=f"sandbox/{session}/A1"
    )
    return client.request(method, told, json=body)


def test_the_table_names_every_route_and_command(tmp_path: Path) -> None:
    paths = app_in(tmp_path).openapi()["paths"]
    assert {(method.upper(), path) for path, item in paths.items() for method in item} == set(ROUTES)
    union = get_args(get_args(Command)[0])
    assert {kind.model_fields["do"].default for kind in union} == set(COMMANDS) == set(SCOPE_OF)


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_opens_its_routes_and_no_other(shared: Guarded, scope: Scope) -> None:
    session = create(shared.admin, seats="2x2")
    spare = shared.key("watch").id
    with shared.client(shared.key(scope).key) as client:
        for (method, path), (needed, _) in ROUTES.items():
            response = call(client, method, path, session, spare)
            told = f"{scope}: {method} {path}: {response.status_code} {response.text[:200]}"
            if path.startswith("/api/v1/invites/"):
                assert response.status_code == 401, told  # that ticket is none
            elif needed and scope not in needed | {"admin"}:
                assert response.status_code == 403, told
            else:
                assert response.status_code < 500, told
                assert response.status_code not in (401, 403), told


@pytest.mark.parametrize("key", [None, "sbx_" + "A" * 43, "sk-other", ""])
def test_without_a_key_only_what_needs_none_is_open(shared: Guarded, key: str | None) -> None:
    session = create(shared.admin, seats="2x2")
    with shared.client(key) as client:
        for (method, path), (needed, _) in ROUTES.items():
            if not path.startswith("/api/v1/invites/"):
                status = call(client, method, path, session, 1).status_code
                assert (status == 401) == bool(needed), (method, path, status)
    assert shared.admin.get(f"/api/v1/sessions/{session}").status_code == 200


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_scope_opens_its_commands_and_no_other(shared: Guarded, scope: Scope) -> None:
    session = create(shared.admin, seats="2x2", rounds=0)
    key = shared.key(scope, "watch").key  # to connect at all
    async with shared.live(session, key) as connection:
        client = Live(connection)
        for do, body in COMMANDS.items():
            answer = await client.command(do, do=do, **body)
            forbidden = answer["type"] == "error" and answer["data"]["code"] == "forbidden"
            assert forbidden == (scope not in (SCOPE_OF[do], "admin")), (do, answer)
    with shared.client(key) as rest:
        for do, body in COMMANDS.items():
            response = rest.post(f"/api/v1/sessions/{session}/commands", json={"do": do, **body})
            forbidden = response.status_code == 403
            assert forbidden == (scope not in (SCOPE_OF[do], "admin")), (do, response.text)


@pytest.mark.parametrize(("scope", "lets"), [("watch", True), ("join", True), ("ask", False), ("run", True)])
async def test_who_may_look_may_connect(shared: Guarded, scope: Scope, lets: bool) -> None:
    session = create(shared.admin)
    async with shared.live(session, shared.key(scope).key) as connection:
        if lets:
            hello = await Live(connection).next("session.hello")
            assert hello["data"]["scopes"] == [scope]
        else:
            assert await closed_with(connection) == 4403


async def test_a_key_for_one_session_opens_no_other(shared: Guarded) -> None:
    mine, other = create(shared.admin, seats="2x2"), create(shared.admin, seats="2x2")
    bound = shared.key(*SCOPES, session=mine)
    with shared.client(bound.key) as client:
        for method, path in ROUTES:
            if "{session}" in path or "{session}" in str(ROUTES[method, path][1]):
                refused = call(client, method, path, other, 1)
                assert refused.status_code == 403, (method, path, refused.text)
        listed = client.get("/api/v1/sessions").json()
        assert [row["session"] for row in listed] == [mine]
        named = {model["id"].split("/")[1] for model in client.get("/v1/models").json()["data"]}
        assert other not in named
        assert client.get(f"/api/v1/sessions/{mine}").status_code == 200
    async with shared.live(other, bound.key) as connection:
        assert await closed_with(connection) == 4403
    async with shared.live(mine, bound.key) as connection:
        await Live(connection).next("session.snapshot")
    async with shared.live(mine, "sbx_" + "B" * 43) as connection:
        assert await closed_with(connection) == 4401


def test_nor_does_it_open_the_server(shared: Guarded) -> None:
    """What is not of one session is not for such a key: it could make itself a better one."""
    mine = create(shared.admin)
    spare = shared.key("watch")
    bound = shared.key(*SCOPES, session=mine)
    before = len(shared.admin.get("/api/v1/sessions", params={"limit": 1000}).json())
    with shared.client(bound.key) as client:
        for method, path in (
            ("GET", "/api/v1/keys"),
            ("POST", "/api/v1/keys"),
            ("DELETE", "/api/v1/keys/{key}"),
            ("POST", "/api/v1/sessions"),
            ("GET", "/metrics"),
        ):
            refused = call(client, method, path, mine, spare.id)
            assert refused.status_code == 403, (method, path, refused.text[:200])
        started = client.post("/api/v1/sessions", json={"example": "scripted", "start": True})
        assert started.status_code == 403
    assert len(shared.admin.get("/api/v1/sessions", params={"limit": 1000}).json()) == before
    with shared.client(spare.key) as client:
        assert client.get("/api/v1/me").status_code == 200
