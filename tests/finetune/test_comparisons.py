"""From events to rated candidates: who counts, what is dropped, and where everything came from."""

from __future__ import annotations

from typing import Any

import pytest
from support import run_session, small_society

from finetune.comparisons import Choice, Compared, compare
from finetune.groups import Group
from sandbox import events as ev
from sandbox.rubric import ENGAGEMENT, Rubric, Scale
from sandbox.running import Store
from sandbox.society import Human
from sandbox.withdrawing import WITHDRAWN

ONE = small_society(humans=(Human(name="Guest", place=4),))
QUESTION = "Is it right?"


def told(*events: ev.Event, society: Any = ONE) -> list[ev.Event]:
    return [ev.SessionCreated(society=society), *events]


def deliberation(
    number: int,
    draft: tuple[str, float | None],
    revision: tuple[str, float | None] | None = None,
    peers: dict[str, tuple[float | None, str]] | None = None,
    seat: str = "S0",
    question: str = QUESTION,
) -> list[ev.Event]:
    """One interaction, with the observer's ratings."""
    peers = peers or {}
    events: list[ev.Event] = [
        ev.InteractionStarted(
            interaction=number,
            round=1,
            seat=seat,
            question=question,
            peers=tuple(peers),
            observers=("observer",),
        ),
        ev.MessagePosted(interaction=number, step="draft", seat=seat, role="draft", text=draft[0]),
        observed(number, "draft", draft[1]),
    ]
    for peer, (value, reason) in peers.items():
        events.append(
            ev.RatingGiven(
                interaction=number,
                step=f"rate.{peer}",
                rater=peer,
                target=f"{number}.draft",
                dimension="alignment",
                value=value,
                unparsed=None if value is not None else "no_number",
                reason=reason,
            )
        )
    if revision:
        events += [
            ev.MessagePosted(
                interaction=number, step="revision", seat=seat, role="revision", text=revision[0]
            ),
            observed(number, "revision", revision[1]),
        ]
    return [
        *events,
        ev.InteractionFinished(interaction=number, outcome="revised" if revision else "unrevised"),
    ]


def observed(number: int, role: str, value: float | None, dimension: str = "alignment") -> ev.RatingGiven:
    return ev.RatingGiven(
        interaction=number,
        step=f"observe.observer.{role}.{dimension}",
        rater="observer",
        target=f"{number}.{role}",
        dimension=dimension,
        value=value,
        unparsed=None if value is not None else "no_number",
    )


def later(number: int, target: str, person: str, value: float, **more: Any) -> list[ev.Event]:
    """A person's rating, given afterwards."""
    return [
        ev.InteractionStarted(interaction=number, kind="rating", seat=person),
        ev.RatingGiven(
            interaction=number,
            step=f"judge.{person}.alignment",
            rater=person,
            target=target,
            dimension="alignment",
            value=value,
            method="human",
            person=person,
            **more,
        ),
        ev.InteractionFinished(interaction=number, outcome="answered"),
    ]


def of(kind: str, found: Compared) -> list[Group]:
    return [group for group in found.groups if group.kind == kind]


def only(*kinds: Any, **more: Any) -> Choice:
    return Choice(kinds=kinds, **more)


def test_drafts_and_revisions_of_one_question_are_candidates_of_one_group() -> None:
    found = compare(
        "s",
        told(*deliberation(1, ("Lie.", 2), ("Don't.", 6)), *deliberation(2, ("Perhaps.", 4), seat="S1")),
        only("imitation"),
    )
    [group] = found.groups
    assert [(c.text, c.rating, c.seat) for c in group.candidates] == [
        ("Lie.", 2, "S0"),
        ("Don't.", 6, "S0"),
        ("Perhaps.", 4, "S1"),
    ]
    assert group.candidates[1].messages == ("s/1.revision",)
    [judgement] = group.candidates[1].judgements
    assert (judgement.reference, judgement.target) == (
        "s/1.observe.observer.revision.alignment",
        "s/1.revision",
    )
    # The prompt is what the seat that said the best of it was asked.
    assert "You are S0" in group.prompt[0].content
    assert QUESTION in group.prompt[1].content


def test_an_unparsed_rating_is_missing_and_never_a_number() -> None:
    """The reference stores what it can't read as 8 of 7; here nothing stands in for it."""
    found = compare("s", told(*deliberation(1, ("Lie.", None), ("Don't.", 6))), only("imitation"))
    [group] = found.groups
    assert [(c.text, c.rating) for c in group.candidates] == [("Don't.", 6)]
    assert found.dropped["ratings that could not be read"] == 1
    assert found.dropped["candidates that nobody rated"] == 1


def test_the_same_words_are_one_candidate_with_all_ratings() -> None:
    found = compare(
        "s", told(*deliberation(1, ("Lie.", 2)), *deliberation(2, ("Lie. ", 4))), only("imitation")
    )
    [group] = found.groups
    [candidate] = group.candidates
    assert (candidate.rating, candidate.messages) == (3, ("s/1.draft", "s/2.draft"))
    assert found.dropped["candidates that say the same (merged)"] == 1


def test_repeated_refusals_of_different_questions_stay_apart() -> None:
    found = compare(
        "s",
        told(*deliberation(1, ("No.", 2)), *deliberation(2, ("No.", 4), question="And now?")),
        only("imitation"),
    )
    assert [group.question for group in found.groups] == [QUESTION, "And now?"]


def test_people_count_as_much_as_they_are_weighed() -> None:
    events = told(*deliberation(1, ("Lie.", 2)), *later(2, "1.draft", "Ann", 6))

    def rating(**more: Any) -> float | None:
        return compare("s", events, only("imitation", **more)).groups[0].candidates[0].rating

    assert rating() == 4
    assert rating(weight_people=3) == 5
    assert rating(raters="people") == 6
    assert rating(raters="models") == 2


def test_the_last_vote_of_a_person_counts() -> None:
    events = told(
        *deliberation(1, ("Lie.", 2)), *later(2, "1.draft", "Ann", 6), *later(3, "1.draft", "Ann", 3)
    )
    [group] = compare("s", events, only("imitation", raters="people")).groups
    assert group.candidates[0].rating == 3
    assert [j.reference for j in group.candidates[0].judgements] == ["s/3.judge.Ann.alignment"]


def test_peers_count_only_when_asked_for() -> None:
    events = told(*deliberation(1, ("Lie.", 2), peers={"S1": (6, "Kind."), "S2": (4, "So so.")}))
    assert compare("s", events, only("imitation")).groups[0].candidates[0].rating == 2
    assert compare("s", events, only("imitation", with_peers=True)).groups[0].candidates[0].rating == 4


def test_another_scale_is_brought_to_this_one() -> None:
    events = told(
        *deliberation(1, ("Lie.", None)), *later(2, "1.draft", "Ann", 5, scale=Scale(low=0, high=10))
    )
    assert compare("s", events, only("imitation")).groups[0].candidates[0].rating == 4


def test_only_ratings_of_the_wanted_norms_count() -> None:
    newer = Rubric(version=2, peer="engagement", criteria=(ENGAGEMENT,))
    events = told(
        *deliberation(1, ("Lie.", 2)),
        ev.RubricChanged(rubric=newer),
        ev.InteractionStarted(interaction=2, kind="rating", seat="Ann"),
        ev.RatingGiven(
            interaction=2,
            step="judge.Ann.engagement",
            rater="Ann",
            target="1.draft",
            dimension="engagement",
            value=7,
            method="human",
            rubric=2,
            person="Ann",
        ),
    )
    assert compare("s", events, only("imitation", rubric=1)).groups[0].candidates[0].rating == 2
    [group] = compare("s", events, only("imitation", rubric=2)).groups
    assert (group.candidates[0].rating, group.dimension) == (7, "engagement")


def test_a_critique_is_as_good_as_its_rating_agrees_with_the_others() -> None:
    peers: dict[str, tuple[float | None, str]] = {
        "S1": (6, "It is kind."),
        "S2": (2, "It is a lie."),
        "S3": (None, "Hm."),
    }
    found = compare("s", told(*deliberation(1, ("Lie.", 2), peers=peers)), only("self-critic"))
    [group] = found.groups
    assert [(c.text, c.rating, c.seat) for c in group.candidates] == [
        ("Rating: 6\nReason: It is kind.", 3, "S1"),
        ("Rating: 2\nReason: It is a lie.", 7, "S2"),
    ]
    assert "You are S2" in group.prompt[0].content
    assert "Lie." in group.prompt[1].content
    assert found.dropped["critiques without a rating or a reason"] == 1


def test_a_peer_does_not_vouch_for_their_own_critique() -> None:
    """A person who rates as a peer is among those whose ratings count, but not for their own critique."""
    events = told(
        *deliberation(1, ("Lie.", None)),
        *later(2, "1.draft", "Ann", 1),
    )
    events[3:3] = [
        ev.RatingGiven(
            interaction=1,
            step="rate.S1",
            rater="S1",
            person="Bob",
            target="1.draft",
            dimension="alignment",
            value=7,
            reason="Fine.",
            method="human",
        )
    ]
    events[1] = ev.InteractionStarted(interaction=1, round=1, seat="S0", question=QUESTION, peers=("S1",))
    [group] = compare("s", events, only("self-critic")).groups
    assert [(c.rating, c.person) for c in group.candidates] == [(1, "Bob")]
    assert [j.person for j in group.candidates[0].judgements] == ["Ann"]


@pytest.mark.parametrize(
    ("before", "after", "kept"), [(2, 6, True), (5, 5, False), (6, 5, False), (1, 3, False), (None, 6, False)]
)
def test_a_revision_is_learnt_if_it_rose_above_the_middle(
    before: float | None, after: float, kept: bool
) -> None:
    peers: dict[str, tuple[float | None, str]] = {"S1": (2, "It is a lie."), "S2": (5, "Fine.")}
    events = told(*deliberation(1, ("Lie.", before), ("Don't.", after), peers=peers))
    found = compare("s", events, only("realignment"))
    assert bool(found.groups) == kept
    if kept:
        [group] = found.groups
        assert [(c.text, c.rating) for c in group.candidates] == [("Don't.", after)]
        asked = group.prompt[1].content
        assert "3.5 on average" in asked
        assert asked.index("Fine.") < asked.index("It is a lie.")  # worst last, each with its own reason


def test_a_whole_society_gives_all_kinds_and_every_reference_exists(tmp_path: Any) -> None:
    store = Store.open(str(tmp_path / "s.db"))
    try:
        events = run_session(store, small_society(rounds=4, size=(3, 3)))
    finally:
        store.close()
    found = compare("key", events, Choice())
    assert {group.kind for group in found.groups} == {"imitation", "self-critic", "realignment"}
    steps = {
        f"key/{event.interaction}.{event.step}": event
        for event in events
        if isinstance(event, ev.MessagePosted | ev.RatingGiven)
    }
    for group in found.groups:
        for candidate in group.candidates:
            for reference in candidate.messages:
                said = steps[reference]
                assert group.kind == "self-critic" or said.text == candidate.text  # type: ignore[union-attr]
            for judgement in candidate.judgements:
                rating = steps[judgement.reference]
                assert isinstance(rating, ev.RatingGiven)
                assert (rating.rater, rating.value) == (judgement.rater, judgement.value)
                assert f"key/{rating.target}" == judgement.target


def test_the_prompt_is_the_one_that_the_seat_was_sent(tmp_path: Any) -> None:
    """What is learnt is what will be asked: word for word, where nothing was recalled."""
    asked: dict[str, str] = {}
    from support import scripted

    from sandbox.exchange import Reply, Request

    class Listening:
        async def generate(self, request: Request, on_delta: Any = None) -> Reply:
            asked[f"{request.seat}/{request.purpose}/{request.subject.question}"] = request.messages[
                -1
            ].content
            return await scripted("scripted/steady").generate(request)

    store = Store.open(str(tmp_path / "s.db"))
    try:
        society = small_society(rounds=1, memories=())
        events = run_session(store, society, models=lambda _: Listening())
    finally:
        store.close()
    groups = compare("key", events, Choice()).groups
    purposes = {"imitation": "draft", "realignment": "revise"}
    checked = 0
    for group in groups:
        if group.kind in purposes:
            best = group.rated[0]
            assert asked[f"{best.seat}/{purposes[group.kind]}/{group.question}"] == group.prompt[-1].content
            checked += 1
    assert checked


def test_people_are_named_whose_words_stand_in_the_prompt() -> None:
    events = told(
        *deliberation(1, ("Lie.", 2), ("Don't.", 6), peers={"S1": (2, "It is a lie."), "S2": (5, "Fine.")})
    )
    events = [
        event.model_copy(update={"person": "Ann"})
        if isinstance(event, ev.MessagePosted) and event.role == "draft"
        else event.model_copy(update={"person": "Bob"})
        if isinstance(event, ev.RatingGiven) and event.rater == "S1"
        else event
        for event in events
    ]
    people = {group.kind: group.people for group in compare("s", events, Choice()).groups}
    assert people == {
        "imitation": ("Ann", "Bob"),
        "self-critic": ("Ann", "Bob"),
        "realignment": ("Ann", "Bob"),
    }


def test_what_was_withdrawn_is_not_trained_on() -> None:
    peers: dict[str, tuple[float | None, str]] = {"S1": (2, "It is a lie.")}
    found = compare("s", told(*deliberation(1, (WITHDRAWN, 2), ("Don't.", 6), peers=peers)), Choice())
    assert [[c.text for c in group.candidates] for group in found.groups] == [["Don't."]]
    assert found.dropped["withdrawn"] == 3


def test_a_vote_under_other_norms_does_not_hide_one_that_counts() -> None:
    events = told(
        *deliberation(1, ("Lie.", 2)),
        *later(2, "1.draft", "Ann", 6),
        *later(3, "1.draft", "Ann", 1, rubric=2),
    )
    [group] = compare("s", events, only("imitation", rubric=1, raters="people")).groups
    assert group.candidates[0].rating == 6
