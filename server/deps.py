"""What a route is given: the process's services, and who asks; headers are read for that here only."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import HTTPConnection

from sandbox.conversation import PERSON
from sandbox.errors import UserError
from sandbox.names import is_person_name, normal
from server.auth import Identity, Unauthorized
from server.services import Services

PERSON_HEADER = "x-sandbox-person"


def services_of(connection: HTTPConnection) -> Services:
    """The services of the process that serves a connection."""
    services: Services = connection.app.state.services
    return services


def bearer(connection: HTTPConnection) -> str | None:
    """The key in the headers, if there is one."""
    kind, _, key = connection.headers.get("authorization", "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


_SCHEME = HTTPBearer(auto_error=False, scheme_name="key", description="a key, where keys are needed")


async def identity(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_SCHEME)] = None
) -> Identity:
    """Who asks, counted. Raises ``Unauthorized`` or ``TooMany``."""
    services = services_of(request)
    try:
        who = await asyncio.to_thread(services.keys.identify, bearer(request))
    except Unauthorized:
        if bearer(request):  # nor can keys be tried by the thousand
            services.keys.count_bad(address_of(request))
        raise
    services.keys.count(who)
    return who


def address_of(connection: HTTPConnection) -> str:
    """Where a request comes from."""
    return connection.client.host if connection.client else "unknown"


def person_of(connection: HTTPConnection, who: Identity, named: str | None = None) -> str | None:
    """As which person somebody acts: the key's own, or a name of their choice; None for nobody.

    Raises ``UserError`` for a name that can't be.
    """
    if who.person is not None:
        return who.person
    if not who.may("join"):
        return None
    if who.key is not None and "admin" not in who.scopes:
        return f"key {who.key}"  # nobody acts as somebody else: a name of one's own comes with an invitation
    name = named or _in_header(connection)
    if name is None:
        return PERSON
    name = normal(name)
    if not is_person_name(name):
        raise UserError(
            f"'{name[:40]}' can't be a person's name. Use letters, digits, spaces and .'_-, 32 at most."
        )
    return name


def seen_by(connection: HTTPConnection, who: Identity, named: str | None = None) -> str | None:
    """The person as whom somebody looks on, to whom others' ratings may be hidden; None for who sees all.

    Who may only watch rates nothing; who runs sessions sees all, unless they name a person.
    """
    if who.person is None and (who.may("run") or not who.may("join")):
        wants = named or _in_header(connection)
        return person_of(connection, who, named) if wants else None
    return person_of(connection, who, named)


def _in_header(connection: HTTPConnection) -> str | None:
    """A name as clients send it: UTF-8, though headers are read as Latin-1."""
    name = connection.headers.get(PERSON_HEADER)
    if name is None:
        return None
    try:
        return name.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return name


Who = Annotated[Identity, Depends(identity)]
Parts = Annotated[Services, Depends(services_of)]
