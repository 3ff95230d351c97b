"""The wrappers around a model: retries, limits and budgets, against a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fake_provider import (
    BROKEN,
    EMPTY,
    HANG,
    KEY,
    NULL,
    RESET,
    FakeProvider,
    Reaction,
    asking,
    echo_key,
    fail,
    say,
)

from sandbox.errors import (
    BudgetExhausted,
    EmptyReply,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
)
from sandbox.exchange import Reply, Request, Sampling
from sandbox.models.base import Model
from sandbox.models.catalog import Catalog
from sandbox.models.direct import DirectModel, HttpSessions
from sandbox.models.limits import Gate, Ledger, Limited, Paced, Paid, Retrying, paid_by
from sandbox.models.remote import LiteLLMModel, litellm
from sandbox.redaction import Redactor
from sandbox.rubric import Scale
from sandbox.settings import Settings
from sandbox.society import Limits

PRICED = "openai/gpt-4o-mini"


@pytest.fixture
async def direct(provider: FakeProvider) -> AsyncIterator[DirectModel]:
    sessions = HttpSessions(timeout_s=5)
    yield DirectModel(provider.url, "m", sessions, Redactor([KEY]), key=KEY)
    await sessions.close()


@pytest.fixture
async def priced(provider: FakeProvider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LiteLLMModel]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    library = litellm()
    yield LiteLLMModel(PRICED, Redactor([KEY]), api_base=provider.url)
    await library.close_litellm_async_clients()


@pytest.fixture(params=["direct", "priced"])
def either(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def retrying(model: Model, attempts: int = 3, timeout_s: float = 10, longest: float = 0.02) -> Retrying:
    return Retrying(model, attempts=attempts, timeout_s=timeout_s, longest_wait_s=longest, first_wait_s=0.01)


async def error_of(model: Model, on_delta: Callable[[str], None] | None = None) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await model.generate(asking(), on_delta)
    return caught.value


@pytest.mark.parametrize("fault", [fail(429), fail(500), EMPTY, NULL, RESET], ids=str)
async def test_attempts_are_capped_in_all(either: Model, provider: FakeProvider, fault: Reaction) -> None:
    provider.script = fault
    error = await error_of(retrying(either))
    assert error.attempts == len(provider.calls) == 3


async def test_faults_of_different_kinds_share_one_count(direct: DirectModel, provider: FakeProvider) -> None:
    provider.script = [EMPTY, fail(429), fail(500), say("Fine.")]
    assert (await retrying(direct, 4).generate(asking())).usage.attempts == 4
    provider.script = [*[EMPTY] * 4, EMPTY, fail(429), fail(500), say("Fine.")]
    error = await error_of(retrying(direct, 3))
    assert type(error) is ModelUnavailable, "the last one is told of"
    assert error.attempts == 3


async def test_a_refusal_is_final(direct: DirectModel, provider: FakeProvider) -> None:
    provider.script = echo_key
    error = await error_of(retrying(direct))
    assert type(error) is ModelRefused
    assert error.attempts == len(provider.calls) == 1


async def test_the_provider_says_how_long_to_wait(either: Model, provider: FakeProvider) -> None:
    provider.script = [fail(429, retry_after="0.4"), say("Fine.")]
    reply = await retrying(either, longest=5).generate(asking())
    assert reply.usage.attempts == 2
    assert 0.4 <= provider.calls[1].at - provider.calls[0].at < 2


@pytest.mark.parametrize("header", ["86400", "inf", "nan", "-5", "soon", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_no_wait_is_endless_or_broken(direct: DirectModel, provider: FakeProvider, header: str) -> None:
    provider.script = fail(429, retry_after=header)
    asked = (await error_of(direct)).retry_after
    assert asked in (None, 0, 86400)
    provider.script = [fail(429, retry_after=header)] * 2 + [say("Fine.")]
    started = time.monotonic()
    assert (await retrying(direct).generate(asking())).text == "Fine."
    assert time.monotonic() - started < 1


async def test_what_was_read_is_not_taken_back(direct: DirectModel, provider: FakeProvider) -> None:
    provider.script = [BROKEN, say("Fine.")]
    pieces: list[str] = []
    error = await error_of(retrying(direct), pieces.append)
    assert "".join(pieces) == "This text is never"
    assert error.attempts == len(provider.calls) == 1


async def test_a_stream_that_fails_before_its_text_is_tried_again(
    direct: DirectModel, provider: FakeProvider
) -> None:
    provider.script = [fail(500), EMPTY, say("Fine indeed.")]
    pieces: list[str] = []
    reply = await retrying(direct).generate(asking(), pieces.append)
    assert (reply.text, "".join(pieces), reply.usage.attempts) == ("Fine indeed.", "Fine indeed.", 3)


@pytest.mark.parametrize(("script", "least"), [(HANG, 1), (fail(500), 2)], ids=["hangs", "fails"])
async def test_the_time_allowed_is_for_all_attempts(
    direct: DirectModel, provider: FakeProvider, script: Reaction, least: int
) -> None:
    provider.script = script
    started = time.monotonic()
    error = await error_of(retrying(direct, 100, timeout_s=0.4, longest=0.1))
    assert type(error) is ModelTimeout
    assert 0.3 < time.monotonic() - started < 1.5
    assert least <= error.attempts <= 99
    assert len(provider.calls) in (error.attempts, error.attempts - 1)


class OwnClock:
    """A model whose library takes being cancelled for its own timeout, or is late by itself."""

    def __init__(self, late: bool) -> None:
        self.calls = 0
        self._late = late

    async def generate(self, request: Request, on_delta: Callable[[str], None] | None = None) -> Reply:
        self.calls += 1
        if self.calls > 1:
            raise ModelRefused("It was asked again when its time was over.")
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            if self._late:
                return Reply("At the last moment.")
            raise ModelTimeout("no reply in time") from None
        raise AssertionError


async def test_a_library_with_a_clock_of_its_own_is_not_asked_again() -> None:
    model = OwnClock(late=False)
    error = await error_of(retrying(model, attempts=5, timeout_s=0.01))
    assert (type(error), error.attempts, model.calls) == (ModelTimeout, 1, 1)
    late = OwnClock(late=True)
    assert (await retrying(late, timeout_s=0.01).generate(asking())).text == "At the last moment."
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0, "nothing of the cancellation is left over"


async def test_one_clock_bounds_a_call_with_its_retries(
    provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clocks of the same length get in each other's way: the endpoint's connection has none."""
    bounds: list[float | None] = []
    post = aiohttp.ClientSession.post

    def recorded(session: aiohttp.ClientSession, *args: Any, **options: Any) -> Any:
        bounds.append(session.timeout.total)
        return post(session, *args, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "post", recorded)
    catalog = Catalog(Settings(data_dir=tmp_path, cache_dir=tmp_path), Limits(timeout_s=3), Redactor())
    await catalog.model(f"openai/{provider.url}/m").generate(asking())
    await catalog.close()
    assert bounds == [None]


async def test_never_more_calls_at_once_than_allowed(direct: DirectModel, provider: FakeProvider) -> None:
    provider.script = say("Fine.", delay=0.03)
    gate = Gate(3)
    seats = [Limited(direct, gate), Limited(direct, gate)]  # the models of one provider
    await asyncio.gather(*(seats[n % 2].generate(asking()) for n in range(14)))
    assert provider.most_at_once == 3
    await asyncio.gather(*(Limited(direct, Gate(3)).generate(asking()) for _ in range(8)))
    assert provider.most_at_once == 8, "another provider's calls are not held up"


async def test_failures_give_their_place_back(direct: DirectModel, provider: FakeProvider) -> None:
    provider.script = fail(500)
    limited = Limited(direct, Gate(2))
    for _ in range(3):
        await error_of(limited)
    provider.script = HANG
    calls = [asyncio.create_task(limited.generate(asking())) for _ in range(2)]
    await asyncio.sleep(0.05)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    provider.script = say("Fine.")
    assert (await asyncio.wait_for(limited.generate(asking()), 2)).text == "Fine."


async def test_calls_a_minute_are_limited(direct: DirectModel, provider: FakeProvider) -> None:
    paced = Paced(direct, Gate(50, per_minute=600))  # ten at once, then ten a second
    await asyncio.gather(*(paced.generate(asking()) for _ in range(14)))
    times = sorted(call.at for call in provider.calls)
    assert times[9] - times[0] < 0.3
    assert times[13] - times[0] > 0.35


async def test_every_try_of_what_the_catalog_builds_is_paced(provider: FakeProvider, tmp_path: Path) -> None:
    provider.script = [fail(500), fail(500), say("Fine.")]
    limits = Limits(requests_per_minute=60, attempts=3)
    catalog = Catalog(Settings(data_dir=tmp_path, cache_dir=tmp_path), limits, Redactor())
    reply = await catalog.model(f"openai/{provider.url}/m").generate(asking())
    await catalog.close()
    times = [call.at for call in provider.calls]
    assert reply.usage.attempts == 3
    assert times[1] - times[0] > 0.9
    assert times[2] - times[1] > 0.9


async def test_calls_together_cannot_overdraw(priced: LiteLLMModel, provider: FakeProvider) -> None:
    provider.script = say("Fine.", delay=0.05, prompt_tokens=20, completion_tokens=10)
    cost = 20 * 1.5e-7 + 10 * 6e-7
    ledger = Ledger(priced.estimate(asking()) * 3.5)
    model = Paid(priced, priced.estimate, ledger)
    replies = await asyncio.gather(*(model.generate(asking()) for _ in range(12)))
    assert len(replies) == 12, "calls wait while only others' promises stand in their way"
    assert provider.most_at_once == 3
    assert ledger.spent == pytest.approx(12 * cost)
    assert ledger.spent == pytest.approx(sum(reply.usage.cost for reply in replies))
    rest = ledger.cap - ledger.spent if ledger.cap else 0
    await ledger.hold(rest * 0.999)  # nothing is left promised
    with pytest.raises(BudgetExhausted):
        await ledger.hold(rest * 1.001)


@pytest.mark.parametrize("fault", [fail(500), EMPTY, HANG], ids=["fails", "empty", "cancelled"])
async def test_failed_calls_give_their_promise_back(
    priced: LiteLLMModel, provider: FakeProvider, fault: Reaction
) -> None:
    provider.script = fault
    ledger = Ledger(priced.estimate(asking()) * 1.5)
    model = Paid(priced, priced.estimate, ledger)
    for _ in range(3):
        with pytest.raises((ModelUnavailable, EmptyReply, TimeoutError)):
            await asyncio.wait_for(model.generate(asking()), 0.2 if fault is HANG else 5)
    assert (ledger.spent > 0) == (fault is EMPTY), "an empty reply is charged, one that never came is not"
    provider.script = say("Fine.")
    assert (await model.generate(asking())).text == "Fine."
    assert ledger.spent > 0


@pytest.mark.parametrize("poorer", ["session", "key"])
async def test_a_call_is_held_by_session_and_key_and_given_back_by_both(
    priced: LiteLLMModel, provider: FakeProvider, poorer: str
) -> None:
    most = priced.estimate(asking())
    provider.script = say("Fine.", delay=0.02, prompt_tokens=20, completion_tokens=10)
    session, key = (Ledger(most * (2.5 if poorer == who else 20)) for who in ("session", "key"))
    model = Paid(priced, priced.estimate, session)
    with paid_by(key):
        await asyncio.gather(*(model.generate(asking()) for _ in range(8)))
    assert provider.most_at_once == 2, "as many as the poorer of them can promise"
    assert session.spent == key.spent == pytest.approx(8 * (20 * 1.5e-7 + 10 * 6e-7))
    for ledger in (session, key):
        await ledger.hold((ledger.cap or 0) - ledger.spent)  # nothing is left promised
    broke = Ledger(most * 0.5)
    rich = Ledger(most * 20)
    with paid_by(rich), pytest.raises(BudgetExhausted):
        await Paid(priced, priced.estimate, broke).generate(asking())
    await rich.hold(most * 20)  # what the one held is given back when the other refuses
    assert len(provider.calls) == 8


async def test_a_resumed_budget_counts_what_was_spent(priced: LiteLLMModel, provider: FakeProvider) -> None:
    estimate = priced.estimate(asking())
    model = Paid(priced, priced.estimate, Ledger(estimate * 5, spent=estimate * 4.5))
    assert type(await error_of(model)) is BudgetExhausted
    assert not provider.calls


async def test_streamed_calls_cost_the_same(priced: LiteLLMModel, provider: FakeProvider) -> None:
    provider.script = say("Ask her first.", prompt_tokens=1000, completion_tokens=100)
    plain = await priced.generate(asking())
    streamed = await priced.generate(asking(), [].append)
    assert streamed.usage.cost == plain.usage.cost == pytest.approx(1000 * 1.5e-7 + 100 * 6e-7)


@pytest.mark.parametrize("name", [PRICED, "openai/gpt-4", "openai/gpt-4.1"])
@pytest.mark.parametrize(
    "text",
    [
        "Is it right to lie? " * 50,
        "क्या झूठ बोलना सही है? " * 50,
        "饕餮齉龘靐爩麤" * 60,
        "🦄👩🏽‍🚀" * 60,
        "<|z%~#Q9^" * 60,
    ],
    ids=["english", "hindi", "rare", "emoji", "symbols"],
)
@pytest.mark.parametrize("scale", [None, Scale()], ids=["answer", "rating"])
async def test_an_estimate_is_the_most_that_a_call_can_cost(
    priced: LiteLLMModel, provider: FakeProvider, name: str, text: str, scale: Scale | None
) -> None:
    request = asking(text, scale=scale, sampling=Sampling(max_tokens=50))
    messages = [{"role": message.role, "content": message.content} for message in request.messages]
    tokens = litellm().token_counter(model=name, messages=messages)
    provider.script = say('{"rating": 3}', prompt_tokens=tokens, completion_tokens=50)
    model = LiteLLMModel(name, Redactor(), api_base=provider.url)
    assert 0 < (await model.generate(request)).usage.cost <= model.estimate(request)


def test_what_has_no_price_is_estimated_as_free() -> None:
    assert LiteLLMModel("openai/some-model", Redactor()).estimate(asking()) == 0


@pytest.mark.parametrize(
    ("base", "named", "sent"),
    [
        ("http://127.0.0.1:8000/v1", None, True),
        ("http://localhost/v1", None, True),
        ("https://evil.example/v1", None, False),
        ("http://127.0.0.1.evil.example/v1", None, False),
        ("https://mine.example/v1", "https://mine.example/v1/", True),
        ("http://127.0.0.1:8000/v1", "https://mine.example/v1", False),
    ],
)
def test_the_key_goes_only_where_it_was_given_for(base: str, named: str | None, sent: bool) -> None:
    assert Settings(openai_base=named).trusts(base) is sent
