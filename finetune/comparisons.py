"""From finished interactions to rated candidates: the data of Stable Alignment (Liu et al., 2023, 3.2).

Pure. Three kinds of groups::

    imitation    question                      → every draft and revision that answers it
    self-critic  question, draft               → the peers' critiques of the draft
    realignment  question, draft, critiques    → the revision, if it was rated higher and above the middle

Drafts and revisions are rated by observers, and by people wherever they sit. A critique is as good as its
rating agrees with theirs: ``high − |peer's rating − mean of the others'|``, no lower than ``low``. What could
not be read as a rating is left out, and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from finetune.groups import KINDS, Candidate, Group, Judgement, Kind, Raters, Turn, turns
from sandbox import events as ev
from sandbox.asking import Opinion, to_draft, to_rate, to_revise
from sandbox.errors import UserError
from sandbox.prompts import form, introduction
from sandbox.records import InteractionRecord, assemble
from sandbox.rubric import Rubric, Scale
from sandbox.society import Agent, Seat, Society
from sandbox.text import is_blank
from sandbox.withdrawing import PSEUDONYM, WITHDRAWN


class Choice(NamedTuple):
    """What is taken: kinds of groups, whose ratings, of which rubric version (None: all), in which dimension.

    A person's rating counts as much as ``weight_people`` of a model's; without a ``dimension``, the one that
    the peers rate by is taken. ``with_peers`` lets the ratings count that models gave as peers.
    """

    kinds: tuple[Kind, ...] = KINDS
    raters: Raters = "all"
    weight_people: float = 1.0
    rubric: int | None = None
    dimension: str | None = None
    with_peers: bool = False


@dataclass(slots=True)
class Compared:
    """The groups of a session, and what was left out, by reason."""

    groups: list[Group] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)


def compare(session: str, events: Iterable[ev.Event], choice: Choice) -> Compared:
    """The groups of one session's events. Questions keep their order; so do candidates within one."""
    return _Comparing(session, list(events), choice).run()


class _Comparing:
    def __init__(self, session: str, events: list[ev.Event], choice: Choice) -> None:
        created = events[0]
        assert isinstance(created, ev.SessionCreated)
        self._session = session
        self._society: Society = created.society
        self._choice = choice
        self._rubrics: dict[int, Rubric] = {created.society.rubric.version: created.society.rubric}
        for event in events:
            if isinstance(event, ev.SeatAdded):
                self._society = self._society.with_seat(event.seat)
            elif isinstance(event, ev.RubricChanged):
                self._rubrics[event.rubric.version] = event.rubric
        self._newest = max(self._rubrics)
        self._require_known()
        self._records = assemble(events)
        self._askers: dict[str, set[str | None]] = {}
        self._out = Compared()
        self._given = self._counting()

    def run(self) -> Compared:
        """All kinds that are wanted."""
        if "imitation" in self._choice.kinds:
            self._imitations()
        for record in self._records:
            if record.kind != "deliberation" or record.draft is None:
                continue
            if "self-critic" in self._choice.kinds:
                self._self_critic(record)
            if "realignment" in self._choice.kinds and record.revision is not None:
                self._realignment(record, record.revision)
        return self._out

    def _require_known(self) -> None:
        """Raise ``UserError`` for a rubric version or dimension that the session never had."""
        wanted, dimension = self._choice.rubric, self._choice.dimension
        if wanted is not None and wanted not in self._rubrics:
            known = ", ".join(str(version) for version in sorted(self._rubrics))
            raise UserError(f"Session {self._session} has no rubric version {wanted}. There are: {known}.")
        names = sorted({each.name for rubric in self._rubrics.values() for each in rubric.criteria})
        if dimension is not None and dimension not in names:
            raise UserError(
                f"Session {self._session} has no dimension '{dimension}'. There are: {', '.join(names)}."
            )

    # Ratings

    def _counting(self) -> dict[str, list[ev.RatingGiven]]:
        """The ratings that count, by the message they rate: of one rater's in one dimension, the last."""
        last: dict[tuple[str, str, str], ev.RatingGiven] = {}
        every = {
            (rating.interaction, rating.step): rating for record in self._records for rating in record.ratings
        }
        for _, rating in sorted(every.items()):
            if self._is_wanted(rating):
                last[rating.person or rating.rater, rating.target, rating.dimension] = rating
        by_target: dict[str, list[ev.RatingGiven]] = {}
        for rating in last.values():
            by_target.setdefault(rating.target, []).append(rating)
        return by_target

    def _is_wanted(self, rating: ev.RatingGiven) -> bool:
        if rating.dimension != self._dimension(rating.rubric):
            return False
        if self._choice.rubric is not None and rating.rubric != self._choice.rubric:
            self._out.dropped["ratings under another rubric version"] += 1
            return False
        if rating.value is None:
            self._out.dropped["ratings that could not be read"] += 1
            return False
        is_person = _is_persons(rating)
        if rating.rated_as == "peer" and not is_person and not self._choice.with_peers:
            return False
        wanted = self._choice.raters
        return wanted == "all" or is_person == (wanted == "people")

    def _dimension(self, version: int) -> str:
        return self._choice.dimension or self._rubrics.get(version, self._society.rubric).peer

    def _rating(
        self, targets: Iterable[str], scale: Scale, but: str | None = None
    ) -> tuple[float | None, tuple[Judgement, ...]]:
        """The weighted mean of the ratings of some messages that say the same, and the ratings."""
        counted = [r for t in targets for r in self._given.get(t, []) if (r.person or r.rater) != but]
        if not counted:
            return None, ()
        weights = [self._choice.weight_people if _is_persons(rating) else 1.0 for rating in counted]
        if sum(weights) <= 0:
            return None, ()
        values = [_on(scale, rating) for rating in counted]
        mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
        return mean, tuple(self._judgement(rating) for rating in counted)

    def _judgement(self, rating: ev.RatingGiven) -> Judgement:
        assert rating.value is not None
        return Judgement(
            reference=self._reference(f"{rating.interaction}.{rating.step}"),
            target=self._reference(rating.target),
            rater=rating.rater,
            person=_person(rating),
            value=rating.value,
            method=rating.method,
            rubric=rating.rubric,
            reason=rating.reason,
        )

    # The kinds

    def _imitations(self) -> None:
        by_question: dict[str, dict[str, list[ev.MessagePosted]]] = {}
        for record in self._records:
            if record.kind not in ("deliberation", "answer") or not record.question:
                continue
            if record.draft is None:
                self._out.dropped["interactions without an answer"] += 1
            for message in (record.draft, record.revision):
                if message is None or not self._is_usable(record, message):
                    continue
                same = by_question.setdefault(record.question, {})
                self._askers.setdefault(record.question, set()).add(record.asker)
                same.setdefault(message.text.strip(), []).append(message)
        for question, texts in by_question.items():
            self._imitation(question, texts)

    def _is_usable(self, record: InteractionRecord, *messages: ev.MessagePosted) -> bool:
        """Whether something stands in messages and question that nobody took back; else it is counted."""
        texts = [record.question, *(message.text for message in messages)]
        if any(text == WITHDRAWN for text in texts):
            self._out.dropped["withdrawn"] += 1
        elif any(map(is_blank, texts)):
            self._out.dropped["empty messages"] += 1
        else:
            return True
        return False

    def _imitation(self, question: str, texts: Mapping[str, list[ev.MessagePosted]]) -> None:
        scale = self._rubric().scale
        candidates = []
        for text, messages in texts.items():
            self._out.dropped["candidates that say the same (merged)"] += len(messages) - 1
            rating, judgements = self._rating([message.message for message in messages], scale)
            if rating is None:
                self._out.dropped["candidates that nobody rated"] += 1
                continue
            candidates.append(self._candidate(text, rating, messages, judgements))
        if not candidates:
            self._out.dropped["imitation: no rated candidate"] += 1
            return
        best = max(candidates, key=lambda candidate: candidate.rating or 0)
        prompt = to_draft(self._rubric().language, self._seat(best.seat), question)
        kept = {candidate.text for candidate in candidates}
        people = {m.person for text, messages in texts.items() if text in kept for m in messages}
        people |= self._askers.get(question, set())
        self._add("imitation", turns(prompt), question, candidates, scale, people)

    def _self_critic(self, record: InteractionRecord) -> None:
        draft = record.draft
        assert draft is not None
        if not self._is_usable(record, draft):
            return
        rubric = self._rubric(record)
        fields = form(rubric.language)
        by_text: dict[str, Candidate] = {}
        for given in record.peer_ratings():
            if given.value is None or not given.reason:
                self._out.dropped["critiques without a rating or a reason"] += 1
                continue
            # The peer's own rating of the draft must not speak for itself.
            mean, judgements = self._rating([draft.message], given.scale, but=given.person or given.rater)
            if mean is None:
                self._out.dropped["critiques of drafts that nobody else rated"] += 1
                continue
            # The form asks for a whole number; ratings by likelihood are means.
            said = f"{fields.rating}: {round(given.value)}\n{fields.reason}: {given.reason}"
            near = max(given.scale.low, given.scale.high - abs(given.value - mean))
            if said in by_text:
                self._out.dropped["candidates that say the same (merged)"] += 1
                continue
            by_text[said] = Candidate(
                text=said,
                rating=near,
                messages=(self._reference(f"{given.interaction}.{given.step}"),),
                seat=given.rater,
                model=given.usage.model if given.usage else "",
                person=_person(given),
                judgements=judgements,
            )
        if not by_text:
            self._out.dropped["self-critic: no rated critique"] += 1
            return
        candidates = list(by_text.values())
        best = max(candidates, key=lambda candidate: candidate.rating or 0)
        asked = to_rate(rubric, record.question, draft.text)
        prompt = turns((introduction(rubric.language, self._seat(best.seat)), asked))
        people = {record.asker, draft.person, *(_person(given) for given in record.peer_ratings())}
        self._add("self-critic", prompt, record.question, candidates, rubric.scale, people)

    def _realignment(self, record: InteractionRecord, revision: ev.MessagePosted) -> None:
        draft = record.draft
        assert draft is not None
        if not self._is_usable(record, draft, revision):
            return
        rubric = self._rubric(record)
        before, _ = self._rating([draft.message], rubric.scale)
        after, judgements = self._rating([revision.message], rubric.scale)
        if before is None or after is None:
            self._out.dropped["realignment: draft or revision not rated"] += 1
        elif after <= before:
            self._out.dropped["realignment: the rating did not rise"] += 1
        elif after <= (rubric.scale.low + rubric.scale.high) / 2:
            self._out.dropped["realignment: not above the middle of the scale"] += 1
        else:
            places = {seat.name: getattr(seat, "place", 0) for seat in self._society.seats()}
            opinions = [
                Opinion(places.get(given.rater, 0), given.value, given.reason)
                for given in record.peer_ratings()
            ]
            asked = to_revise(rubric, self._seat(record.seat), record.question, draft.text, opinions)
            candidate = self._candidate(revision.text.strip(), after, [revision], judgements)
            raters = (_person(given) for given in record.peer_ratings())
            people = {record.asker, draft.person, revision.person, *raters}
            self._add(
                "realignment", turns(asked.messages), record.question, [candidate], rubric.scale, people
            )

    # Shared

    def _add(
        self,
        kind: Kind,
        prompt: tuple[Turn, ...],
        question: str,
        candidates: list[Candidate],
        scale: Scale,
        people: set[str | None],
    ) -> None:
        judges = {judgement.person for candidate in candidates for judgement in candidate.judgements}
        self._out.groups.append(
            Group(
                kind=kind,
                prompt=prompt,
                question=question,
                candidates=tuple(candidates),
                low=scale.low,
                high=scale.high,
                dimension=self._dimension(self._newest),
                session=self._session,
                people=tuple(sorted(p for p in people | judges if p and not PSEUDONYM.fullmatch(p))),
            )
        )

    def _candidate(
        self, text: str, rating: float, messages: list[ev.MessagePosted], judgements: tuple[Judgement, ...]
    ) -> Candidate:
        first = messages[0]
        return Candidate(
            text=text,
            rating=rating,
            messages=tuple(self._reference(message.message) for message in messages),
            seat=first.seat,
            model=first.usage.model if first.usage else "",
            person=first.person,
            judgements=judgements,
        )

    def _reference(self, local: str) -> str:
        return f"{self._session}/{local}"

    def _seat(self, name: str) -> Seat:
        return self._society.seat(name) or Agent(name="Guest", place=0, model="scripted/none")

    def _rubric(self, record: InteractionRecord | None = None) -> Rubric:
        """The norms that an interaction was rated by; without one, those in force."""
        if (wanted := self._choice.rubric) is not None and wanted in self._rubrics:
            return self._rubrics[wanted]
        versions = [rating.rubric for rating in record.peer_ratings()] if record else []
        return self._rubrics.get(versions[0] if versions else self._newest, self._rubrics[self._newest])


def _is_persons(rating: ev.RatingGiven) -> bool:
    return rating.person is not None or rating.method == "human"


def _person(rating: ev.RatingGiven) -> str | None:
    return rating.person or (rating.rater if rating.method == "human" else None)


def _on(scale: Scale, rating: ev.RatingGiven) -> float:
    """The value on another scale: the same share of the way from its worst to its best."""
    assert rating.value is not None
    given = rating.scale
    if (given.low, given.high) == (scale.low, scale.high):
        return rating.value
    share = (rating.value - given.low) / (given.high - given.low)
    return scale.low + share * (scale.high - scale.low)
