"""Groups as other programs keep them, and back. Each form is a list of JSON objects.

Pure. A form that knows no roles gets a prompt as one text, and gives it back as one user message; a form
that holds pairs loses the ratings unless it has fields for them. ``docs/training.md`` says what each keeps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from finetune.groups import Candidate, Group, Turn
from sandbox.errors import UserError

Row = dict[str, Any]
_HH = re.compile(r"\n\n(Human|Assistant): ?")
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}
_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}


class Pairing(NamedTuple):
    """How pairs come from ratings, and ratings from pairs.

    A pair's ratings lie at least ``margin`` apart; equal ones never make a pair. Imported without scores,
    what was chosen is rated ``chosen`` and the other ``rejected``, on the scale from ``low`` to ``high``.
    """

    margin: float = 0.0
    chosen: float = 6.0
    rejected: float = 2.0
    low: float = 1.0
    high: float = 7.0


class Format(NamedTuple):
    """A form: what it is, and how to get there and back (None where it can't be read back)."""

    help: str
    write: Callable[[Iterable[Group], Pairing], Iterator[Row]]
    read: Callable[[Iterable[Row], Pairing], list[Group]]


def pairs(group: Group, pairing: Pairing) -> Iterator[tuple[Candidate, Candidate]]:
    """Each better candidate with each worse one, best first. Ties make none."""
    rated = group.rated
    for place, better in enumerate(rated):
        for worse in rated[place + 1 :]:
            apart = (better.rating or 0) - (worse.rating or 0)
            if apart > 0 and apart >= pairing.margin:
                yield better, worse


def plain(prompt: Sequence[Turn]) -> str:
    """A prompt as one text: its messages one after another."""
    return "\n\n".join(turn.content for turn in prompt)


# What was read, as groups


def _group(prompt: Sequence[Turn], candidates: Sequence[Candidate], pairing: Pairing, **more: Any) -> Group:
    asked = next((turn.content for turn in reversed(prompt) if turn.role == "user"), prompt[-1].content)
    values = {"question": asked, "low": pairing.low, "high": pairing.high} | more
    return Group(prompt=tuple(prompt), candidates=tuple(candidates), **values)


def _asked(row: Row, name: str) -> tuple[Turn, ...]:
    value = row[name]
    if isinstance(value, str):
        return (Turn(role="user", content=value),)
    return tuple(Turn(role=_ROLES[turn["role"]], content=turn["content"]) for turn in value)


def _said(value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or len(value) != 1:
        raise ValueError(f"a reply must be a text or one message, not {value!r:.60}")
    return str(value[0]["content"])


def _score(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a score must be a number, not {value!r:.60}") from None


def _gathered(rows: Iterable[tuple[tuple[Turn, ...], list[Candidate]]], pairing: Pairing) -> list[Group]:
    """One group a prompt, in the order of their first rows; what says the same is one candidate."""
    by_prompt: dict[tuple[Turn, ...], dict[str, Candidate]] = {}
    for prompt, candidates in rows:
        known = by_prompt.setdefault(prompt, {})
        for candidate in candidates:
            known.setdefault(candidate.text, candidate)
    return [_group(prompt, list(known.values()), pairing) for prompt, known in by_prompt.items()]


# Native


def _write_native(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        yield group.model_dump(mode="json")


def _read_native(rows: Iterable[Row], _: Pairing) -> list[Group]:
    return [Group.model_validate(row) for row in rows]


# The reference's


def _write_reference(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        rated = group.rated
        if rated:
            yield {
                "query": plain(group.prompt),
                "responses": [candidate.text for candidate in rated],
                "scores": [candidate.rating for candidate in rated],
                "models": [candidate.model or candidate.person or candidate.seat for candidate in rated],
            }


def _read_reference(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    groups = []
    for row in rows:
        responses, scores = row["responses"], row["scores"]
        models = row.get("models") or [""] * len(responses)
        by_text: dict[str, Candidate] = {}
        if not len(responses) == len(scores) == len(models):
            raise ValueError(
                f"there are {len(responses)} responses, {len(scores)} scores and {len(models)} models"
            )
        for text, score, model in zip(responses, scores, models, strict=True):
            # Its programs wrote 8 where a rating on 1–7 could not be read.
            rating = None if _score(score) == pairing.high + 1 else _score(score)
            if text:
                by_text.setdefault(text, Candidate(text=text, rating=rating, model=str(model)))
        if by_text:
            groups.append(_group(_asked(row, "query"), list(by_text.values()), pairing))
    return groups


# TRL's


def _trl(
    conversational: bool,
) -> tuple[Callable[[Sequence[Turn]], Any], Callable[[Candidate], Any]]:
    if conversational:
        return (
            lambda prompt: [turn.model_dump() for turn in prompt],
            lambda candidate: [{"role": "assistant", "content": candidate.text}],
        )
    return plain, lambda candidate: candidate.text


def _write_completions(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    asked, said = _trl(conversational)

    def write(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
        for group in groups:
            for candidate in group.rated[:1]:
                yield {"prompt": asked(group.prompt), "completion": said(candidate)}

    return write


def _read_completions(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    return _gathered(
        (
            (_asked(row, "prompt"), [Candidate(text=_said(row["completion"]), rating=pairing.chosen)])
            for row in rows
        ),
        pairing,
    )


def _write_preference(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    asked, said = _trl(conversational)

    def write(groups: Iterable[Group], pairing: Pairing) -> Iterator[Row]:
        for group in groups:
            for better, worse in pairs(group, pairing):
                yield {
                    "prompt": asked(group.prompt),
                    "chosen": said(better),
                    "rejected": said(worse),
                    "score_chosen": better.rating,
                    "score_rejected": worse.rating,
                }

    return write


def _read_preference(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def both(row: Row) -> list[Candidate]:
        chosen, rejected = row.get("score_chosen"), row.get("score_rejected")
        return [
            Candidate(text=_said(row["chosen"]), rating=pairing.chosen if chosen is None else _score(chosen)),
            Candidate(
                text=_said(row["rejected"]), rating=pairing.rejected if rejected is None else _score(rejected)
            ),
        ]

    told = [(_asked(row, "prompt"), both(row), "score_chosen" in row) for row in rows]
    if all(scored for _, _, scored in told):
        return _gathered(((prompt, candidates) for prompt, candidates, _ in told), pairing)
    # Without scores, what is better in one pair may be worse in another: each stays a group of its own.
    return [_group(prompt, candidates, pairing) for prompt, candidates, _ in told]


def _write_unpaired(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    asked, said = _trl(conversational)

    def write(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
        for group in groups:
            middle = (group.low + group.high) / 2
            for candidate in group.rated:
                if candidate.rating != middle:  # neither good nor bad
                    yield {
                        "prompt": asked(group.prompt),
                        "completion": said(candidate),
                        "label": (candidate.rating or 0) > middle,
                        "score": candidate.rating,
                    }

    return write


def _read_unpaired(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def one(row: Row) -> list[Candidate]:
        score = row.get("score")
        without = pairing.chosen if row["label"] else pairing.rejected
        return [Candidate(text=_said(row["completion"]), rating=without if score is None else _score(score))]

    return _gathered(((_asked(row, "prompt"), one(row)) for row in rows), pairing)


# Transcripts


def _write_hh(groups: Iterable[Group], pairing: Pairing) -> Iterator[Row]:
    names = {"user": "Human", "assistant": "Assistant"}
    for group in groups:
        system = "".join(f"{turn.content}\n\n" for turn in group.prompt if turn.role == "system")
        told = [turn for turn in group.prompt if turn.role != "system"]
        lines = []
        for place, turn in enumerate(told):
            said = _unmarked(f"{system if place == 0 else ''}{turn.content}")
            lines.append(f"\n\n{names[turn.role]}: {said}")
        past = "".join(lines)
        for better, worse in pairs(group, pairing):
            yield {
                "chosen": f"{past}\n\nAssistant: {_unmarked(better.text)}",
                "rejected": f"{past}\n\nAssistant: {_unmarked(worse.text)}",
            }


def _unmarked(text: str) -> str:
    """A text in which nothing reads as the beginning of a turn."""
    return _HH.sub(lambda found: found[0].replace("\n\n", "\n"), text)


def _transcript(text: str) -> tuple[Turn, ...]:
    pieces = _HH.split(text)
    turns = [
        Turn(role="user" if who == "Human" else "assistant", content=said.strip())
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("a transcript that does not end with the assistant")
    return tuple(turns)


def _read_hh(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def pair(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        chosen, rejected = _transcript(row["chosen"]), _transcript(row["rejected"])
        shorter = min(len(chosen), len(rejected)) - 1
        # Some part before their last turn, and go on: they are compared where they part.
        parting = next((n for n in range(shorter) if chosen[n] != rejected[n]), shorter)
        if {chosen[parting].role, rejected[parting].role} != {"assistant"} or parting == 0:
            raise ValueError("two transcripts that don't part at a turn of the assistant")
        both = ((chosen[parting].content, pairing.chosen), (rejected[parting].content, pairing.rejected))
        by_text: dict[str, Candidate] = {}
        for text, rating in both:
            if text:
                by_text.setdefault(text, Candidate(text=text, rating=rating))
        return chosen[:parting], list(by_text.values())

    return [_group(*told, pairing) for row in rows if (told := pair(row))[1]]


def _write_sharegpt(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            told = [*group.prompt, Turn(role="assistant", content=candidate.text)]
            yield {"conversations": [{"from": _SHAREGPT[turn.role], "value": turn.content} for turn in told]}


def _read_sharegpt(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def told(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        turns = [Turn(role=_ROLES[turn["from"]], content=turn["value"]) for turn in row["conversations"]]
        if len(turns) < 2 or turns[-1].role != "assistant":
            raise ValueError("a conversation that does not end with the model")
        return tuple(turns[:-1]), [Candidate(text=turns[-1].content, rating=pairing.chosen)]

    return _gathered((told(row) for row in rows), pairing)


def _write_alpaca(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            yield {"instruction": plain(group.prompt), "input": "", "output": candidate.text}


def _read_alpaca(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def told(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        asked = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
        return (Turn(role="user", content=asked),), [Candidate(text=row["output"], rating=pairing.chosen)]

    return _gathered((told(row) for row in rows), pairing)


FORMATS: Mapping[str, Format] = {
    "groups": Format("everything, with its lineage", _write_native, _read_native),
    "reference": Format("query, responses, scores, models", _write_reference, _read_reference),
    "completion": Format("TRL: the best reply to a text", _write_completions(False), _read_completions),
    "completion-chat": Format("the same, as messages", _write_completions(True), _read_completions),
    "preference": Format("TRL: pairs, with scores", _write_preference(False), _read_preference),
    "preference-chat": Format("the same, as messages", _write_preference(True), _read_preference),
    "unpaired": Format("TRL: replies, good or not", _write_unpaired(False), _read_unpaired),
    "unpaired-chat": Format("the same, as messages", _write_unpaired(True), _read_unpaired),
    "hh-rlhf": Format("chosen and rejected transcripts", _write_hh, _read_hh),
    "sharegpt": Format("conversations that end with the best reply", _write_sharegpt, _read_sharegpt),
    "alpaca": Format("instruction, input, output", _write_alpaca, _read_alpaca),
}


def read(form: str, rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    """The groups in ``rows``. Raises ``UserError`` that names the row that can't be read."""
    place = 0

    def counted() -> Iterator[Row]:
        nonlocal place
        for place, row in enumerate(rows, 1):  # noqa: B007 - told below, if it fails
            yield row

    try:
        return FORMATS[form].read(counted(), pairing)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UserError(f"Row {place} is no {form}: {f'{where}: ' if where else ''}{said}.") from error
    except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
        if isinstance(error, KeyError):
            raise UserError(f"Row {place} is no {form}: {error} is missing. Is it another format?") from error
        raise UserError(f"Row {place} can't be read as {form}: {error}.") from error
