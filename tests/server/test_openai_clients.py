"""Real clients of the OpenAI API, unmodified, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from openai_serving import Served, served, society

HELLO = [{"role": "user", "content": "Hello, is it right?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("openai"), society("scripted/steady", "scripted/echo")) as server:
        yield server


@pytest.fixture
def openai(server: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_openai_lists_and_chats(openai: OpenAI) -> None:
    listed = [model.id for model in openai.models.list()]
    assert "sandbox/society:answer" in listed
    assert "sandbox/S1" not in listed, "seats are listed when they are asked for"
    everything = openai.models.list(extra_query={"seats": "true"})
    assert "sandbox/S1" in [model.id for model in everything]
    assert openai.models.retrieve("sandbox/S1").id == "sandbox/S1"
    reply = openai.chat.completions.create(model="sandbox/S1", messages=HELLO, n=2)  # type: ignore[call-overload]
    assert [choice.message.content for choice in reply.choices] == [HELLO[0]["content"]] * 2
    assert reply.usage.total_tokens > 0


def test_openai_streams(openai: OpenAI) -> None:
    stream = openai.chat.completions.create(  # type: ignore[call-overload]
        model="sandbox/S1", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == HELLO[0]["content"]
    assert chunks[-1].usage.total_tokens > 0
    with openai.chat.completions.stream(model="sandbox/S0", messages=HELLO) as events:  # type: ignore[arg-type]
        for _ in events:
            pass
        assert events.get_final_completion().choices[0].message.content


def test_openai_asks_a_society(openai: OpenAI) -> None:
    reply = openai.chat.completions.create(
        model="sandbox/society",
        messages=HELLO,  # type: ignore[arg-type]
        extra_body={"sandbox": {"seat": "S1"}},
    )
    told = reply.sandbox  # type: ignore[attr-defined]
    assert told["seat"] == "S1"
    assert reply.choices[0].message.content == told["revision"]
    stream = openai.chat.completions.create(model="sandbox/society", messages=HELLO, stream=True)  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "--- revised ---" in text


def test_openai_understands_errors(openai: OpenAI) -> None:
    with pytest.raises(NotFoundError) as missing:
        openai.chat.completions.create(model="gpt-4o", messages=HELLO)  # type: ignore[call-overload]
    assert missing.value.code == "model_not_found"
    with pytest.raises(BadRequestError) as wrong:
        openai.chat.completions.create(model="sandbox/S0", messages=HELLO, logprobs=True)  # type: ignore[call-overload]
    assert wrong.value.param == "logprobs"


def test_openai_embeds(openai: OpenAI) -> None:
    coded = openai.embeddings.create(model="sandbox/hashed", input=["one", "two"])
    plain = openai.embeddings.create(model="sandbox/hashed", input=["one", "two"], encoding_format="float")
    assert len(coded.data) == 2
    for one, other in zip(coded.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)


def test_openai_responds(openai: OpenAI) -> None:
    response = openai.responses.create(model="sandbox/S1", input="Hello", instructions="Be brief.")
    assert response.output_text == "Hello"
    assert response.usage is not None
    assert response.usage.output_tokens > 0
    events = list(openai.responses.create(model="sandbox/S1", input="Hello", stream=True))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(9))
    with openai.responses.stream(model="sandbox/society", input="Hello") as stream:
        for _ in stream:
            pass
        assert "--- revised ---" in stream.get_final_response().output_text


async def test_openai_works_asynchronously(server: Served) -> None:
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:
        reply = await client.chat.completions.create(model="sandbox/S1", messages=HELLO)  # type: ignore[call-overload]
        assert reply.choices[0].message.content == HELLO[0]["content"]
        stream = await client.chat.completions.create(model="sandbox/S1", messages=HELLO, stream=True)  # type: ignore[call-overload]
        text = ""
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        assert text == HELLO[0]["content"]


async def test_litellm(server: Served) -> None:
    import litellm

    where = {"api_base": f"{server.url}/v1", "api_key": "any"}
    reply = await litellm.acompletion("openai/sandbox/S1", HELLO, **where)
    assert reply.choices[0].message.content == HELLO[0]["content"]
    stream = await litellm.acompletion("openai/sandbox/society", HELLO, stream=True, **where)
    text = ""
    async for chunk in stream:
        text += chunk.choices[0].delta.content or ""
    assert "--- revised ---" in text
    vectors = await litellm.aembedding("openai/sandbox/hashed", ["one"], encoding_format="float", **where)
    assert len(vectors.data[0]["embedding"]) == 256
    with pytest.raises(litellm.NotFoundError):
        await litellm.acompletion("openai/sandbox/nobody", HELLO, **where)


def test_langchain(server: Served) -> None:
    package = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    where = {"base_url": f"{server.url}/v1", "api_key": "any", "max_retries": 0}
    chat = package.ChatOpenAI(model="sandbox/S1", **where)
    reply = chat.invoke("Hello, is it right?")
    assert reply.content == HELLO[0]["content"]
    assert reply.usage_metadata["total_tokens"] > 0
    assert "".join(chunk.content for chunk in chat.stream("Hello, is it right?")) == HELLO[0]["content"]
    responding = package.ChatOpenAI(model="sandbox/S1", use_responses_api=True, **where)
    assert responding.invoke("Hello").text == "Hello"
    vectors = package.OpenAIEmbeddings(model="sandbox/hashed", check_embedding_ctx_length=False, **where)
    assert len(vectors.embed_documents(["one", "two"])) == 2


def test_langchain_is_told_which_switch_it_needs(server: Served) -> None:
    package = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    tokens = OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    with tokens, pytest.raises(BadRequestError, match="check_embedding_ctx_length=False"):
        tokens.embeddings.create(model="sandbox/hashed", input=[[1, 2, 3]])  # what it sends by default
    assert "check_embedding_ctx_length" in package.OpenAIEmbeddings.model_fields


@pytest.mark.parametrize("options", [(), ("--no-stream",)])
def test_llm(server: Served, tmp_path: Path, options: tuple[str, ...]) -> None:
    """As a user runs it: the project's environment loads every plugin that is registered there."""
    pytest.importorskip("llm", reason="llm is not installed")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: seat\n  model_name: sandbox/S1\n  api_base: {server.url}/v1\n"
    )
    result = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "seat", *options, "--key", "any", "Hello, is it right?"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == HELLO[0]["content"]
