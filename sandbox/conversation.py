"""Free chat and free rating as pure generators: who is addressed answers, and anything said can be rated.

The same contract as ``deliberation``: requests out, outcomes in, events on the way. It knows no model,
clock or database.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sandbox import events as ev
from sandbox.deliberation import Course, Turn
from sandbox.exchange import Answered, ChatMessage, Failure, Request, Sampling, Subject
from sandbox.memory import Recalled
from sandbox.outcomes import failed, posted, rated
from sandbox.prompts import form, introduction, render
from sandbox.rubric import Rubric
from sandbox.seeds import derive
from sandbox.society import Agent, Lengths, Seat
from sandbox.text import is_blank

PERSON = "person"
"""Who speaks or rates when no seat does."""
HISTORY = 8
"""How many earlier exchanges an agent is reminded of."""


def is_person_name(name: str) -> bool:
    """Whether a person may be called so: 1–32 letters, marks, digits and " .'_-" with ink, a letter first."""
    kinds = [unicodedata.category(sign)[0] for sign in name]
    hidden = any(is_blank(sign) for sign in name if sign != " ")
    plain = not hidden and all(
        kind in "LMN" or sign in " .'_-" for kind, sign in zip(kinds, name, strict=True)
    )
    return 1 <= len(name) <= 32 and kinds[0] == "L" and plain and name == name.strip()


class Exchange(NamedTuple):
    """One earlier message to a seat and what the seat replied."""

    author: str
    text: str
    reply: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message to be sent. ``history`` maps a recipient to its earlier exchanges, oldest first."""

    interaction: int
    author: str
    text: str
    recipients: tuple[Agent, ...]
    recalled: Mapping[str, Recalled] = field(default_factory=dict)
    history: Mapping[str, Sequence[Exchange]] = field(default_factory=dict)
    rubric: Rubric = Rubric()
    lengths: Lengths = Lengths()
    seed: int = 0


def converse(message: Message) -> Course:
    """Post the message; every recipient replies on its own."""
    names = tuple(agent.name for agent in message.recipients)
    started = ev.InteractionStarted(
        interaction=message.interaction, kind="chat", seat=message.author, question=message.text, peers=names
    )
    said = ev.MessagePosted(
        interaction=message.interaction,
        step="message",
        seat=message.author,
        role="message",
        text=message.text,
        to=names,
    )
    told: tuple[ev.Event, ...] = (started, said)
    requests = tuple(_reply_request(message, agent) for agent in message.recipients)
    replied = False
    for _ in range(len(message.recipients)):
        answered = yield Turn(told, requests)
        requests = ()
        reply = _replied(message, answered)
        replied = replied or isinstance(reply, ev.MessagePosted)
        told = (reply,)
    outcome: ev.InteractionOutcome = "answered" if replied or not message.recipients else "failed"
    yield Turn((*told, ev.InteractionFinished(interaction=message.interaction, outcome=outcome)))


def _reply_request(message: Message, agent: Agent) -> Request:
    language = message.rubric.language
    past: list[ChatMessage] = []
    for exchange in list(message.history.get(agent.name, ()))[-HISTORY:]:
        past += [
            ChatMessage("user", _addressed(language, exchange.author, agent.name, exchange.text, None)),
            ChatMessage("assistant", exchange.reply),
        ]
    others = [other.name for other in message.recipients if other.name != agent.name]
    audience = ", ".join([agent.name, *others])
    body = _addressed(language, message.author, audience, message.text, message.recalled.get(agent.name))
    step = f"reply.{agent.name}"
    return Request(
        step=step,
        seat=agent.name,
        purpose="chat",
        messages=(introduction(language, agent), *past, ChatMessage("user", body)),
        sampling=Sampling(message.lengths.answer_tokens, message.lengths.temperature, message.lengths.top_p),
        seed=derive(message.seed, message.interaction, step),
        subject=Subject(text=message.text, target=f"{message.interaction}.message", author=message.author),
    )


def _addressed(language: str, author: str, audience: str, text: str, recalled: Recalled | None) -> str:
    return render(language, "chat", author=author, audience=audience, message=text, recalled=recalled)


def _replied(message: Message, answered: Answered) -> ev.MessagePosted | ev.TurnFailed:
    seat = answered.step.removeprefix("reply.")
    return posted(
        message.interaction,
        answered,
        seat,
        "message",
        to=(message.author,),
        recalled=message.recalled.get(seat),
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """A message to be rated in one dimension by a seat. ``question`` is what it answered, or empty."""

    interaction: int
    rater: Seat
    target: str
    author: str
    text: str
    dimension: str
    question: str = ""
    rubric: Rubric = Rubric()
    lengths: Lengths = Lengths()
    method: Literal["best", "text"] = "best"
    seed: int = 0


def judge(judgement: Judgement) -> Course:
    """One seat rates one message."""
    rubric = judgement.rubric
    fields = form(rubric.language)
    body = render(
        rubric.language,
        "judge",
        author=judgement.author,
        question=judgement.question,
        answer=judgement.text,
        criterion=rubric.criterion(judgement.dimension),
        scale=rubric.scale,
        form=fields,
    )
    rater = judgement.rater
    step = f"judge.{rater.name}.{judgement.dimension}"
    request = Request(
        step=step,
        seat=rater.name,
        purpose="rate",
        messages=(introduction(rubric.language, rater), ChatMessage("user", body)),
        sampling=Sampling(judgement.lengths.rating_tokens, 0.0, 1.0),
        seed=derive(judgement.seed, judgement.interaction, step),
        scale=rubric.scale,
        form=fields,
        method=judgement.method,
        subject=Subject(
            judgement.question, judgement.text, judgement.target, judgement.dimension, judgement.author
        ),
    )
    started = ev.InteractionStarted(
        interaction=judgement.interaction, kind="rating", seat=rater.name, question=judgement.question
    )
    answered = yield Turn((started,), (request,))
    outcome = answered.outcome
    if isinstance(outcome, Failure):
        yield Turn((failed(judgement.interaction, step, rater.name, outcome), _over(judgement, "failed")))
        return
    given = rated(
        judgement.interaction,
        step,
        outcome,
        rater=rater.name,
        target=judgement.target,
        dimension=judgement.dimension,
        rubric=rubric,
    )
    yield Turn((given, _over(judgement, "answered")))


def _over(judgement: Judgement, outcome: ev.InteractionOutcome) -> ev.InteractionFinished:
    return ev.InteractionFinished(interaction=judgement.interaction, outcome=outcome)


def vote(
    interaction: int,
    *,
    rater: str,
    target: str,
    dimension: str,
    value: float,
    reason: str,
    rubric: Rubric,
) -> Generator[Turn, Answered, None]:
    """A person's rating of one message. Raises ``ValueError`` if the value is off the scale."""
    if not rubric.scale.holds(value):
        raise ValueError(f"a rating must lie on the scale from {rubric.scale.low} to {rubric.scale.high}")
    yield Turn(
        (
            ev.InteractionStarted(interaction=interaction, kind="rating", seat=rater),
            ev.RatingGiven(
                interaction=interaction,
                step=f"judge.{rater}.{dimension}",
                rater=rater,
                target=target,
                dimension=dimension,
                value=value,
                scale=rubric.scale,
                reason=reason,
                method="human",
                rubric=rubric.version,
                person=rater,
            ),
            ev.InteractionFinished(interaction=interaction, outcome="answered"),
        )
    )
