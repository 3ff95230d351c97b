"""Events as they are stored and read again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticUndefined
from support import small_society

from sandbox import events as ev
from sandbox.exchange import Usage
from sandbox.rubric import Criterion, Rubric, Scale
from sandbox.society import Human

USAGE = Usage(
    model="m",
    prompt_tokens=1,
    completion_tokens=2,
    cost=0.25,
    latency_ms=1.5,
    attempts=3,
    trimmed=4,
    finish="length",
)
RUBRIC = Rubric(
    version=2,
    scale=Scale(low=0, high=10),
    criteria=(Criterion(name="wit", question="How witty?", worst="dull", best="sharp"),),
    peer="wit",
)
UNPARSED = ev.RatingGiven(
    interaction=7,
    step="rate.S2",
    rater="S2",
    target="7.draft",
    dimension="wit",
    unparsed="no_number",
    raw="Well.",
)
WHOLE: tuple[ev.Event, ...] = (
    ev.SessionCreated(society=small_society(rubric=RUBRIC)),
    ev.SessionForked(parent="amber-fox", at=12, seed=-(2**63)),
    ev.RunPaused(reason="budget", detail="It is spent."),
    ev.RunResumed(rounds=3, until=2, budget=0.5),
    ev.RunFinished(),
    ev.RubricChanged(rubric=RUBRIC),
    ev.SeatTaken(seat="S1", person="Ann", absent="wait", patience_s=60.0),
    ev.SeatReturned(seat="S1", person="Ann"),
    ev.SeatAdded(seat=Human(name="guest", role="observer", place=9, model="scripted/kind")),
    ev.SeatChanged(seat="S1", model="scripted/kind", before="scripted/harsh", rolled_back=True),
    ev.TurnAwaited(
        interaction=7,
        step="rate.S2",
        seat="S2",
        person="Ann",
        purpose="rate",
        question="Why?",
        text="So.",
        target="7.draft",
        dimension="wit",
        author="S1",
        mean=4.5,
        reasons=("dry",),
        scale=RUBRIC.scale,
        deadline=1_800_000_000.5,
    ),
    ev.ReactionGiven(target="7.draft", person="Ann", reaction="+1", on=False),
    ev.RoundStarted(round=2, first=10, count=9),
    ev.RoundFinished(round=2),
    ev.InteractionStarted(
        interaction=7,
        kind="answer",
        round=2,
        seat="S1",
        question="Why?",
        peers=("S2", "S0"),
        observers=("o",),
        person="Ann",
    ),
    ev.MessagePosted(
        interaction=7,
        step="draft",
        seat="S1",
        role="draft",
        text="So.",
        to=("you",),
        recalled="Who?",
        usage=USAGE,
        person="Ann",
    ),
    ev.RatingGiven(
        interaction=7,
        step="rate.S2",
        rater="S2",
        role="peer",
        target="7.draft",
        dimension="wit",
        value=4.25,
        scale=RUBRIC.scale,
        raw="Rating: 4",
        reason="dry",
        method="likelihood",
        distribution=((4, 0.75), (5, 0.25)),
        rubric=2,
        recalled="Who?",
        usage=USAGE,
        person="Ann",
    ),
    UNPARSED,
    ev.TurnFailed(
        interaction=7, step="revise", seat="S1", error="timeout", detail="late", usage=USAGE, person="Ann"
    ),
    ev.InteractionFinished(interaction=7, outcome="unrevised"),
)
TYPES: tuple[type[Any], ...] = get_args(get_args(ev.Event)[0])


def defaults(kind: type[Any]) -> dict[str, Any]:
    fields = {name: field.default for name, field in kind.model_fields.items() if name != "type"}
    return {name: default for name, default in fields.items() if default is not PydanticUndefined}


def test_these_tests_cover_every_event_and_every_field() -> None:
    assert get_origin(ev.Event) is Annotated
    assert len(TYPES) >= 13
    for kind in TYPES:
        examples = [event for event in WHOLE if type(event) is kind]
        for name, default in defaults(kind).items():
            assert any(getattr(event, name) != default for event in examples), f"{kind.__name__}.{name}"
        assert examples, kind.__name__


@pytest.mark.parametrize("event", WHOLE, ids=lambda event: event.type)
def test_an_event_is_read_as_it_was_written(event: ev.Event) -> None:
    assert ev.load(ev.dump(event)) == event
    assert type(ev.load(ev.dump(event))) is type(event)
    assert json.loads(ev.dump(event))["type"] == event.type


@pytest.mark.parametrize("event", WHOLE, ids=lambda event: event.type)
def test_an_event_of_defaults_is_read_as_it_was_written(event: ev.Event) -> None:
    bare = event.model_copy(update=defaults(type(event)))
    stored = json.loads(ev.dump(bare))
    assert ev.load(ev.dump(bare)) == bare
    if not isinstance(event, ev.SessionCreated | ev.RubricChanged):
        assert not stored.keys() & defaults(type(event)).keys()


def test_the_stored_form_is_short() -> None:
    assert ev.dump(ev.RunFinished()) == '{"type":"run_finished"}'
    assert json.loads(ev.dump(UNPARSED)) == {
        "type": "rating_given",
        "interaction": 7,
        "step": "rate.S2",
        "rater": "S2",
        "target": "7.draft",
        "dimension": "wit",
        "unparsed": "no_number",
        "raw": "Well.",
    }


def test_what_describes_the_society_is_written_out() -> None:
    """Defaults may change in a later version; a stored society must not."""
    society = json.loads(ev.dump(ev.SessionCreated(society=small_society())))["society"]
    assert society["rules"]["max_distance"] == 0.6
    assert society["agents"][0]["active"] is True
    assert set(society["rubric"]) == set(Rubric.model_fields)
    assert json.loads(ev.dump(ev.RubricChanged(rubric=Rubric())))["rubric"]["scale"] == {"low": 1, "high": 7}


texts = st.text(max_size=60)
names = st.text("abcS019_-", min_size=1, max_size=8)
usages = st.none() | st.builds(
    Usage,
    model=texts,
    cost=st.floats(0, 1e6),
    latency_ms=st.floats(0, 1e9),
    attempts=st.integers(0, 9),
    finish=texts,
)
steps = st.one_of(
    st.builds(
        ev.MessagePosted,
        interaction=st.integers(1),
        step=names,
        seat=names,
        role=st.just("draft"),
        text=texts,
        to=st.lists(names, max_size=3).map(tuple),
        recalled=st.none() | texts,
        usage=usages,
    ),
    st.builds(
        ev.RatingGiven,
        interaction=st.integers(1),
        step=names,
        rater=names,
        target=names,
        dimension=names,
        value=st.none() | st.floats(0, 100),
        raw=texts,
        reason=texts,
        usage=usages,
        rubric=st.integers(1, 9),
        distribution=st.none()
        | st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), max_size=4).map(tuple),
    ),
    st.builds(
        ev.TurnFailed,
        interaction=st.integers(1),
        step=names,
        seat=names,
        error=st.just("empty"),
        detail=texts,
        usage=usages,
    ),
)


@given(steps)
def test_any_words_and_numbers_survive_being_stored(event: ev.Step) -> None:
    stored = ev.dump(event)
    assert ev.load(stored) == event
    assert "\n" not in stored  # one event a line, when a log is exported
    assert "\x00" not in stored


@pytest.mark.parametrize("event", WHOLE, ids=lambda event: event.type)
def test_fields_of_a_later_version_are_ignored(event: ev.Event) -> None:
    stored = json.loads(ev.dump(event)) | {"mood": "sunny"}
    assert ev.load(json.dumps(stored)) == event


@pytest.mark.parametrize(
    "payload",
    [
        '{"type":"sun_risen"}',
        "{}",
        "[]",
        "",
        '{"type":"run_resumed"}',
        '{"type":"run_resumed","rounds":"x"}',
        '{"type":"run_paused","reason":"tired"}',
        '{"type":"rating_given"}',
    ],
)
def test_what_is_no_event_is_refused(payload: str) -> None:
    with pytest.raises(ValidationError):
        ev.load(payload)


def test_an_event_can_not_be_changed() -> None:
    with pytest.raises(ValidationError):
        UNPARSED.value = 7.0  # type: ignore[misc]


def test_a_recorded_event_is_shown_with_every_field() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    shown = ev.Recorded("amber-fox", "e1", 3, now, UNPARSED).as_json()
    assert {key: shown[key] for key in ("session", "epoch", "seq")} == {
        "session": "amber-fox",
        "epoch": "e1",
        "seq": 3,
    }
    assert datetime.fromisoformat(shown["time"]) == now
    assert shown["event"].keys() == ev.RatingGiven.model_fields.keys()
    assert json.loads(json.dumps(shown)) == shown | {"event": json.loads(UNPARSED.model_dump_json())}
