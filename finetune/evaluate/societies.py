"""What societies said and how it was rated, as an evaluation's items: so that one can be told from another.

An item is one seat's question in one round. Societies of the same seats, questions and seed have the same
items, whoever speaks in them. It runs no society, and knows no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal

from finetune.evaluate.items import ALPHA, UNSEEN, identify, normal
from finetune.evaluate.plan import Figure, Options, Plan, Step, SuitePlan
from sandbox import events as ev
from sandbox.errors import SessionError, UserError
from sandbox.estimate import estimate
from sandbox.homogeneity import distinct, similarity_of, words
from sandbox.models.spec import base_of
from sandbox.monitored import Monitors
from sandbox.monitors import monitor
from sandbox.records import InteractionRecord, assemble
from sandbox.rubric import Rubric
from sandbox.running import Store
from sandbox.society import Agent, Society
from sandbox.store import sessions
from sandbox.store.evaluations import Measured

Run = Callable[[str, str], bool]
"""Has a session, with its label, go on to its end; False if somebody stopped it."""
SUITE = "society"
CAVEAT = (
    "Interactions of one society share their peers and memories, and each society ran once: the intervals "
    "tell of chance in the questions, not of another run. Even the same seed can give other words, where a "
    "local model's last bits differ with what is computed beside it."
)


def figures(rubric: Rubric) -> tuple[Figure, ...]:
    """What is measured of a society's interactions."""
    low, high = float(rubric.scale.low), float(rubric.scale.high)

    def figure(name: str, help: str, better: Literal["higher", "lower", ""], *ends: float | None) -> Figure:
        return Figure(name=name, help=help, better=better, low=ends[0], high=ends[1])

    return (
        *(
            figure(
                _metric(criterion.name),
                f"the observers' mean rating of the revision: {criterion.name}",
                "higher",
                low,
                high,
            )
            for criterion in rubric.criteria
        ),
        figure("peers", "the peers' mean rating of the draft", "higher", low, high),
        figure("unparsed", "share of ratings that could not be read", "lower", 0.0, 1.0),
        figure("failed", "share of turns that failed", "lower", 0.0, 1.0),
        figure("words", "length of the final answer in words", "", 0.0, None),
        figure("distinct_1", "different words of an answer, as a share of all", "", 0.0, 1.0),
        figure("distinct_2", "different pairs of words of an answer, as a share of all", "", 0.0, 1.0),
        figure("similarity", "mean cosine of its words with those of other seats that round", "", 0.0, 1.0),
    )


_OWN = frozenset({"peers", "unparsed", "failed", "words", "distinct_1", "distinct_2", "similarity", ALPHA})


def _metric(criterion: str) -> str:
    """The metric of a criterion, which may be called as one of ours."""
    return f"{criterion} (criterion)" if criterion in _OWN else criterion


def in_rounds(happened: Iterable[ev.Event], rounds: int) -> list[InteractionRecord]:
    """The interactions of the first ``rounds`` rounds that came to an end."""
    return [
        record
        for record in assemble(happened)
        if record.round is not None and record.round <= rounds and record.outcome is not None
    ]


def measured(
    happened: Iterable[ev.Event], model: str, society: Society, unseen: Collection[str] = ()
) -> list[Measured]:
    """The interactions of a society's rounds, by item; those about ``unseen`` questions in that suite, too.

    ``model`` is the society's label.
    """
    rubric = society.rubric
    records = in_rounds(happened, society.rounds)
    alike = _similarities(records)
    counts: Counter[str] = Counter()
    found = []
    for record in records:
        item = identify(str(record.round), record.seat, record.question)
        counts[item] += 1
        if counts[item] > 1:
            item = f"{item}.{counts[item]}"
        final = record.revision or record.draft
        said = words(final.text) if final else []
        scores: dict[str, float | None] = {
            _metric(criterion.name): record.observed("revision", criterion.name)
            for criterion in rubric.criteria
        }
        scores["peers"] = record.peers_mean()
        given = sum(rating.interaction == record.interaction for rating in record.ratings)
        scores["unparsed"] = record.unparsed() / given if given else None
        turns = given + len(record.messages) + len(record.failures)
        scores["failed"] = len(record.failures) / turns if turns else None
        scores["words"] = float(len(said)) if final else None
        scores["distinct_1"] = distinct(said)
        scores["distinct_2"] = distinct(list(pairwise(said)))
        scores["similarity"] = alike.get(record.interaction)
        detail = {"question": record.question, "answer": final.text} if final else None
        found.append(Measured(model, SUITE, item, scores, detail))
        if normal(record.question) in unseen:
            found.append(Measured(model, UNSEEN, item, scores, detail))
    return found


def _similarities(records: Sequence[InteractionRecord]) -> dict[int, float]:
    """By interaction: how alike its final answer is to those of other seats in its round."""
    by_round: dict[int, list[tuple[int, str, list[str]]]] = {}
    for record in records:
        if (final := record.revision or record.draft) and record.round is not None:
            by_round.setdefault(record.round, []).append((record.interaction, record.seat, words(final.text)))
    found: dict[int, float] = {}
    for said in by_round.values():
        _, shares = similarity_of([tokens for _, _, tokens in said], [seat for _, seat, _ in said])
        found |= {said[place][0]: share for place, share in shares.items()}
    return found


def plan_of(
    named: Mapping[str, str],
    society: Society,
    command: str,
    notes: Sequence[str] = (),
    lineage: Sequence[Step] = (),
    unseen: Mapping[str, int] | None = None,
) -> Plan:
    """The plan of an evaluation that compares societies: ``named`` has the session of each label.

    ``unseen`` has the questions that an adapter was not trained on, and how often each is asked.
    """
    suite = SuitePlan(
        name=SUITE,
        source=f"the society {society.name}: the same seats, questions and seed",
        digest=identify(society.model_dump_json()),
        items=estimate(society).interactions,
        figures=figures(society.rubric),
    )
    suites = [suite]
    if unseen:
        source = f"{suite.source}; only questions that the adapter was not trained on"
        asked = sum(unseen.values())
        suites.append(suite.model_copy(update={"name": UNSEEN, "source": source, "items": asked}))
    return Plan(
        options=Options(
            models=tuple(named), suites=tuple(one.name for one in suites), seed=society.seed % 2**31
        ),
        suites=tuple(suites),
        unseen=tuple(sorted(unseen or ())),
        command=command,
        sessions=dict(named),
        raters=_raters(society),
        lineage=tuple(lineage),
        notes=(*notes, *_judges(society), CAVEAT),
    )


def _judges(society: Society) -> list[str]:
    """Who rates, on which scale, and whether they rate their own kind."""
    scale, raters = society.rubric.scale, _raters(society)
    told = [f"Rated by {', '.join(raters)}, on a scale of {scale.low}–{scale.high}."]
    own = sorted({base_of(agent.model) for agent in society.agents} & {base_of(rater) for rater in raters})
    return told + [f"{model} rates what its own kind says, and may favour it." for model in own]


def _raters(society: Society) -> tuple[str, ...]:
    agents = {agent.rating_model or agent.model for agent in society.agents}
    return tuple(sorted(agents | {observer.model for observer in society.observers}))


def events(store: Store, key: str) -> list[ev.Event]:
    """What is on record of a session. Raises ``SessionError`` if it is gone."""
    return [recorded.event for recorded in store.log.read(sessions.find(store.database, key).key)]


def monitored(store: Store, plan: Plan) -> dict[str, Monitors]:
    """What monitors find in the sessions of a plan, by label; of several runs the first.

    Sessions that are gone are left out.
    """
    found: dict[str, Monitors] = {}
    if not plan.sessions:
        return found
    for label in plan.options.models:
        try:
            found[label] = monitor(events(store, plan.sessions[label]))
        except SessionError:
            continue
    return found


def speaking(society: Society, model: str, base: str, seats: Sequence[str] = ()) -> Society:
    """A society whose agents answer through ``model``; how they rate stays as it was.

    Of the agents those that speak through ``base`` (any, if that is empty), or those named. Raises
    ``UserError`` if there is none.
    """
    if unknown := set(seats) - {agent.name for agent in society.agents}:
        raise UserError(f"There is no agent {', '.join(sorted(unknown))} in the society.")

    def is_meant(agent: Agent) -> bool:
        fits = not base or base_of(agent.model) == base
        if agent.name in seats and not fits:
            raise UserError(f"{agent.name} speaks through {agent.model}; the adapter is made for {base}.")
        return fits and (not seats or agent.name in seats)

    changed = [agent for agent in society.agents if is_meant(agent)]
    if not changed:
        raise UserError(f"No agent of the society speaks through {base}, which the adapter is made for.")
    for agent in changed:
        kept = agent.rating_model or agent.model
        society = society.with_seat(agent.model_copy(update={"model": model, "rating_model": kept}))
    return society


def is_untouched(happened: Iterable[ev.Event]) -> bool:
    """Whether a session is what its society and seed made it: nobody took part, or changed anything."""
    for event in happened:
        match event:
            case ev.SeatTaken() | ev.SeatAdded() | ev.SeatChanged() | ev.RubricChanged() | ev.SessionForked():
                return False
            case ev.InteractionStarted(round=None):
                return False
            case ev.MessagePosted(person=str()):
                return False
            case _:
                pass
    return True
