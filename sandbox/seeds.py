"""Deterministic choices: every random decision is drawn from the session's seed and a name for the decision.

Only ``random.Random.random`` is used, whose sequence Python guarantees across versions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


def derive(*parts: object) -> int:
    """A 63-bit number that depends on every part and on nothing else."""
    key = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big") >> 1


def draw(items: Sequence[T], count: int, *key: object) -> tuple[T, ...]:
    """``count`` different items (all, if fewer) in a random order fixed by ``key``."""
    rng = random.Random(derive(*key))
    pool = list(items)
    size = len(pool)
    taken = min(count, size)
    for index in range(taken):
        other = index + int(rng.random() * (size - index))
        pool[index], pool[other] = pool[other], pool[index]
    return tuple(pool[:taken])


def shuffled(items: Sequence[T], *key: object) -> tuple[T, ...]:
    """All items in a random order fixed by ``key``."""
    return draw(items, len(items), *key)
