"""A finished interaction as training and analysis see it: one object, assembled from its events.

Pure. What could not be read stays None and is counted; no mean ever includes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sandbox import events as ev


@dataclass(slots=True)
class InteractionRecord:
    """One deliberation: question, draft, ratings of either, revision, failures, and what it took.

    ``asker`` is the person who asked, where a person did.

    ``ratings`` holds those given in it, and those given later, elsewhere, to its messages.
    """

    interaction: int
    kind: str
    round: int | None
    seat: str
    question: str
    draft: ev.MessagePosted | None = None
    revision: ev.MessagePosted | None = None
    messages: list[ev.MessagePosted] = field(default_factory=list)
    ratings: list[ev.RatingGiven] = field(default_factory=list)
    failures: list[ev.TurnFailed] = field(default_factory=list)
    outcome: ev.InteractionOutcome | None = None
    peers: tuple[str, ...] = ()
    asker: str | None = None

    def peer_ratings(self) -> list[ev.RatingGiven]:
        """The peers' ratings of the draft, in the peers' order."""
        given = {rating.rater: rating for rating in self.ratings if rating.rated_as == "peer"}
        return [given[peer] for peer in self.peers if peer in given]

    def observed(self, role: str, dimension: str) -> float | None:
        """The observers' mean rating of ``role`` ("draft", "revision") in a dimension; None if unread."""
        target = f"{self.interaction}.{role}"
        return mean(
            rating.value
            for rating in self.ratings
            if rating.target == target and rating.dimension == dimension and rating.rated_as == "observer"
        )

    def peers_mean(self) -> float | None:
        """The mean of the peers' parsed ratings of the draft."""
        return mean(rating.value for rating in self.peer_ratings())

    def unparsed(self) -> int:
        """How many ratings could not be read."""
        return sum(rating.value is None for rating in self._own_ratings())

    def calls(self) -> int:
        """How many requests were put to models."""
        return sum(event.usage is not None for event in self._steps())

    def tokens(self) -> tuple[int, int]:
        """Prompt and completion tokens."""
        used = [event.usage for event in self._steps() if event.usage]
        return sum(u.prompt_tokens for u in used), sum(u.completion_tokens for u in used)

    def cost(self) -> float:
        """US dollars."""
        return sum(event.usage.cost for event in self._steps() if event.usage)

    def _own_ratings(self) -> list[ev.RatingGiven]:
        return [rating for rating in self.ratings if rating.interaction == self.interaction]

    def _steps(self) -> Iterator[ev.Step]:
        yield from self.messages
        yield from self._own_ratings()
        yield from self.failures


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def assemble(events: Iterable[ev.Event]) -> list[InteractionRecord]:
    """The interactions that ``events`` tell of, by number; unfinished ones have no outcome."""
    records: dict[int, InteractionRecord] = {}
    for event in events:
        if isinstance(event, ev.InteractionStarted):
            records[event.interaction] = InteractionRecord(
                event.interaction,
                event.kind,
                event.round,
                event.seat,
                event.question,
                peers=event.peers,
                asker=event.person,
            )
        elif isinstance(event, ev.MessagePosted):
            record = records[event.interaction]
            record.messages.append(event)
            if event.role in ("draft", "answer"):
                record.draft = event
            elif event.role == "revision":
                record.revision = event
        elif isinstance(event, ev.RatingGiven):
            records[event.interaction].ratings.append(event)
            rated = int(event.target.partition(".")[0])
            if rated != event.interaction and rated in records:  # given later, and outside
                records[rated].ratings.append(event)
        elif isinstance(event, ev.TurnFailed):
            records[event.interaction].failures.append(event)
        elif isinstance(event, ev.InteractionFinished):
            records[event.interaction].outcome = event.outcome
    return [records[number] for number in sorted(records)]
