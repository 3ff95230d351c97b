"""How alike the answers of a round are: distinct n-grams, and the similarity of their word counts. Pure.

``distinct-n``: Li et al., *A Diversity-Promoting Objective Function for Neural Conversation Models* (2016).
The mean cosine over all pairs takes no pairs: it follows from the norm of the sum of the unit vectors.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from sandbox import bootstrap
from sandbox.monitored import Homogeneity, RoundAnswers
from sandbox.votes import Answer

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
"""Words; where a script puts no spaces between them, single characters."""
_DIGITS = 6


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.casefold())


def homogeneity(answers: Sequence[Answer], seed: int, same: Mapping[int, int] | None = None) -> Homogeneity:
    """The rounds' wording, and whether answers of different seats grow more alike.

    For the interval, each answer counts with twice its own mean similarity to the others, less the round's:
    so the mean over pairs is that of the answers, and varies as much when answers are drawn anew (the
    projection of Hoeffding, *A Class of Statistics with Asymptotically Normal Distribution*, 1948).
    ``same`` maps an interaction to the first about its question, whose answers are drawn together.
    """
    by_round: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_round[answer.round].append(answer)
    series: list[RoundAnswers] = []
    rounds: list[int] = []
    values: list[float] = []
    groups: list[int] = []
    for number, said in sorted(by_round.items()):
        tokens = [words(answer.text) for answer in said]
        similarity, shares = similarity_of(tokens, [answer.seat for answer in said])
        series.append(
            RoundAnswers(
                round=number,
                n=len(said),
                distinct_1=distinct(list(chain.from_iterable(tokens))),
                distinct_2=distinct([pair for text in tokens for pair in pairwise(text)]),
                similarity=None if similarity is None else round(similarity, _DIGITS),
            )
        )
        middle = float(np.mean(list(shares.values()))) if shares else 0.0
        for place, share in shares.items():
            rounds.append(number)
            values.append(2 * share - middle)
            interaction = said[place].interaction
            groups.append((same or {}).get(interaction, interaction))
    slope = bootstrap.slope(rounds, values, groups, seed)
    return Homogeneity(series=tuple(series), slope=slope, rising=slope is not None and slope.is_above_zero)


def distinct(grams: Sequence[object]) -> float | None:
    """Different n-grams as a share of all; None where there are none."""
    return round(len(set(grams)) / len(grams), _DIGITS) if grams else None


def similarity_of(tokens: Sequence[list[str]], seats: Sequence[str]) -> tuple[float | None, dict[int, float]]:
    """The mean cosine over pairs of answers by different seats, and each answer's own with those of others.

    Answers without words take no part. In time and space it is linear in the words.
    """
    places = [place for place, text in enumerate(tokens) if text]
    names = {name: number for number, name in enumerate(sorted({seats[place] for place in places}))}
    if len(names) < 2:
        return None, {}
    seat = np.array([names[seats[place]] for place in places])
    rows, columns, counts = _counts([tokens[place] for place in places])
    norms = np.sqrt(np.bincount(rows, weights=counts**2))
    unit = counts / norms[rows]
    total = np.bincount(columns, weights=unit)
    _, cells = np.unique(seat[rows] * len(total) + columns, return_inverse=True)  # a seat's own words
    own = np.bincount(cells, weights=unit)
    apart = np.bincount(rows, weights=unit * (total[columns] - own[cells]))
    others = len(places) - np.bincount(seat)[seat]
    shares = np.clip(apart / others, 0.0, 1.0)
    similarity = float(np.clip(apart.sum() / others.sum(), 0.0, 1.0))
    return similarity, dict(zip(places, shares.tolist(), strict=True))


def _counts(
    tokens: Sequence[list[str]],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """How often each text has each word: row, column, count."""
    vocabulary: dict[str, int] = {}
    rows: list[int] = []
    columns: list[int] = []
    counts: list[int] = []
    for row, text in enumerate(tokens):
        for word, count in Counter(text).items():
            rows.append(row)
            columns.append(vocabulary.setdefault(word, len(vocabulary)))
            counts.append(count)
    return np.array(rows), np.array(columns), np.array(counts, dtype=np.float64)
