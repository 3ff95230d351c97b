"""Whole societies whose provider fails in the middle of a round: the round finishes, nothing is invented."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

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
    Call,
    FakeProvider,
    Reaction,
    echo_key,
    fail,
    say,
    too_long,
)
from pydantic import SecretStr
from support import engine_for, events_of, small_society

from sandbox import events as ev
from sandbox.errors import BudgetExhausted
from sandbox.models.catalog import Catalog
from sandbox.models.context import MARK
from sandbox.models.limits import Ledger
from sandbox.models.remote import litellm
from sandbox.records import assemble
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings
from sandbox.society import Limits
from sandbox.store import sessions

Script = Callable[[Call], Reaction]
PURPOSES = ("draft", "rate", "revise", "observe")


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with FakeProvider() as server:
        server.script = well
        yield server


def well(call: Call) -> Reaction:
    """What a model in good health says: each rating with a remark of its own, by which it can be traced."""
    if call.purpose in ("rate", "observe"):
        return say(
            f"Rating: {call.number % 7 + 1}\nReason: It is remark {chr(97 + call.number % 26)} of mine."
        )
    return say(f"Answer of call {call.number}: ask her first.")


def mostly(fault: Reaction | Script, when: Callable[[Call], bool]) -> Script:
    """In good health but for some calls."""

    def script(call: Call) -> Reaction:
        if not when(call):
            return well(call)
        return fault if isinstance(fault, Reaction) else fault(call)

    return script


def every_third(call: Call) -> bool:
    """The first six calls go well, then each third does not."""
    return call.number > 6 and call.number % 3 == 0


def third_or_shortened(call: Call) -> bool:
    """As ``every_third``, and whatever is sent again, shorter, because of it."""
    return every_third(call) or MARK in call.prompt


def play(
    store: Store, provider: FakeProvider, *, spec: str = "", streamed: bool = False, **limits: Any
) -> list[ev.Event]:
    """One round of a society whose seats all speak through the server."""
    given = Limits(**({"attempts": 1, "timeout_s": 5} | limits))
    society = small_society(model=spec or f"openai/{provider.url}/m", rounds=1, limits=given)
    settings = Settings(openai_key=SecretStr(KEY))
    handle = sessions.create(store.database, store.log, society)

    async def run() -> None:
        catalog = Catalog(settings, given, Redactor([KEY]), ledger=Ledger(given.budget))
        options = {"streamer": lambda *_: None} if streamed else {}
        try:
            await engine_for(store, handle, catalog.model, **options).run()
        finally:
            await catalog.close()
            if spec:
                await litellm().close_litellm_async_clients()

    try:
        asyncio.run(run())
    finally:
        sessions.release(store.database, handle)
    return events_of(store, handle.key)


def failures(events: list[ev.Event]) -> list[ev.TurnFailed]:
    return [event for event in events if isinstance(event, ev.TurnFailed)]


def ratings(events: list[ev.Event]) -> list[ev.RatingGiven]:
    return [event for event in events if isinstance(event, ev.RatingGiven)]


def check_round(events: list[ev.Event], provider: FakeProvider) -> None:
    """The round is whole, and every word and value in it was sent by the server, once for each."""
    assert events[-1] == ev.RunFinished()
    assert len([event for event in events if isinstance(event, ev.RoundFinished)]) == 1
    assert all(record.outcome is not None for record in assemble(events))
    sent = Counter(provider.said)
    held = [event.text for event in events if isinstance(event, ev.MessagePosted)]
    for rating in ratings(events):
        held.append(rating.raw)
        found = re.match(r"Rating: (\d)\n", rating.raw)
        assert rating.value == (float(found[1]) if found else None)
    assert not Counter(held) - sent, "nothing was said that the server did not say"


def check_no_key(folder: Path, provider: FakeProvider) -> None:
    """The key was really sent, and no file of the database holds it."""
    assert provider.calls[0].headers["authorization"] == f"Bearer {KEY}"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(b"Answer of call 1:" in path.read_bytes() for path in files), "the right files are searched"
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


FAULTS = {
    "429": (fail(429), "rate_limited"),
    "500": (fail(500, f"The key {KEY} is over quota."), "unavailable"),
    "401": (echo_key, "refused"),
    "reset": (RESET, "unavailable"),
    "empty": (EMPTY, "empty"),
    "null": (NULL, "empty"),
    "no choices": (NO_CHOICES, "empty"),
    "overflow": (too_long(1), "context_overflow"),
    "not JSON": (GARBAGE, "unavailable"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_share_of_calls_fails(
    sqlite_store: Store, provider: FakeProvider, tmp_path: Path, fault: str
) -> None:
    reaction, kind = FAULTS[fault]
    overflows = kind == "context_overflow"
    provider.script = mostly(reaction, third_or_shortened if overflows else every_third)
    events = play(sqlite_store, provider)
    failed = failures(events)
    assert {failure.error for failure in failed} == {kind}
    assert {failure.step.partition(".")[0] for failure in failed} & {"rate", "observe"}
    if not overflows:
        assert len(failed) == sum(every_third(call) for call in provider.calls)
    assert any(rating.value is not None for rating in ratings(events))
    check_round(events, provider)
    check_no_key(tmp_path, provider)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_one_kind_of_turn_fails_throughout(
    sqlite_store: Store, provider: FakeProvider, tmp_path: Path, purpose: str
) -> None:
    provider.script = mostly(echo_key, lambda call: call.number > 1 and call.purpose == purpose)
    events = play(sqlite_store, provider)
    failed = failures(events)
    assert {failure.error for failure in failed} == {"refused"}
    steps = {"revise": "revision"}.get(purpose, purpose)
    assert {failure.step.partition(".")[0] for failure in failed} == {steps}
    outcomes = Counter(event.outcome for event in events if isinstance(event, ev.InteractionFinished))
    expected = {"draft": {"failed": 3, "revised": 1}, "revise": {"unrevised": 4}}.get(purpose, {"revised": 4})
    assert outcomes == expected
    if purpose == "rate":
        assert not [rating for rating in ratings(events) if rating.step.startswith("rate.")]
        assert "neighbours rated" not in "".join(call.prompt for call in provider.calls)
    check_round(events, provider)
    check_no_key(tmp_path, provider)


def test_calls_that_hang_time_out(sqlite_store: Store, provider: FakeProvider) -> None:
    provider.script = mostly(HANG, every_third)
    events = play(sqlite_store, provider, timeout_s=0.5)
    assert {failure.error for failure in failures(events)} == {"timeout"}
    assert {failure.usage.attempts for failure in failures(events) if failure.usage} == {1}
    check_round(events, provider)


@pytest.mark.parametrize("fault", [BROKEN, CUT, RESET], ids=["error", "cut", "reset"])
def test_streams_that_break_off_leave_no_half_answer(
    sqlite_store: Store, provider: FakeProvider, tmp_path: Path, fault: Reaction
) -> None:
    provider.error_text = f"bad key {KEY}"
    provider.script = mostly(fault, lambda call: call.purpose == "revise")
    events = play(sqlite_store, provider, streamed=True, attempts=3)
    assert [failure.error for failure in failures(events)] == ["unavailable"] * 4
    assert sum(call.purpose == "revise" for call in provider.calls) == 4, "what was read is not said again"
    check_round(events, provider)
    check_no_key(tmp_path, provider)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("I'm sorry, but I can't rate this answer.", "refusal"),
        ("<think>Perhaps Rating: 6", "thinking_only"),
        ("Rating: 9\nReason: It is beyond all praise.", "out_of_range"),
        ("It has its good sides.", "no_number"),
    ],
)
def test_a_rating_that_cannot_be_read_is_missing(
    sqlite_store: Store, provider: FakeProvider, text: str, why: str
) -> None:
    provider.script = mostly(say(text), lambda call: call.number > 4 and call.purpose in ("rate", "observe"))
    events = play(sqlite_store, provider)
    unread = [rating for rating in ratings(events) if rating.raw == text]
    assert len(unread) > 10
    assert {(rating.value, rating.unparsed) for rating in unread} == {(None, why)}
    assert not failures(events)
    assert events[-1] == ev.RunFinished()


def test_unclosed_thinking_is_no_answer(sqlite_store: Store, provider: FakeProvider) -> None:
    provider.script = mostly(say("<think>She might"), lambda call: call.purpose == "revise")
    events = play(sqlite_store, provider)
    assert [(failure.step, failure.error) for failure in failures(events)] == [("revision", "empty")] * 4
    check_round(events, provider)


def test_passing_faults_are_healed_and_counted(sqlite_store: Store, provider: FakeProvider) -> None:
    faults = [fail(429, retry_after="0.01"), EMPTY, fail(500), NO_CHOICES]
    provider.script = mostly(lambda call: faults[call.number % 4], every_third)
    events = play(sqlite_store, provider, attempts=8, timeout_s=60)  # its pauses count
    assert not failures(events)
    tries = sum(
        event.usage.attempts
        for event in events
        if isinstance(event, ev.MessagePosted | ev.RatingGiven) and event.usage
    )
    assert tries == len(provider.calls) > len(provider.said)
    check_round(events, provider)


def test_prompts_cut_to_fit_are_marked(sqlite_store: Store, provider: FakeProvider) -> None:
    provider.script = lambda call: well(call) if len(call.prompt) <= 450 else too_long(450)(call)
    events = play(sqlite_store, provider)
    trimmed = [e for e in events if isinstance(e, ev.RatingGiven) and e.usage and e.usage.trimmed]
    assert trimmed
    assert not failures(events)
    check_round(events, provider)


def test_calls_of_a_society_keep_to_the_limit(sqlite_store: Store, provider: FakeProvider) -> None:
    provider.script = lambda call: well(call)._replace(delay=0.02)
    check_round(play(sqlite_store, provider, per_provider=2), provider)
    assert provider.most_at_once == 2


@pytest.mark.parametrize(("fault", "kind"), [(echo_key, "refused"), (EMPTY, "empty"), (RESET, "unavailable")])
def test_a_society_survives_faults_through_litellm(
    sqlite_store: Store,
    provider: FakeProvider,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Reaction | Script,
    kind: str,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    provider.script = mostly(fault, every_third)
    events = play(sqlite_store, provider, spec="litellm/openai/some-model", timeout_s=60)
    assert {failure.error for failure in failures(events)} == {kind}
    check_round(events, provider)
    check_no_key(tmp_path, provider)


def test_a_budget_pauses_the_society_before_it_is_overdrawn(
    sqlite_store: Store, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_BASE", provider.url)
    provider.script = lambda call: well(call)._replace(completion_tokens=40)
    with pytest.raises(BudgetExhausted):
        play(sqlite_store, provider, spec="litellm/openai/gpt-4", budget=0.06, timeout_s=60)
    events = events_of(sqlite_store, sessions.listing(sqlite_store.database)[0].key)
    assert isinstance(events[-1], ev.RunPaused)
    assert events[-1].reason == "budget"
    spent = sum(event.usage.cost for event in events if getattr(event, "usage", None))  # type: ignore[union-attr]
    assert 0 < spent <= 0.06
    assert not failures(events)
