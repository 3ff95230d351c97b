"""The ring of frames: who is behind, who is told, who is closed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sandbox import events as ev
from server import hub
from server.hub import Channel, Hub


def item(seq: int) -> ev.Recorded:
    return ev.Recorded("s", "e", seq, datetime(2026, 1, 1, tzinfo=UTC), ev.RoundFinished(round=seq))


def channel(max_lag: int = 10, slow_s: float = 0.0) -> tuple[Channel, list[str]]:
    dropped: list[str] = []
    return Channel("s", 0, "epoch", max_lag, slow_s, lambda: dropped.append("s")), dropped


async def test_everybody_who_is_behind_is_told_and_takes_in_order() -> None:
    ring, _ = channel()
    told: list[int] = []
    listeners = [ring.join(None, None, lambda n=n: told.append(n)) for n in range(250)]
    for seq in (1, 2, 3):
        ring.publish(item(seq))
    await asyncio.sleep(0.01)
    assert sorted(set(told)) == list(range(250)), "also those of the later turns"
    for listener in listeners:
        assert [e.recorded.seq for e in ring.take(listener) or () if e.recorded] == [1, 2, 3]
        assert ring.take(listener) == []


async def test_an_event_is_published_once() -> None:
    ring, _ = channel()
    listener = ring.join(None, None, lambda: None)
    for seq in (1, 2, 2, 1, 3):
        ring.publish(item(seq))
    assert [e.recorded.seq for e in ring.take(listener) or () if e.recorded] == [1, 2, 3]


async def test_who_falls_out_of_the_ring_is_told_to_read_the_log() -> None:
    ring, _ = channel(max_lag=10**9)
    listener = ring.join(None, None, lambda: None)
    for seq in range(1, 2 * hub.HELD + 2):
        ring.publish(item(seq))
    assert ring.take(listener) is None
    assert listener.order == ring.end
    assert ring.take(listener) == []


async def test_only_who_is_far_behind_and_takes_nothing_is_closed() -> None:
    ring, dropped = channel(max_lag=10, slow_s=0.05)
    quick = ring.join(None, None, lambda: ring.take(quick) and None)
    stalled = ring.join(None, None, lambda: None)
    for seq in range(1, 40):
        ring.publish(item(seq))
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    assert not stalled.closing, "a burst is no fault of who reads it"
    await asyncio.sleep(0.06)
    ring.publish(item(40))
    await asyncio.sleep(0.01)
    assert stalled.closing == "slow"
    assert stalled.ended.done()
    assert not quick.closing
    assert dropped == ["s"]


async def test_a_connection_that_fails_does_not_hold_up_the_others() -> None:
    ring, _ = channel()
    told: list[int] = []

    def broken() -> None:
        raise ValueError

    bad = ring.join(None, None, broken)
    for n in range(5):
        ring.join(None, None, lambda n=n: told.append(n))
    ring.publish(item(1))
    await asyncio.sleep(0.01)
    ring.publish(item(2))
    await asyncio.sleep(0.01)
    assert sorted(set(told)) == [0, 1, 2, 3, 4]
    assert len(told) == 10
    assert bad.closing == "failed"


async def test_channels_without_listeners_are_given_up() -> None:
    hubs = Hub(10, 1)
    one, two = hubs.open("one", 5, "a"), hubs.open("two", 0, "a")
    assert hubs.open("one", 99, "a") is one
    listener = two.join(None, None, lambda: None)
    hubs.tidy(keep=())
    assert hubs.channel("one") is None
    assert hubs.channel("two") is two
    hubs.close("two", "deleted")
    assert listener.closing == "deleted"
