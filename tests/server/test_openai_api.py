"""The OpenAI-compatible API over HTTP: shapes, streams, societies, recording, errors."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from openai_serving import HELLO, Served, ask, chunks, error_of, served, society, text_of

from sandbox.exchange import Reply, Request
from sandbox.models.scripted import ScriptedModel
from server.auth import Keys
from server.wire.views import CreateKey


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    one = society("scripted/steady", "scripted/echo", "scripted/steady?fail=rate_limited&step=answer")
    other = society(name="other")
    with served(tmp_path_factory.mktemp("openai"), one, other) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_models_are_seats_societies_and_embeddings(server: Served, client: httpx.Client) -> None:
    short = [model["id"] for model in client.get("/models").json()["data"]]
    assert short[:2] == ["sandbox/society", "sandbox/society:answer"]
    assert not any(id.startswith("sandbox/S") for id in short), "seats are listed when they are asked for"
    listed = client.get("/models", params={"seats": "true"}).json()
    ids = [model["id"] for model in listed["data"]]
    assert listed["object"] == "list"
    assert ids[0] == "sandbox/society"
    assert ids[2:6] == ["sandbox/S0", "sandbox/S1", "sandbox/S2", "sandbox/S3"]
    assert f"sandbox/{server.session}/society" in ids
    assert any(id.startswith("sandbox/other-") for id in ids)
    assert "sandbox/hashed" in ids
    for id in ("sandbox/S0", f"sandbox/{server.session}/S3", "sandbox/hashed"):
        assert client.get(f"/models/{id}").json()["id"] == id
    assert client.get("/models/sandbox%2FS0").json()["object"] == "model"
    missing = client.get("/models/sandbox/nobody")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "model_not_found")


def test_a_seat_answers(server: Served, client: httpx.Client) -> None:
    body = ask(client, seed=1).json()
    assert body["object"] == "chat.completion"
    assert body["model"] == "sandbox/S0"
    (choice,) = body["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 10
    assert body["sandbox"]["seat"] == "S0"
    assert body["sandbox"]["session"] == server.session
    assert ask(client, seed=1).json()["choices"] == body["choices"]
    elsewhere = ask(client, f"sandbox/{server.session}/S0", seed=1).json()
    assert elsewhere["choices"] == body["choices"]


def test_several_choices_differ_by_their_seeds(client: httpx.Client) -> None:
    several = ask(client, n=8, seed=4).json()
    texts = [choice["message"]["content"] for choice in several["choices"]]
    assert [choice["index"] for choice in several["choices"]] == list(range(8))
    assert len(set(texts)) > 1
    assert ask(client, seed=4).json()["choices"][0]["message"]["content"] == texts[0]
    streamed = chunks(ask(client, n=8, seed=4, stream=True))
    for index in range(8):
        mine = [c for event in streamed for c in event["choices"] if c["index"] == index]
        assert "".join(c["delta"].get("content") or "" for c in mine) == texts[index]
        assert [c["finish_reason"] for c in mine].count("stop") == 1


@pytest.mark.parametrize(
    "content",
    [
        "Hello there",
        ["Hello there"],
        [{"type": "text", "text": "Hello there"}],
        [{"type": "input_text", "text": "Hello there"}],
    ],
)
def test_content_comes_in_many_forms(client: httpx.Client, content: Any) -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": content, "name": "x"},
    ]
    assert (
        ask(client, "sandbox/S1", messages=messages).json()["choices"][0]["message"]["content"]
        == "Hello there"
    )


def test_half_a_character_does_no_harm(client: httpx.Client) -> None:
    json_ = {"content-type": "application/json"}
    chat = '{"model": "sandbox/S1", "messages": [{"role": "user", "content": "x\\ud800"}], "stream": %s}'
    for stream in ("true", "false"):
        response = client.post("/chat/completions", content=chat % stream, headers=json_)
        assert "x\ufffd" in response.text
    body = '{"model": "sandbox/S1", "input": "x", "instructions": "\\ud800", "metadata": {"a": "\\udfff"}}'
    assert client.post("/responses", content=body, headers=json_).status_code == 200
    assert client.post("/chat/completions", content='{"model": "\\ud800"}', headers=json_).status_code == 400


def test_a_tool_message_is_text(client: httpx.Client) -> None:
    messages = [*HELLO, {"role": "tool", "tool_call_id": "1", "content": "42"}]
    assert ask(client, "sandbox/S1", messages=messages).json()["choices"][0]["message"]["content"] == "42"


def test_unknown_fields_are_ignored(client: httpx.Client) -> None:
    body = {
        "user": "u",
        "store": True,
        "frequency_penalty": 0,
        "top_k": 3,
        "stop": ["\n", ""],
        "max_tokens": 100_000,
        "tools": [],
        "response_format": {"type": "text"},
        "modalities": ["text"],
    }
    assert ask(client, **body).status_code == 200
    assert ask(client, stop=None, max_completion_tokens=5, tool_choice="none", tools=[{}]).status_code == 200


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"messages": []}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0",
        ),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        ({"temperature": 3}, "temperature"),
        ({"n": 9}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": [{"type": "function"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [{}], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "f"}}, "function_call"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "It is"}]}, "messages"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"model": "sandbox/society", "n": 2}, "n"),
        ({"model": "sandbox/S0", "sandbox": {"seat": "S1"}}, "sandbox.seat"),
        ({"model": "sandbox/society", "sandbox": {"seat": "nobody"}}, "sandbox.seat"),
        ({"model": "sandbox/society", "messages": [{"role": "system", "content": "x"}]}, "messages"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_can_not_be_honoured_is_refused(
    client: httpx.Client, change: dict[str, Any], param: str, stream: bool
) -> None:
    body = {"model": "sandbox/S0", "messages": HELLO, "stream": stream} | change
    response = client.post("/chat/completions", json=body)
    assert response.status_code == 400, response.text
    assert error_of(response)["param"] == param


@pytest.mark.parametrize(
    "model", ["gpt-4o", "sandbox/", "sandbox/nobody", "sandbox/a/b/c", "sandbox/nowhere/S0", "\u2603"]
)
def test_an_unknown_model_is_not_found(client: httpx.Client, model: str) -> None:
    response = ask(client, model)
    assert (response.status_code, error_of(response)["code"]) == (404, "model_not_found")


def test_errors_of_the_web_have_the_shape_too(client: httpx.Client) -> None:
    assert error_of(client.get("/nothing/here"))
    wrong = client.get("/chat/completions")
    assert (wrong.status_code, bool(error_of(wrong))) == (405, True)
    broken = client.post("/chat/completions", content="{", headers={"content-type": "application/json"})
    assert (broken.status_code, error_of(broken)["code"]) == (400, "invalid_json")
    assert error_of(client.post("/chat/completions", json=[1]))
    assert error_of(client.post("/chat/completions", json={}))["param"] == "model"


@pytest.mark.parametrize("stream", [False, True])
def test_a_failing_model_has_its_status(client: httpx.Client, stream: bool) -> None:
    response = ask(client, "sandbox/S2", stream=stream)
    assert response.status_code == 429
    assert error_of(response)["code"] == "rate_limit_exceeded"
    assert int(response.headers["retry-after"]) >= 1


def test_a_society_answers_with_its_revision_and_tells_how(server: Served, client: httpx.Client) -> None:
    body = ask(client, "sandbox/society", sandbox={"seat": "S1"}).json()
    told = body["sandbox"]
    assert told["seat"] == "S1"
    assert (told["session"], told["interaction"]) == (server.session, None)
    assert told["draft"]
    assert body["choices"][0]["message"]["content"] == told["revision"]
    drafts = [r["value"] for r in told["ratings"] if r["target"] == "draft" and r["rater"] != "observer"]
    assert told["peers_mean"] == pytest.approx(sum(drafts) / len(drafts))
    assert {r["target"] for r in told["ratings"]} == {"draft", "revision"}
    assert set(told["ratings"][0]) == {
        "rater",
        "role",
        "target",
        "dimension",
        "value",
        "unparsed",
        "reason",
        "method",
    }
    assert told["failures"] == []
    assert ask(client, "sandbox/society").json()["sandbox"]["seat"] == "S0"


def test_earlier_turns_come_before_the_question(client: httpx.Client) -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Two."},
        {"role": "user", "content": "Three?"},
    ]
    told = ask(client, "sandbox/society", messages=messages, sandbox={"seat": "S1"}).json()["sandbox"]
    assert told["draft"].count("System: Be kind.\n\nUser: One?\n\nAssistant: Two.\n\nUser: Three?") == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_draft_is_an_error_and_other_failures_are_told(tmp_path: Path, stream: bool) -> None:
    failing = society("scripted/steady?fail=timeout&step=draft", "scripted/steady?fail=empty&step=rate.*")
    with served(tmp_path, failing) as server, server.client() as client:
        draft = ask(client, "sandbox/society", stream=stream)
        assert (draft.status_code, error_of(draft)["code"]) == (504, "model_timeout")
        told = ask(client, "sandbox/society", sandbox={"seat": "S3"}).json()["sandbox"]
        assert [f["kind"] for f in told["failures"]] == ["empty"]


def test_nothing_is_recorded_unless_asked(server: Served, client: httpx.Client) -> None:
    with httpx.Client(base_url=f"{server.url}/api/v1", timeout=30) as api:
        before = api.get(f"/sessions/{server.session}").json()["events"]
        ask(client)
        ask(client, "sandbox/society")
        assert api.get(f"/sessions/{server.session}").json()["events"] == before
        body = ask(client, "sandbox/society", sandbox={"record": True, "seat": "S3"}).json()
        assert api.get(f"/sessions/{server.session}").json()["events"] > before
    told = body["sandbox"]
    assert told["interaction"] >= 1
    assert told["seat"] == "S3"
    assert body["choices"][0]["message"]["content"] == told["revision"]
    answered = client.post(
        "/chat/completions",
        json={"model": "sandbox/S1", "messages": HELLO},
        headers={"X-Sandbox-Record": "true"},
    ).json()
    assert answered["sandbox"]["interaction"] == told["interaction"] + 1
    assert answered["choices"][0]["message"]["content"]
    events = chunks(ask(client, "sandbox/society", sandbox={"record": True}, stream=True))
    assert events[-1]["sandbox"]["interaction"] == told["interaction"] + 2
    assert events[-1]["sandbox"]["revision"] in text_of(events)


def test_a_recorded_failure_is_told(client: httpx.Client) -> None:
    response = ask(client, "sandbox/S2", sandbox={"record": True})
    assert (response.status_code, error_of(response)["code"]) == (429, "rate_limit_exceeded")
    long = ask(client, sandbox={"record": True}, messages=[{"role": "user", "content": "x" * 30_000}])
    assert (long.status_code, error_of(long)["param"]) == (400, "messages")


def test_keys_scopes_sessions_and_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate = ScriptedModel.generate

    async def costly(self: ScriptedModel, request: Request, on_delta: Any = None) -> Reply:
        reply = await generate(self, request, on_delta)
        return reply._replace(usage=reply.usage.model_copy(update={"cost": 0.25}))

    monkeypatch.setattr(ScriptedModel, "generate", costly)
    two = society(), society(name="other")
    with served(tmp_path, *two, keyless=False) as server, ExitStack() as clients:
        keys: Keys = server.app.state.services.keys

        def key(*scopes: str, **more: Any) -> httpx.Client:
            made = keys.create(CreateKey(name="k", scopes=scopes, **more))  # type: ignore[arg-type]
            return clients.enter_context(server.client(made.key))

        unknown = ask(clients.enter_context(server.client("wrong")))
        assert (unknown.status_code, error_of(unknown)["code"]) == (401, "invalid_api_key")
        assert error_of(ask(key("watch")))["type"] == "permission_error"
        assert ask(key("watch")).status_code == 403
        bound = key("ask", session=server.session)
        ids = [model["id"] for model in bound.get("/models").json()["data"]]
        assert not any("other-" in id for id in ids)
        other = next(
            m["id"] for m in key("ask").get("/models").json()["data"] if m["id"].startswith("sandbox/other-")
        )
        assert ask(bound, other).status_code == 403
        assert ask(bound).status_code == 200
        spending = key("ask", budget=0.4)
        assert [ask(spending).status_code for _ in range(3)] == [200, 200, 402]
        assert error_of(ask(spending))["code"] == "insufficient_quota"
        slow = key("ask", per_minute=1)
        assert ask(slow).status_code == 200
        limited = ask(slow)
        assert limited.status_code == 429
        assert int(limited.headers["retry-after"]) > 1


def test_embeddings_as_numbers_and_as_base64(client: httpx.Client) -> None:
    def embed(**body: Any) -> httpx.Response:
        return client.post("/embeddings", json={"model": "sandbox/hashed", **body})

    floats = embed(input=["one", "two"]).json()
    assert [row["index"] for row in floats["data"]] == [0, 1]
    assert len(floats["data"][0]["embedding"]) == 256
    coded = embed(input="one", encoding_format="base64").json()["data"][0]["embedding"]
    decoded = np.frombuffer(base64.b64decode(coded), dtype="<f4")
    assert decoded == pytest.approx(floats["data"][0]["embedding"], abs=1e-6)
    assert floats["usage"]["total_tokens"] > 0
    for wrong in ([], "", [""], None, [[]], {"a": 1}, ["a", 1]):
        response = embed(input=wrong)
        assert (response.status_code, error_of(response)["param"]) == (400, "input")
    for tokens in ([1, 2], [[1, 2]]):
        assert "check_embedding_ctx_length=False" in error_of(embed(input=tokens))["message"]
    assert embed(input="x", dimensions=256).status_code == 200
    assert error_of(embed(input="x", dimensions=8))["param"] == "dimensions"
    assert error_of(embed(input="x", model="sandbox/S0"))["code"] == "model_not_found"


def test_a_response_keeps_nothing(client: httpx.Client) -> None:
    def respond(**body: Any) -> httpx.Response:
        return client.post("/responses", json={"model": "sandbox/S1", "input": "Hello", **body})

    body = respond(instructions="Be brief.").json()
    assert (body["object"], body["status"], body["store"]) == ("response", "completed", False)
    assert body["output"][0]["content"][0]["text"] == "Hello"
    again = [
        *body["output"],
        {"type": "reasoning", "summary": []},
        {"role": "user", "content": [{"type": "input_text", "text": "And?"}]},
    ]
    assert respond(input=again).json()["output"][0]["content"][0]["text"] == "And?"
    assert error_of(respond(previous_response_id="resp_1"))["param"] == "previous_response_id"
    assert error_of(respond(input=[{"type": "item_reference", "id": "x"}]))["param"] == "input.0"
    assert error_of(respond(input=[]))["param"]
    assert respond(tools=[{"type": "web_search"}]).status_code == 200
    assert error_of(respond(tools=[{}], tool_choice="required"))["param"] == "tool_choice"
    assert error_of(respond(text={"format": {"type": "json_schema"}}))["param"] == "text.format"


def test_plain_completions_need_a_local_model(client: httpx.Client) -> None:
    for model in ("sandbox/S0", "sandbox/society"):
        response = client.post("/completions", json={"model": model, "prompt": "Once"})
        assert (response.status_code, error_of(response)["code"]) == (400, "unsupported_model")
