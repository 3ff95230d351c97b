"""The frames and snapshots: what is sent can be read, and the published documents are those of the code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter
from support import small_society

from sandbox import events as ev
from sandbox.exchange import Usage
from sandbox.rubric import ALIGNMENT, Rubric, Scale
from sandbox.society import Human
from server.wire import frames as fr
from server.wire.commands import Command, Say
from server.wire.schema import asyncapi, asyncapi_text, json_schema, json_schema_text
from server.wire.snapshot import Snapshot, advance, snapshot

DOCS = Path(__file__).parents[2] / "docs"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FRAME: TypeAdapter[Any] = TypeAdapter(fr.ServerFrame)
USAGE = Usage(model="m", prompt_tokens=3, completion_tokens=2, cost=0.25)


def story() -> list[ev.Event]:
    """A session in which everything happens that can."""

    def rating(number: int, step: str, target: str, value: float | None, **more: Any) -> ev.RatingGiven:
        rater, dimension = step.split(".")[1], step.split(".")[3] if step.count(".") == 3 else "alignment"
        return ev.RatingGiven(
            interaction=number,
            step=step,
            rater=rater,
            target=f"{number}.{target}",
            dimension=dimension,
            value=value,
            unparsed=None if value is not None else "no_number",
            usage=USAGE,
            **more,
        )

    return [
        ev.SessionCreated(society=small_society()),
        ev.SeatAdded(seat=Human(name="guest", role="observer", place=4)),
        ev.SeatTaken(seat="S0", person="Ann", absent="wait"),
        ev.SeatChanged(seat="S1", model="scripted/kind", before="scripted/steady"),
        ev.RoundStarted(round=1, first=1, count=2),
        ev.InteractionStarted(
            interaction=1, round=1, seat="S1", question="Why?", peers=("S0",), observers=("o",)
        ),
        ev.InteractionStarted(interaction=2, round=1, seat="S2", question="How?"),
        ev.MessagePosted(interaction=1, step="draft", seat="S1", role="draft", text="So.", usage=USAGE),
        ev.TurnAwaited(interaction=1, step="rate.S0", seat="S0", person="Ann", purpose="rate", scale=Scale()),
        rating(1, "observe.o.draft.alignment", "draft", 4),
        rating(1, "observe.o.draft.engagement", "draft", None),
        rating(1, "rate.S0", "draft", 6, person="Ann", method="human"),
        ev.TurnFailed(interaction=2, step="draft", seat="S2", error="timeout", usage=USAGE),
        ev.InteractionFinished(interaction=2, outcome="failed"),
        ev.MessagePosted(
            interaction=1, step="revision", seat="S1", role="revision", text="Thus.", usage=USAGE
        ),
        ev.RunPaused(reason="budget", detail="Spent."),
        ev.RunResumed(rounds=3),
        rating(1, "observe.o.revision.alignment", "revision", 7),
        ev.InteractionFinished(interaction=1, outcome="revised"),
        ev.ReactionGiven(target="1.draft", person="Ann", reaction="+1"),
        ev.RubricChanged(rubric=Rubric(version=2, criteria=(ALIGNMENT,))),
        ev.SeatReturned(seat="S0", person="Ann"),
        ev.RoundFinished(round=1),
        ev.SessionForked(parent="other", at=3),
        ev.RunFinished(),
    ]


def recorded(events: list[ev.Event]) -> list[ev.Recorded]:
    return [ev.Recorded("small", "e1", seq, WHEN, event) for seq, event in enumerate(events, 1)]


def test_the_story_has_every_event() -> None:
    kinds = set(get_args(get_args(ev.Event)[0]))
    assert {type(event) for event in story()} == kinds


def test_a_snapshot_advanced_by_frames_equals_a_fresh_one_from_any_event_on() -> None:
    log = recorded(story())
    for start in range(1, len(log) + 1):
        client = Snapshot.model_validate_json(snapshot(log[:start]).model_dump_json())
        for end in range(start, len(log)):
            frame = FRAME.validate_json(fr.encode_event(log[end]))
            advance(client, ev.Recorded("small", frame.epoch, frame.seq, frame.ts, frame.data.event))
            assert client == snapshot(log[: end + 1]), (start, log[end].event.type)


def test_a_snapshot_says_what_is_to_be_seen() -> None:
    view = snapshot(recorded(story())[:15])
    assert (view.status, view.round, view.seq) == ("running", 1, 15)
    seat = next(seat for seat in view.seats if seat.name == "S1")
    assert seat.model == "scripted/kind"
    assert seat.drafted["alignment"].mean == 4
    assert (seat.drafted["engagement"].n, seat.drafted["engagement"].unparsed) == (0, 1)
    assert seat.drafted["engagement"].mean is None
    assert next(seat for seat in view.seats if seat.name == "S0").person == "Ann"
    assert list(view.open) == [1]
    assert [message.step for message in view.open[1].messages] == ["draft", "revision"]
    assert not view.open[1].awaited, "what was answered waits no more"
    assert (view.totals.calls, view.totals.unparsed, view.totals.failures) == (6, 1, 1)
    assert view.totals.cost == pytest.approx(1.5)
    (first,) = view.history
    assert (first.begun, first.finished) == (2, 1)


def test_a_snapshot_takes_the_next_event_and_no_other() -> None:
    log = recorded(story())
    view = snapshot(log[:3])
    for wrong in (log[2], log[4]):
        with pytest.raises(ValueError, match="does not follow"):
            advance(view, wrong)
    with pytest.raises(ValueError, match="session_created"):
        snapshot(log[1:])


def test_every_event_frame_reads_as_the_event_it_was_and_fits_the_schema() -> None:
    validator = Draft202012Validator(json_schema())
    for item in recorded(story()):
        text = fr.encode_event(item)
        frame = FRAME.validate_json(text)
        assert isinstance(frame, fr.EventFrame)
        assert (frame.data.event, frame.seq, frame.id) == (item.event, item.seq, f"e1:{item.seq}")
        validator.validate(json.loads(text))


def test_an_events_frame_is_what_the_model_itself_would_write() -> None:
    for item in recorded(story()):
        whole = fr.EventFrame(
            epoch=item.epoch,
            seq=item.seq,
            id=f"e1:{item.seq}",
            ts=item.time,
            session=item.session,
            data=fr.EventData(event=item.event),
        )
        assert FRAME.validate_json(fr.encode_event(item)) == whole


def test_a_command_frame_fits_the_schema_it_is_read_by() -> None:
    frame = {"v": 1, "type": "command", "cid": "1", "data": {"do": "say", "text": "Hello"}}
    Draft202012Validator(json_schema()).validate(frame)
    read = TypeAdapter(fr.ClientFrame).validate_python(frame)
    assert isinstance(read, fr.CommandFrame)
    assert read.data == Say(text="Hello")


def test_every_command_and_frame_is_in_the_published_documents() -> None:
    document = asyncapi()
    names = {message["name"] for message in document["components"]["messages"].values()}
    kinds = {model.model_fields["type"].default for model in get_args(get_args(fr.ServerFrame)[0])}
    assert kinds | {"command", "ping"} == names
    commands = {model.__name__ for model in get_args(get_args(Command)[0])}
    assert commands <= document["components"]["schemas"].keys()
    assert {type(event).__name__ for event in story()} <= document["components"]["schemas"].keys()
    for reference in set(_references(document)):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


@pytest.mark.parametrize(
    ("file", "text"),
    [("live-protocol.schema.json", json_schema_text), ("live-protocol.asyncapi.json", asyncapi_text)],
)
def test_the_documents_in_the_repository_are_those_of_the_code(file: str, text: Any) -> None:
    assert (DOCS / file).read_text("utf-8") == text(), f"write it anew: python -m server.wire.schema {DOCS}"


def test_every_close_code_is_told() -> None:
    assert set(fr.Close) <= fr.CLOSE_CODES.keys()
    assert all(len(text) <= 120 for text in fr.CLOSE_CODES.values()), (
        "a close frame holds 123 bytes of reason"
    )


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []
