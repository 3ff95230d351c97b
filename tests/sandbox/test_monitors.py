"""What monitors find: figures worked out by hand, and what must hold for any session."""

from __future__ import annotations

import json
import math
import random
import time

import pytest
from happenings import deliberation, flat, observer, peer, person, usage
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run_session, small_society

from sandbox import events as ev
from sandbox.monitored import Monitors
from sandbox.monitors import monitor
from sandbox.rubric import Rubric, Scale
from sandbox.running import Store
from sandbox.withdrawing import withdraw


def test_an_empty_session_has_nothing_to_say() -> None:
    assert monitor([]) == Monitors()


def test_ratings_that_rise_by_half_a_point_a_round_are_inflated() -> None:
    # Rounds 1 to 3, means 3, 3.5, 4: the slope is ½, whichever interactions are drawn.
    told = flat(
        deliberation(n, round=r, rated=[peer(n, "B", 2.5 + r / 2), observer(n, "O", 5)])
        for n, r in enumerate([1, 2, 3] * 6, 1)
    )
    peers, alignment = monitor(told).inflation
    assert (peers.name, alignment.name) == ("peers", "alignment")
    assert [(one.round, one.n, one.mean) for one in peers.series] == [(1, 6, 3.0), (2, 6, 3.5), (3, 6, 4.0)]
    assert peers.slope is not None
    assert (peers.slope.value, peers.slope.low, peers.slope.high) == (0.5, 0.5, 0.5)
    assert peers.inflated
    assert alignment.slope is not None
    assert (alignment.slope.value, alignment.slope.low, alignment.inflated) == (0.0, 0.0, False)
    (warning,) = monitor(told).warnings
    assert warning.startswith(
        "The peers' ratings of drafts rise by 0.50 (95 %: 0.50 to 0.50) points a round."
    )


def test_a_slope_is_that_of_least_squares_over_all_ratings() -> None:
    # (1, 2), (1, 4), (2, 6), (3, 4): x̄ = 7/4, ȳ = 4; Sxy = 1.5 + 0 + 0.5 + 0, Sxx = 2.75 → 8/11.
    told = flat(
        [
            deliberation(1, round=1, rated=[peer(1, "B", 2), peer(1, "C", 4)]),
            deliberation(2, round=2, rated=[peer(2, "B", 6), peer(2, "C", None)]),
            deliberation(3, round=3, rated=[peer(3, "B", 4)]),
        ]
    )
    (peers,) = monitor(told).inflation
    assert peers.slope is not None
    assert peers.slope.value == pytest.approx(8 / 11, abs=1e-6)
    assert peers.slope.low is None, "three interactions carry no interval"
    assert [one.n for one in peers.series] == [2, 1, 1]


def test_one_round_has_no_slope_and_no_round_no_series() -> None:
    (one,) = monitor(deliberation(1, rated=[peer(1, "B", 2)])).inflation
    assert (one.slope, one.inflated) == (None, False)
    assert monitor(deliberation(1, round=None, rated=[peer(1, "B", 2)])).inflation == ()


def test_a_model_that_favours_itself_is_found() -> None:
    # m gives its own 6 where x gives 4 (+2), and x's 4 where x gives 5 (−1): a preference of 3.
    told = flat(
        deliberation(
            n,
            model="m" if n % 2 else "x",
            rated=[
                peer(n, "B", 6 if n % 2 else 4, model="m"),
                peer(n, "C", 4 if n % 2 else 5, model="x"),
            ],
        )
        for n in range(1, 21)
    )
    told += deliberation(21, model="m", rated=[peer(21, "B", 7, model="m")])  # nobody else rated it
    m, x = monitor(told).self_preference
    assert (m.model, m.own, m.others, m.preferred) == ("scripted/m", 10, 10, True)
    assert (m.preference.value, m.preference.low, m.preference.high) == (3.0, 3.0, 3.0)
    assert (x.model, x.preference.value) == ("scripted/x", 3.0)
    assert sum("favours its own" in warning for warning in monitor(told).warnings) == 2


def test_a_model_is_one_judge_in_however_many_seats_and_people_are_others() -> None:
    # m's two seats gave 6 and 4, a mean of 5; a person 3: +2 for its own. On x's: 2 less 4 is −2. In all 4.
    told = flat(
        [
            deliberation(1, model="m", rated=[peer(1, "B", 6, model="m"), peer(1, "C", 4, model="m")]),
            deliberation(2, model="x", rated=[peer(2, "B", 2, model="m")]),
            [person(1, "Ann", 3), person(2, "Ann", 4)],
        ]
    )
    (only,) = monitor(told).self_preference
    assert (only.model, only.preference.value, only.preference.low) == ("scripted/m", 4.0, None)
    assert (only.own, only.others, only.preferred) == (1, 1, False)


def test_without_a_name_in_the_usage_a_seat_rates_through_its_rating_model() -> None:
    agents = small_society().agents
    agents = (agents[0], agents[1].model_copy(update={"rating_model": "scripted/kind"}), *agents[2:])
    created = ev.SessionCreated(society=small_society(agents=agents))
    told: list[ev.Event] = [created]
    for number, model in ((1, "kind"), (2, "steady")):
        ratings = [peer(number, "S1", 6), peer(number, "S2", 5)]
        bare = [rating.model_copy(update={"usage": None}) for rating in ratings]
        told += deliberation(number, seat="S0", model=model, rated=bare)
    assert [one.model for one in monitor(told).self_preference] == ["scripted/kind", "scripted/steady"]


def test_severity_is_the_distance_from_the_others_mean() -> None:
    # 3, 5 and 7: B is 3 − 6 = −3, C 5 − 5 = 0, D 7 − 4 = +3.
    told = flat(
        deliberation(n, rated=[peer(n, "B", 3), peer(n, "C", 5), peer(n, "D", 7)]) for n in range(1, 11)
    )
    found = monitor(told).severity
    assert [(one.rater, one.n, one.severity.value, one.severity.low) for one in found] == [
        ("B", 10, -3.0, -3.0),
        ("C", 10, 0.0, 0.0),
        ("D", 10, 3.0, 3.0),
    ]
    assert monitor(deliberation(1, rated=[peer(1, "B", 3)])).severity == ()


def test_a_model_asked_as_a_peer_is_not_compared_with_itself_as_an_observer() -> None:
    # Both are one model. Asked as peers they say 3 and 3, asked as an observer 6: that is the prompt's doing.
    told = flat(
        deliberation(n, rated=[peer(n, "B", 3), peer(n, "C", 3), observer(n, "O", 6, role="draft")])
        for n in range(1, 11)
    )
    found = monitor(told)
    assert [(one.rater, one.severity.value) for one in found.severity] == [("B", 0.0), ("C", 0.0)]
    models = next(one for one in found.agreement if one.who == "models")
    assert models.alpha is None or models.alpha == 1.0, "the peers agree, and an observer alone is no unit"
    assert models.pairable == 20


def test_another_model_is_no_judge_of_ones_preference_under_another_prompt() -> None:
    rated = [
        [
            peer(n, "B", 6, model="m"),
            observer(n, "O", 2, role="draft").model_copy(update={"usage": usage("x")}),
        ]
        for n in range(1, 21)
    ]
    told = flat(deliberation(n, model="m" if n % 2 else "x", rated=rated[n - 1]) for n in range(1, 21))
    assert monitor(told).self_preference == ()


def test_a_person_is_compared_with_models_in_every_role() -> None:
    told = [*deliberation(1, rated=[peer(1, "B", 3), observer(1, "O", 5, role="draft")]), person(1, "Ann", 6)]
    by_rater = {one.rater: (one.n, one.severity.value) for one in monitor(told).severity}
    assert by_rater == {"Ann": (1, 2.0), "B": (1, -3.0), "O": (1, -1.0)}


def test_a_person_is_one_rater_wherever_they_sit_and_the_last_vote_counts() -> None:
    seated = peer(1, "B", 1).model_copy(update={"person": "Ann", "method": "human", "usage": None})
    told = [*deliberation(1, rated=[seated, peer(1, "C", 4)]), person(1, "Ann", 6)]
    ann, c = monitor(told).severity
    assert (ann.rater, ann.is_person, ann.n, ann.severity.value) == ("Ann", True, 1, 2.0)
    assert (c.rater, c.is_person) == ("C", False)
    (peers,) = monitor(told).inflation
    assert (peers.series[0].n, peers.series[0].mean) == (2, 5.0), (
        "she was asked as a peer, and thought better"
    )


def test_agreement_is_told_among_people_among_models_and_between_them() -> None:
    told = flat(
        [
            *[
                [
                    *deliberation(n, rated=[peer(n, "B", value), peer(n, "C", 8 - value)]),
                    person(n, "Ann", value),
                    person(n, "Eve", value, at=2000 + n),
                ]
                for n, value in enumerate([1, 7] * 6, 1)
            ]
        ]
    )
    found = {one.who: one for one in monitor(told).agreement}
    assert found["people"].alpha == 1.0
    assert (found["people"].units, found["people"].pairable) == (12, 24)
    models = found["models"]
    assert models.alpha is not None
    assert models.alpha < 0
    # Their mean is always 4, between the people's 1 and 7.
    assert found["people and models"].units == 12
    poor = [warning for warning in monitor(told).warnings if "hardly agree" in warning]
    assert any(warning.startswith("The models hardly agree on alignment: alpha is -") for warning in poor)
    assert not any(warning.startswith("The people") for warning in poor)


def test_what_could_not_be_read_is_counted_and_enters_no_mean() -> None:
    told = flat(
        deliberation(n, rated=[peer(n, "B", None if n <= 4 else 5), peer(n, "C", 5)]) for n in range(1, 11)
    )
    found = monitor(told)
    assert [(one.rater, one.unparsed, one.ratings) for one in found.unparsed] == [("B", 4, 10), ("C", 0, 10)]
    assert [(one.rater, one.n) for one in found.severity] == [("B", 6), ("C", 6)]
    assert found.inflation[0].series[0].mean == 5.0
    (warning,) = found.warnings
    assert warning.startswith("4 of 10 ratings by B could not be read.")


def test_what_was_withdrawn_is_in_no_figure() -> None:
    told = [*deliberation(1, rated=[peer(1, "B", 2), peer(1, "C", 4)]), person(1, "Ann", 7)]
    after = [*told]
    for place, event in withdraw(told, "Ann", "withdrawn-1").items():
        after[place] = event
    assert monitor(after) == monitor(told[:-1])


def test_what_is_hidden_is_as_if_it_were_not_there() -> None:
    told = deliberation(1, rated=[peer(1, "B", 2), peer(1, "C", 4)])
    hidden = [e.model_copy(update={"value": None}) if isinstance(e, ev.RatingGiven) else e for e in told]
    assert monitor(hidden).unparsed == ()


def test_ratings_on_another_scale_than_todays_are_left_out_and_counted() -> None:
    created = ev.SessionCreated(society=small_society())
    changed = ev.RubricChanged(rubric=Rubric(version=2, scale=Scale(low=0, high=10)))
    first = deliberation(1, round=1, rated=[peer(1, "B", 2), peer(1, "C", 3)])
    later = deliberation(2, round=2, rated=[peer(2, "B", 9, scale=Scale(low=0, high=10))])
    found = monitor([created, *first, changed, *later])
    assert found.other_scale == 2
    assert [(one.round, one.mean) for one in found.inflation[0].series] == [(2, 9.0)]


def test_the_same_seed_brings_the_same_intervals() -> None:
    told = noisy(random.Random(5), 30)
    assert monitor(told, seed=1) == monitor(told, seed=1)
    assert monitor(told, seed=1).severity != monitor(told, seed=2).severity


def test_a_real_run_is_monitored(store: Store) -> None:
    found = monitor(run_session(store, small_society(rounds=3)))
    assert [one.name for one in found.inflation] == ["peers", "alignment", "engagement"]
    assert [one.n for one in found.homogeneity.series] == [4, 4, 4]
    assert {one.rater for one in found.severity} >= {"S0", "S1"}
    assert Monitors.model_validate_json(found.model_dump_json()) == found


def test_a_hundred_thousand_ratings_take_seconds() -> None:
    told = noisy(random.Random(1), 12_500)
    assert sum(isinstance(event, ev.RatingGiven) for event in told) == 100_000
    began = time.perf_counter()
    monitor(told)
    assert time.perf_counter() - began < 60  # some four on a quiet machine


def noisy(chance: random.Random, count: int) -> list[ev.Event]:
    """Interactions over ten rounds, with eight ratings each, of which some can't be read."""
    told: list[ev.Event] = []
    for number in range(1, count + 1):
        raters = chance.sample(range(16), 4)
        ratings = [
            peer(number, f"S{r}", chance.choice([None, 1, 2, 3.5, 4, 5, 6, 7]), model=f"m{r % 3}")
            for r in raters
        ]
        ratings += [
            observer(number, "O", chance.choice([1, 4, 7]), role, dimension)
            for role in ("draft", "revision")
            for dimension in ("alignment", "engagement")
        ]
        told += deliberation(
            number,
            round=1 + number % 10,
            seat=f"S{number % 16}",
            model=f"m{number % 3}",
            revision=" ".join(chance.choices("abcdefgh", k=9)),
            rated=ratings,
        )
    return told


VALUES = st.one_of(st.none(), st.floats(1, 7), st.integers(1, 7), st.sampled_from([math.inf, math.nan, -3.0]))


@st.composite
def societies(draw: st.DrawFn) -> list[list[ev.Event]]:
    """Interactions with whatever ratings and words."""
    told = []
    for number in range(1, draw(st.integers(0, 14)) + 1):
        raters = draw(st.lists(st.sampled_from("BCDE"), unique=True, max_size=4))
        ratings = [
            peer(number, rater, draw(VALUES), model=draw(st.sampled_from(["m", "x"]))) for rater in raters
        ]
        ratings += [observer(number, "O", draw(VALUES))]
        told.append(
            deliberation(
                number,
                round=draw(st.one_of(st.none(), st.integers(1, 3))),
                seat=draw(st.sampled_from("ABC")),
                model=draw(st.sampled_from(["m", "x"])),
                revision=draw(st.one_of(st.none(), st.text(max_size=12))),
                rated=ratings,
            )
        )
    return told


@settings(max_examples=60, deadline=None)
@given(told=societies(), chance=st.randoms(use_true_random=False))
def test_no_figure_is_nan_and_how_interactions_were_interleaved_does_not_matter(
    told: list[list[ev.Event]], chance: random.Random
) -> None:
    found = monitor(flat(told))
    json.loads(found.model_dump_json(), parse_constant=pytest.fail)
    waiting = [list(events) for events in told if events]
    mixed: list[ev.Event] = []
    while waiting:
        events = chance.choice(waiting)
        mixed.append(events.pop(0))
        waiting = [rest for rest in waiting if rest]
    assert monitor(mixed) == found
    for slope in (one.slope for one in found.inflation):
        assert slope is None or slope.low is None or slope.high is None or slope.low <= slope.high
