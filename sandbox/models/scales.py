"""How the values of a scale are written in a model's tokens. It knows a tokenizer, and no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Longer(NamedTuple):
    """A value that takes two tokens, as 10 where numbers are cut into digits: ``begins`` is the value whose
    token is its first, ``token`` its second."""

    value: int
    begins: int
    token: int


class ScaleTokens(NamedTuple):
    """``prefix`` are the tokens of ``"label: "``, ``values`` the one token of each value after it."""

    prefix: list[int]
    values: dict[int, int]
    longer: Longer | None = None


def scale_tokens(tokenizer: Any, label: str, values: Sequence[int]) -> ScaleTokens | None:
    """How the values of a scale are written after ``"label: "``; None if more than one takes two tokens."""
    encoded = {value: tokenizer.encode(f"{label}: {value}", add_special_tokens=False) for value in values}
    length = min(map(len, encoded.values()))
    prefix = next(iter(encoded.values()))[: length - 1]
    if any(ids[: length - 1] != prefix or len(ids) > length + 1 for ids in encoded.values()):
        return None
    single = {value: ids[-1] for value, ids in encoded.items() if len(ids) == length}
    longer = [Longer(value, *ids[-2:]) for value, ids in encoded.items() if len(ids) > length]
    begun = {token: value for value, token in single.items()}
    if len(longer) > 1 or any(one.begins not in begun for one in longer):
        return None
    if not longer:
        return ScaleTokens(prefix, single)
    return ScaleTokens(prefix, single, longer[0]._replace(begins=begun[longer[0].begins]))
