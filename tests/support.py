"""Small societies and ways to run them, for the tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from sandbox import events as ev
from sandbox.deliberation import Course
from sandbox.embeddings import CachedEmbedder, HashedEmbedder
from sandbox.engine import Engine
from sandbox.exchange import Answered, Outcome, Reply, Request
from sandbox.models.base import Model
from sandbox.models.scripted import ScriptedModel
from sandbox.models.spec import parse
from sandbox.progress import fold
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.society import Agent, Observer, PriorMemory, Question, Rules, Society
from sandbox.store import sessions
from sandbox.store.log import Handle
from sandbox.topology import Grid


def small_society(**changes: object) -> Society:
    """A scripted society of 2×2 seats with five questions."""
    rows = columns = 2
    size = changes.pop("size", None)
    if size is not None:
        rows, columns = size  # type: ignore[misc]
    model = changes.pop("model", "scripted/steady")
    fields = {
        "name": "small",
        "seed": 3,
        "rounds": 2,
        "topology": Grid(rows=rows, columns=columns),
        "rules": Rules(prior_memories=2),
        "agents": tuple(
            Agent(name=f"S{place}", place=place, model=model, label="good" if place % 2 else "bad")
            for place in range(rows * columns)
        ),
        "observers": (Observer(name="observer", model=model),),
        "questions": tuple(Question(text=f"Is it right to do the thing numbered {n}?") for n in range(5)),
        "memories": tuple(
            PriorMemory(
                question=f"Is it right to do the thing numbered {n}?", response=f"{label} {n}", label=label
            )
            for n in range(3)
            for label in ("good", "bad")
        ),
    } | changes
    return Society(**fields)  # type: ignore[arg-type]


def scripted(spec: str) -> Model:
    """The scripted model of a spec."""
    parsed = parse(spec)
    return ScriptedModel(parsed.name, dict(parsed.options))


def engine_for(
    store: Store, handle: Handle, models: Callable[[str], Model] = scripted, **options: Any
) -> Engine:
    """An engine for a stored session."""
    progress = fold(events_of(store, handle.key))
    embedder = CachedEmbedder(HashedEmbedder())
    return Engine(store.log, handle, progress, models, embedder, Redactor(), **options)


def run_session(
    store: Store, society: Society, models: Callable[[str], Model] = scripted, **options: Any
) -> list[ev.Event]:
    """A whole run of ``society``; returns its events."""
    handle = sessions.create(store.database, store.log, society)
    asyncio.run(engine_for(store, handle, models, **options).run())
    sessions.release(store.database, handle)
    return events_of(store, handle.key)


def events_of(store: Store, key: str) -> list[ev.Event]:
    """The events of a stored session."""
    return [recorded.event for recorded in store.log.read(key)]


def canonical(events: Sequence[ev.Event]) -> list[str]:
    """Events in an order that does not depend on which seat was faster."""
    return sorted(ev.dump(event) for event in events)


def drive(
    course: Course,
    answer: Callable[[Request], Outcome],
    choose: Callable[[list[Request]], int] = lambda _: 0,
) -> list[ev.Event]:
    """Run a generator to its end; ``choose`` picks which of the open requests is answered next."""
    turn = next(course)
    events = list(turn.events)
    waiting = list(turn.requests)
    while waiting:
        request = waiting.pop(choose(waiting))
        turn = course.send(Answered(request.step, answer(request)))
        events += turn.events
        waiting += turn.requests
    return events


def says(text: str) -> Callable[[Request], Outcome]:
    """Answers everything with ``text``, and ratings with their own form."""

    def answer(request: Request) -> Outcome:
        if request.scale is None:
            return Reply(text)
        return Reply(f"{request.form[0]}: 4\n{request.form[1] or 'Reason'}: fine")

    return answer


Run = Callable[..., tuple[int, str, str]]
SMALL = ("--seats", "2x2", "--rounds", "1")


def lines(text: str) -> list[dict[str, Any]]:
    """The values of JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def session_of(sandbox: Run, *options: str) -> str:
    """Runs a small scripted society by command; returns its session."""
    code, _, err = sandbox("run", "scripted", *SMALL, *options)
    assert code == 0, err
    return str(lines(sandbox("sessions", "list", "--json")[1])[0]["session"])
