"""How the bodies of requests are read, whatever the route: half characters in them become U+FFFD, and what is
nested too deeply is refused, as no one could walk through it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute

from sandbox.text import storable_in

MOST_DEEP = 100


class _Storable(Request):
    async def json(self) -> Any:
        """The body; only in an escape can there be what is not to be stored."""
        value = await super().json()
        if _is_deep(value):
            raise HTTPException(
                422, f"The body is nested more than {MOST_DEEP} levels deep. Send it flatter."
            )
        return storable_in(value) if b"\\u" in await self.body() else value


class Route(APIRoute):
    """A route whose body holds nothing that can't be stored."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(_Storable(request.scope, request.receive))

        return read


def _is_deep(value: Any) -> bool:
    """Whether there are more than ``MOST_DEEP`` lists and objects within each other."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEEP):
        inner = (one for each in level for one in (each.values() if isinstance(each, dict) else each))
        level = [one for one in inner if isinstance(one, dict | list)]
    return bool(level)
