"""How the bodies of requests are read: half characters in them become U+FFFD, whatever the route."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from sandbox.text import storable_in


class _Storable(Request):
    async def json(self) -> Any:
        """The body; only in an escape can there be what is not to be stored."""
        value = await super().json()
        return storable_in(value) if b"\\u" in await self.body() else value


class Route(APIRoute):
    """A route whose body holds nothing that can't be stored."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def read(request: Request) -> Response:
            return await handle(_Storable(request.scope, request.receive))

        return read
