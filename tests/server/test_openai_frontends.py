"""What chat front ends send to the OpenAI-compatible API, in the shapes they send it in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_provider import FakeProvider, fail, say
from openai_serving import HELLO, Served, ask, chunks, error_of, served, society, text_of

from server.openai.errors import ApiError
from server.openai.once import Once
from server.openai.speaking import Choice, Emit, Speak, Spoken, ignore
from server.openai.wire import SEPARATOR, MessageIn, answer_in, conversation

LOOK_UP: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up_note",
        "description": "Finds a note by its title.",
        "parameters": {
            "type": "object",
            "properties": {"title": {"type": "string"}, "count": {"type": "integer", "default": 5}},
            "required": ["title"],
        },
    },
}
HISTORY = "<chat_history>\nUSER: Hi\nASSISTANT: Hello.\n</chat_history>"
TASKS = {
    "title": f"### Task:\nName this chat.\n### Output:\nJSON, with a title.\n### Chat History:\n{HISTORY}",
    "tags": f"### Task:\nGive one to three broad tags.\n### Chat History:\n{HISTORY}",
    "follow-ups": "### Task:\nSuggest what to ask next.\n### Output:\nJSON, with follow_ups.\n",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("frontends"), society("scripted/steady", "scripted/echo")) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def says(content: str, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": "auto"}])
@pytest.mark.parametrize("model", ["sandbox/society", "sandbox/S0"])
def test_tools_that_need_not_be_called_do_not_keep_a_chat_from_being_answered(
    client: httpx.Client, model: str, choice: dict[str, Any]
) -> None:
    body = {
        "messages": [says("You may use tools.", "system"), says("Is it ever right to lie?")],
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [LOOK_UP, LOOK_UP],
        **choice,
    }
    answer = ask(client, model, **body)
    assert answer.status_code == 200, answer.text
    assert text_of(chunks(answer))


@pytest.mark.parametrize("task", TASKS)
def test_a_front_ends_small_tasks_are_answered_by_a_seat(client: httpx.Client, task: str) -> None:
    body = {"messages": [says(TASKS[task])], "stream": False}
    body |= {"max_completion_tokens": 1000} if task == "title" else {}
    told = ask(client, "sandbox/society", **body).json()["sandbox"]
    assert told["seat"] == "S0"
    assert "ratings" not in told, "no round was held for it"
    chosen = ask(client, "sandbox/society", **body, sandbox={"seat": "S1"}).json()
    assert chosen["sandbox"]["seat"] == "S1"
    asked = ask(client, "sandbox/society", messages=[says("### Task: is there one?")]).json()
    assert asked["sandbox"]["ratings"], "a question is a question"


def test_small_tasks_are_questions_where_the_settings_say_so(tmp_path: Path) -> None:
    with served(tmp_path, society(), task_prompts=()) as server, server.client() as client:
        assert ask(client, "sandbox/society", messages=[says(TASKS["title"])]).json()["sandbox"]["ratings"]


def test_who_speaks_is_told_where_several_do(client: httpx.Client) -> None:
    talk = [says("I say yes.", name="Ann"), says("I say no.", name="Bob"), says("Who is right?", name="Cem")]
    said = ask(client, "sandbox/S1", messages=talk).json()["choices"][0]["message"]["content"]
    assert said == "Cem: Who is right?"
    read = conversation([MessageIn(**message) for message in [*talk, says("And I?")]], "messages")
    assert [message.content.partition(":")[0] for message in read] == ["Ann", "Bob", "Cem", "And I?"]


def test_a_rejected_draft_is_not_told_again() -> None:
    history = [
        says("Why?"),
        says(f"A bad draft.{SEPARATOR}A good answer.", "assistant"),
        says(f"Quoted:{SEPARATOR}mine"),
    ]
    read = conversation([MessageIn(**message) for message in history], "messages")
    assert [message.content for message in read] == ["Why?", "A good answer.", f"Quoted:{SEPARATOR}mine"]
    assert answer_in("one\n\n--- revised ---\n\ntwo\n--- revised ---\nthree") == "three"
    assert answer_in(f"Only a draft.{SEPARATOR}") == "Only a draft."
    assert answer_in("one\n \n\t--- revised --- \ntwo") == "two"
    blank = "\n" * 300_000
    assert answer_in(blank) == blank, "and takes no time by its square, which were minutes"
    assert answer_in("--- revised --- is a line of ours") == "--- revised --- is a line of ours"


def test_a_society_can_be_had_without_its_draft(tmp_path: Path, client: httpx.Client) -> None:
    def streamed(client: httpx.Client, model: str, **options: Any) -> str:
        body: dict[str, Any] = {"messages": [says("Why?")], "stream": True}
        return text_of(chunks(ask(client, model, **body, **({"sandbox": options} if options else {}))))

    assert SEPARATOR in streamed(client, "sandbox/society")
    for model in ("sandbox/society:answer", "sandbox/society"):
        options = {} if model.endswith("answer") else {"draft": False}
        text = streamed(client, model, **options)
        assert text
        assert SEPARATOR not in text
    assert SEPARATOR in streamed(client, "sandbox/society:answer", draft=True)
    with served(tmp_path, society(), show_draft=False) as other, other.client() as quiet:
        assert SEPARATOR not in streamed(quiet, "sandbox/society")


def test_the_settings_say_which_seats_are_listed(tmp_path: Path) -> None:
    with served(tmp_path, society(), listed_seats=("S[01]",)) as server, server.client() as client:
        ids = [model["id"] for model in client.get("/models").json()["data"]]
    assert [id for id in ids if id.startswith("sandbox/S")] == ["sandbox/S0", "sandbox/S1"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "//chat/completions"),
        ("POST", "/chat/completions"),
        ("POST", "/v1//chat/completions"),
        ("GET", "/models"),
        ("GET", "/models/sandbox/society"),
        ("POST", "/responses"),
        ("POST", "/embeddings"),
        ("POST", "/completions"),
        ("POST", "/v1"),
        ("GET", "/v1/nothing"),
    ],
)
def test_a_wrong_base_url_is_told_in_the_apis_own_shape(server: Served, method: str, path: str) -> None:
    answer = httpx.request(method, f"{server.url}{path}")
    assert answer.status_code == 404
    assert "/v1" in error_of(answer)["message"]


SCHEMA: dict[str, Any] = {
    "name": "verdict",
    "strict": True,
    "schema": {"type": "object", "properties": {"right": {"type": "boolean"}}, "required": ["right"]},
}


@pytest.mark.parametrize("family", ["litellm/openai/gpt-4o", "openai/{url}/m"])
def test_a_format_goes_to_the_model_that_can_be_held_to_it(
    tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    provider.script = say('{"right": true}')
    with served(tmp_path, society(family.format(url=provider.url))) as server, server.client() as client:
        for wanted in ({"type": "json_object"}, {"type": "json_schema", "json_schema": SCHEMA}):
            for stream in (False, True):
                answer = ask(client, response_format=wanted, stream=stream)
                assert answer.status_code == 200, answer.text
                assert provider.calls[-1].body["response_format"] == wanted
        flat = {"type": "json_schema", **SCHEMA}
        body = {"model": "sandbox/S0", "input": "Is it?", "text": {"format": flat}}
        assert client.post("/responses", json=body).status_code == 200
        assert provider.calls[-1].body["response_format"] == {"type": "json_schema", "json_schema": SCHEMA}
        ask(client)
        assert "response_format" not in provider.calls[-1].body


@pytest.mark.parametrize("model", ["litellm/openai/gpt-3.5-turbo-instruct", "scripted/steady"])
def test_a_seat_that_cannot_be_held_to_a_format_is_named(tmp_path: Path, model: str) -> None:
    wanted = {"type": "json_schema", "json_schema": SCHEMA}
    with served(tmp_path, society(model)) as server, server.client() as client:
        refused = ask(client, response_format=wanted)
        assert (refused.status_code, error_of(refused)["param"]) == (400, "response_format")
        assert "'S0'" in error_of(refused)["message"]
        whole = ask(client, "sandbox/society", response_format=wanted)
        assert (whole.status_code, "sandbox/SEAT" in error_of(whole)["message"]) == (400, True)
        for wrong in ({"type": "xml"}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}):
            assert error_of(ask(client, response_format=wrong))["param"] == "response_format"


def test_what_is_sent_again_is_not_paid_for_again(tmp_path: Path, provider: FakeProvider) -> None:
    provider.script = lambda call: say(f"Answer {call.number}.", delay=1.0 if call.number == 3 else 0.0)
    with (
        served(tmp_path, society(f"openai/{provider.url}/m")) as server,
        server.client(**{"Idempotency-Key": "one"}) as client,
        server.client() as plain,
    ):

        def said(answer: httpx.Response) -> str:
            assert answer.status_code == 200, answer.text
            return str(answer.json()["choices"][0]["message"]["content"])

        assert [said(ask(client)) for _ in range(3)] == ["Answer 1."] * 3
        reused = ask(client, max_tokens=7)
        assert (reused.status_code, error_of(reused)["code"]) == (422, "idempotency_key_reused")
        assert said(ask(plain)) == "Answer 2."
        slow = {"Idempotency-Key": "slow"}
        body = {"model": "sandbox/S0", "messages": HELLO}
        with pytest.raises(httpx.ReadTimeout):
            plain.post("/chat/completions", json=body, headers=slow, timeout=0.4)
        assert said(plain.post("/chat/completions", json=body, headers=slow)) == "Answer 3."
        streamed = {"Idempotency-Key": "streamed"}
        texts = [
            text_of(chunks(plain.post("/chat/completions", json=body | {"stream": True}, headers=streamed)))
            for _ in range(2)
        ]
        assert texts == ["Answer 4."] * 2
        provider.script = fail(400, "No.")
        failing = {"Idempotency-Key": "failing"}
        assert plain.post("/chat/completions", json=body, headers=failing).status_code == 502
        provider.script = say("Now.")
        assert said(plain.post("/chat/completions", json=body, headers=failing)) == "Now."
        too_long = plain.post("/chat/completions", json=body, headers={"Idempotency-Key": "x" * 300})
        assert too_long.status_code == 400


async def test_of_two_bodies_under_one_key_at_the_same_time_one_is_refused() -> None:
    once = Once()

    def answering(text: str) -> Speak:
        async def speak(_: Emit) -> Spoken:
            return Spoken((Choice(text),), 1, 1, {})

        return once.speak("me", "/v1", "key", text.encode(), speak)

    first, second, again = answering("one"), answering("two"), answering("one")
    assert (await first(ignore)).choices[0].text == "one"
    with pytest.raises(ApiError, match="another body"):
        await second(ignore)
    assert (await again(ignore)).choices[0].text == "one"
    await once.close()
