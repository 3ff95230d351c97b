"""Tools through the OpenAI-compatible API: the seat's model has them called, who can't answers in text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_provider import Call, FakeProvider, Reaction, fail, say
from openai_serving import HELLO, Served, ask, chunks, error_of, served, society, text_of
from pydantic import BaseModel

from sandbox.exchange import ChatMessage
from sandbox.models.context import trim
from sandbox.models.openai_wire import calls_in, joined_calls

NOTE: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up_note",
        "description": "Finds a note by its title.",
        "parameters": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
    },
}
WANTED: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up_note", "arguments": '{"title": "Lies, größere"}'},
}
NAMED = {"type": "function", "function": {"name": "look_up_note"}}
CALLING = say(None, finish="tool_calls", calls=(WANTED, {**WANTED, "id": "call_2"}))
FAMILIES = ["litellm/openai/gpt-4o", "openai/{url}/m"]


@pytest.fixture(params=FAMILIES)
def server(
    request: pytest.FixtureRequest, tmp_path: Path, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Served]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789")
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    one = society(request.param.format(url=provider.url), "scripted/echo")
    with served(tmp_path, one, endpoints=(provider.url,)) as server:
        yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def joined(events: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The calls that a stream of ours tells, and why it ended."""
    choices = [choice for event in events for choice in event["choices"]]
    deltas = [delta for choice in choices for delta in choice["delta"].get("tool_calls") or ()]
    assert all(set(delta) == {"index", "id", "type", "function"} for delta in deltas)
    return [{key: delta[key] for key in ("id", "type", "function")} for delta in deltas], choices[-1][
        "finish_reason"
    ]


@pytest.mark.parametrize("choice", [None, "auto", "required", NAMED], ids=str)
def test_a_model_has_tools_called(client: httpx.Client, provider: FakeProvider, choice: Any) -> None:
    provider.script = CALLING
    body: dict[str, Any] = {"tools": [NOTE], "parallel_tool_calls": True}
    body |= {"tool_choice": choice} if choice else {}
    whole = ask(client, **body)
    assert whole.status_code == 200, whole.text
    (told,) = whole.json()["choices"]
    calls = [WANTED, {**WANTED, "id": "call_2"}]
    assert (told["finish_reason"], told["message"]["content"]) == ("tool_calls", None)
    assert told["message"]["tool_calls"] == calls
    sent = provider.calls[-1].body
    assert (sent["tools"], sent.get("tool_choice"), sent["parallel_tool_calls"]) == ([NOTE], choice, True)
    assert joined(chunks(ask(client, stream=True, **body))) == (calls, "tool_calls")
    provider.script = say("No need.")
    told = ask(client, **body).json()["choices"][0]
    assert (told["message"]["content"], told["finish_reason"]) == ("No need.", "stop")
    assert "tool_calls" not in told["message"]
    assert ask(client).status_code == 200
    assert "tools" not in provider.calls[-1].body


def test_a_tools_result_is_told_to_the_model_that_called_it(
    client: httpx.Client, provider: FakeProvider
) -> None:
    """The shape in which Open WebUI goes on after a call: an empty text beside the call, then its result."""
    history: list[dict[str, Any]] = [
        *HELLO,
        {"role": "assistant", "content": "", "tool_calls": [{**WANTED, "index": 0}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Never lie."},
    ]
    body = {"messages": history, "tools": [NOTE], "stream": True, "stream_options": {"include_usage": True}}
    assert text_of(chunks(ask(client, **body))) == "Fine."
    question, call, result = provider.calls[-1].body["messages"][-3:]
    assert question["content"] == HELLO[0]["content"]
    assert (call["role"], call["tool_calls"]) == ("assistant", [WANTED])
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": "Never lie."}
    said = ask(client, "sandbox/S1", messages=history, tools=[NOTE]).json()["choices"][0]["message"]
    assert said["content"] == "Never lie.", "who knows no tools is told it in words"


@pytest.mark.parametrize("stream", [False, True])
def test_an_endpoint_that_knows_no_tools_answers_in_text(
    client: httpx.Client, provider: FakeProvider, stream: bool
) -> None:
    def refusing(call: Call) -> Reaction:
        known = "tools" in call.body or any(m["role"] == "tool" for m in call.body["messages"])
        return fail(400, "registry/m does not support tools") if known else say("In text.")

    provider.script = refusing
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [WANTED]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Never lie."},
    ]
    answer = ask(client, tools=[NOTE], messages=messages, stream=stream)
    assert answer.status_code == 200, answer.text
    text = text_of(chunks(answer)) if stream else answer.json()["choices"][0]["message"]["content"]
    assert text == "In text."
    demanded = ask(client, tools=[NOTE], tool_choice="required")
    assert demanded.status_code == 502
    assert "does not support tools" in error_of(demanded)["message"]


@pytest.mark.parametrize("choice", ["required", NAMED], ids=str)
def test_a_call_cannot_be_demanded_of_who_calls_none(client: httpx.Client, choice: Any) -> None:
    for model, words in (("sandbox/S1", "'S1'.*scripted/echo"), ("sandbox/society", "society.*sandbox/SEAT")):
        refused = ask(client, model, tools=[NOTE], tool_choice=choice)
        assert (refused.status_code, error_of(refused)["param"]) == (400, "tool_choice")
        first, last = words.split(".*")
        message = error_of(refused)["message"]
        assert first in message
        assert last in message
    recorded = ask(client, tools=[NOTE], tool_choice=choice, sandbox={"record": True})
    assert recorded.status_code == 400


def test_the_openai_client_parses_and_calls(server: Served, provider: FakeProvider) -> None:
    from openai import OpenAI, pydantic_function_tool

    class LookUp(BaseModel):
        """Finds a note by its title."""

        title: str

    class Verdict(BaseModel):
        right: bool

    wanted = {**WANTED, "function": {"name": "LookUp", "arguments": '{"title": "Lies"}'}}
    with OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as openai:
        provider.script = say('{"right": true}')
        parsed = openai.chat.completions.parse(model="sandbox/S0", messages=HELLO, response_format=Verdict)  # type: ignore[arg-type]
        assert parsed.choices[0].message.parsed == Verdict(right=True)
        provider.script = say(None, finish="tool_calls", calls=(wanted,))
        tools = [pydantic_function_tool(LookUp)]
        called = openai.chat.completions.parse(model="sandbox/S0", messages=HELLO, tools=tools)  # type: ignore[arg-type]
        (call,) = called.choices[0].message.tool_calls or ()
        assert call.function.parsed_arguments == LookUp(title="Lies")
        with openai.chat.completions.stream(model="sandbox/S0", messages=HELLO, tools=tools) as events:  # type: ignore[arg-type]
            final = events.get_final_completion()
        (call,) = final.choices[0].message.tool_calls or ()
        assert call.function.parsed_arguments == LookUp(title="Lies")


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_has_structured_output(server: Served, provider: FakeProvider, method: Any) -> None:
    from langchain_openai import ChatOpenAI

    class Verdict(BaseModel):
        """A verdict."""

        right: bool

    call = {"id": "c", "type": "function", "function": {"name": "Verdict", "arguments": '{"right": false}'}}
    by_call = method == "function_calling"
    provider.script = say(None, finish="tool_calls", calls=(call,)) if by_call else say('{"right": false}')
    model = ChatOpenAI(base_url=f"{server.url}/v1", api_key="any", model="sandbox/S0", max_retries=0)  # type: ignore[arg-type]
    assert model.with_structured_output(Verdict, method=method).invoke("Is it?") == Verdict(right=False)


def test_calls_are_complete_whatever_an_endpoint_leaves_out() -> None:
    odd = [
        {"index": 0, "function": {"name": "f", "arguments": {"a": 1}}},
        {"function": {}},
        "no call",
        {"id": "", "type": "function", "function": {"name": "g", "arguments": ""}},
    ]
    first, second = calls_in({"tool_calls": odd})
    assert json.loads(first["function"]["arguments"]) == {"a": 1}
    assert second["function"] == {"name": "g", "arguments": "{}"}
    assert first["id"] != second["id"]
    assert first["id"].startswith("call_")
    assert calls_in({"tool_calls": "x"}) == calls_in(None) == ()
    pieces = [
        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}},
        {"index": 0, "id": "a", "function": {"name": "f"}},
        {"index": 1, "function": {"arguments": "}"}},
        None,
    ]
    told = calls_in({"tool_calls": joined_calls(pieces)})
    assert [(call["id"], call["function"]["arguments"]) for call in told] == [("a", "{}"), ("b", "{}")]


def test_a_call_is_not_parted_from_its_result_to_make_a_prompt_fit() -> None:
    call = ChatMessage("assistant", "", {"tool_calls": [WANTED]})
    result = ChatMessage("user", "Never lie. " * 50, {"role": "tool", "tool_call_id": "call_1"})
    talk = [
        ChatMessage("system", "You are S0."),
        ChatMessage("user", "First?"),
        call,
        result,
        ChatMessage("assistant", "Never."),
        ChatMessage("user", "Second?"),
        call,
        result,
    ]
    kept, _ = trim(talk, 600, lambda messages: sum(len(message.content) for message in messages))
    assert [message.content[:7] for message in kept] == ["You are", "Second?", "", "Never l"]
    assert [message.wire for message in kept] == [None, None, call.wire, result.wire]


def test_what_a_call_may_cost_counts_the_tools_it_is_sent() -> None:
    from fake_provider import asking

    from sandbox.models.remote import LiteLLMModel
    from sandbox.redaction import Redactor

    model = LiteLLMModel("openai/gpt-4o-mini", Redactor())
    plain = asking()
    result = ChatMessage("user", "x", {"role": "tool", "tool_call_id": "c" * 100_000})
    tools = {"tools": [NOTE] * 1000}
    for more in (plain._replace(tools=tools), plain._replace(messages=(*plain.messages, result))):
        assert model.estimate(more) > model.estimate(plain) + 100_000 * 1.4e-7
