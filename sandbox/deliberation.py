"""Back-Scatter as a pure generator: it yields requests and events, and is sent the outcomes one by one.

It knows no model, clock, database or thread. Within a stage the outcomes may come in any order; the
interaction that results is the same. Stages::

    draft ──► peers rate the draft ─────────► revise ──► observers rate the revision
              observers rate the draft

A failed draft ends the interaction; any other failed turn is recorded and left out. The algorithm is
Back-Scatter of *Training Socially Aligned Language Models on Simulated Social Interactions*
(Liu et al., 2023, section 3.1); the numbers are ``Rules``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sandbox import events as ev
from sandbox.asking import Opinion, to_draft, to_observe, to_rate, to_revise
from sandbox.exchange import Answered, ChatMessage, Failure, Request, Sampling, Subject
from sandbox.memory import Recalled
from sandbox.outcomes import failed, posted, rated
from sandbox.prompts import form, introduction
from sandbox.rubric import Criterion, Rubric
from sandbox.seeds import derive
from sandbox.society import Agent, Human, Lengths, Observer


class Turn(NamedTuple):
    """What happened (to be recorded, together) and what is asked next (only then to be sent)."""

    events: tuple[ev.Event, ...]
    requests: tuple[Request, ...] = ()


Course = Generator[Turn, Answered, None]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an interaction depends on. ``recalled`` maps a seat to what it remembers, if anything.

    ``person`` is who asked, where a person did.
    """

    interaction: int
    question: str
    centre: Agent
    peers: tuple[Agent | Human, ...] = ()
    observers: tuple[Observer | Human, ...] = ()
    recalled: Mapping[str, Recalled] = field(default_factory=dict)
    rubric: Rubric = Rubric()
    lengths: Lengths = Lengths()
    method: Literal["best", "text"] = "best"
    seed: int = 0
    round: int | None = None
    revise: bool = True
    person: str | None = None

    def seed_of(self, step: str) -> int:
        """The sampling seed of one request."""
        return derive(self.seed, self.interaction, step)

    @property
    def answering(self) -> Sampling:
        """How answers are sampled."""
        return Sampling(self.lengths.answer_tokens, self.lengths.temperature, self.lengths.top_p)

    @property
    def judging(self) -> Sampling:
        """How ratings are generated: greedily."""
        return Sampling(self.lengths.rating_tokens, 0.0, 1.0)


def deliberate(plan: Plan) -> Course:
    """One interaction of Back-Scatter; with ``plan.revise`` off, only its draft ("answer")."""
    started = ev.InteractionStarted(
        interaction=plan.interaction,
        kind="deliberation" if plan.revise else "answer",
        round=plan.round,
        seat=plan.centre.name,
        question=plan.question,
        peers=tuple(peer.name for peer in plan.peers),
        observers=tuple(observer.name for observer in plan.observers),
        person=plan.person,
    )
    answered = yield Turn((started,), (_draft_request(plan),))
    drafted = _posted(plan, answered, "draft" if plan.revise else "answer")
    if isinstance(drafted, ev.TurnFailed):
        yield Turn((drafted, _finished(plan, "failed")))
        return
    if not plan.revise:
        yield Turn((drafted, _finished(plan, "answered")))
        return

    opinions: list[Opinion] = []
    requests = _peer_requests(plan, drafted.text) + _observer_requests(plan, "draft", drafted.text)
    told = yield from _gather((drafted,), requests, lambda a: _judged(plan, a, "draft", opinions))

    answered = yield Turn(told, (_revise_request(plan, drafted.text, opinions),))
    revised = _posted(plan, answered, "revision")
    if isinstance(revised, ev.TurnFailed):
        yield Turn((revised, _finished(plan, "unrevised")))
        return
    requests = _observer_requests(plan, "revision", revised.text)
    told = yield from _gather((revised,), requests, lambda a: _judged(plan, a, "revision", []))
    yield Turn((*told, _finished(plan, "revised")))


def _gather(
    told: tuple[ev.Event, ...], requests: tuple[Request, ...], record: Callable[[Answered], ev.Event]
) -> Generator[Turn, Answered, tuple[ev.Event, ...]]:
    """Ask ``requests`` at once; returns the last outcome's events, not yet yielded."""
    for _ in range(len(requests)):
        answered = yield Turn(told, requests)
        requests = ()
        told = (record(answered),)
    return told


def _draft_request(plan: Plan) -> Request:
    recalled = plan.recalled.get(plan.centre.name)
    return Request(
        step="draft" if plan.revise else "answer",
        seat=plan.centre.name,
        purpose="draft",
        messages=to_draft(plan.rubric.language, plan.centre, plan.question, recalled),
        sampling=plan.answering,
        seed=plan.seed_of("draft"),
        subject=Subject(plan.question),
    )


def _peer_requests(plan: Plan, draft: str) -> tuple[Request, ...]:
    rubric = plan.rubric
    fields = form(rubric.language)
    judging = plan.judging
    subject = Subject(plan.question, draft, f"{plan.interaction}.draft", rubric.peer)
    bodies: dict[Recalled | None, ChatMessage] = {}  # peers who recall the same are told the same

    def body(recalled: Recalled | None) -> ChatMessage:
        if recalled not in bodies:
            bodies[recalled] = to_rate(rubric, plan.question, draft, recalled)
        return bodies[recalled]

    return tuple(
        Request(
            step=f"rate.{peer.name}",
            seat=peer.name,
            purpose="rate",
            messages=(introduction(rubric.language, peer), body(plan.recalled.get(peer.name))),
            sampling=judging,
            seed=plan.seed_of(f"rate.{peer.name}"),
            scale=rubric.scale,
            form=fields,
            method=plan.method,
            subject=subject,
        )
        for peer in plan.peers
    )


def _observer_requests(plan: Plan, role: str, text: str) -> tuple[Request, ...]:
    return tuple(
        _observer_request(plan, observer, criterion, role, text)
        for observer in plan.observers
        for criterion in plan.rubric.criteria
    )


def _observer_request(
    plan: Plan, observer: Observer | Human, criterion: Criterion, role: str, text: str
) -> Request:
    rubric = plan.rubric
    fields = form(rubric.language)
    step = f"observe.{observer.name}.{role}.{criterion.name}"
    return Request(
        step=step,
        seat=observer.name,
        purpose="observe",
        messages=(
            introduction(rubric.language, observer),
            to_observe(rubric, criterion, plan.question, text),
        ),
        sampling=plan.judging,
        seed=plan.seed_of(step),
        scale=rubric.scale,
        form=(fields.rating, ""),
        method=plan.method,
        subject=Subject(plan.question, text, f"{plan.interaction}.{role}", criterion.name),
    )


def _revise_request(plan: Plan, draft: str, opinions: list[Opinion]) -> Request:
    asked = to_revise(plan.rubric, plan.centre, plan.question, draft, opinions)
    return Request(
        step="revision",
        seat=plan.centre.name,
        purpose="revise",
        messages=asked.messages,
        sampling=plan.answering,
        seed=plan.seed_of("revision"),
        subject=Subject(
            plan.question, draft, f"{plan.interaction}.draft", mean=asked.mean, reasons=asked.reasons
        ),
    )


def _posted(plan: Plan, answered: Answered, role: ev.MessageRole) -> ev.MessagePosted | ev.TurnFailed:
    recalled = plan.recalled.get(plan.centre.name) if role != "revision" else None
    return posted(plan.interaction, answered, plan.centre.name, role, recalled=recalled)


def _judged(plan: Plan, answered: Answered, role: str, opinions: list[Opinion]) -> ev.Event:
    """Record a rating of ``role``'s message; a peer's is added to ``opinions``."""
    kind, _, rest = answered.step.partition(".")
    if kind == "rate":
        rater, dimension = rest, plan.rubric.peer
    else:
        rater, _, dimension = rest.split(".")
    if isinstance(answered.outcome, Failure):
        return failed(plan.interaction, answered.step, rater, answered.outcome)
    given = rated(
        plan.interaction,
        answered.step,
        answered.outcome,
        rater=rater,
        role="peer" if kind == "rate" else "observer",
        target=f"{plan.interaction}.{role}",
        dimension=dimension,
        rubric=plan.rubric,
        recalled=plan.recalled.get(rater) if kind == "rate" else None,
    )
    if kind == "rate":
        place = next(peer.place for peer in plan.peers if peer.name == rater)
        opinions.append(Opinion(place, given.value, given.reason))
    return given


def _finished(plan: Plan, outcome: ev.InteractionOutcome) -> ev.InteractionFinished:
    return ev.InteractionFinished(interaction=plan.interaction, outcome=outcome)
