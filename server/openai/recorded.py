"""A question on the record: put to the session like any other, and answered from its log.

Who goes away does not end it: it belongs to the session.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from uuid import uuid4

from pydantic import ValidationError

from sandbox import events as ev
from sandbox.events import Recorded
from sandbox.store import queries
from server.openai.asking import Asking
from server.openai.errors import ApiError, failed_turn
from server.openai.society import Telling
from server.openai.speaking import Emit, Spoken
from server.openai.wire import question_of
from server.runs import Result
from server.wire.commands import Ask

LONGEST_S = 900.0
"""For how long an answer is waited for; people may take part in it."""
_PAGE = 500


async def speak(asked: Asking, emit: Emit) -> Spoken:
    """Ask, and tell what the log says until the interaction is over."""
    runs, key = asked.services.runs, asked.target.session
    changed = asyncio.Event()

    def watch(recorded: Recorded) -> None:
        if recorded.session == key:
            changed.set()

    runs.watchers.append(watch)
    try:
        after = await asyncio.to_thread(queries.head, asked.services.store.database, key)
        result = await runs.submit(key, asked.who, asked.person, uuid4().hex, _command(asked))
        if result.code is not None or result.interaction is None:
            raise _refused(result)
        telling = Telling(asked, emit, result.interaction)
        await _follow(asked, telling, result.interaction, after, changed)
        return telling.spoken()
    finally:
        runs.watchers.remove(watch)


async def _follow(
    asked: Asking, telling: Telling, interaction: int, after: int, changed: asyncio.Event
) -> None:
    """Take in the events of one interaction as they are committed, until it is over."""
    services, key = asked.services, asked.target.session
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        changed.clear()
        run = services.runs.here.get(key)
        is_over = run is not None and not run.is_busy
        page = await asyncio.to_thread(queries.events, services.store.database, key, after, _PAGE)
        for recorded in page:
            after = recorded.seq
            if getattr(recorded.event, "interaction", None) == interaction:
                telling.take(recorded.event)
                if isinstance(recorded.event, ev.InteractionFinished):
                    return
        if len(page) == _PAGE:
            continue
        if is_over:
            break
        # Another process may run the session; it wakes nobody here.
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), services.server.scan_s)
    raise ApiError(
        f"Interaction {interaction} of session {key} is recorded, but not over. Look at it there.",
        status=504,
        type="api_error",
        code="not_finished",
    )


def _command(asked: Asking) -> Ask:
    seat = asked.target.seat or asked.options.seat
    try:
        question = question_of(asked.messages)
        return Ask(question=question, seat=seat, society=asked.target.seat is None)
    except ValidationError as error:
        fault = error.errors()[0]
        param = "messages" if fault["loc"][0] == "question" else "sandbox.seat"
        raise ApiError(f"That can't be recorded: {fault['msg']}.", param=param) from error


def _refused(result: Result) -> ApiError:
    code = result.code or "error"
    if code.startswith("model_"):
        return failed_turn(code.removeprefix("model_"), result.message)
    if code in ("busy", "unavailable"):
        return ApiError(result.message, status=503, type="api_error", code=code)
    return ApiError(result.message, code=code)
