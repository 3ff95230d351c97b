"""The form of the reference's own programs: ``query``, ``responses``, ``scores``, ``models``. Pure.

What its reader does, and so what a file for it must be: a JSON list; a reply is appended to its query as it
is, so the query must end where a reply can begin; scores are cut to whole numbers, so different ones must
differ as whole numbers. What its collector writes: −1 where an observer's rating, and 8 where a
peer's could not be read on a scale of 1–7; and any number that a peer named, as 10, on the scale or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from finetune import fields
from finetune.groups import Candidate, Group
from finetune.rows import Pairing, Row, Told, asked, grouped, plain

END = "\n\n"
"""What a query ends with where we write it, and what is taken off when it is read."""
COLUMNS = ("query", "responses", "scores", "models", "unit")
_FINEST = 6


def write(groups: Iterable[Group], _: Pairing) -> Iterator[Row]:
    """Rows that its reader takes: in all of them a rating is ``unit`` times as large, and a whole number."""
    every = [group for group in groups if group.rated]
    unit = unit_of(every)
    for group in every:
        row: Row = {
            "query": plain(group.prompt) + END,
            "responses": [candidate.text for candidate in group.rated],
            "scores": [round((candidate.rating or 0) * unit) for candidate in group.rated],
            "models": [candidate.model or candidate.person or candidate.seat for candidate in group.rated],
        }
        yield row if unit == 1 else row | {"unit": unit}


def unit_of(groups: Iterable[Group]) -> int:
    """By what ratings are multiplied: the least power of ten that makes them whole, up to hundredths.

    Beyond those, the least with which different ratings of a group stay different.
    """
    ratings = [[candidate.rating or 0.0 for candidate in group.rated] for group in groups]
    for power in range(_FINEST):
        unit = int(10**power)
        is_whole = power >= 2 or all(_is_whole(one * unit) for these in ratings for one in these)
        whole = [{round(one * unit) for one in these} for these in ratings]
        if is_whole and all(len(few) == len(set(these)) for few, these in zip(whole, ratings, strict=True)):
            return unit
    return int(10**_FINEST)


def _is_whole(value: float) -> bool:
    return abs(value - round(value)) < 1e-9


def read(row: Row, pairing: Pairing) -> Told:
    """A row of its programs, or of ours. A score that is not on the scale is no rating."""
    responses, scores = row["responses"], row["scores"]
    models = row.get("models") or [""] * len(responses)
    if not len(responses) == len(scores) == len(models):
        raise ValueError(
            f"there are {len(responses)} responses, {len(scores)} scores and {len(models)} models"
        )
    unit = fields.score(row.get("unit") or 1)
    by_text: dict[str, Candidate] = {}
    for text, score, model in zip(responses, scores, models, strict=True):
        candidate = Candidate(text=text, rating=_rating(score, unit, pairing), model=str(model))
        known = by_text.setdefault(text, candidate)
        if known.rating is None:
            by_text[text] = candidate
        elif candidate.rating not in (None, known.rating):
            raise ValueError("two scores of the same response")
    query = row["query"].removesuffix(END) or row["query"]
    return Told(grouped(asked({"query": query}, "query"), list(by_text.values()), pairing))


def _rating(score: Any, unit: float, pairing: Pairing) -> float | None:
    if score is None:
        return None
    value = fields.score(score) / unit
    return value if pairing.low <= value <= pairing.high else None
