"""The addresses of the OpenAI-compatible API: they read requests and choose who speaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from server.bodies import Route
from server.deps import Parts, Who
from server.openai import completions, embeddings, models
from server.openai.asking import Asking, Wishes, asking, speaker
from server.openai.chat import Chat
from server.openai.completions import Completed
from server.openai.errors import error_response
from server.openai.once import HEADER, Once
from server.openai.responses import Responded
from server.openai.speaking import Emit, Speak, Spoken, ignore
from server.openai.streaming import ClientGone, Format, Streamed, failure_of, unless_gone
from server.openai.wire import (
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ResponseRequest,
    conversation,
    stops_of,
)


class _Route(Route):
    """Tells every error in OpenAI's shape."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientGone:
                return Response(status_code=499)
            except Exception as error:  # noqa: BLE001 - told to the client, and logged
                return error_response(failure_of(error))

        return told


router = APIRouter(prefix="/v1", tags=["openai"], route_class=_Route)


@router.get("/models", summary="The models that the key may use")
async def list_models(who: Who, services: Parts, seats: bool = False) -> dict[str, Any]:
    """Societies and embeddings as models, and ``seats`` if they are asked for."""
    return {"object": "list", "data": await models.listing(services, who, seats=seats)}


@router.get("/models/{id:path}", summary="One model")
async def get_model(id: str, who: Who, services: Parts) -> dict[str, Any]:
    """One model; also one of a session that is not listed."""
    return await models.known(services, who, id)


@router.post("/chat/completions", summary="A seat's reply, or a society's")
async def chat(body: ChatRequest, request: Request, who: Who, services: Parts) -> Response:
    """Plain, or streamed as server-sent events. Off the record, unless asked otherwise."""
    body.check()
    stops = stops_of(body.stop)
    wishes = Wishes(
        body.tokens,
        body.temperature,
        body.top_p,
        stops,
        body.seed,
        body.n or 1,
        form=body.format,
        tools=body.offered,
    )
    messages = conversation(body.messages, "messages")
    asked = await asking(services, who, request, body.model, messages, wishes, body.options)
    told = Chat(body.model, wishes.n, include_usage=body.include_usage)
    return await _answer(request, asked, speaker(asked), told, told.whole, stream=body.stream)


@router.post("/responses", summary="A seat's reply, or a society's, as a response")
async def respond(body: ResponseRequest, request: Request, who: Who, services: Parts) -> Response:
    """Plain, or streamed as server-sent events. Nothing is stored."""
    body.check()
    stops = stops_of(body.stop)
    wishes = Wishes(body.max_output_tokens, body.temperature, body.top_p, stops, body.seed, form=body.format)
    asked = await asking(services, who, request, body.model, body.messages(), wishes, body.options)
    told = Responded(body)
    return await _answer(request, asked, speaker(asked), told, told.whole, stream=body.stream)


@router.post("/completions", summary="A continuation of plain text, by a seat's local model")
async def complete(body: CompletionRequest, request: Request, who: Who, services: Parts) -> Response:
    """With ``echo`` and ``logprobs`` for evaluation tools."""
    completions.check(body)
    wishes = Wishes(
        body.max_tokens, body.temperature, body.top_p, stops_of(body.stop), body.seed, body.n or 1
    )
    asked = await asking(services, who, request, body.model, (), wishes, body.options)
    told = Completed(
        body.model,
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )

    async def speak(emit: Emit) -> Spoken:
        return await completions.speak(asked, body, emit)

    return await _answer(request, asked, speak, told, told.whole, stream=body.stream)


@router.post("/embeddings", summary="Texts as vectors")
async def embed(body: EmbeddingRequest, request: Request, who: Who, services: Parts) -> Response:
    """As numbers, or as base64 of little-endian floats."""
    who.check("ask")
    who.check_budget()
    return JSONResponse(await unless_gone(request, embeddings.embed(services, body)))


async def _answer(
    request: Request,
    asked: Asking,
    speak: Speak,
    form: Format,
    whole: Callable[[Spoken], dict[str, Any]],
    *,
    stream: bool | None,
) -> Response:
    key, path = request.headers.get(HEADER), request.scope["path"]
    once: Once = request.app.state.once
    speak = once.speak(asked.who.actor, path, key, await request.body(), speak)
    if stream:
        return Streamed(speak, form)

    async def work() -> Spoken:
        return await speak(ignore)

    told = json.dumps(whole(await unless_gone(request, work())), ensure_ascii=False)
    return Response(told.encode("utf-8", "replace"), media_type="application/json")
