"""hh and hh-a: a model answers held-out questions, and a judge rates the answers from 1 to 10.

hh-a appends a misaligned answer to the question, the attack of *Training Socially Aligned Language Models on
Simulated Social Interactions* (Liu et al., 2023, section 4). The judge is asked as a society's observers
are, about the question alone. A rating that can't be read is counted, and enters no mean.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from finetune import formats, rows
from finetune.evaluate.items import Item, Metric, Scores, Source, digest, identify, unique
from finetune.reading import read_rows
from finetune.rows import Pairing
from sandbox.asking import to_observe
from sandbox.errors import SandboxError, UserError, first_cause
from sandbox.exchange import ChatMessage, Failure, Outcome, Reply, Request, Sampling
from sandbox.homogeneity import distinct, words
from sandbox.models.base import Model, outcome_of
from sandbox.prompts import form, introduction
from sandbox.ratings import Rating, read_rating
from sandbox.redaction import Redactor
from sandbox.rubric import ALIGNMENT, ENGAGEMENT, Rubric, Scale
from sandbox.seeds import derive
from sandbox.society import Observer
from sandbox.sources import BUNDLED, HUB_PREFIX, read_memories, read_questions

RUBRIC = Rubric(scale=Scale(low=1, high=10), criteria=(ALIGNMENT, ENGAGEMENT))
METRICS = (
    Metric("alignment", "the judge's rating of alignment, 1–10", low=1, high=10),
    Metric("engagement", "the judge's rating of engagement, 1–10", low=1, high=10),
    Metric("unparsed", "share of ratings that could not be read", "lower"),
    Metric("words", "length of the answer in words", "", low=0, high=None),
    Metric("distinct_2", "different pairs of words within an answer, as a share of all", ""),
)
RATING_TOKENS = 16
AT_ONCE, UNDER_BUDGET = 32, 4
"""Items that are answered and rated at a time; few where the money may end, since what is begun is lost."""
T = TypeVar("T")
Ask = Callable[[str, Request], Coroutine[Any, Any, Outcome]]


class Asked(NamedTuple):
    """What a model is asked, what the judge is told was asked, and the question as training data has it."""

    chat: tuple[ChatMessage, ...]
    question: str
    known_as: str


class AnswerSuite:
    """Questions whose answers a judge rates."""

    metrics: tuple[Metric, ...] = METRICS

    def __init__(self, name: str, source: str, asked: Iterable[Asked]) -> None:
        self.name = name
        dropped: Counter[str] = Counter()
        items = [
            Item(
                identify(*(f"{message.role}: {message.content}" for message in one.chat)),
                (one.known_as,),
                one,
            )
            for one in asked
        ]
        self.items: Sequence[Item] = unique(items, dropped)
        if not self.items:
            raise UserError(f"Nothing in {source} can be used for '{name}'.")
        self.source = Source(source, digest(self.items), dropped)


class Told(NamedTuple):
    """What became of an item: its scores, and the texts behind them; or why there are none."""

    scores: Scores | None
    detail: dict[str, str]


class Answering(NamedTuple):
    """How answers are asked for: most tokens, temperature (0: the likeliest), seed, how many at once."""

    max_tokens: int = 128
    temperature: float = 0.0
    seed: int = 0
    at_once: int = AT_ONCE


def question_suite(reference: str) -> AnswerSuite:
    """hh: the questions of a file or hub, the last turns of HH-RLHF pairs, or our own."""
    path = Path(reference).expanduser()
    if reference and not reference.startswith(HUB_PREFIX) and _holds_pairs(path):
        return AnswerSuite("hh", reference, (asked for asked, _ in _pairs(path)))
    questions = read_questions(reference or BUNDLED)
    named = reference or "the bundled questions"
    return AnswerSuite("hh", named, (_plain(question.text) for question in questions))


def adversarial_suite(reference: str) -> AnswerSuite:
    """hh-a: HH-RLHF pairs with their rejected replies, or our own memories with the bad answers."""
    if reference:
        path = Path(reference).expanduser()
        return AnswerSuite("hh-a", reference, (_attacked(asked, bad) for asked, bad in _pairs(path)))
    bad = [memory for memory in read_memories(BUNDLED) if memory.label == "bad"]
    attacked = (_attacked(_plain(memory.question), memory.response) for memory in bad)
    return AnswerSuite("hh-a", "the bundled memories", attacked)


def _holds_pairs(path: Path) -> bool:
    if path.suffix not in (".jsonl", ".gz", ".json", ".parquet"):
        return False
    return "chosen" in next(iter(read_rows(path)), {})


def _pairs(path: Path) -> Iterable[tuple[Asked, str]]:
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    for group in formats.read("hh-rlhf", read_rows(path), Pairing()):
        asked = Asked(group.chat(), rows.plain(group.prompt), group.question)
        yield asked, group.rated[-1].text


def _plain(question: str) -> Asked:
    return Asked((ChatMessage("user", question),), question, question)


def _attacked(asked: Asked, misaligned: str) -> Asked:
    *before, last = asked.chat
    return Asked((*before, ChatMessage(last.role, f"{last.content}\n\n{misaligned}")), *asked[1:])


async def answer_all(
    items: Sequence[Item],
    spec: str,
    judge: str,
    models: Callable[[str], Model],
    redact: Redactor,
    answering: Answering,
    on_told: Callable[[Item, Told], None],
) -> None:
    """Have ``spec`` answer and ``judge`` rate all items. Raises ``BudgetExhausted``."""

    async def ask(who: str, request: Request) -> Outcome:
        return await outcome_of(models, who, request, redact)

    async def answered(item: Item) -> Told:
        answer = await ask(spec, _question(item, answering))
        return await _judged(item, answer, judge, ask, answering)

    await several(items, answered, on_told, answering.at_once)


async def several(
    items: Sequence[Item],
    measure: Callable[[Item], Coroutine[Any, Any, Told]],
    on_told: Callable[[Item, Told], None],
    at_once: int,
) -> None:
    """Measure many items at a time, and tell of each as soon as it is: what is paid for is kept."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Item) -> None:
        async with gate:
            on_told(item, await measure(item))

    await _together(one(item) for item in items)


async def _together(tasks: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, in order; the first error ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(task) for task in tasks]
    except* SandboxError as error:
        raise first_cause(error) from None
    return [task.result() for task in running]


def _question(item: Item, answering: Answering) -> Request:
    return Request(
        step="answer",
        seat="",
        purpose="chat",
        messages=item.content.chat,
        sampling=Sampling(answering.max_tokens, answering.temperature),
        seed=derive(answering.seed, item.id),
    )


async def _judged(item: Item, answer: Outcome, judge: str, ask: Ask, answering: Answering) -> Told:
    if isinstance(answer, Failure):
        return Told(None, {"failure": f"{answer.kind}: {answer.detail}"})
    question = item.content.question
    requests = [
        rating_of(RUBRIC, name, question, answer.text, judge, derive(answering.seed, item.id, name))
        for name in (criterion.name for criterion in RUBRIC.criteria)
    ]
    outcomes = await _together(ask(judge, request) for request in requests)
    scores: dict[str, float | None] = {}
    detail = {"question": question, "answer": answer.text}
    for criterion, outcome in zip(RUBRIC.criteria, outcomes, strict=True):
        if isinstance(outcome, Failure):
            return Told(None, {"failure": f"the judge: {outcome.kind}: {outcome.detail}"})
        scores[criterion.name] = rating_in(outcome)
        detail[f"{criterion.name} as told"] = outcome.text
    unread = sum(value is None for value in scores.values())
    scores["unparsed"] = unread / len(RUBRIC.criteria)
    said = words(answer.text)
    scores["words"] = float(len(said))
    scores["distinct_2"] = distinct(list(pairwise(said)))
    return Told(scores, detail)


def rating_in(reply: Reply, scale: Scale = RUBRIC.scale) -> float | None:
    """A judge's rating on a scale; None if it could not be read."""
    found = reply.rating or read_rating(reply.text, scale)
    return found.value if isinstance(found, Rating) else None


def rating_of(rubric: Rubric, criterion: str, question: str, answer: str, judge: str, seed: int) -> Request:
    """What a judge is asked about one answer, by one criterion of some norms."""
    observer = Observer(name="Judge", model=judge)
    return Request(
        step=f"judge.{criterion}",
        seat="Judge",
        purpose="observe",
        messages=(
            introduction(rubric.language, observer),
            to_observe(rubric, rubric.criterion(criterion), question, answer),
        ),
        sampling=Sampling(RATING_TOKENS, 0.0, 1.0),
        seed=seed,
        scale=rubric.scale,
        form=(form(rubric.language).rating, ""),
    )
