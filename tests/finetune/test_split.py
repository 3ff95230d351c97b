"""What is held out: as many as were asked for, at least one, and whole questions."""

from __future__ import annotations

import pytest

from finetune.groups import Candidate, Group, Turn
from finetune.selecting import parted


def groups(count: int, each: int = 1) -> list[Group]:
    return [
        Group(
            prompt=(Turn(role="user", content=f"q{n}"),),
            question=f"q{n}",
            candidates=(Candidate(text=f"a{time}", rating=4),),
        )
        for n in range(count)
        for time in range(each)
    ]


@pytest.mark.parametrize(("count", "share", "held"), [(22, 0.2, 4), (9, 0.2, 2), (9, 0.01, 1), (2, 0.9, 1)])
def test_so_many_are_held_out_whatever_the_seed(count: int, share: float, held: int) -> None:
    for seed in range(100):
        parts = parted(groups(count), share, seed)
        assert (len(parts.heldout), len(parts.train)) == (held, count - held)


def test_whole_questions_are_held_out() -> None:
    parts = parted(groups(10, each=3), 0.2, 1)
    assert len(parts.heldout) == 6
    assert not {group.question for group in parts.heldout} & {group.question for group in parts.train}
    assert not parted(groups(5), 0.0, 1).heldout
    assert not parted(groups(1), 0.5, 1).heldout
