"""Commands over REST: run, talk, rate, sit down. The same commands as on the websocket, one a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Request
from pydantic import BaseModel, ConfigDict, Field

from sandbox import events as ev
from sandbox.rubric import Rubric
from sandbox.society import Absence, ModelSpec
from server.auth import Identity
from server.bodies import Route
from server.deps import Parts, Who, person_of
from server.errors import TOLD, Refused
from server.rights import scope_of
from server.routes.looking import found
from server.services import Services
from server.wire import commands as do
from server.wire.views import Done

router = APIRouter(prefix="/api/v1/sessions/{session}", tags=["commands"], responses=TOLD, route_class=Route)
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


class LeaveBody(BaseModel):
    """How to hand a seat back: see the command ``leave``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    force: bool = False


async def perform(
    services: Services,
    session: str,
    who: Identity,
    person: str | None,
    command: do.Command,
    cid: str | None = None,
) -> Done:
    """Have a command carried out. Raises ``Forbidden``, ``NotFound``, ``Refused``."""
    who.check(scope_of(command), session)
    who.check_budget()
    row = await found(services, session)
    result = await services.runs.submit(row.key, who, person, cid or uuid4().hex, command)
    if result.code is not None:
        raise Refused(result)
    return Done(interaction=result.interaction)


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks something of which session, and as whom; ``cid`` is good for one command."""

    services: Services
    session: str
    who: Identity
    person: str | None
    cid: str | None

    async def has(self, command: do.Command) -> Done:
        """Have a command carried out. Raises as ``perform``."""
        return await perform(self.services, self.session, self.who, self.person, command, self.cid)


async def _actor(session: str, request: Request, who: Who, services: Parts, cid: Cid = None) -> Actor:
    return Actor(services, session, who, person_of(request, who), cid)


Acts = Annotated[Actor, Depends(_actor)]


@router.post("/commands")
async def command(wanted: do.Command, actor: Acts) -> Done:
    """Any command, as on the websocket."""
    return await actor.has(wanted)


@router.post("/start")
async def start(actor: Acts, wanted: do.Start | None = None) -> Done:
    """Run the rounds, or go on with them."""
    return await actor.has(wanted or do.Start())


@router.post("/step")
async def step(actor: Acts) -> Done:
    """Run one round, then pause."""
    return await actor.has(do.Step())


@router.post("/pause")
async def pause(actor: Acts) -> Done:
    """Stop at once; ``start`` goes on."""
    return await actor.has(do.Pause())


@router.post("/resume")
async def resume(actor: Acts, wanted: do.Start | None = None) -> Done:
    """Go on where it was paused; the same as ``start``."""
    return await actor.has(wanted or do.Start())


@router.post("/stop")
async def stop(actor: Acts) -> Done:
    """Stop at once; what was done is kept."""
    return await actor.has(do.Stop())


@router.post("/messages", status_code=201)
async def say(wanted: do.Say, actor: Acts) -> Done:
    """Send a message to some seats or all, who answer."""
    return await actor.has(wanted)


@router.post("/questions", status_code=201)
async def ask(wanted: do.Ask, actor: Acts) -> Done:
    """Put a question to a seat, or to the society, on record. Its answer comes as events."""
    return await actor.has(wanted)


@router.post("/ratings", status_code=201)
async def rate(wanted: do.Rate, actor: Acts) -> Done:
    """Rate a message; a later rating by the same person counts instead."""
    return await actor.has(wanted)


@router.post("/judgements", status_code=201)
async def judge(wanted: do.Judge, actor: Acts) -> Done:
    """Have a seat rate a message."""
    return await actor.has(wanted)


@router.post("/reactions", status_code=201)
async def react(wanted: do.React, actor: Acts) -> Done:
    """React to a message."""
    return await actor.has(wanted)


@router.post("/seats", status_code=201)
async def add_seat(wanted: do.AddSeat, actor: Acts) -> Done:
    """One more seat, for a person."""
    return await actor.has(wanted)


@router.put("/seats/{seat}/model")
async def change_model(seat: str, wanted: ModelChange, actor: Acts) -> Done:
    """Have a seat speak through another model or adapter, from its next request on."""
    return await actor.has(do.ChangeModel(seat=seat, model=wanted.model))


@router.post("/seats/{seat}/model/rollback")
async def roll_back(seat: str, actor: Acts) -> Done:
    """Give a seat the model it had before its last change; again, the one before that."""
    return await actor.has(do.RollBackModel(seat=seat))


@router.put("/rubric")
async def change_rubric(wanted: Rubric, actor: Acts) -> Done:
    """New norms, under the next version. What has begun ends under the old ones."""
    return await actor.has(do.ChangeRubric(rubric=wanted))


@router.post("/seats/{seat}/take")
async def take(seat: str, actor: Acts, wanted: TakeBody | None = None) -> Done:
    """Sit down at a seat."""
    body = wanted or TakeBody()
    return await actor.has(do.Take(seat=seat, absent=body.absent, patience_s=body.patience_s))


@router.post("/seats/{seat}/leave")
async def leave(seat: str, actor: Acts, wanted: LeaveBody | None = None) -> Done:
    """Hand a seat back; or, with ``force``, free one, whoever sits there."""
    return await actor.has(do.Leave(seat=seat, force=wanted is not None and wanted.force))


@router.get("/turns")
async def turns(actor: Acts) -> list[ev.TurnAwaited]:
    """What waits for you, the oldest first, with deadlines."""
    actor.who.check("join", actor.session)
    row = await found(actor.services, actor.session)
    view = await actor.services.glances.of(row.key)
    return [
        awaited
        for _, opened in sorted(view.open.items())
        for awaited in opened.awaited
        if awaited.person == actor.person
    ]


@router.post("/turns")
async def answer(wanted: do.Answer, actor: Acts) -> Done:
    """Answer what waits for you."""
    return await actor.has(wanted)


@router.post("/turns/skip")
async def skip(wanted: do.Skip, actor: Acts) -> Done:
    """Abstain from what waits for you."""
    return await actor.has(wanted)
