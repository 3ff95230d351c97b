"""Sessions: create, list, look at, export, fork, delete."""

from __future__ import annotations

import asyncio
import io
import os
import pathlib
from tempfile import mkstemp
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.background import BackgroundTask

from sandbox.blueprint import check, examples, read_society, society_from_text
from sandbox.embeddings import embedder
from sandbox.errors import SocietyError
from sandbox.estimate import estimate
from sandbox.monitored import Monitors
from sandbox.names import normal
from sandbox.recollection import recall_share
from sandbox.society import Society
from sandbox.societyfile import Overrides
from sandbox.store import sessions
from sandbox.store.export import Format, What, export
from sandbox.store.tables import SessionRow
from sandbox.store.withdrawal import NoPart
from sandbox.text import storable
from server.auth import Forbidden
from server.bodies import Route
from server.deps import Parts, Who, person_of, seen_by
from server.errors import TOLD, NotFound
from server.routes.control import perform
from server.routes.looking import Looks, found
from server.routes.pages import PageLimit
from server.services import Services
from server.wire import commands as do
from server.wire.snapshot import Snapshot
from server.wire.views import CreateSession, Estimate, Fork, SessionView, Withdrawal, Withdrawals

router = APIRouter(prefix="/api/v1", tags=["sessions"], responses=TOLD, route_class=Route)
_MEDIA = {"jsonl": "application/x-ndjson", "csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


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
    who.check_looks()
    every = status is not None or who.session is not None
    rows = await asyncio.to_thread(sessions.listing, services.store.database, None if every else limit)
    kept = [row for row in rows if who.session in (None, row.key) and status in (None, row.status)]
    return [view_of(row) for row in kept[:limit]]


@router.get("/sessions/{session}")
async def get_session(looks: Looks) -> SessionView:
    """One session."""
    return view_of(looks.row)


@router.get("/sessions/{session}/snapshot")
async def get_snapshot(looks: Looks) -> Snapshot:
    """A session at a glance, as of one event; advance it by the events after that."""
    view = await looks.services.glances.of(looks.key)
    blinder = await looks.blinder()
    return blinder.snapshot(view) if blinder else view


@router.get("/sessions/{session}/monitors")
async def get_monitors(looks: Looks) -> Monitors:
    """What goes wrong in it: inflated ratings, answers that grow alike, partial or severe judges, and more.

    For who rates blind, it comes of the ratings that they may see.
    """
    return await looks.services.monitoring.of(looks.row, await looks.blinder())


@router.get("/sessions/{session}/society")
async def get_society(looks: Looks) -> Society:
    """The society as it is now: seats, models, rubric, questions, prior memories."""
    return (await looks.progress()).society


@router.get("/sessions/{session}/estimate")
async def estimate_session(
    looks: Looks, rounds: Annotated[int | None, Query(ge=0, le=100_000)] = None
) -> Estimate:
    """What the rounds that are left (or ``rounds`` of them) may take."""
    progress = await looks.progress()
    left = max(progress.rounds - progress.rounds_done, 0) if rounds is None else rounds
    return await _estimated(progress.society, left)


@router.get("/sessions/{session}/export", response_class=Response)
async def export_session(
    session: str,
    request: Request,
    who: Who,
    services: Parts,
    what: What = "events",
    format: Format = "jsonl",
) -> Response:
    """All of it, as a file. For keys with the scope ``run``: nothing in it is hidden."""
    who.check("run", session)
    if services.server.blind and seen_by(request, who) is not None:
        raise Forbidden("A person is shown others' ratings when their own are in. Export without naming one.")
    row = await found(services, session)
    descriptor, name = mkstemp(suffix=f".{format}")
    os.close(descriptor)
    file = pathlib.Path(name)
    store = services.store
    try:
        await asyncio.to_thread(export, store.database, store.log, row.key, what, format, file, io.StringIO())
    except BaseException:
        await asyncio.to_thread(file.unlink, missing_ok=True)
        raise
    return FileResponse(
        file,
        media_type=_MEDIA[format],
        filename=f"{row.key}-{what}.{format}",
        background=BackgroundTask(file.unlink, missing_ok=True),
    )


@router.post("/sessions/{session}/fork", status_code=201)
async def fork_session(session: str, who: Who, services: Parts, wanted: Fork | None = None) -> SessionView:
    """A new session with the same past: up to now, if no event is named."""
    who.check_everywhere("run")
    row = await found(services, session)
    wants = wanted or Fork()
    handle = await asyncio.to_thread(
        sessions.fork, services.store.database, services.store.log, row.key, wants.at, wants.seed
    )
    return view_of(await found(services, handle.key))


@router.delete("/sessions/{session}", status_code=204)
async def delete_session(session: str, who: Who, services: Parts) -> None:
    """Delete a session with all that hangs on it."""
    who.check("run", session)
    row = await found(services, session)
    await services.runs.delete(row.key)
    services.glances.forget(row.key)
    services.monitoring.forget(row.key)


@router.delete("/sessions/{session}/people/{person}")
async def withdraw_person(
    session: str, person: Annotated[str, Path(max_length=200)], request: Request, who: Who, services: Parts
) -> Withdrawals:
    """Take a person's words, ratings and name out of a session and its forks, for good.

    By whoever runs the session, or with that person's own key, which ends with it. Datasets and adapters that
    were made from it are marked, and named here.
    """
    row = await found(services, session)
    person = normal(storable(person))
    is_own = who.key is not None and person_of(request, who) == person
    who.check("join" if is_own else "run", row.key)
    runs_all = who.session is None and who.may("run")
    try:
        told = await services.runs.withdraw(row.key, person, spare_namesakes=not runs_all)
    except NoPart as error:
        raise NotFound(str(error)) from error
    finally:
        await asyncio.to_thread(services.keys.forget, person)
    for done in told.done:
        services.glances.forget(done.session)
        services.monitoring.forget(done.session)
    return Withdrawals(
        sessions=tuple(Withdrawal(**done._asdict()) for done in told.done), spared=tuple(told.spared)
    )


@router.get("/schema/frames", response_class=JSONResponse)
async def frames_schema(form: Literal["json-schema", "asyncapi"] = "asyncapi") -> Response:
    """The live protocol, as JSON Schema or AsyncAPI 3."""
    from server.wire.schema import asyncapi_text, json_schema_text

    text = json_schema_text() if form == "json-schema" else asyncapi_text()
    return Response(text, media_type="application/json")


async def _estimated(society: Society, rounds: int) -> Estimate:
    found = await asyncio.to_thread(estimate, society, rounds)
    plain = society.embedding == "hashed"  # others need a model, or cost money
    return Estimate(
        rounds=rounds,
        interactions=found.interactions,
        calls=found.calls,
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        cost=found.cost,
        unpriced=found.unpriced,
        recall=await recall_share(society, embedder(society.embedding)) if plain else None,
    )
