"""Sessions: create, list, look at, page through, export, fork, delete."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from sandbox.blueprint import check, examples, read_society, society_from_text
from sandbox.errors import SessionError, SocietyError
from sandbox.estimate import estimate
from sandbox.progress import fold
from sandbox.society import Society
from sandbox.societyfile import Overrides
from sandbox.store import queries, sessions
from sandbox.store.export import Format, What, export
from sandbox.store.tables import SessionRow
from sandbox.text import storable
from server.auth import Identity
from server.blinding import Blinder, masked_rating
from server.deps import Parts, Who, seen_by
from server.errors import TOLD, NotFound
from server.routes.control import perform
from server.services import Services
from server.wire import commands as do
from server.wire.snapshot import Snapshot
from server.wire.views import CreateSession, Estimate, Fork, Limit, Page, SessionView

router = APIRouter(prefix="/api/v1", tags=["sessions"], responses=TOLD)
_MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}
After = Annotated[int, Query(ge=0, lt=2**53, description="the last one you have")]
Number = Annotated[int | None, Query(ge=0, lt=2**31)]
PageLimit = Annotated[Limit, Query(description="rows at most")]


async def found(services: Services, session: str) -> SessionRow:
    """The session of exactly that key. Raises ``NotFound``."""
    try:
        row = await asyncio.to_thread(sessions.find, services.store.database, storable(session))
    except SessionError:
        row = None
    if row is None or row.key != session:
        raise NotFound(f"There is no session '{storable(session)[:80]}'.")
    return row


def view_of(row: SessionRow) -> SessionView:
    """A session as it is listed."""
    return SessionView(
        session=row.key,
        name=row.name,
        status=row.status,
        round=row.round,
        rounds=row.rounds,
        events=row.head,
        epoch=row.epoch,
        seed=row.seed,
        created=row.created,
        updated=row.updated,
        parent=row.parent,
        parent_seq=row.parent_seq,
        leased=sessions.in_use(row.lease_owner, row.lease_until),
    )


@router.get("/examples")
async def list_examples(who: Who) -> dict[str, str]:
    """The bundled societies, by name, as the text of their files."""
    return examples()


@router.post("/sessions", status_code=201)
async def create_session(wanted: CreateSession, who: Who, services: Parts) -> SessionView:
    """A new session."""
    who.check_everywhere("run")
    society = await asyncio.to_thread(_society, wanted, services)
    handle = await asyncio.to_thread(
        lambda: sessions.create(services.store.database, services.store.log, society, lease=False)
    )
    if wanted.start:
        await perform(services, handle.key, who, None, do.Start())
    return view_of(await found(services, handle.key))


@router.post("/estimate")
async def estimate_society(wanted: CreateSession, who: Who, services: Parts) -> Estimate:
    """What a society's rounds may take, before it is created."""
    who.check("run")
    society = await asyncio.to_thread(_society, wanted, services)
    return await _estimated(society, society.rounds)


def _society(wanted: CreateSession, services: Services) -> Society:
    """The society that is asked for. Raises ``SocietyError``; no request can have the server read a file."""
    overrides = Overrides(
        rounds=wanted.rounds,
        seed=wanted.seed,
        model=wanted.model,
        seats=wanted.seats,
        questions=None,
        per_seat=None,
        budget=wanted.budget,
    )
    if wanted.example is not None:
        if wanted.example not in examples():
            raise SocietyError(f"There is no example of that name. There are: {', '.join(examples())}.")
        society = read_society(wanted.example, overrides)
    elif wanted.toml is not None:
        society = society_from_text(wanted.toml, "the society", None, overrides, sources=False)
    else:
        assert wanted.society is not None
        changes: dict[str, Any] = {
            name: value for name in ("rounds", "seed") if (value := getattr(wanted, name)) is not None
        }
        if wanted.budget is not None:
            changes["limits"] = wanted.society.limits.model_copy(update={"budget": wanted.budget})
        society = wanted.society.model_copy(update=changes)
        if society.humans:
            raise SocietyError("Add seats for people when the session is there.")
        check(society)
    if len(society.agents) > services.server.max_seats:
        raise SocietyError(f"A society may have {services.server.max_seats} agents on this server.")
    services.server.check_models(society)
    return society


@router.get("/sessions")
async def list_sessions(
    who: Who, services: Parts, limit: PageLimit = 100, status: str | None = None
) -> list[SessionView]:
    """The sessions, the newest first."""
    _look(who, None)
    rows = await asyncio.to_thread(sessions.listing, services.store.database, None if status else limit)
    kept = [row for row in rows if who.session in (None, row.key) and status in (None, row.status)]
    return [view_of(row) for row in kept[:limit]]


@router.get("/sessions/{session}")
async def get_session(session: str, who: Who, services: Parts) -> SessionView:
    """One session."""
    _look(who, session)
    return view_of(await found(services, session))


@router.get("/sessions/{session}/snapshot")
async def get_snapshot(session: str, request: Request, who: Who, services: Parts) -> Snapshot:
    """A session at a glance, as of one event; advance it by the events after that."""
    _look(who, session)
    row = await found(services, session)
    view = await services.glances.of(row.key)
    blinder = await _blinder(request, who, services, session)
    return blinder.snapshot(view) if blinder else view


@router.get("/sessions/{session}/society")
async def get_society(session: str, who: Who, services: Parts) -> Society:
    """The society as it is now: seats, models, rubric, questions, prior memories."""
    _look(who, session)
    row = await found(services, session)
    events = await asyncio.to_thread(lambda: [r.event for r in services.store.log.read(row.key)])
    return fold(events).society


@router.get("/sessions/{session}/estimate")
async def estimate_session(
    session: str, who: Who, services: Parts, rounds: Annotated[int | None, Query(ge=0, le=100_000)] = None
) -> Estimate:
    """What the rounds that are left (or ``rounds`` of them) may take."""
    _look(who, session)
    row = await found(services, session)
    events = await asyncio.to_thread(lambda: [r.event for r in services.store.log.read(row.key)])
    progress = fold(events)
    left = max(progress.rounds - progress.rounds_done, 0) if rounds is None else rounds
    return await _estimated(progress.society, left)


@router.get("/sessions/{session}/events")
async def page_events(
    session: str, request: Request, who: Who, services: Parts, after: After = 0, limit: PageLimit = 100
) -> Page:
    """Events in the order of the log."""
    _look(who, session)
    row = await found(services, session)
    rows = await asyncio.to_thread(queries.events, services.store.database, row.key, after, limit + 1)
    blinder = await _blinder(request, who, services, session)
    items = []
    for recorded in rows[:limit]:
        if blinder and blinder.hides(recorded.event):
            recorded = recorded._replace(event=masked_rating(recorded.event))  # type: ignore[arg-type]
        items.append(recorded.as_json())
    return Page(items=items, next=rows[limit - 1].seq if len(rows) > limit else None)


@router.get("/sessions/{session}/interactions")
async def page_interactions(
    session: str,
    who: Who,
    services: Parts,
    after: After = 0,
    limit: PageLimit = 100,
    round: Number = None,
    seat: str | None = None,
) -> Page:
    """Interactions by their number."""
    return await _page(session, who, services, "interactions", after, limit, {"round": round, "seat": seat})


@router.get("/sessions/{session}/messages")
async def page_messages(
    session: str,
    who: Who,
    services: Parts,
    after: After = 0,
    limit: PageLimit = 100,
    interaction: Number = None,
    seat: str | None = None,
) -> Page:
    """Messages in the order they were said."""
    where = {"interaction": interaction, "seat": seat}
    return await _page(session, who, services, "messages", after, limit, where)


@router.get("/sessions/{session}/ratings")
async def page_ratings(
    session: str,
    request: Request,
    who: Who,
    services: Parts,
    after: After = 0,
    limit: PageLimit = 100,
    interaction: Number = None,
    target: str | None = None,
    rater: str | None = None,
) -> Page:
    """Ratings in the order they were given. Of one rater's, in one dimension, the last one counts."""
    where = {"interaction": interaction, "target": target, "rater": rater}
    page = await _page(session, who, services, "ratings", after, limit, where)
    blinder = await _blinder(request, who, services, session)
    return Page(items=[blinder.row(row) for row in page.items], next=page.next) if blinder else page


@router.get("/sessions/{session}/export", response_class=Response)
async def export_session(
    session: str,
    who: Who,
    services: Parts,
    what: What = "events",
    format: Format = "jsonl",
) -> Response:
    """All of it, as a file. For keys with the scope ``run``: nothing in it is hidden."""
    who.check("run", session)
    row = await found(services, session)
    descriptor, name = mkstemp(suffix=f".{format}")
    os.close(descriptor)
    file = Path(name)
    store = services.store
    await asyncio.to_thread(export, store.database, store.log, row.key, what, format, file, io.StringIO())
    return FileResponse(
        file,
        media_type=_MEDIA[format],
        filename=f"{row.key}-{what}.{format}",
        background=BackgroundTask(file.unlink, missing_ok=True),
    )


@router.post("/sessions/{session}/fork", status_code=201)
async def fork_session(session: str, wanted: Fork, who: Who, services: Parts) -> SessionView:
    """A new session with the same past."""
    who.check("run", session)
    row = await found(services, session)
    handle = await asyncio.to_thread(
        sessions.fork, services.store.database, services.store.log, row.key, wanted.at, wanted.seed
    )
    return view_of(await found(services, handle.key))


@router.delete("/sessions/{session}", status_code=204)
async def delete_session(session: str, who: Who, services: Parts) -> None:
    """Delete a session with all that hangs on it."""
    who.check("run", session)
    row = await found(services, session)
    await services.runs.delete(row.key)
    services.glances.forget(row.key)


@router.get("/schema/frames", response_class=JSONResponse)
async def frames_schema(form: Literal["json-schema", "asyncapi"] = "asyncapi") -> Response:
    """The live protocol, as JSON Schema or AsyncAPI 3."""
    from server.wire.schema import asyncapi_text, json_schema_text

    text = json_schema_text() if form == "json-schema" else asyncapi_text()
    return Response(text, media_type="application/json")


async def _estimated(society: Society, rounds: int) -> Estimate:
    found = await asyncio.to_thread(estimate, society, rounds)
    return Estimate(
        rounds=rounds,
        interactions=found.interactions,
        calls=found.calls,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        cost=found.cost,
        unpriced=found.unpriced,
    )


async def _page(
    session: str,
    who: Identity,
    services: Services,
    what: queries.Listed,
    after: int,
    limit: int,
    where: Mapping[str, object],
) -> Page:
    _look(who, session)
    row = await found(services, session)
    cleaned = {key: storable(value) if isinstance(value, str) else value for key, value in where.items()}
    items, more = await asyncio.to_thread(
        queries.page, services.store.database, row.key, what, after, limit, cleaned
    )
    return Page(items=items, next=more)


async def _blinder(request: Request, who: Identity, services: Services, session: str) -> Blinder | None:
    """What hides others' ratings from a person; None for who sees all."""
    person = seen_by(request, who)
    if not services.server.blind or person is None:
        return None
    blinder = Blinder(services.store, session, person)
    await blinder.load()
    return blinder


def _look(who: Identity, session: str | None) -> None:
    if not who.may("join", session):
        who.check("watch", session)
