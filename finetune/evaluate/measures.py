"""Texts in figures: how long, how varied within themselves, how like one another. Pure.

Distinct-n is that of Li et al., *A Diversity-Promoting Objective Function for Neural Conversation Models*
(2016).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from sandbox.memory import Vector

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def distinct(text: str, n: int) -> float | None:
    """Different n-grams of words as a share of all; None for a text without any."""
    said = words(text)
    grams = [tuple(said[start : start + n]) for start in range(len(said) - n + 1)]
    return len(set(grams)) / len(grams) if grams else None


def likeness(vectors: Sequence[Vector]) -> list[float | None]:
    """Of each unit vector the mean cosine with all others; None for one alone."""
    if len(vectors) < 2:
        return [None] * len(vectors)
    rows = np.stack(vectors).astype(np.float64)
    total = rows.sum(axis=0)
    own = (rows * rows).sum(axis=1)
    return [float(value) for value in (rows @ total - own) / (len(vectors) - 1)]
