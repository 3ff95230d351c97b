"""One question to a seat or a society, as the endpoints for text have it, and who answers it."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from starlette.requests import Request

from sandbox.aside import Aside
from sandbox.errors import ModelRefused, UserError
from sandbox.exchange import ChatMessage, Reply, Sampling
from sandbox.models.limits import paid_by
from sandbox.models.spec import parse
from sandbox.seeds import derive
from server.auth import Identity
from server.deps import person_of
from server.openai.errors import ApiError, unsupported
from server.openai.models import Target, drafter, resolve
from server.openai.speaking import Choice, Emit, Piece, Speak, Spoken, finish_of, ignore, rest_of
from server.openai.streaming import all_or_none
from server.openai.wire import MOST_TOKENS, Form, Options, Tools, without_calls
from server.purse import KeyPurse
from server.services import Services

RECORD_HEADER = "x-sandbox-record"
_YES = frozenset({"1", "true", "yes"})


@dataclass(frozen=True, slots=True)
class Wishes:
    """How replies are wanted; None is the seat's own way."""

    tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    form: Form | None = None
    tools: Tools | None = None

    def sampling(self, aside: Aside) -> Sampling:
        """How a reply is generated, by what is wanted and the society's own ways."""
        own = aside.lengths
        tokens = own.answer_tokens if self.tokens is None else self.tokens
        return Sampling(
            min(tokens, MOST_TOKENS),
            own.temperature if self.temperature is None else self.temperature,
            (own.top_p if self.top_p is None else self.top_p) or 1e-6,
            self.stop,
        )

    def seeds(self) -> list[int]:
        """A seed for each choice, at random if none is given."""
        first = secrets.randbits(62) if self.seed is None else self.seed
        return [first, *(derive(first, place) for place in range(1, self.n))]


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks whom, what and how."""

    services: Services
    who: Identity
    person: str | None
    target: Target
    messages: tuple[ChatMessage, ...]
    wishes: Wishes
    options: Options
    record: bool = False

    @property
    def turn(self) -> AbstractAsyncContextManager[None]:
        """What a society's answer waits for, if it is paid from a budget."""
        if self.who.key is None or self.who.budget is None:
            return nullcontext()
        return self.services.parts.purses.turn(self.who.key)

    @property
    def shows_draft(self) -> bool:
        """Whether a stream holds the draft: by the request, else by the model's id and the settings."""
        if self.options.draft is not None:
            return self.options.draft
        return self.target.with_draft and self.services.server.show_draft

    async def aside(self) -> Aside:
        """The society, off the record."""
        return await self.services.runs.aside(self.target.session)

    @property
    def purse(self) -> KeyPurse | None:
        """What the answer is paid from; None if nobody's key pays."""
        key = self.who.key
        return None if key is None else KeyPurse(self.services.parts.purses, key)


async def asking(
    services: Services,
    who: Identity,
    request: Request,
    model: str,
    messages: tuple[ChatMessage, ...],
    wishes: Wishes,
    options: Options,
) -> Asking:
    """Resolve who is asked. Raises ``ApiError``, ``Forbidden`` or ``OverBudget``."""
    who.check_budget()
    target = await resolve(services, who, model)
    record = options.record or request.headers.get(RECORD_HEADER, "").strip().lower() in _YES
    if target.seat is None and not record and _is_task(messages, services.server.task_prompts):
        seat = options.seat or await drafter(services, target.session)
        target, options = target._replace(seat=seat), options.model_copy(update={"seat": None})
    if wishes.n > 1 and (target.seat is None or record):
        raise ApiError("Societies, and whatever is recorded, answer once. Leave out 'n'.", param="n")
    if wishes.form is not None and (target.seat is None or record):
        raise unsupported(
            wishes.form.param,
            "A society drafts, rates and revises in its own words, and so does whatever is recorded; no "
            "format can be promised. Ask one of its seats, off the record: sandbox/SEAT.",
        )
    if wishes.tools is not None and wishes.tools.demanded and (target.seat is None or record):
        raise unsupported(
            "tool_choice",
            "A society drafts, rates and revises in its own words, and so does whatever is recorded; no call "
            "of a tool can be required of it. Leave the choice out, or ask one of its seats: sandbox/SEAT.",
        )
    if target.seat is None or record:
        messages = without_calls(messages)
    if options.seat is not None and target.seat is not None:
        raise ApiError(
            "sandbox.seat says who drafts in a society; this model is a seat already.", param="sandbox.seat"
        )
    return Asking(services, who, person_of(request, who), target, messages, wishes, options, record)


def _is_task(messages: tuple[ChatMessage, ...], patterns: tuple[str, ...]) -> bool:
    """Whether a front end asks for a title, tags or the like, which no society need deliberate on."""
    said = [message.content for message in messages if message.role != "system"]
    return len(said) == 1 and any(fnmatchcase(said[0], pattern) for pattern in patterns)


def speaker(asked: Asking) -> Speak:
    """Who answers: a seat, its society, or either of them on the record."""
    from server.openai import recorded, society

    if asked.record:
        return lambda emit: recorded.speak(asked, emit)
    if asked.target.seat is None:
        return lambda emit: society.speak(asked, emit)
    return lambda emit: _seat_speaks(asked, emit)


async def _form_for(spec: str, seat: str, form: Form | None) -> dict[str, Any] | None:
    """The format that a seat's reply is held to. Raises ``ApiError`` if its model can't be held to it."""
    if form is None:
        return None
    model = parse(spec)
    if model.family == "litellm":
        from sandbox.models.remote import takes_format

        takes = await asyncio.to_thread(takes_format, model.name, str(form.format["type"]))
    elif model.family == "local":
        takes = await _is_led(form, seat)
    else:
        takes = model.family == "openai"
    if not takes:
        raise unsupported(
            form.param,
            f"The seat '{seat}' speaks through {spec.partition('?')[0]}, which can't be held to "
            f"{form.format['type']}. Leave '{form.param}' out, or ask a seat whose model can.",
        )
    return form.format


async def _is_led(form: Form, seat: str) -> bool:
    """Whether a local model is led to a form. Raises ``ApiError`` if it can't be to this one, or not here."""
    from sandbox.models.guides import can_guide, grammar_of

    if not can_guide():
        raise unsupported(
            form.param,
            f"The seat '{seat}' speaks through a local model, which is held to a format by llguidance. It is "
            "not installed here; its operator can: pip install 'social-sandbox[local]'.",
        )
    try:
        await asyncio.to_thread(grammar_of, form.format)
    except UserError as error:
        raise ApiError(str(error), param=form.param) from error
    return True


async def _tools_for(spec: str, seat: str, tools: Tools | None) -> dict[str, Any] | None:
    """The tools that a seat's model is given: those offered, if it can call any; a model may decline to.

    Raises ``ApiError`` if a call is demanded and it can't call.
    """
    if tools is None:
        return None
    model = parse(spec)
    if model.family == "litellm":
        from sandbox.models.remote import takes_tools

        takes = await asyncio.to_thread(takes_tools, model.name)
    else:
        takes = model.family == "openai"
    if takes:
        return tools.fields
    if tools.demanded:
        raise unsupported(
            "tool_choice",
            f"The seat '{seat}' speaks through {spec.partition('?')[0]}, which calls no tools, so none can "
            "be required. Leave the choice out, set it to 'auto', or ask a seat whose model can.",
        )
    return None


def _is_of_tools(error: ModelRefused, tools: Tools | None) -> bool:
    """Whether an endpoint refused because its model knows no tools, which it need not."""
    return tools is not None and not tools.demanded and "tool" in str(error).lower()


async def _seat_speaks(asked: Asking, emit: Emit) -> Spoken:
    """What a seat says next, once or several times."""
    seat = asked.target.seat
    assert seat is not None
    aside = await asked.aside()
    sampling = asked.wishes.sampling(aside)
    spec = aside.spec(seat)
    form = await _form_for(spec, seat, asked.wishes.form)
    tools = await _tools_for(spec, seat, asked.wishes.tools)
    knows_calls = tools is not None or parse(spec).family == "openai"
    messages = asked.messages if knows_calls else without_calls(asked.messages)

    async def one(index: int, seed: int) -> Reply:
        said = ""

        def on_delta(text: str) -> None:
            nonlocal said
            said += text
            emit(Piece(index, text))

        wanted = None if emit is ignore else on_delta
        try:
            reply = await aside.answer(seat, messages, sampling, seed, wanted, form, tools)
        except ModelRefused as error:
            if not _is_of_tools(error, asked.wishes.tools):
                raise
            plain = without_calls(messages)  # they need not be called, so who knows none answers in text
            reply = await aside.answer(seat, plain, sampling, seed, wanted, form)
        if rest := rest_of(said, reply.text):
            emit(Piece(index, rest))
        return reply

    with paid_by(asked.purse):
        replies = await all_or_none(one(index, seed) for index, seed in enumerate(asked.wishes.seeds()))
    usage = replies[0].usage
    note: dict[str, Any] = {
        "session": asked.target.session,
        "seat": seat,
        "model": usage.model,
        "interaction": None,
    }
    if usage.trimmed:
        note["trimmed"] = usage.trimmed
    return Spoken(
        tuple(Choice(reply.text, finish_of(reply), calls=reply.calls) for reply in replies),
        usage.prompt_tokens,
        sum(reply.usage.completion_tokens for reply in replies),
        note,
    )
