"""What is asked again is no evidence of its own: intervals draw questions, and raters where they are many."""

from __future__ import annotations

import random

import numpy as np
from happenings import deliberation, flat, observer, peer, person

from sandbox import bootstrap
from sandbox import events as ev
from sandbox.agreement import LEAST, agreement
from sandbox.figures import tables, verdict
from sandbox.monitored import Measured
from sandbox.monitors import monitor


def asked_often(chance: random.Random) -> list[list[ev.Event]]:
    """Six rounds of two questions, each asked of ten seats; no trend, but effects of the questions."""
    told = []
    for round in range(1, 7):
        for which in range(2):
            effect = chance.gauss(0, 1)
            for seat in range(10):
                number = len(told) + 1
                value = min(max(round_to(4 + effect + chance.gauss(0, 1)), 1), 7)
                told.append(
                    deliberation(
                        number,
                        round=round,
                        seat=f"S{seat}",
                        rated=[observer(number, "O", value)],
                        question=f"{round}.{which}",
                    )
                )
    return told


def round_to(value: float) -> float:
    return float(np.round(value))


def test_a_trend_of_the_questions_is_seldom_taken_for_inflation() -> None:
    """Drawn by interaction it is in 11 of 60, by question in 4; 1.5 are meant."""
    chance = random.Random(3)
    found = [monitor(flat(asked_often(chance)), seed=n).inflation for n in range(60)]
    assert sum(one.inflated for (one,) in found) <= 8


def test_one_question_asked_often_has_no_interval_and_is_told_so() -> None:
    told = flat(
        deliberation(
            n,
            round=1 + n % 3,
            revision=f"word{n}",
            seat=f"S{n}",
            rated=[peer(n, "B", 3), peer(n, "C", 5), observer(n, "O", 4 + n % 2)],
            question="the same",
        )
        for n in range(1, 41)
    )
    found = monitor(told)
    figures = [
        *(one.slope for one in found.inflation),
        found.homogeneity.slope,
        *(one.severity for one in found.severity),
    ]
    assert len(figures) >= 5
    for figure in figures:
        assert figure is not None
        assert (figure.low, figure.groups) == (None, 1)
    assert [one.low for one in found.agreement] == [None] * len(found.agreement)
    cells = [cell for table in tables(found) for row in table.rows for cell in row]
    assert cells.count("too few (1)") == len(figures)
    assert "too few" in cells
    assert f"fewer than {LEAST} questions" in verdict(found)
    assert not found.warnings


def test_questions_are_the_same_whatever_the_white_space_and_no_question_is_none() -> None:
    for asked, groups in (((" a\n b ", "a b"), 1), (("", ""), 2)):
        told = flat(
            deliberation(n, rated=[peer(n, "B", 3), peer(n, "C", 5)], question=question)
            for n, question in enumerate(asked, 1)
        )
        assert [one.severity.groups for one in monitor(told).severity] == [groups] * 2


def test_agreement_draws_the_messages_of_a_question_together() -> None:
    units = [{"a": float(value), "b": float(value)} for value in (1, 7, 3, 5) * 10]
    alone = agreement(units)
    assert alone.low is not None
    assert agreement(units, [n % 9 for n in range(40)]).low is None
    assert agreement(units, [n % 10 for n in range(40)]).low is not None
    assert agreement(units[: LEAST - 1]).low is None
    told = []
    for n in range(1, 30):
        rated = [person(n, "Ann", n % 7 + 1), person(n, "Eve", n % 7 + 1, at=900 + n)]
        told += [*deliberation(n, question="same"), *rated]
    (one,) = monitor(told).agreement
    assert (one.alpha, one.low, one.units) == (1.0, None, 29)


def test_many_raters_are_drawn_too() -> None:
    """Raters are severe or mild, and those of late rounds are others than those of early ones."""
    chance = random.Random(4)
    rounds, values, groups, raters = [], [], [], []
    for who in range(12):
        effect = chance.gauss(0, 1)
        for n in range(30):
            rounds.append(1 + who // 2)
            values.append(effect + chance.gauss(0, 0.2))
            groups.append(n)
            raters.append(f"R{who}")
    one = bootstrap.slope(rounds, values, groups, 1)
    both = bootstrap.slope(rounds, values, groups, 1, raters)
    assert one is not None
    assert both is not None
    assert both.value == one.value
    assert width(both) > 3 * width(one)
    assert bootstrap.slope(rounds, values, groups, 1, [f"R{n % 5}" for n in groups]) == one  # too few


def width(found: Measured) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low
