"""Commands over REST: run, talk, rate, sit down. The same commands as on the websocket, one a route."""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from sandbox import events as ev
from sandbox.rubric import Rubric
from sandbox.society import Absence, ModelSpec
from server.auth import Identity
from server.deps import Parts, Who, person_of
from server.errors import TOLD, Refused
from server.rights import SCOPE_OF
from server.runs import Result
from server.services import Services
from server.wire import commands as do
from server.wire.views import Done

router = APIRouter(prefix="/api/v1/sessions/{session}", tags=["commands"], responses=TOLD)
Cid = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=64,
        description="sending it again does no harm, and answers what became of it",
    ),
]


class ModelChange(BaseModel):
    """Which model a seat is to speak through."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelSpec = Field(examples=["scripted/kind", "local/smollm2#my-adapter"])


class TakeBody(BaseModel):
    """How to sit at a seat: see the command ``take``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    absent: Absence = "abstain"
    patience_s: float = Field(default=300.0, ge=1, le=30 * 86_400)


async def perform(
    services: Services,
    session: str,
    who: Identity,
    person: str | None,
    command: do.Command,
    cid: str | None = None,
) -> Done:
    """Have a command carried out. Raises ``Forbidden``, ``NotFound``, ``Refused``."""
    from server.routes.sessions import found

    who.check(SCOPE_OF[command.do], session)
    who.check_budget()
    row = await found(services, session)
    result = await services.runs.submit(row.key, who, person, cid or uuid4().hex, command)
    if result.code is not None:
        raise Refused(result)
    return Done(interaction=result.interaction)


@router.post("/commands")
async def command(
    session: str, wanted: do.Command, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Any command, as on the websocket."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/start")
async def start(
    session: str, who: Who, services: Parts, wanted: do.Start | None = None, cid: Cid = None
) -> Done:
    """Run the rounds, or go on with them."""
    return await perform(services, session, who, None, wanted or do.Start(), cid)


@router.post("/step")
async def step(session: str, who: Who, services: Parts, cid: Cid = None) -> Done:
    """Run one round, then pause."""
    return await perform(services, session, who, None, do.Step(), cid)


@router.post("/pause")
async def pause(session: str, who: Who, services: Parts, cid: Cid = None) -> Done:
    """Stop at once; ``start`` goes on."""
    return await perform(services, session, who, None, do.Pause(), cid)


@router.post("/resume")
async def resume(session: str, who: Who, services: Parts, cid: Cid = None) -> Done:
    """Go on where it was paused."""
    return await perform(services, session, who, None, do.Start(), cid)


@router.post("/stop")
async def stop(session: str, who: Who, services: Parts, cid: Cid = None) -> Done:
    """Stop at once; what was done is kept."""
    return await perform(services, session, who, None, do.Stop(), cid)


@router.post("/messages", status_code=201)
async def say(
    session: str, wanted: do.Say, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Send a message to some seats or all, who answer."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/questions", status_code=201)
async def ask(
    session: str, wanted: do.Ask, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Put a question to a seat, or to the society, on record. Its answer comes as events."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/ratings", status_code=201)
async def rate(
    session: str, wanted: do.Rate, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Rate a message; a later rating by the same person counts instead."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/judgements", status_code=201)
async def judge(
    session: str, wanted: do.Judge, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Have a seat rate a message."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/reactions", status_code=201)
async def react(
    session: str, wanted: do.React, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """React to a message."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/seats", status_code=201)
async def add_seat(session: str, wanted: do.AddSeat, who: Who, services: Parts, cid: Cid = None) -> Done:
    """One more seat, for a person."""
    return await perform(services, session, who, None, wanted, cid)


@router.put("/seats/{seat}/model")
async def change_model(
    session: str, seat: str, wanted: ModelChange, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Have a seat speak through another model or adapter, from its next request on."""
    command = do.ChangeModel(seat=seat, model=wanted.model)
    return await perform(services, session, who, None, command, cid)


@router.post("/seats/{seat}/model/rollback")
async def roll_back(session: str, seat: str, who: Who, services: Parts, cid: Cid = None) -> Done:
    """Give a seat the model it had before its last change."""
    from server.routes.sessions import found

    who.check("run", session)
    row = await found(services, session)
    events = await asyncio.to_thread(lambda: [r.event for r in services.store.log.read(row.key)])
    changes = [event for event in events if isinstance(event, ev.SeatChanged) and event.seat == seat]
    if not changes:
        raise Refused(Result(code="refused", message=f"The model of '{seat}' has not been changed."))
    command = do.ChangeModel(seat=seat, model=changes[-1].before)
    return await perform(services, session, who, None, command, cid)


@router.put("/rubric")
async def change_rubric(session: str, wanted: Rubric, who: Who, services: Parts, cid: Cid = None) -> Done:
    """New norms, under the next version. What has begun ends under the old ones."""
    return await perform(services, session, who, None, do.ChangeRubric(rubric=wanted), cid)


@router.post("/seats/{seat}/take")
async def take(
    session: str,
    seat: str,
    request: Request,
    who: Who,
    services: Parts,
    wanted: TakeBody | None = None,
    cid: Cid = None,
) -> Done:
    """Sit down at a seat."""
    body = wanted or TakeBody()
    command = do.Take(seat=seat, absent=body.absent, patience_s=body.patience_s)
    return await perform(services, session, who, person_of(request, who), command, cid)


@router.post("/seats/{seat}/leave")
async def leave(
    session: str, seat: str, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Hand a seat back."""
    return await perform(services, session, who, person_of(request, who), do.Leave(seat=seat), cid)


@router.get("/turns")
async def turns(session: str, request: Request, who: Who, services: Parts) -> list[ev.TurnAwaited]:
    """What waits for you, the oldest first, with deadlines."""
    from server.routes.sessions import found

    who.check("join", session)
    row = await found(services, session)
    person = person_of(request, who)
    view = await services.glances.of(row.key)
    return [
        awaited
        for _, opened in sorted(view.open.items())
        for awaited in opened.awaited
        if awaited.person == person
    ]


@router.post("/turns")
async def answer(
    session: str, wanted: do.Answer, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Answer what waits for you."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)


@router.post("/turns/skip")
async def skip(
    session: str, wanted: do.Skip, request: Request, who: Who, services: Parts, cid: Cid = None
) -> Done:
    """Abstain from what waits for you."""
    return await perform(services, session, who, person_of(request, who), wanted, cid)
