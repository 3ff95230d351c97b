"""What was said and rated, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query

from sandbox.store import queries
from sandbox.text import storable
from server.blinding import masked
from server.bodies import Route
from server.errors import TOLD
from server.routes.looking import Looks, Onlooker
from server.wire.views import Limit, Page

router = APIRouter(prefix="/api/v1/sessions/{session}", tags=["sessions"], responses=TOLD, route_class=Route)
After = Annotated[int, Query(ge=0, lt=2**53, description="the last one you have")]
Number = Annotated[int | None, Query(ge=0, lt=2**31)]
PageLimit = Annotated[Limit, Query(description="rows at most")]


@router.get("/events")
async def page_events(looks: Looks, after: After = 0, limit: PageLimit = 100) -> Page:
    """Events in the order of the log."""
    database = looks.services.store.database
    rows = await asyncio.to_thread(queries.events, database, looks.key, after, limit + 1)
    blinder = await looks.blinder()
    items = []
    for recorded in rows[:limit]:
        if blinder and blinder.hides(recorded.event):
            recorded = recorded._replace(event=masked(recorded.event))
        items.append(recorded.as_json())
    return Page(items=items, next=rows[limit - 1].seq if len(rows) > limit else None)


@router.get("/interactions")
async def page_interactions(
    looks: Looks, after: After = 0, limit: PageLimit = 100, round: Number = None, seat: str | None = None
) -> Page:
    """Interactions by their number."""
    return await _page(looks, "interactions", after, limit, {"round": round, "seat": seat})


@router.get("/messages")
async def page_messages(
    looks: Looks,
    after: After = 0,
    limit: PageLimit = 100,
    interaction: Number = None,
    seat: str | None = None,
) -> Page:
    """Messages in the order they were said."""
    return await _page(looks, "messages", after, limit, {"interaction": interaction, "seat": seat})


@router.get("/ratings")
async def page_ratings(
    looks: Looks,
    after: After = 0,
    limit: PageLimit = 100,
    interaction: Number = None,
    target: str | None = None,
    rater: str | None = None,
    current: Annotated[bool, Query(description="only those that count")] = False,
) -> Page:
    """Ratings in the order they were given.

    Of one rater's of one message in one dimension, the last one counts. A person is one rater, wherever they
    sit.
    """
    where = {"interaction": interaction, "target": target, "rater": rater}
    page = await _page(looks, "ratings", after, limit, where, current=current)
    blinder = await looks.blinder()
    return Page(items=[blinder.row(row) for row in page.items], next=page.next) if blinder else page


async def _page(
    looks: Onlooker,
    what: queries.Listed,
    after: int,
    limit: int,
    where: Mapping[str, object],
    *,
    current: bool = False,
) -> Page:
    cleaned = {name: storable(value) if isinstance(value, str) else value for name, value in where.items()}
    items, more = await asyncio.to_thread(
        lambda: queries.page(
            looks.services.store.database, looks.key, what, after, limit, cleaned, current=current
        )
    )
    return Page(items=items, next=more)
