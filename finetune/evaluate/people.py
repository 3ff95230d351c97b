"""people:SESSION: how far a judge agrees with the people who rated a session's messages.

The measured models are the judges. Each is asked as the session's observers are, by its criteria and on its
scale, about every message that people rated. A rating that can't be read enters no mean.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from finetune.evaluate.answers import Answering, Told, rating_in, rating_of, several
from finetune.evaluate.items import ALPHA, Item, Metric, Source, digest, identify
from sandbox import events as ev
from sandbox.errors import UserError
from sandbox.exchange import Failure
from sandbox.models.base import Model, outcome_of
from sandbox.records import assemble
from sandbox.redaction import Redactor
from sandbox.rubric import Rubric
from sandbox.seeds import derive
from sandbox.votes import gather
from sandbox.withdrawing import WITHDRAWN

PREFIX = "people:"


class Rated(NamedTuple):
    """A message that people rated by a criterion, with the mean of their ratings."""

    question: str
    text: str
    criterion: str
    people: float


class PeopleSuite:
    """A session's messages with people's ratings of them."""

    def __init__(self, name: str, session: str, happened: Sequence[ev.Event]) -> None:
        self.name = name
        self.rubric = _rubric(happened)
        dropped: Counter[str] = Counter()
        known = {criterion.name for criterion in self.rubric.criteria}
        said = _messages(happened)
        given: dict[tuple[str, str], list[float]] = defaultdict(list)
        for vote in gather(happened).votes:
            if not vote.is_person:
                continue
            if vote.value is None:
                dropped["people's ratings that could not be read"] += 1
            elif vote.target not in said or vote.dimension not in known:
                dropped["people's ratings of what is gone, or by a criterion that is"] += 1
            else:
                given[vote.target, vote.dimension].append(vote.value)
        self.items: Sequence[Item] = [
            Item(identify(session, target, *map(str, rated)), (), rated)
            for (target, dimension), values in sorted(given.items())
            if (rated := Rated(*said[target], dimension, sum(values) / len(values)))
        ]
        if not self.items:
            raise UserError(f"No person rated a message of {session} that a judge could rate too.")
        self.source = Source(f"people's ratings in {session}", digest(self.items), dropped)
        low, high = self.rubric.scale.low, self.rubric.scale.high
        self.metrics: tuple[Metric, ...] = (
            Metric(ALPHA, "Krippendorff's ordinal alpha of judge and people's mean", "", None, 1),
            Metric("apart", "how far the judge is from the people's mean, in points", "lower", 0, high - low),
            Metric("judge", "the judge's mean rating", "", low, high),
            Metric("people", "the people's mean rating", "", low, high),
            Metric("unparsed", "share of the judge's ratings that could not be read", "lower"),
        )

    async def measure(
        self,
        items: Sequence[Item],
        spec: str,
        models: Callable[[str], Model],
        redact: Redactor,
        answering: Answering,
        on_told: Callable[[Item, Told], None],
    ) -> None:
        """Have ``spec`` rate the items. Raises ``BudgetExhausted``."""

        async def rated(item: Item) -> Told:
            what: Rated = item.content
            seed = derive(answering.seed, item.id)
            request = rating_of(self.rubric, what.criterion, what.question, what.text, spec, seed)
            outcome = await outcome_of(models, spec, request, redact)
            if isinstance(outcome, Failure):
                return Told(None, {"failure": f"{outcome.kind}: {outcome.detail}"})
            value, people = rating_in(outcome, self.rubric.scale), what.people
            scores = {
                "judge": value,
                "people": people,
                "apart": None if value is None else abs(value - people),
                "unparsed": float(value is None),
            }
            return Told(scores, {"as told": outcome.text})

        await several(items, rated, on_told, answering.at_once)


def _rubric(happened: Iterable[ev.Event]) -> Rubric:
    """The norms as they are now."""
    found = Rubric()
    for event in happened:
        if isinstance(event, ev.SessionCreated):
            found = event.society.rubric
        elif isinstance(event, ev.RubricChanged):
            found = event.rubric
    return found


def _messages(happened: Iterable[ev.Event]) -> dict[str, tuple[str, str]]:
    """By message: what had been asked, and what was said."""
    return {
        message.message: (record.question, message.text)
        for record in assemble(happened)
        for message in record.messages
        if message.text != WITHDRAWN
    }
