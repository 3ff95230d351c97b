"""Groups as other programs keep them, and back. Each form is a list of JSON objects.

Pure. A form that knows no roles gets a prompt as one text, and gives it back as one user message; a form
that holds pairs loses the ratings unless it has fields for them. ``docs/training.md`` says what each keeps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from finetune import fields
from finetune.fields import ROLES as _ROLES
from finetune.fields import score as _score
from finetune.groups import Candidate, Group, Turn
from sandbox.errors import UserError

Row = dict[str, Any]
_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


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


def _gathered(rows: Iterable[tuple[tuple[Turn, ...], list[Candidate]]], pairing: Pairing) -> list[Group]:
    """One group a prompt, in the order of their first rows; what says the same is one candidate.

    A row that rates a text otherwise than those before it begins another group, so that nothing is lost.
    """
    by_prompt: dict[tuple[Turn, ...], list[dict[str, Candidate]]] = {}
    for prompt, candidates in rows:
        groups = by_prompt.setdefault(prompt, [])
        known = next((group for group in groups if _agree(group, candidates)), None)
        if known is None:
            groups.append(known := {})
        for candidate in candidates:
            known.setdefault(candidate.text, candidate)
    return [
        _group(prompt, list(known.values()), pairing) for prompt, told in by_prompt.items() for known in told
    ]


def _agree(known: Mapping[str, Candidate], candidates: Iterable[Candidate]) -> bool:
    return all(known.get(one.text, one).rating == one.rating for one in candidates)


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
    told = [_pair(row, pairing) for row in rows]
    if all(scored for _, _, scored in told):
        return _gathered(((prompt, candidates) for prompt, candidates, _ in told), pairing)
    # Without scores, what is better in one pair may be worse in another: each stays a group of its own.
    return [_group(prompt, candidates, pairing) for prompt, candidates, _ in told]


def _pair(row: Row, pairing: Pairing) -> tuple[tuple[Turn, ...], list[Candidate], bool]:
    """A pair's prompt, its two replies, and whether both have a score. Whole conversations are parted."""
    if fields.is_conversation(row["chosen"]) or fields.is_conversation(row["rejected"]):
        chosen, rejected = fields.conversation(row["chosen"]), fields.conversation(row["rejected"])
        place = fields.parting(chosen, rejected)
        prompt, texts = chosen[:place], (chosen[place].content, rejected[place].content)
        fields.asked_in(row.get("prompt"), prompt)
    else:
        prompt, texts = _asked(row, "prompt"), (_said(row["chosen"]), _said(row["rejected"]))
    scores = row.get("score_chosen"), row.get("score_rejected")
    if None in scores and set(scores) != {None}:
        raise ValueError("one of a pair has a score and the other has none")
    ratings = (pairing.chosen, pairing.rejected) if None in scores else tuple(map(_score, scores))
    prompt = (*fields.system(row, prompt), *prompt)
    both = [Candidate(text=text, rating=rating) for text, rating in zip(texts, ratings, strict=True)]
    return prompt, both, None not in scores


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
        without = pairing.chosen if fields.is_good(row["label"]) else pairing.rejected
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
            said = fields.unmarked(f"{system if place == 0 else ''}{turn.content}")
            lines.append(f"\n\n{names[turn.role]}: {said}")
        past = "".join(lines)
        for better, worse in pairs(group, pairing):
            yield {
                "chosen": f"{past}\n\nAssistant: {fields.unmarked(better.text)}",
                "rejected": f"{past}\n\nAssistant: {fields.unmarked(worse.text)}",
            }


def _read_hh(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def pair(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        chosen, rejected = fields.transcript(row["chosen"]), fields.transcript(row["rejected"])
        parting = fields.parting(chosen, rejected)
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
    return _read_talks(rows, pairing, ("conversations", "from", "value"))


def _write_messages(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            told = [*group.prompt, Turn(role="assistant", content=candidate.text)]
            yield {"messages": [turn.model_dump() for turn in told]}


def _read_messages(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    return _read_talks(rows, pairing, ("messages", "role", "content"))


def _read_talks(rows: Iterable[Row], pairing: Pairing, names: tuple[str, str, str]) -> list[Group]:
    column, who, what = names

    def told(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        turns = fields.conversation(row[column], who, what)
        prompt = (*fields.system(row, turns), *turns[:-1])
        return prompt, [Candidate(text=turns[-1].content, rating=pairing.chosen)]

    return _gathered((told(row) for row in rows), pairing)


def _write_alpaca(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            yield {"instruction": plain(group.prompt), "input": "", "output": candidate.text}


def _read_alpaca(rows: Iterable[Row], pairing: Pairing) -> list[Group]:
    def told(row: Row) -> tuple[tuple[Turn, ...], list[Candidate]]:
        asked = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
        prompt = (*fields.system(row, ()), *fields.history(row), Turn(role="user", content=asked))
        return prompt, [Candidate(text=row["output"], rating=pairing.chosen)]

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
    "messages": Format("chats that end with the best reply", _write_messages, _read_messages),
    "sharegpt": Format("conversations that end with the best reply", _write_sharegpt, _read_sharegpt),
    "alpaca": Format("instruction, input, output", _write_alpaca, _read_alpaca),
}


def read(
    form: str, rows: Iterable[Row], pairing: Pairing, skipped: Counter[str] | None = None
) -> list[Group]:
    """The groups in ``rows``. A row that can't be read is counted in ``skipped``, by kind.

    Without ``skipped``, it raises ``UserError`` that names the row.
    """
    return FORMATS[form].read(_checked(form, rows, pairing, skipped), pairing)


def _checked(form: str, rows: Iterable[Row], pairing: Pairing, skipped: Counter[str] | None) -> Iterator[Row]:
    """The rows that can be read, each of them tried alone, so that the row that is named is the one."""
    for place, row in enumerate(rows, 1):
        try:
            FORMATS[form].read([row], pairing)
            json.dumps(row, ensure_ascii=False, default=str).encode()
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            if skipped is None:
                raise UserError(f"Row {place} {_wrong(form, error)}.") from error
            skipped[f"rows that can't be read: {_kind(error)}"] += 1
        else:
            yield row


def _wrong(form: str, error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"is no {form}: {error} is missing. Is it another format?"
    if isinstance(error, ValidationError):
        return f"is no {form}: {_kind(error)}"
    return f"can't be read as {form}: {_kind(error)}"


def _kind(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return f"{where}: ".removeprefix(": ") + first["msg"].removeprefix("Value error, ")
    if isinstance(error, UnicodeEncodeError):
        return "half a character (a lone surrogate)"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
