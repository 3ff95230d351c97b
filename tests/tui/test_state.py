"""What the terminal app knows: frames in, view out, bounded, and equal to what the server says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from support import run_session, small_society

from sandbox import events as ev
from sandbox.rubric import Scale
from sandbox.running import Store
from server.wire import frames as fr
from server.wire.snapshot import Tally, snapshot
from tui import state
from tui.agreement import agreement
from tui.charts import BOTH, DRAFT, REVISION, SPREAD, chart
from tui.diffs import word_diff
from tui.filters import Filter, parse
from tui.layout import board, look
from tui.lines import line
from tui.state import Watched, mean_of, series, spread
from tui.talk import addressed
from tui.turns import Queue

TIME = datetime(2026, 1, 1, tzinfo=UTC)


def recorded(events: list[ev.Event]) -> list[ev.Recorded]:
    return [ev.Recorded("small-abc", "e1", seq, TIME, event) for seq, event in enumerate(events, 1)]


@pytest.fixture
def whole(sqlite_store: Store) -> list[ev.Recorded]:
    """A whole small session."""
    return recorded(run_session(sqlite_store, small_society()))


def frame(item: ev.Recorded, *, masked: bool = False) -> fr.ServerFrame:
    adapter = fr.EventFrame
    return adapter.model_validate_json(fr.encode_event(item, masked=masked))


def watched(items: list[ev.Recorded], until: int = 1) -> Watched:
    return Watched(snapshot(items[:until]))


def test_a_view_that_takes_every_frame_is_that_of_the_server(whole: list[ev.Recorded]) -> None:
    view = watched(whole)
    for item in whole[1:]:
        view.take(frame(item))
        view.take(frame(item))  # what comes twice counts once
    assert view.view == snapshot(whole)
    assert len(view.feed) == len(whole) - 1
    record = view.records[1]
    assert record.draft is not None
    assert record.revision is not None
    assert record.outcome == "revised"
    assert len(record.peer_ratings()) == len(record.peers)


def test_the_past_is_put_before_what_is_known(whole: list[ev.Recorded]) -> None:
    view = watched(whole, len(whole) - 5)
    for item in whole[-5:]:
        view.advance(item)
    view.recall(whole[: len(whole) - 5])
    assert [entry.seq for entry in view.feed] == list(range(1, len(whole) + 1))
    assert view.records[1].revision is not None
    view.recall(whole[:10])
    assert len(view.feed) == len(whole), "nothing comes twice"


def test_no_more_is_kept_than_is_meant(whole: list[ev.Recorded], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "KEPT", 3)
    view = watched(whole)
    for item in whole[1:]:
        view.advance(item)
    assert sorted(view.records) == sorted(view.records)[-len(view.records) :]
    assert len(view.records) <= 3 + 4
    assert view.feed.maxlen == state.FEED


def test_text_that_comes_in_is_gone_when_the_message_is_there(whole: list[ev.Recorded]) -> None:
    view = watched(whole)
    draft = next(i for i in whole if isinstance(i.event, ev.MessagePosted))
    for item in whole[1 : draft.seq - 1]:
        view.advance(item)
    assert isinstance(draft.event, ev.MessagePosted)
    head = {"epoch": "e1", "id": "x", "ts": TIME, "session": "small-abc"}
    for piece in ("I ", "would"):
        delta = fr.Delta(interaction=draft.event.interaction, step="draft", text=piece)
        view.take(fr.DeltaFrame(**head, data=delta))  # type: ignore[arg-type]
    assert view.typing == {(draft.event.interaction, "draft"): "I would"}
    assert draft.event.seat in view.speaking()
    assert view.speaker(draft.event.interaction, "draft") == draft.event.seat
    view.advance(draft)
    assert view.typing == {}


def test_what_was_hidden_is_filled_in_when_it_is_revealed(whole: list[ev.Recorded]) -> None:
    view = watched(whole)
    first = next(i for i in whole if isinstance(i.event, ev.RatingGiven))
    hidden = first.event.model_copy(update={"value": None, "reason": "", "raw": "", "distribution": None})
    for item in whole[1:]:
        masked = item.seq == first.seq
        view.take(frame(item._replace(event=hidden) if masked else item, masked=masked))
    entry = next(entry for entry in view.feed if entry.seq == first.seq)
    assert entry.masked
    assert "hidden" in line(entry.event, masked=True).what
    head = {"epoch": "e1", "id": "x", "ts": TIME, "session": "small-abc"}
    view.take(fr.RevealedFrame(**head, data=fr.Revealed(ratings=(first.event,))))  # type: ignore[arg-type]
    entry = next(entry for entry in view.feed if entry.seq == first.seq)
    assert not entry.masked
    assert entry.event == first.event
    assert isinstance(first.event, ev.RatingGiven)
    assert first.event in view.records[first.event.interaction].ratings


def test_every_event_has_its_line(whole: list[ev.Recorded]) -> None:
    for item in whole:
        told = line(item.event)
        assert told.what
        assert "\x1b" not in told.what


def test_a_feed_is_filtered_by_seat_round_kind_and_words(whole: list[ev.Recorded]) -> None:
    view = watched(whole)
    for item in whole[1:]:
        view.advance(item)
    said = view.entries(kind="message_posted", seat="S1", round=2)
    assert {entry.event.seat for entry in said} == {"S1"}  # type: ignore[union-attr]
    assert len(said) == 2
    assert len(view.entries(words="THING NUMBERED 0")) < len(view.feed)
    assert view.entries(words="no such words anywhere") == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Filter()),
        ("S1", Filter(seat="S1")),
        ("seat:S1 round:2 kind:said be honest", Filter("S1", 2, "message_posted", "be honest")),
        ("kind:rating_given", Filter(kind="rating_given")),
        ("why?", Filter(words="why?")),
    ],
)
def test_a_filter_is_written_on_one_line(text: str, wanted: Filter) -> None:
    assert parse(text, {"S1"}) == wanted
    assert parse(str(wanted), {"S1"}) == wanted


@pytest.mark.parametrize("text", ["round:x", "kind:nonsense"])
def test_a_filter_that_can_not_be_is_told_how(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|use"):
        parse(text)


def test_seats_keep_their_places_and_say_how_they_were_rated(whole: list[ev.Recorded]) -> None:
    view = snapshot(whole)
    shown = board(view.topology, view.seats)
    assert shown.rows == (("S0", "S1"), ("S2", "S3"), ("observer",))
    assert shown.near("S0", 1, 0) == "S2"
    assert shown.near("S0", -1, 0) == "S0"
    assert shown.near("S1", 0, 1) == "S1"
    assert shown.near("S3", 1, 0) == "observer"
    seat = view.seats[0]
    value = mean_of(seat, "alignment")
    assert value is not None
    cell = look(seat, "alignment", 1, 7)
    assert cell.rating == f"{value:.1f}"
    assert cell.level == min(int((value - 1) / 6 * 5), 4)
    assert len(cell.text()) == 9
    assert look(seat, "alignment", 1, 7, speaking=True).mark == "»"
    assert look(seat, "none", 1, 7).level is None


def test_the_spread_is_the_standard_deviation() -> None:
    tally = Tally(n=4, total=16.0, squares=4 + 16 + 16 + 36)
    assert spread(tally) == pytest.approx(2**0.5)
    assert spread(Tally()) is None


def test_charts_are_read_without_colour() -> None:
    def tally(*values: int) -> Tally:
        return Tally(n=len(values), total=float(sum(values)), squares=float(sum(v * v for v in values)))

    drawn = chart([(1, tally(1)), (2, tally(4))], [(1, tally(7)), (2, tally(2, 6))], 1, 7, 20, 7)
    rows = [row for _, row in drawn.rows]
    assert rows[0][0] == REVISION
    assert rows[6][0] == DRAFT
    assert rows[3][4] == BOTH
    assert [row[4:5] for row in rows] == ["", SPREAD, SPREAD, BOTH, SPREAD, SPREAD, ""]
    assert [label for label, _ in drawn.rows] == ["7", "6", "5", "4", "3", "2", "1"]
    assert drawn.ticks == "1   2"
    many = [(number, tally(4)) for number in range(1, 101)]
    assert max(len(row) for _, row in chart(many, [], 1, 7, 30, 7).rows) == 30


def test_a_diff_holds_both_texts() -> None:
    before, after = "I would not do it, ever.", "I would do it, but kindly."
    pieces = word_diff(before, after)
    assert "".join(p.text for p in pieces if p.change != "new") == before
    assert "".join(p.text for p in pieces if p.change != "gone") == after
    assert any(p.change == "gone" and "not" in p.text for p in pieces)
    assert word_diff("", "") == ()
    assert [p.change for p in word_diff("same", "same")] == ["same"]
    long = " ".join(str(n) for n in range(10_000))
    assert [p.change for p in word_diff(long, long + " more")] == ["gone", "new"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello", ("Hello", ())),
        ("@S1 Hello", ("Hello", ("S1",))),
        ("@S1, @S2 @S1 Hello @S0", ("Hello @S0", ("S1", "S2"))),
        ("@s1,@S2: Hello", ("Hello", ("S1", "S2"))),
        ("@S1\nHello\nyou", ("Hello\nyou", ("S1",))),
        ("@all Hello", ("Hello", ())),
        ("@S1 @All Hello", ("Hello", ())),
        ("@ noon", ("@ noon", ())),
        ("@nobody Hello", ("@nobody Hello", (), "nobody")),
        ("@S1 @S9 Hello", ("@S1 @S9 Hello", (), "S9")),
        ("@S1", ("", ("S1",))),
    ],
)
def test_a_message_says_whom_it_is_for(text: str, said: tuple[Any, ...]) -> None:
    assert addressed(text, {"S0", "S1", "S2"}) == (*said, "")[:3]


def turn(number: int, **more: Any) -> ev.TurnAwaited:
    fields = {"interaction": number, "step": "rate.S1", "seat": "S1", "person": "Ann", "purpose": "rate"}
    return ev.TurnAwaited(**{**fields, "scale": Scale(), "target": f"{number}.draft", **more})


def test_a_begun_answer_stays_with_its_request() -> None:
    queue = Queue()
    queue.show([turn(1), turn(2)])
    assert queue.answer() == "Choose a number from 1 to 7 first."
    assert not queue.choose(8)
    assert queue.choose(5)
    queue.draft().text = "kind"
    queue.go(1)
    assert queue.draft().value is None
    queue.show([turn(1), turn(2), turn(3)])
    queue.go(-1)
    answer = queue.answer()
    assert not isinstance(answer, str)
    assert (answer.interaction, answer.value, answer.text) == (1, 5.0, "kind")
    first = queue.front
    assert first is not None
    queue.begin(first)
    assert [t.interaction for t in queue.turns] == [2, 3]
    queue.failed(first)
    queue.show([turn(1), turn(2), turn(3)])
    assert queue.drafts[1, "rate.S1"].text == "kind", "what could not be sent is not lost"
    queue.begin(first)
    queue.taken(first)
    queue.show([turn(2), turn(3)])
    assert (1, "rate.S1") not in queue.drafts
    assert queue.last_rated() == first


def test_words_are_answered_in_words() -> None:
    queue = Queue()
    queue.show([turn(1, step="draft", purpose="draft", scale=None)])
    assert not queue.choose(5)
    assert queue.answer() == "Write something first."
    queue.draft().text = "It is."
    answer = queue.answer()
    assert not isinstance(answer, str)
    assert (answer.text, answer.value) == ("It is.", None)
    queue.show([])
    assert queue.answer() == "Nothing waits for you."


def test_agreement_counts_pairs_and_leaves_out_what_could_not_be_read() -> None:
    def row(target: str, value: float | None, method: str, **more: Any) -> dict[str, Any]:
        rater = more.get("rater", "S1")
        return {
            "target": target,
            "dimension": "alignment",
            "value": value,
            "method": method,
            "rater": rater,
            **more,
        }

    rows = [
        row("1.draft", 6, "human", person="Ann"),
        row("1.draft", 4, "text"),
        row("1.draft", 5, "likelihood", rater="S2"),
        row("2.draft", 2, "human", person="Ann"),
        row("2.draft", None, "text", unparsed="refusal"),
        row("3.draft", 1, "text"),
        row("4.draft", None, "text", masked=True),
    ]
    (found,) = agreement(rows)
    assert (found.n, found.people, found.models, found.unread, found.hidden) == (1, 1, 2, 1, 1)
    assert found.bias == pytest.approx(1.5)
    assert found.distance == pytest.approx(1.5)
    assert found.close == 0.0
    assert agreement([]) == []


def test_rounds_are_shown_in_their_order(whole: list[ev.Recorded]) -> None:
    view = snapshot(whole)
    assert [number for number, _ in series(view.history, "revision", "alignment")] == [1, 2]
    assert series(view.history, "revision", "none") == []
