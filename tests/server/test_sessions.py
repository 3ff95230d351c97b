"""Sessions over REST: their whole life, and what is refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from serving import app_in, create, serve, status, wait_for
from support import small_society


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=30) as client:
        yield client


def test_a_session_is_created_run_paused_and_run_to_its_end(client: httpx.Client) -> None:
    session = create(client, rounds=30, model="scripted/steady?latency=10")
    assert status(client, session) == "ready"
    assert client.post(f"/api/v1/sessions/{session}/start").status_code == 200
    wait_for(lambda: status(client, session) == "running")
    assert client.post(f"/api/v1/sessions/{session}/pause").status_code == 200
    assert status(client, session) == "paused"
    view = client.get(f"/api/v1/sessions/{session}/snapshot").json()
    assert (view["status"], view["paused"]) == ("paused", "paused")
    assert client.post(f"/api/v1/sessions/{session}/resume").status_code == 200
    assert client.post(f"/api/v1/sessions/{session}/stop").status_code == 200
    assert client.get(f"/api/v1/sessions/{session}/snapshot").json()["paused"] == "stopped"


def test_one_round_at_a_time(client: httpx.Client) -> None:
    session = create(client, rounds=3)
    for number in (1, 2, 3):
        assert client.post(f"/api/v1/sessions/{session}/step").status_code == 200
        wait_for(lambda: status(client, session) in ("paused", "finished"))
        kinds = [
            item["event"]["type"]
            for item in client.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()[
                "items"
            ]
        ]
        assert kinds.count("round_finished") == number
    assert status(client, session) == "finished"
    again = client.post(f"/api/v1/sessions/{session}/start")
    assert again.status_code == 409
    assert "rounds: 4" in again.json()["error"]["message"]
    assert client.post(f"/api/v1/sessions/{session}/start", json={"rounds": 4}).status_code == 200
    wait_for(lambda: client.get(f"/api/v1/sessions/{session}/snapshot").json()["round"] == 4)


def test_starting_twice_runs_it_once(client: httpx.Client) -> None:
    session = create(client, rounds=2, model="scripted/steady?latency=10")
    for _ in range(3):
        client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    wait_for(lambda: status(client, session) == "finished")
    items = client.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
    assert sum(item["event"]["type"] == "round_started" for item in items) == 2


def test_a_fork_has_the_same_past_and_goes_its_own_way(client: httpx.Client) -> None:
    session = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    wait_for(lambda: status(client, session) == "finished")
    made = client.post(f"/api/v1/sessions/{session}/fork", json={"at": 30, "seed": 9})
    assert made.status_code == 201
    fork = made.json()
    assert (fork["parent"], fork["parent_seq"], fork["status"]) == (session, 30, "paused")
    client.post(f"/api/v1/sessions/{fork['session']}/resume").raise_for_status()
    wait_for(lambda: status(client, fork["session"]) == "finished")
    too_far = client.post(f"/api/v1/sessions/{session}/fork", json={"at": 10**6})
    assert too_far.status_code == 409


def test_a_seats_model_is_changed_while_it_runs_and_rolled_back(client: httpx.Client) -> None:
    session = create(client, rounds=50, model="scripted/steady?latency=5")
    client.post(f"/api/v1/sessions/{session}/start")
    changed = client.put(f"/api/v1/sessions/{session}/seats/A1/model", json={"model": "scripted/kind"})
    assert changed.status_code == 200, changed.text

    def model() -> str:
        seats = client.get(f"/api/v1/sessions/{session}/snapshot").json()["seats"]
        return str(next(seat["model"] for seat in seats if seat["name"] == "A1"))

    assert model() == "scripted/kind"
    wait_for(
        lambda: any(
            row["seat"] == "A1"
            for row in client.get(f"/api/v1/sessions/{session}/messages", params={"seat": "A1"}).json()[
                "items"
            ]
        )
    )
    assert client.post(f"/api/v1/sessions/{session}/seats/A1/model/rollback").status_code == 200
    assert model() == "scripted/steady?latency=5"
    client.post(f"/api/v1/sessions/{session}/pause")
    for wrong in ("scripted/nobody", "local/smollm2#no-such-adapter", "nonsense"):
        refused = client.put(f"/api/v1/sessions/{session}/seats/A1/model", json={"model": wrong})
        assert refused.status_code in (409, 422, 502), wrong
        assert refused.json()["error"]["message"]
    assert model() == "scripted/steady?latency=5", "what can't be seated changes nothing"
    assert client.post(f"/api/v1/sessions/{session}/seats/B1/model/rollback").status_code == 409


def test_new_norms_have_the_next_version(client: httpx.Client) -> None:
    session = create(client)
    rubric = client.get(f"/api/v1/sessions/{session}/society").json()["rubric"]
    rubric["scale"] = {"low": 1, "high": 10}
    assert client.put(f"/api/v1/sessions/{session}/rubric", json=rubric).status_code == 200
    now = client.get(f"/api/v1/sessions/{session}/snapshot").json()["rubric"]
    assert (now["version"], now["scale"]["high"]) == (2, 10)
    rubric["peer"] = "nothing"
    assert client.put(f"/api/v1/sessions/{session}/rubric", json=rubric).status_code == 422


@pytest.mark.parametrize("what", ["events", "interactions", "messages", "ratings", "calls"])
def test_pages_hold_everything_once(client: httpx.Client, what: str) -> None:
    session = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    wait_for(lambda: status(client, session) == "finished")
    if what == "calls":
        text = client.get(f"/api/v1/sessions/{session}/export", params={"what": "calls"}).text
        assert len(text.splitlines()) > 100
        return
    for size in (1000, 7):
        found, after = [], 0
        while after is not None:
            page = client.get(
                f"/api/v1/sessions/{session}/{what}", params={"after": after, "limit": size}
            ).json()
            assert len(page["items"]) <= size
            found += page["items"]
            after = page["next"]
        numbers = [row.get("seq", row.get("number")) for row in found]
        assert numbers == sorted(set(numbers))
        if size == 1000:
            whole = found
    assert found == whole


def test_exports_in_every_form(client: httpx.Client) -> None:
    session = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    wait_for(lambda: status(client, session) == "finished")
    path = f"/api/v1/sessions/{session}/export"
    lines = client.get(path, params={"what": "ratings"}).text.splitlines()
    rows = [json.loads(line) for line in lines]
    parquet = client.get(path, params={"what": "ratings", "format": "parquet"})
    assert pq.read_table(io.BytesIO(parquet.content)).num_rows == len(rows)
    assert session in parquet.headers["content-disposition"]
    assert len(client.get(path, params={"what": "ratings", "format": "csv"}).text) > 100


def test_what_it_may_take_is_told_before_it_is_begun(client: httpx.Client) -> None:
    told = client.post("/api/v1/estimate", json={"example": "scripted", "seats": "3x3", "rounds": 2}).json()
    assert 0.5 < told["recall"] < 0.9
    session = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    wait_for(lambda: status(client, session) == "finished")
    took = client.get(f"/api/v1/sessions/{session}/snapshot").json()["totals"]
    assert told["interactions"] == took["interactions"] == 18
    assert took["calls"] <= told["calls"] <= took["calls"] * 1.5
    assert took["completion_tokens"] <= told["completion_tokens"]
    assert told["cost"] == 0
    priced = client.post(
        "/api/v1/estimate", json={"example": "scripted", "model": "litellm/openai/gpt-4o-mini"}
    ).json()
    assert priced["cost"] > 0
    unknown = client.post(
        "/api/v1/estimate", json={"example": "scripted", "model": "litellm/openai/no-such-model"}
    ).json()
    assert unknown["unpriced"] == ["litellm/openai/no-such-model"]


def test_sessions_are_made_of_an_example_a_file_or_a_description(client: httpx.Client) -> None:
    assert {"village", "scripted"} <= client.get("/api/v1/examples").json().keys()
    toml = (
        'name = "mine"\nrounds = 1\n[agents]\nmodel = "scripted/kind"\n[topology]\nrows = 2\ncolumns = 2\n'
        '[[observers]]\nname = "o"\nmodel = "scripted/kind"\n'
    )
    made = client.post("/api/v1/sessions", json={"toml": toml, "start": True})
    assert made.status_code == 201, made.text
    wait_for(lambda: status(client, made.json()["session"]) == "finished")
    society = client.get(f"/api/v1/sessions/{made.json()['session']}/society").json()
    again = client.post("/api/v1/sessions", json={"society": society, "seed": 5})
    assert again.status_code == 201
    assert again.json()["seed"] == 5
    whole = client.post("/api/v1/sessions", json={"society": small_society().model_dump(mode="json")})
    assert whole.status_code == 201


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "give one of"),
        ({"example": "nothing"}, "village"),
        ({"example": "scripted", "toml": "x"}, "give one of"),
        ({"example": "scripted", "seats": "0x0"}, "rows"),
        ({"example": "scripted", "seats": "100x100"}, "1000 agents"),
        ({"example": "scripted", "model": "nonsense"}, "nonsense"),
        ({"example": "scripted", "rounds": -1}, "rounds"),
        ({"example": "scripted", "surprise": 1}, "surprise"),
        ({"toml": "rounds = "}, "TOML"),
        ({"toml": "rounds = 'many'"}, "rounds"),
        ({"society": {"name": "x"}}, "topology"),
    ],
)
def test_what_can_not_be_made_is_refused_with_the_reason(
    client: httpx.Client, body: object, word: str
) -> None:
    response = client.post("/api/v1/sessions", json=body)
    assert response.status_code == 422
    assert word in response.json()["error"]["message"]
    assert client.get("/api/v1/sessions").json() == []


def test_a_key_for_repetition_makes_a_command_happen_once(client: httpx.Client) -> None:
    session = create(client)
    path = f"/api/v1/sessions/{session}/messages"
    headers = {"Idempotency-Key": "one"}
    first = client.post(path, json={"text": "Hello", "to": ["A1"]}, headers=headers).json()
    second = client.post(path, json={"text": "Hello", "to": ["A1"]}, headers=headers).json()
    assert first == second


def test_sessions_are_listed_and_deleted(client: httpx.Client) -> None:
    session = create(client, rounds=50, model="scripted/steady?latency=5")
    other = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    assert [row["session"] for row in client.get("/api/v1/sessions").json()] == [other, session]
    wait_for(lambda: client.get("/api/v1/sessions", params={"status": "running"}).json())
    assert client.delete(f"/api/v1/sessions/{session}").status_code == 204
    assert [row["session"] for row in client.get("/api/v1/sessions").json()] == [other]
    assert client.get(f"/api/v1/sessions/{session}").status_code == 404
    assert client.get(f"/api/v1/sessions/{session[:-3]}").status_code == 404, "no guessing by beginnings"


def test_the_page_of_calls_needs_no_network(client: httpx.Client) -> None:
    page = client.get("/docs").text
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert named
    assert all(name.startswith("/") for name in named), named
    assert all(client.get(name).status_code == 200 for name in named)


def test_it_says_that_it_is_there_and_what_it_does(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    session = create(client)
    client.post(f"/api/v1/sessions/{session}/start")
    wait_for(lambda: status(client, session) == "finished")
    told = client.get("/metrics").text
    for name in (
        "sandbox_sessions_open 1.0",
        'sandbox_model_calls_total{model="scripted/steady"}',
        'sandbox_tokens_total{kind="prompt",model="scripted/steady"}',
        'sandbox_events_total{type="rating_given"}',
        "sandbox_cost_usd_total",
        "sandbox_model_seconds_bucket",
        "sandbox_http_requests_total",
        "sandbox_sockets 0.0",
    ):
        assert name in told, name
    assert session not in told, "names of sessions are no labels"
    response = client.get("/healthz", headers={"X-Request-Id": "my-own"})
    assert response.headers["x-request-id"] == "my-own"
    odd = client.get("/healthz", headers={"X-Request-Id": "odd, one"})
    assert odd.headers["x-request-id"] != "odd, one"
