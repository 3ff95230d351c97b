"""A 10×10 society of scripted seats: interactions a second, bytes written, memory.

The limits beside it, measured in the same run: the same interactions as a bare generator (no event
loop, no store), and, with 50 ms a call, the four stages of 50 ms that an interaction must take.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import median, peak_memory_mb, size, spread, written_bytes
from sandbox import events as ev
from sandbox.blueprint import read_society
from sandbox.deliberation import Plan, deliberate
from sandbox.exchange import Answered, Reply, Request
from sandbox.models.scripted import ScriptedModel
from sandbox.redaction import Redactor
from sandbox.running import Store, at_work, calm_collector
from sandbox.schedule import Schedule
from sandbox.settings import Settings
from sandbox.society import Society
from sandbox.societyfile import Overrides
from sandbox.store import sessions

SEATS = 100
ROUNDS = size(50, 3)
REPEATS = size(5, 1)
MARKED = (1, size(10, 2), ROUNDS)


def society(rounds: int, model: str) -> Society:
    """The bundled society of a hundred, all of one model."""
    return read_society("scripted", Overrides(rounds=rounds, model=model))


def rounds_of(described: Society, folder: Path) -> tuple[list[float], float]:
    """Seconds of each round, and bytes written an interaction."""
    store = Store.open(str(folder / "bench.db"))
    handle = sessions.create(store.database, store.log, described)
    began: list[float] = []
    took: list[float] = []

    def listener(recorded: ev.Recorded) -> None:
        if isinstance(recorded.event, ev.RoundStarted):
            began.append(time.perf_counter())
        elif isinstance(recorded.event, ev.RoundFinished):
            took.append(time.perf_counter() - began[-1])

    async def run() -> None:
        settings = Settings(data_dir=folder, cache_dir=folder)
        async with at_work(store, handle, settings, Redactor(), listener=listener) as engine:
            await engine.run()

    before = written_bytes() or 0
    asyncio.run(run())
    store.close()
    written = (written_bytes() or 0) - before
    return took, written / (SEATS * described.rounds)


def bare_rate(described: Society) -> float:
    """Interactions a second of the generator and the scripted model alone."""
    model = ScriptedModel("steady")
    schedule = Schedule(described, 1)

    def answer(request: Request) -> Reply:
        try:
            model.generate(request).send(None)
        except StopIteration as done:
            reply: Reply = done.value
            return reply
        raise AssertionError("a model without latency does not wait")

    started = time.perf_counter()
    for number, assigned in enumerate(schedule.assignments(1), 1):
        plan = Plan(
            interaction=number,
            question=described.questions[assigned.question].text,
            centre=assigned.agent,
            peers=schedule.peers(number, assigned.agent),
            observers=described.observers,
        )
        course = deliberate(plan)
        waiting = list(next(course).requests)
        while waiting:
            request = waiting.pop()
            waiting += course.send(Answered(request.step, answer(request))).requests
    return SEATS / (time.perf_counter() - started)


def main() -> None:
    calm_collector()
    quick, slow = society(ROUNDS, "scripted/steady"), society(size(5, 1), "scripted/steady?latency=50")
    rates: dict[int, list[float]] = {number: [] for number in MARKED}
    bare, written, delayed = [], [], []
    for _ in range(REPEATS):
        with TemporaryDirectory() as folder:
            bare.append(bare_rate(quick))
            took, bytes_each = rounds_of(quick, Path(folder))
            bare.append(bare_rate(quick))
        written.append(bytes_each)
        for number in MARKED:
            nearby = took[max(number - 3, 0) : number + 2]  # a single round lasts a tenth of a second
            rates[number].append(SEATS / median(nearby))
        with TemporaryDirectory() as folder:
            took, _ = rounds_of(slow, Path(folder))
        delayed.append(SEATS / median(took))
    print(f"interactions a second, median of {REPEATS} runs (lowest–highest); reach: 1,500, flat within 10%")
    for number in MARKED:
        print(f"  round {number:2}: {spread(rates[number])}")
    first, middle, last = (median(rates[number]) for number in MARKED)
    print(f"  round {ROUNDS} over round 1: {last / first:.2f}")
    print(f"  the bare generator: {spread(bare)}; ratio {middle / median(bare):.2f}")
    ideal = SEATS / 0.2
    print(f"with 50 ms a call: {spread(delayed)} of {ideal:.0f} ({median(delayed) / ideal:.0%}; reach: 85%)")
    print(f"written: {median(written) / 1000:.1f} kB an interaction (reach: below 20)")
    print(f"peak memory: {peak_memory_mb():.0f} MB")


if __name__ == "__main__":
    main()
