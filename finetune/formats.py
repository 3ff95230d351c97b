"""Groups as other programs keep them, and back. Each form is a JSON object a row.

Pure. A form that knows no roles gets a prompt as one text, and gives it back as one user message; a form
that holds pairs loses the ratings unless it has fields for them. ``docs/training.md`` says what each keeps.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from finetune import fields, reference
from finetune.fields import score as _score
from finetune.groups import DIGEST, Candidate, Group, Turn
from finetune.rows import Pairing, Row, Told, asked, grouped, joined, merged, pairs, plain, said
from sandbox.errors import UserError

_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}


class Format(NamedTuple):
    """A form: what it is, how to write it and to read a row, the columns that it has, and its files.

    Without ``columns`` any other is an error. Reading gives None for a row in which nothing is said.
    ``is_list`` files are one JSON list; the others are JSON lines.
    """

    help: str
    write: Callable[[Iterable[Group], Pairing], Iterator[Row]]
    read: Callable[[Row, Pairing], Told | None]
    columns: tuple[str, ...] = ()
    is_list: bool = False


# Native


def _write_native(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        yield group.model_dump(mode="json")


def _read_native(row: Row, _: Pairing) -> Told:
    return Told(Group.model_validate(row))


# TRL's


def _trl(
    conversational: bool,
) -> tuple[Callable[[tuple[Turn, ...]], Any], Callable[[Candidate], Any]]:
    if conversational:
        return (
            lambda prompt: [turn.model_dump() for turn in prompt],
            lambda candidate: [{"role": "assistant", "content": candidate.text}],
        )
    return plain, lambda candidate: candidate.text


def _write_completions(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    as_prompt, as_reply = _trl(conversational)

    def write(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
        for group in groups:
            for candidate in group.rated[:1]:
                yield {"prompt": as_prompt(group.prompt), "completion": as_reply(candidate)}

    return write


def _read_completions(row: Row, pairing: Pairing) -> Told:
    candidate = Candidate(text=said(row["completion"]), rating=pairing.chosen)
    return joined(asked(row, "prompt"), [candidate], pairing)


def _write_preference(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    as_prompt, as_reply = _trl(conversational)

    def write(groups: Iterable[Group], pairing: Pairing) -> Iterator[Row]:
        for group in groups:
            for better, worse in pairs(group, pairing):
                yield {
                    "prompt": as_prompt(group.prompt),
                    "chosen": as_reply(better),
                    "rejected": as_reply(worse),
                    "score_chosen": better.rating,
                    "score_rejected": worse.rating,
                }

    return write


def _read_preference(row: Row, pairing: Pairing) -> Told:
    """A pair's prompt and its two replies. Whole conversations are parted.

    Without scores, what is better in one pair may be worse in another: each stays a group of its own.
    """
    if fields.is_conversation(row["chosen"]) or fields.is_conversation(row["rejected"]):
        chosen, rejected = fields.conversation(row["chosen"]), fields.conversation(row["rejected"])
        place = fields.parting(chosen, rejected)
        prompt, texts = chosen[:place], (chosen[place].content, rejected[place].content)
        fields.asked_in(row.get("prompt"), prompt)
    else:
        prompt, texts = asked(row, "prompt"), (said(row["chosen"]), said(row["rejected"]))
    scores = row.get("score_chosen"), row.get("score_rejected")
    if None in scores and set(scores) != {None}:
        raise ValueError("one of a pair has a score and the other has none")
    ratings = (pairing.chosen, pairing.rejected) if None in scores else tuple(map(_score, scores))
    prompt = (*fields.system(row, prompt), *prompt)
    both = [Candidate(text=text, rating=rating) for text, rating in zip(texts, ratings, strict=True)]
    return Told(grouped(prompt, both, pairing)) if None in scores else joined(prompt, both, pairing)


def _write_unpaired(conversational: bool) -> Callable[[Iterable[Group], Pairing], Iterator[Row]]:
    as_prompt, as_reply = _trl(conversational)

    def write(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
        for group in groups:
            middle = (group.low + group.high) / 2
            for candidate in group.rated:
                if candidate.rating != middle:  # neither good nor bad
                    yield {
                        "prompt": as_prompt(group.prompt),
                        "completion": as_reply(candidate),
                        "label": (candidate.rating or 0) > middle,
                        "score": candidate.rating,
                    }

    return write


def _read_unpaired(row: Row, pairing: Pairing) -> Told:
    score = row.get("score")
    without = pairing.chosen if fields.is_good(row["label"]) else pairing.rejected
    rating = without if score is None else _score(score)
    return joined(asked(row, "prompt"), [Candidate(text=said(row["completion"]), rating=rating)], pairing)


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


def _read_hh(row: Row, pairing: Pairing) -> Told | None:
    chosen, rejected = fields.transcript(row["chosen"]), fields.transcript(row["rejected"])
    parting = fields.parting(chosen, rejected)
    both = ((chosen[parting].content, pairing.chosen), (rejected[parting].content, pairing.rejected))
    by_text: dict[str, Candidate] = {}
    for text, rating in both:
        if text:
            by_text.setdefault(text, Candidate(text=text, rating=rating))
    return Told(grouped(chosen[:parting], list(by_text.values()), pairing)) if by_text else None


def _write_sharegpt(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            told = [*group.prompt, Turn(role="assistant", content=candidate.text)]
            yield {"conversations": [{"from": _SHAREGPT[turn.role], "value": turn.content} for turn in told]}


def _read_sharegpt(row: Row, pairing: Pairing) -> Told:
    return _read_talk(row, pairing, ("conversations", "from", "value"))


def _write_messages(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            told = [*group.prompt, Turn(role="assistant", content=candidate.text)]
            yield {"messages": [turn.model_dump() for turn in told]}


def _read_messages(row: Row, pairing: Pairing) -> Told:
    return _read_talk(row, pairing, ("messages", "role", "content"))


def _read_talk(row: Row, pairing: Pairing, names: tuple[str, str, str]) -> Told:
    column, who, what = names
    turns = fields.conversation(row[column], who, what)
    prompt = (*fields.system(row, turns), *turns[:-1])
    return joined(prompt, [Candidate(text=turns[-1].content, rating=pairing.chosen)], pairing)


def _write_alpaca(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    for group in groups:
        for candidate in group.rated[:1]:
            yield {"instruction": plain(group.prompt), "input": "", "output": candidate.text}


def _read_alpaca(row: Row, pairing: Pairing) -> Told:
    instruction = row["instruction"] + (f"\n\n{row['input']}" if row.get("input") else "")
    prompt = (*fields.system(row, ()), *fields.history(row), Turn(role="user", content=instruction))
    return joined(prompt, [Candidate(text=row["output"], rating=pairing.chosen)], pairing)


_COMPLETION = ("prompt", "completion")
_PAIR = ("prompt", "chosen", "rejected", "score_chosen", "score_rejected", "system")
_UNPAIRED = ("prompt", "completion", "label", "score")
FORMATS: Mapping[str, Format] = {
    "groups": Format("everything, with its lineage", _write_native, _read_native),
    "reference": Format(
        "query, responses, scores, models", reference.write, reference.read, reference.COLUMNS, is_list=True
    ),
    "completion": Format(
        "TRL: the best reply to a text", _write_completions(False), _read_completions, _COMPLETION
    ),
    "completion-chat": Format(
        "the same, as messages", _write_completions(True), _read_completions, _COMPLETION
    ),
    "preference": Format("TRL: pairs, with scores", _write_preference(False), _read_preference, _PAIR),
    "preference-chat": Format("the same, as messages", _write_preference(True), _read_preference, _PAIR),
    "unpaired": Format("TRL: replies, good or not", _write_unpaired(False), _read_unpaired, _UNPAIRED),
    "unpaired-chat": Format("the same, as messages", _write_unpaired(True), _read_unpaired, _UNPAIRED),
    "hh-rlhf": Format("chosen and rejected transcripts", _write_hh, _read_hh, ("chosen", "rejected")),
    "messages": Format(
        "chats that end with the best reply", _write_messages, _read_messages, ("messages", "system")
    ),
    "sharegpt": Format(
        "conversations that end with the best reply",
        _write_sharegpt,
        _read_sharegpt,
        ("conversations", "system"),
    ),
    "alpaca": Format(
        "instruction, input, output",
        _write_alpaca,
        _read_alpaca,
        ("instruction", "input", "output", "system", "history"),
    ),
}


def read(
    form: str, rows: Iterable[Row], pairing: Pairing, skipped: Counter[str] | None = None
) -> list[Group]:
    """The groups in ``rows``, one a prompt, in the order of their first rows.

    A row that can't be read is counted in ``skipped``, by kind; without that it raises ``UserError`` that
    names the row.
    """
    by_prompt: dict[bytes, list[Group]] = {}
    notes = Counter[str]() if skipped is None else skipped
    for place, row in enumerate(told(form, rows, pairing, notes, strict=skipped is None)):
        by_prompt.setdefault(key(row.group) if row.joins else b"%d" % place, []).append(row.group)
    return [group for same in by_prompt.values() for group in (merged(same) if len(same) > 1 else same)]


def key(group: Group) -> bytes:
    """What tells one prompt from another."""
    return hashlib.sha256(json.dumps([(t.role, t.content) for t in group.prompt]).encode()).digest()[:DIGEST]


def told(
    form: str, rows: Iterable[Row], pairing: Pairing, notes: Counter[str], *, strict: bool
) -> Iterator[Told]:
    """The rows, one by one; what is not read of them is counted in ``notes``, by kind.

    With ``strict`` it raises ``UserError`` that names the first row that can't be read.
    """
    known = set(FORMATS[form].columns)
    others: set[str] = set()
    count = 0
    for place, row in enumerate(rows, 1):
        try:
            json.dumps(row, ensure_ascii=False, default=str).encode()
            found = FORMATS[form].read(row, pairing)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            if strict:
                raise UserError(f"Row {place} {_wrong(form, error).rstrip('.?')}.") from error
            notes[f"rows that can't be read: {_kind(error)}"] += 1
            continue
        more = row.keys() - known if known else set()
        others |= more
        count += bool(more)
        if found is not None:
            yield found
        else:
            notes["rows in which nothing is said"] += 1
    if others:
        notes[f"rows' columns that this format does not have: {_named(others)}"] += count


def _named(columns: set[str], most: int = 12) -> str:
    names = sorted(map(str, columns))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _wrong(form: str, error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"is no {form}: {error} is missing; is it another format?"
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
    if isinstance(error, (TypeError, AttributeError)):
        return "a value is of another type than in this format"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
