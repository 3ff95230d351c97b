"""For who operates the server: is it there, is it ready, what does it do."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from sandbox.errors import StoreError
from server.bodies import Route
from server.deps import Parts, Who
from server.errors import TOLD, UNAVAILABLE, away, problem

router = APIRouter(tags=["operations"], responses=TOLD, route_class=Route)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=None)
async def readyz(services: Parts) -> dict[str, str] | Response:
    """The process can serve: its database answers, and its disk is not full."""
    try:
        await asyncio.wait_for(asyncio.to_thread(services.store.ping), 5)
    except TimeoutError:
        return problem(503, "unavailable", UNAVAILABLE)
    except StoreError as error:
        return problem(503, "unavailable", away(error))
    return {"status": "ready"}


@router.get("/metrics", response_class=Response)
async def metrics(who: Who, services: Parts) -> Response:
    """For Prometheus. Needs the scope ``watch``, for all sessions, where keys are needed."""
    who.check_everywhere("watch")
    return Response(services.metrics.render(), media_type=CONTENT_TYPE_LATEST)
