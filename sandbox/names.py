"""Names of people: how they may be written, when two spellings are one, and when two look alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Annotated

from pydantic import BeforeValidator

from sandbox.text import is_blank

_MARKS = str.maketrans("", "", "\u200e\u200f")
"""The table of look-alikes sets signs that run from right to left between these."""


_LONGEST = 1000


def normal(name: str) -> str:
    """``name`` in Unicode's NFC, the form in which names are stored and compared.

    What is far too long for a name stays as it is: the time grows with the square of a row of marks.
    """
    return name if name.isascii() or len(name) > _LONGEST else unicodedata.normalize("NFC", name)


NormalName = Annotated[str, BeforeValidator(lambda name: normal(name) if isinstance(name, str) else name)]
"""A person's name from outside, brought into NFC before its length is looked at."""


def is_person_name(name: str) -> bool:
    """Whether a person may be called so: 1–32 letters, marks, digits and " .'_-" with ink, a letter first."""
    kinds = [unicodedata.category(sign)[0] for sign in name]
    hidden = any(is_blank(sign) for sign in name if sign != " ")
    plain = not hidden and all(
        kind in "LMN" or sign in " .'_-" for kind, sign in zip(kinds, name, strict=True)
    )
    return 1 <= len(name) <= 32 and kinds[0] == "L" and plain and name == name.strip()


def looks_like(name: str, others: Iterable[str]) -> str | None:
    """The first of ``others`` that a reader would take for ``name``, if any; equal names are not meant.

    Case makes no difference, nor do signs that Unicode calls confusable ("Воb" in Cyrillic, "Ｂob").
    """
    folded, shape = normal(name).casefold(), _shape(name)
    for other in others:
        if normal(other) != normal(name) and (normal(other).casefold() == folded or _shape(other) == shape):
            return other
    return None


@lru_cache(maxsize=10_000)
def _shape(name: str) -> str:
    """What is alike for names that look alike: the skeleton of UTS #39, upper and lower case as one."""
    return _skeleton(_skeleton(name).casefold())


def _skeleton(name: str) -> str:
    apart = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", name))
    return unicodedata.normalize("NFD", "".join(map(_prototype, apart)))


@cache
def _prototype(sign: str) -> str:
    """The sign that stands for all that look like ``sign``, itself if there is none.

    The library has the pairs of Unicode's table in both directions. Many signs have one prototype, so who
    has several partners is one; of two that have but each other, either can be.
    """
    pairs = _pairs()
    partners = pairs.get(sign, ())
    if len(partners) != 1:
        return sign
    (partner,) = partners
    return partner if len(partner) > 1 or len(pairs.get(partner, ())) > 1 else min(sign, partner)


@cache
def _pairs() -> dict[str, tuple[str, ...]]:
    from confusable_homoglyphs.confusables import confusables_data

    return {
        sign.translate(_MARKS): tuple(partner["c"].translate(_MARKS) for partner in partners)
        for sign, partners in confusables_data.items()
    }
