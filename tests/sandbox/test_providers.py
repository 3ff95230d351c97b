"""Both paths to a provider, and their wrappers, against a real server that misbehaves."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Callable

import pytest
from fake_provider import (
    BROKEN,
    CUT,
    EMPTY,
    GARBAGE,
    HANG,
    KEY,
    NO_CHOICES,
    NULL,
    RESET,
    STALL,
    FakeProvider,
    Reaction,
    asking,
    echo_key,
    fail,
    say,
    too_long,
)

from sandbox.embeddings import RemoteEmbedder
from sandbox.errors import (
    ContextOverflow,
    EmptyReply,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    RateLimited,
)
from sandbox.exchange import ChatMessage, Request, Sampling
from sandbox.models.base import Model
from sandbox.models.context import trim
from sandbox.models.direct import DirectModel, HttpSessions, count_roughly
from sandbox.models.remote import UNKNOWN_WINDOW, LiteLLMModel, litellm
from sandbox.ratings import Rating, Unparsed, read_rating
from sandbox.redaction import Redactor
from sandbox.rubric import Scale

Connect = Callable[..., Model]


@pytest.fixture
async def http() -> AsyncIterator[HttpSessions]:
    sessions = HttpSessions(timeout_s=5)
    yield sessions
    await sessions.close()


@pytest.fixture
async def remote(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes LiteLLM's models of the server; one that can be held to a form, if asked."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    library = litellm()

    def connect(url: str = provider.url, *, structured: bool = False) -> LiteLLMModel:
        name = "openai/gpt-4o-mini" if structured else "openai/some-model"
        return LiteLLMModel(name, Redactor([KEY]), api_base=url)

    yield connect
    await library.close_litellm_async_clients()


@pytest.fixture
def direct(provider: FakeProvider, http: HttpSessions) -> Connect:
    """Makes direct models of the server."""

    def connect(url: str = provider.url, *, structured: bool = False, **options: str) -> DirectModel:
        given = options | ({"structured": "1"} if structured else {})
        return DirectModel(url, "m", http, Redactor([KEY]), key=KEY, options=given)

    return connect


@pytest.fixture(params=["direct", "remote"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


async def error_of(model: Model, request: Request, streamed: bool = False) -> ModelError:
    """The error of a call, of which no part may show the key."""
    with pytest.raises(ModelError) as caught:
        await model.generate(request, [].append if streamed else None)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert KEY not in shown
    return caught.value


FAULTS = {
    "429": (fail(429), RateLimited),
    "500": (fail(500), ModelUnavailable),
    "503": (fail(503), ModelUnavailable),
    "504": (fail(504), ModelTimeout),
    "401": (echo_key, ModelRefused),
    "404": (fail(404), ModelRefused),
    "bad request": (fail(400, "Unknown parameter."), ModelRefused),
    "reset": (RESET, ModelUnavailable),
    "no text": (EMPTY, EmptyReply),
    "blanks": (say(" \n "), EmptyReply),
    "null": (NULL, EmptyReply),
    "unclosed thinking": (say("<think>It asks whether"), EmptyReply),
    "filtered": (say(None, finish="content_filter"), ModelRefused),
    "broken off": (BROKEN, ModelUnavailable),
    "cut": (CUT, ModelUnavailable),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_each_fault_has_its_error(
    connect: Connect, provider: FakeProvider, fault: str, streamed: bool
) -> None:
    provider.script, expected = FAULTS[fault]
    assert type(await error_of(connect(), asking(), streamed)) is expected
    assert len(provider.calls) == 1, "a path doesn't retry"


async def test_a_reply_without_choices_is_empty(connect: Connect, provider: FakeProvider) -> None:
    provider.script = NO_CHOICES
    assert type(await error_of(connect(), asking())) is EmptyReply


@pytest.mark.parametrize("script", [GARBAGE, NO_CHOICES], ids=["html", "no choices"])
@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
async def test_what_is_not_of_the_protocol_is_worth_another_try(
    connect: Connect, provider: FakeProvider, streamed: bool, script: Reaction
) -> None:
    provider.script = script
    assert (await error_of(connect(), asking(), streamed)).retryable


@pytest.mark.parametrize(
    "body",
    [
        "5",
        '{"choices": [3]}',
        '{"choices": {"a": 1}}',
        "[" * 200_000,
        '{"choices": [{"message": {"content": 5}}]}',
    ],
    ids=["number", "choice", "object", "nested", "content"],
)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_odd_json_is_no_crash(direct: Connect, provider: FakeProvider, body: str, stream: bool) -> None:
    odd = body.replace("message", "delta")
    provider.script = Reaction(raw=f"data: {odd}\n\n" if stream else body)
    assert type(await error_of(direct(), asking(), stream)) is ModelUnavailable


async def test_no_server_is_unavailable(connect: Connect) -> None:
    with FakeProvider() as gone:
        model = connect(gone.url)
    assert type(await error_of(model, asking())) is ModelUnavailable


async def test_an_endpoint_that_hangs_times_out(provider: FakeProvider) -> None:
    provider.script = HANG
    http = HttpSessions(timeout_s=0.2)
    assert type(await error_of(DirectModel(provider.url, "m", http, Redactor()), asking())) is ModelTimeout
    await http.close()


async def test_the_key_is_sent_but_never_repeated(connect: Connect, provider: FakeProvider) -> None:
    provider.script = echo_key
    assert "[redacted]" in str(await error_of(connect(), asking()))
    assert provider.calls[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [401, 429, 500])
async def test_no_part_of_a_key_is_left_where_a_message_is_cut(
    connect: Connect, provider: FakeProvider, status: int
) -> None:
    for room in range(330, 500, 7):
        provider.script = fail(status, "x" * room + KEY)
        assert KEY[:8] not in str(await error_of(connect(), asking()))


async def test_a_key_in_a_broken_stream_is_masked(connect: Connect, provider: FakeProvider) -> None:
    provider.script, provider.error_text = BROKEN, f"upstream refused {KEY}"
    assert "refused" in str(await error_of(connect(), asking(), streamed=True))


async def test_pieces_joined_are_the_text_and_tokens_are_counted(
    connect: Connect, provider: FakeProvider
) -> None:
    provider.script = say("Ask  her\nfirst, then: “wait” 🙂.")
    pieces: list[str] = []
    reply = await connect().generate(asking(), pieces.append)
    assert "".join(pieces) == reply.text == provider.script.text
    assert len(pieces) > 3
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 7)
    plain = await connect().generate(asking())
    assert plain.text == reply.text
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (11, 7)


async def test_a_piece_may_be_long(direct: Connect, provider: FakeProvider) -> None:
    provider.script = say("y" * 2_000_000)
    reply = await direct().generate(asking(), [].append)
    assert reply.text == provider.script.text


async def test_a_stream_that_says_it_is_finished_needs_no_end_mark(
    direct: Connect, provider: FakeProvider
) -> None:
    chunk = '{"error": null, "choices": [{"delta": {"content": "Yes."}, "finish_reason": "length"}]}'
    provider.script = Reaction(raw=f"data: {chunk}\n\n")
    reply = await direct().generate(asking(), [].append)
    assert (reply.text, reply.usage.finish) == ("Yes.", "length")


RATING = asking(purpose="rate", scale=Scale(), form=("Rating", "Reason"))


async def test_a_rating_comes_structured_where_the_model_can(
    connect: Connect, provider: FakeProvider
) -> None:
    provider.script = say('{"reason": "Kind.", "rating": 5}')
    reply = await connect(structured=True).generate(RATING)
    assert reply.rating == Rating(5.0, "Kind.", "structured")
    schema = provider.calls[0].body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["rating"]["enum"] == [1, 2, 3, 4, 5, 6, 7]
    assert schema["required"] == ["reason", "rating"]


@pytest.mark.parametrize("text", ['{"reason": "Kind.", "rating": 9}', "Rating: 5", '{"reason": "Kind."}'])
async def test_a_bad_structured_rating_is_missing(
    connect: Connect, provider: FakeProvider, text: str
) -> None:
    provider.script = say(text)
    assert isinstance((await connect(structured=True).generate(RATING)).rating, Unparsed)


@pytest.mark.parametrize(
    ("request_", "structured"),
    [(RATING, False), (RATING._replace(method="text"), True), (asking(), True)],
    ids=["unable", "in words", "no rating"],
)
async def test_no_structure_is_asked_for_in_vain(
    connect: Connect, provider: FakeProvider, request_: Request, structured: bool
) -> None:
    provider.script = say("Rating: 5")
    reply = await connect(structured=structured).generate(request_)
    assert reply.rating is None
    assert "response_format" not in provider.calls[0].body


async def test_thinking_is_no_part_of_an_answer(connect: Connect, provider: FakeProvider) -> None:
    provider.script = say("<think>5 of 7?</think>\nAsk her first.<thinking>And then")
    assert (await connect().generate(asking())).text == "Ask her first."


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("<think>Rating: 2?</think>Rating: 5", 5.0),
        ("<think>Perhaps Rating: 2", None),
        ("I can't rate that.", None),
    ],
)
async def test_a_raters_words_are_kept_whole(
    direct: Connect, remote: Connect, provider: FakeProvider, said: str, value: float | None
) -> None:
    provider.script = say(said)
    assert (await direct().generate(RATING)).text == said
    reply = await remote().generate(RATING)
    assert reply.text in (said, "Rating: 5"), "LiteLLM takes closed thinking away"
    assert getattr(read_rating(reply.text, Scale()), "value", None) == value


LONG = "Begin. " + " ".join(f"word{n}" for n in range(9_000)) + " End."


async def test_a_long_prompt_is_cut_the_same_way_each_time(connect: Connect, provider: FakeProvider) -> None:
    provider.script = too_long(40_000)
    replies = [await connect().generate(asking(LONG)) for _ in range(2)]
    sent = [call.body["messages"] for call in provider.calls if len(call.prompt) <= 40_000]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert sent[0][0]["content"] == "You are a neighbour."
    assert sent[0][1]["content"].startswith("Begin. word0 ")
    assert sent[0][1]["content"].endswith(" End.")
    assert replies[0].usage.trimmed == replies[1].usage.trimmed > 0


async def test_a_prompt_is_cut_to_the_window_before_it_is_sent(
    direct: Connect, remote: Connect, provider: FakeProvider
) -> None:
    request = asking(LONG, sampling=Sampling(max_tokens=300))
    await direct(context="1000").generate(request)
    sent = [ChatMessage(**message) for message in provider.calls[0].body["messages"]]
    assert 500 < count_roughly(sent) <= 700
    reply = await remote().generate(request)
    before = [{"role": message.role, "content": message.content} for message in request.messages]
    count = [
        litellm().token_counter(model="openai/some-model", messages=messages)
        for messages in (before, provider.calls[1].body["messages"])
    ]
    assert UNKNOWN_WINDOW / 2 < count[1] <= UNKNOWN_WINDOW - 300
    assert reply.usage.trimmed == count[0] - count[1]


async def test_what_fits_is_sent_as_it_is(connect: Connect, provider: FakeProvider) -> None:
    reply = await connect().generate(asking("Why?", sampling=Sampling(max_tokens=32_768)))
    assert reply.usage.trimmed == 0
    assert provider.calls[0].body["messages"][1] == {"role": "user", "content": "Why?"}
    assert provider.calls[0].body["max_tokens"] == 32_768


@pytest.mark.parametrize(
    "words", ["the maximum context is 512", "exceed_context_size_error", "too many tokens"]
)
async def test_a_prompt_that_never_fits_is_an_overflow_in_any_words(
    connect: Connect, provider: FakeProvider, words: str
) -> None:
    provider.script = too_long(10, message=words)
    assert type(await error_of(connect(), asking(LONG[:2_000]))) is ContextOverflow
    assert len(provider.calls) <= 4


def test_the_oldest_exchange_goes_first() -> None:
    talk = [ChatMessage("system", "s" * 90)]
    for n in range(3):
        talk += [ChatMessage("user", f"{n}" * 90), ChatMessage("assistant", "a" * 90)]
    talk.append(ChatMessage("user", "z" * 90))
    kept, went = trim(talk, count_roughly(talk) - 1, count_roughly)
    assert list(kept) == talk[:1] + talk[3:]
    assert went == count_roughly(talk) - count_roughly(kept)


@pytest.mark.parametrize(
    ("reaction", "streamed"),
    [(HANG, False), (HANG, True), (STALL, True)],
    ids=["plain", "queued", "streamed"],
)
async def test_a_cancelled_call_hangs_up(
    connect: Connect, provider: FakeProvider, reaction: Reaction, streamed: bool
) -> None:
    provider.script = reaction
    pieces: list[str] = []
    call = asyncio.create_task(connect().generate(asking(), pieces.append if streamed else None))
    assert await asyncio.to_thread(provider.asked.wait, 5)
    await asyncio.sleep(0.05)
    assert bool(pieces) == (reaction is STALL)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(provider.calls[0].gave_up.wait, 2)


async def test_texts_become_unit_vectors(
    remote: Connect, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    vectors = await RemoteEmbedder("openai/some-embedding").embed(["a", "bcd"])
    assert [round(float(vector @ vector), 5) for vector in vectors] == [1.0, 1.0]
    assert float(vectors[1][0] / vectors[1][1]) == pytest.approx(3)
    provider.script = echo_key
    with pytest.raises(ModelUnavailable) as caught:
        await RemoteEmbedder("openai/some-embedding").embed(["a"])
    assert KEY not in "".join(traceback.format_exception(caught.value))
