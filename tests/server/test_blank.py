"""A text in which nothing can be seen is none, and half a character is U+FFFD, by whatever way they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai_serving import Served, ask, error_of, served, society
from serving import Live, create, live, wait_for

JSON = {"Content-Type": "application/json"}
UNSEEN = ["\u200b", "\ufeff \u2060", "\u202e", "\u3164", "\u2800\n", "\ufe0f", "\U000e0041", "\u00ad\x07"]
FAMILY = "\U0001f469\u200d\U0001f680 \u0915\u094d\u200d\u0937 \u200bend"


@pytest.fixture(scope="module")
def base(friendly: str) -> str:
    return friendly


@pytest.fixture(scope="module")
def openai(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("blank"), society("scripted/steady", "scripted/echo")) as server:
        yield server


@pytest.mark.parametrize("text", UNSEEN)
def test_a_text_that_cannot_be_seen_is_refused_over_rest(client: httpx.Client, text: str) -> None:
    session = create(client, seats="2x2", rounds=0)
    here = f"/api/v1/sessions/{session}"
    for path, body in (
        ("messages", {"text": text, "to": ["A1"]}),
        ("questions", {"question": text, "seat": "A1"}),
        ("commands", {"do": "say", "text": text}),
        ("reactions", {"message": "1.draft", "reaction": text}),
    ):
        refused = client.post(f"{here}/{path}", json=body)
        assert refused.status_code == 422, (path, refused.text)
    whole = client.get(f"{here}/events").json()["items"][0]["event"]["society"]
    criteria = [{**whole["rubric"]["criteria"][0], "best": text}]
    changed = {**whole["rubric"], "criteria": criteria, "peer": criteria[0]["name"]}
    assert client.put(f"{here}/rubric", json=changed).status_code == 409
    assert client.post("/api/v1/sessions", json={"society": {**whole, "rubric": changed}}).status_code == 422
    for change in ({"name": text}, {"questions": [{"text": text}]}):
        assert client.post("/api/v1/sessions", json={"society": {**whole, **change}}).status_code == 422
    keys = client.post("/api/v1/keys", json={"name": text, "scopes": ["watch"]})
    assert keys.status_code == 422


def test_what_can_be_seen_is_kept_with_all_that_is_in_it(client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    here = f"/api/v1/sessions/{session}"
    number = client.post(
        f"{here}/questions", json={"question": FAMILY, "seat": "A1", "society": False}
    ).json()
    asked = f"{number['interaction']}.answer"

    def events() -> list[dict[str, Any]]:
        return [item["event"] for item in client.get(f"{here}/events").json()["items"]]

    said = wait_for(lambda: [one for one in events() if one["type"] == "message_posted"])[0]
    asked = f"{said['interaction']}.{said['step']}"
    for reason in ("\u200b\u3164", FAMILY):
        rated = client.post(f"{here}/ratings", json={"message": asked, "value": 5, "reason": reason})
        assert rated.status_code == 201, rated.text
    assert next(one for one in events() if one["type"] == "interaction_started")["question"] == FAMILY
    reasons = [one["reason"] for one in events() if one["type"] == "rating_given"]
    assert reasons == ["", FAMILY], "a comment that can't be seen is none"


async def test_a_text_that_cannot_be_seen_is_refused_over_the_websocket(
    base: str, client: httpx.Client
) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with live(base, session, query={"person": "Ann"}) as connection:
        watcher = Live(connection)
        for number, text in enumerate(UNSEEN):
            for place, data in enumerate(
                ({"do": "say", "text": text}, {"do": "ask", "question": text, "seat": "A1"})
            ):
                told = await watcher.command(f"{number}-{place}", **data)
                assert (told["type"], told["data"]["code"]) == ("error", "invalid"), text
        assert (await watcher.command("take", do="take", seat="A1"))["type"] == "ack"
        assert (await watcher.command("ask", do="ask", question="Why?", seat="A1", society=False))[
            "type"
        ] == "ack"
        awaited = await watcher.event("turn_awaited")
        turn = {"interaction": awaited["interaction"], "step": awaited["step"]}
        for number, text in enumerate(UNSEEN):
            told = await watcher.command(f"turn-{number}", do="answer", text=text, **turn)
            assert (told["type"], told["data"]["code"]) == ("error", "refused"), text
        assert (await watcher.command("turn", do="answer", text=FAMILY, **turn))["type"] == "ack"
        assert (await watcher.event("message_posted"))["text"] == FAMILY


@pytest.mark.parametrize("model", ["sandbox/S1", "sandbox/society"])
@pytest.mark.parametrize("content", [None, "", " \n", [], [{"type": "text", "text": "\u3164"}], *UNSEEN])
def test_a_seat_is_not_asked_nothing(openai: Served, model: str, content: Any) -> None:
    with openai.client() as client:
        for before in ([], [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]):
            messages = [*before, {"role": "user", "content": content, "name": "Ann"}]
            refused = ask(client, model, messages=messages)
            assert refused.status_code == 400, refused.text
            assert error_of(refused)["param"] == f"messages.{len(before)}.content"
        earlier = [{"role": "user", "content": content}, {"role": "user", "content": "And now?"}]
        answered = ask(client, "sandbox/S1", messages=earlier)
        assert answered.json()["choices"][0]["message"]["content"] == "And now?"
        body = {"model": model, "input": [{"role": "user", "content": content}]}
        assert client.post("/responses", json=body).status_code == 400


async def test_half_a_character_becomes_one_that_can_be_kept_by_every_way(
    base: str, client: httpx.Client
) -> None:
    session = create(client, seats="2x2", rounds=0)
    here = f"/api/v1/sessions/{session}"
    model = client.put(f"{here}/seats/A1/model", content='{"model": "scripted/\\ud83d"}', headers=JSON)
    assert "\ufffd" in model.json()["error"]["message"], "as an unknown model, not as no text"
    rubric = client.get(f"{here}/events").json()["items"][0]["event"]["society"]["rubric"]
    rubric["criteria"][0]["question"] = "HALF"
    body = json.dumps(rubric).replace("HALF", "half \\ud83d")
    assert client.put(f"{here}/rubric", content=body, headers=JSON).status_code == 200
    assert "half \ufffd" in client.get(f"{here}/events").text
    async with live(base, session) as connection:
        watcher = Live(connection)
        frame = '{"v": 1, "type": "command", "cid": "1", "data": {"do": "%s", "%s": "h\\uD83D!", "%s": "A1"}}'
        await connection.send(frame % ("ask", "question", "seat"))
        assert (await watcher.event("interaction_started"))["question"] == "h\ufffd!"
        body = json.dumps({"do": "change_rubric", "rubric": rubric}).replace("HALF", "\\udc00 whole")
        await connection.send(f'{{"v": 1, "type": "command", "cid": "2", "data": {body}}}')
        changed = await watcher.event("rubric_changed")
        assert changed["rubric"]["criteria"][0]["question"] == "\ufffd whole"


def test_half_a_character_is_no_unknown_field_of_the_openai_api_either(openai: Served) -> None:
    with openai.client() as client:
        said = '{"role": "user", "content": "a \\ud83d", "name": "\\udc00"}'
        body = f'{{"model": "sandbox/S1", "messages": [{said}]}}'
        answer = client.post("/chat/completions", content=body, headers=JSON)
        assert answer.json()["choices"][0]["message"]["content"] == "a \ufffd"
        unknown = client.post("/chat/completions", content=body.replace("S1", "S1\\ud83d"), headers=JSON)
        assert unknown.status_code == 404, unknown.text


def test_a_seats_reply_that_cannot_be_seen_is_a_failed_turn(tmp_path: Path) -> None:
    from sandbox.exchange import Answered, Reply
    from sandbox.outcomes import posted

    for text in UNSEEN:
        event = posted(1, Answered("draft", Reply(text)), "A1", "draft")
        assert (event.type, getattr(event, "error", "")) == ("turn_failed", "empty")
    assert posted(1, Answered("draft", Reply(FAMILY)), "A1", "draft").text == FAMILY  # type: ignore[union-attr]
