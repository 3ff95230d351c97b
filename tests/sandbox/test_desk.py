"""The desk: many jobs at once, in few tasks."""

from __future__ import annotations

import asyncio

import pytest

from sandbox.desk import Desk, Tray


async def at_once(value: int) -> int:
    return value


async def later(value: int, delay: float = 0.01) -> int:
    await asyncio.sleep(delay)
    return value


async def everything(tray: Tray[int]) -> list[int]:
    found: list[int] = []
    while not tray.is_empty:
        found += await tray.collect()
    return found


async def test_jobs_that_do_not_wait_share_two_tasks() -> None:
    desk = Desk()
    trays: list[Tray[int]] = [Tray(desk) for _ in range(20)]
    for tray in trays:
        for value in range(5):
            tray.start(at_once(value))
    assert len(asyncio.all_tasks()) == 2  # this one, and the one at work
    assert [await everything(tray) for tray in trays] == [[0, 1, 2, 3, 4]] * 20


async def test_jobs_that_wait_wait_at_the_same_time() -> None:
    desk = Desk()
    tray: Tray[int] = Tray(desk)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for value in range(50):
        tray.start(later(value, 0.05))
    assert sorted(await everything(tray)) == list(range(50))
    assert loop.time() - started < 0.05 * 10


async def test_a_mixture_loses_nothing() -> None:
    desk = Desk()
    tray: Tray[int] = Tray(desk)
    for value in range(60):
        tray.start(later(value, 0.001 * (value % 7)) if value % 3 else at_once(value))
    assert sorted(await everything(tray)) == list(range(60))


async def test_a_job_put_while_others_wait_is_run() -> None:
    desk = Desk()
    tray: Tray[int] = Tray(desk)
    tray.start(later(1, 0.05))
    await asyncio.sleep(0.01)
    tray.start(at_once(2))
    assert await tray.collect() == [2]
    assert await tray.collect() == [1]


async def test_what_a_job_raises_reaches_who_collects() -> None:
    async def broken() -> int:
        raise ZeroDivisionError

    tray: Tray[int] = Tray(Desk())
    tray.start(broken())
    with pytest.raises(ZeroDivisionError):
        await tray.collect()


async def test_cancelling_one_tray_stops_its_jobs_and_no_others() -> None:
    stopped: list[int] = []

    async def long(value: int) -> int:
        try:
            return await later(value, 5)
        except asyncio.CancelledError:
            stopped.append(value)
            raise

    desk = Desk()
    doomed: Tray[int] = Tray(desk)
    kept: Tray[int] = Tray(desk)
    doomed.start(long(1))
    kept.start(later(3, 0.05))
    await asyncio.sleep(0.01)
    doomed.start(long(2))  # never begins
    doomed.cancel()
    assert doomed.is_empty
    assert await everything(kept) == [3]
    assert stopped == [1]
