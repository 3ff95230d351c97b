"""The terminal app by its keys, on a real server with a society at work."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from piloting import NARROW, WIDE, running, screen, shows, until
from serving import Server, create, status, wait_for
from textual.events import Key, Paste
from textual.widgets import Input, Select, TextArea

from sandbox.errors import UserError
from tui import state
from tui.app import check_keys
from tui.screens.dialogs import RateMessage
from tui.screens.live import LiveSociety
from tui.screens.queue import QueueScreen
from tui.screens.sessions import Sessions
from tui.widgets.grid import SeatGrid


async def finished(client: httpx.Client, session: str) -> None:
    await asyncio.to_thread(client.post, f"/api/v1/sessions/{session}/start")
    await asyncio.to_thread(wait_for, lambda: status(client, session) == "finished")


async def test_sessions_are_made_started_paused_forked_and_deleted(base: str, client: httpx.Client) -> None:
    async with running(base) as pilot:
        await shows(pilot, "There are no sessions yet")
        await pilot.press("n")
        await shows(pilot, "A new session")
        pilot.app.screen.query_one("#example", Select).value = "scripted"
        pilot.app.screen.query_one("#seats", Input).value = "2 by 2"
        pilot.app.screen.query_one("#rounds", Input).value = "2"
        await pilot.click("#create")
        await shows(pilot, "That can't be")
        pilot.app.screen.query_one("#seats", Input).value = "2x2"
        button = pilot.app.screen.query_one("#create")
        await until(lambda: not button.has_class("-active"))  # till then it takes no second press
        await pilot.press("enter")
        await until(lambda: isinstance(pilot.app.screen, LiveSociety))
        await shows(pilot, "live")
        await pilot.press("escape")
        await until(lambda: isinstance(pilot.app.screen, Sessions))
        await shows(pilot, "0/2")
        await pilot.press("o")
        await shows(pilot, "1/2")
        await shows(pilot, "paused")
        await pilot.press("s")
        await shows(pilot, "finished")
        await pilot.press("f")
        await until(lambda: len(client.get("/api/v1/sessions").json()) == 2)
        await pilot.press("delete")
        await shows(pilot, "It can't")
        await pilot.press("n")
        assert len(client.get("/api/v1/sessions").json()) == 2
        await pilot.press("delete")
        await shows(pilot, "It can't")
        await pilot.press("y")
        await until(lambda: len(client.get("/api/v1/sessions").json()) == 1)


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_a_society_is_watched_as_it_happens(
    base: str, client: httpx.Client, size: tuple[int, int]
) -> None:
    session = create(client, rounds=3, model="scripted/steady?latency=300")
    async with running(base, session, size=size) as pilot:
        await shows(pilot, "live")
        await pilot.press("space")
        await shows(pilot, "drafts")
        await shows(pilot, "»")
        await pilot.press("space")
        await shows(pilot, "paused (paused)")
        await pilot.press("space")
        await shows(pilot, "all rounds are done")
        view = client.get(f"/api/v1/sessions/{session}/snapshot").json()
        shown = screen(pilot)
        for seat in view["seats"][:4]:
            tally = seat["revised"]["alignment"]
            assert f"{seat['name']} {tally['total'] / tally['n']:.1f}" in " ".join(shown.split())
        await pilot.press("c")
        await shows(pilot, "● revision")
        assert "unparsed" in screen(pilot)
        await pilot.press("d")
        await shows(pilot, "by engagement")


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_a_filter_shows_its_lines_and_its_end_shows_all(
    base: str, client: httpx.Client, size: tuple[int, int]
) -> None:
    session = create(client, seats="3x3", rounds=3)
    await finished(client, session)
    async with running(base, session, size=size) as pilot:
        await shows(pilot, "all rounds are done")
        for wanted, line in (
            ("round:1 kind:asked A1", "A1 is asked (round 1)"),
            ("kind:said B2", "B2 revises"),
        ):
            await pilot.press("slash")
            await pilot.press(*["backspace"] * 40, *wanted, "enter")
            await shows(pilot, line)
            await pilot.press("slash")
            await pilot.press(*["backspace"] * 40, "enter")
            await shows(pilot, "all rounds are done")
        await pilot.press("enter")  # only the seat under the cursor
        await shows(pilot, "A1 revises")
        await pilot.press("tab", "up")
        await shows(pilot, "A1 revises")
        await pilot.press("escape")
        await shows(pilot, "all rounds are done")


async def test_one_interaction_is_shown_whole(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    await finished(client, session)
    async with running(base, session) as pilot:
        await shows(pilot, "all rounds are done")
        await pilot.press("slash")
        await pilot.press(*"kind:said", "enter")
        await shows(pilot, "filter kind:message_posted")
        await pilot.press("tab", "up", "enter")
        await shows(pilot, "revision of")
        shown = await shows(pilot, "observers, alignment")
        assert "peers' mean of the draft" in shown
        assert "[-" in shown
        assert "{+" in shown
        assert "scripted/steady" in shown
        await pilot.press("m")
        assert "{+" not in screen(pilot)
        await pilot.press("w")
        await shows(pilot, "raw:")
        await pilot.press("v")
        await shows(pilot, "Press a number")
        await pilot.press("6", "enter")
        rows = await until(
            lambda: client.get(f"/api/v1/sessions/{session}/ratings", params={"rater": "person"}).json()[
                "items"
            ]
        )
        assert rows[0]["value"] == 6
        await shows(pilot, "person   alignment: 6 of 7")
        await pilot.press("e")
        await pilot.press(*"+1", "enter")
        await until(
            lambda: (
                "reaction_given"
                in client.get(f"/api/v1/sessions/{session}/events", params={"after": 40, "limit": 1000}).text
            )
        )


@pytest.mark.parametrize("size", [WIDE, NARROW])
async def test_a_person_joins_rates_answers_and_leaves(
    base: str, client: httpx.Client, size: tuple[int, int]
) -> None:
    session = create(client, seats="2x2", rounds=1)
    async with running(base, session, person="Ann", size=size) as pilot:
        await shows(pilot, "B1 ")
        pilot.app.screen.query_one(SeatGrid).focus()
        await pilot.press("t")
        await shows(pilot, "Take the seat A1")
        pilot.app.screen.query_one("#absent", Select).value = "wait"
        await pilot.press("ctrl+j")
        await shows(pilot, "in A1")
        await pilot.press("space")
        await pilot.press("u")
        await until(lambda: isinstance(pilot.app.screen, QueueScreen))
        answered = {"words": 0, "ratings": 0}
        async with asyncio.timeout(150):
            while status(client, session) != "finished":
                queue = pilot.app.screen
                assert isinstance(queue, QueueScreen)
                turn = queue._queue.front
                if turn is None:
                    await pilot.pause(0.05)
                elif turn.scale is None:
                    await until(lambda: pilot.app.focused is not None)
                    await pilot.press(*"Ask", "ctrl+j")
                    answered["words"] += 1
                    await until(lambda: queue._queue.front is not turn)  # noqa: B023
                else:
                    if answered["ratings"] == 0:
                        await pilot.press("9")
                        await shows(pilot, "not on the scale")
                        await pilot.press("enter")
                        await shows(pilot, "Choose a number")
                    await pilot.press("5", "enter")
                    answered["ratings"] += 1
                    await until(lambda: queue._queue.front is not turn)  # noqa: B023
        assert answered["words"] == 2
        assert answered["ratings"] >= 1
        await shows(pilot, "Nothing waits for you")
        await pilot.press("u")
        await shows(pilot, "Once more")
        await pilot.press("2")
        mine = f"/api/v1/sessions/{session}/ratings?current=true&limit=1000"
        await until(
            lambda: 2 in [r["value"] for r in client.get(mine).json()["items"] if r["person"] == "Ann"]
        )
        await pilot.press("escape")
        await pilot.press("l")
        await until(
            lambda: "seat_returned" in client.get(f"/api/v1/sessions/{session}/events?limit=1000").text
        )
        await pilot.press("a")
        shown = await shows(pilot, "n pairs")
        assert "alignment" in shown


async def test_an_interaction_that_is_not_kept_is_read_from_the_server(
    base: str, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "KEPT", 2)
    session = create(client, seats="3x3", rounds=2)
    await finished(client, session)
    async with running(base, session) as pilot:
        await shows(pilot, "all rounds are done")
        watched = pilot.app.screen.watched  # type: ignore[attr-defined]
        assert 1 not in watched.records
        await pilot.press("slash")
        await pilot.press(*"A1 kind:said", "enter")
        await shows(pilot, "A1 revises")
        await pilot.press("tab", "home", "enter")
        shown = await shows(pilot, "draft of")
        assert "revision of" in shown


async def test_after_the_last_round_there_may_be_more(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    await finished(client, session)
    async with running(base, session) as pilot:
        await shows(pilot, "finished")
        await pilot.press("space")
        await shows(pilot, "How many in all?")
        await pilot.press("enter")
        await shows(pilot, "round 2 of 2")
        await shows(pilot, "finished")
        await pilot.press("t")
        await shows(pilot, "Say who you are first")


async def test_a_skip_is_said_twice_and_escape_frees_the_keys(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "B1 ")
        await pilot.press("t")
        await shows(pilot, "Take the seat A1")
        await pilot.press("ctrl+j")
        await shows(pilot, "in A1")
        question = {"question": "Is it right?", "seat": "A1", "society": False}
        client.post(f"/api/v1/sessions/{session}/questions", json=question).raise_for_status()
        await pilot.press("u")
        await shows(pilot, "Answer the question")
        await pilot.press("s", "s", "s")
        await shows(pilot, "sss")
        await pilot.press("escape")
        await shows(pilot, "s skips")
        await pilot.press("s")
        await shows(pilot, "s once more")
        assert len(client.get(f"/api/v1/sessions/{session}/snapshot").json()["open"]) == 1
        await pilot.press("s")
        await until(lambda: not client.get(f"/api/v1/sessions/{session}/snapshot").json()["open"])
        events = client.get(f"/api/v1/sessions/{session}/events?limit=1000").text
        assert "abstained" in events


async def test_a_person_talks_with_one_seat_or_all(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "live")
        await pilot.press("m")
        await pilot.press(*"@B1 Hello", "enter")
        await shows(pilot, "says to B1: Hello")
        await until(lambda: not pilot.app.screen.query_one("#talk", TextArea).display)
        await pilot.press("m")
        await pilot.press(*"All of you", "enter")
        await shows(pilot, "says to A1, A2, B1, B2: All of you")


async def test_a_message_is_sent_once_however_often_enter_is_pressed(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "live")
        await pilot.press("m", *"Just once")
        for _ in range(4):
            pilot.app.screen.query_one("#talk", TextArea).post_message(Key("enter", "\r"))
        await shows(pilot, "says to A1, A2, B1, B2: Just once")
        await until(lambda: not pilot.app.screen.query_one("#talk", TextArea).display)
        wait_for(lambda: not client.get(f"/api/v1/sessions/{session}/snapshot").json()["open"])
        events = client.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
        begun = [row["event"] for row in events if row["event"]["type"] == "interaction_started"]
        assert [event["question"] for event in begun] == ["Just once"]
        await pilot.press("m", "enter")
        assert not pilot.app.screen.query_one("#talk", TextArea).display, "Enter on nothing closes it"


@pytest.mark.parametrize("text", ["@B7 hi", "@B1,@B7 hi", "@b1 @nobody hi", "@B1", "@B1 \u200b"])
async def test_a_message_to_nobody_known_is_not_sent_to_all(
    base: str, client: httpx.Client, text: str
) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "live")
        await pilot.press("m")
        talk = pilot.app.screen.query_one("#talk", TextArea)
        talk.insert(text)
        await pilot.press("enter")
        await shows(pilot, "There is no seat" if "7" in text or "nobody" in text else "after the names")
        assert talk.display
        assert talk.text == text, "what was written stays"
        talk.clear()
        await pilot.press(*"@b1 hi", "enter")
        await shows(pilot, "says to B1: hi")


async def test_a_paste_comes_in_whole_or_not_at_all_and_that_is_said(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=1)
    await finished(client, session)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "live")
        await pilot.press("m")
        talk = pilot.app.screen.query_one("#talk", TextArea)
        talk.post_message(Paste("one\ntwo\nthree"))
        await until(lambda: talk.text == "one\ntwo\nthree")
        await pilot.press("ctrl+j", *"four")
        talk.post_message(Paste("x" * 100_000))
        await shows(pilot, "Nothing was inserted")
        assert talk.text == "one\ntwo\nthree\nfour"
        await pilot.press("enter")
        await until(lambda: not talk.display)
        said = client.get(f"/api/v1/sessions/{session}/events", params={"limit": 1000}).json()["items"]
        assert "one\ntwo\nthree\nfour" in [row["event"].get("question") for row in said]


async def test_a_reason_is_pasted_in_one_line_and_a_rating_is_sent_once(
    base: str, client: httpx.Client
) -> None:
    session = create(client, seats="2x2", rounds=1)
    await finished(client, session)
    async with running(base, session, person="Ann") as pilot:
        await shows(pilot, "all rounds are done")
        await pilot.press("slash")
        await pilot.press(*"kind:said", "enter")
        await pilot.press("tab", "up", "enter")
        await shows(pilot, "revision of")
        await pilot.press("v")
        await shows(pilot, "Press a number")
        await pilot.press("6")
        reason = pilot.app.screen.query_one("#reason", Input)
        reason.focus()
        reason.post_message(Paste("kind\rand\r\nas\ntrue\r"))  # as terminals send it, each its own way
        await until(lambda: reason.value == "kind and as true")
        reason.post_message(Paste("x" * 100_000))
        await shows(pilot, "Nothing was inserted")
        assert reason.value == "kind and as true"
        dialog = pilot.app.screen
        assert isinstance(dialog, RateMessage)
        for _ in range(3):
            dialog.action_submit()
        asked = {"rater": "Ann", "current": False}
        rows = await until(
            lambda: client.get(f"/api/v1/sessions/{session}/ratings", params=asked).json()["items"]
        )
        await shows(pilot, "Ann      alignment: 6 of 7")
        assert [(row["value"], row["reason"]) for row in rows] == [(6, "kind and as true")]


async def test_a_session_is_played_again(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=3)
    await finished(client, session)
    async with running(base, session, replay=True) as pilot:
        await shows(pilot, "replay")
        await shows(pilot, "at the end", 30)
        await pilot.press("g")
        await pilot.press("2", "enter")
        await shows(pilot, "round 2 of 3")
        shown = screen(pilot)
        assert "paused" in shown
        await pilot.press("full_stop")
        await pilot.press("n")
        await shows(pilot, "round 3 of 3")
        await pilot.press("plus")
        await shows(pilot, "speed 2")
        await pilot.press("space")
        await shows(pilot, "at the end", 30)
        await shows(pilot, "all rounds are done")


@pytest.mark.timeout(280)
async def test_a_server_that_dies_and_comes_back_loses_nothing(tmp_path: Path) -> None:
    database = str(tmp_path / "s.db")
    first = Server(database, tmp_path, 1)
    await asyncio.to_thread(wait_for, first.ready, 60)
    port = first.port
    session = create(first.client, seats="3x3", rounds=200, model="scripted/steady?latency=200")
    async with running(first.base, session, person="Ann") as pilot:
        await shows(pilot, "live")
        await pilot.press("space")
        await shows(pilot, "drafts")
        await pilot.press("m")
        await pilot.press(*"@B1 Are you ther")
        await asyncio.to_thread(first.end, 9)
        await shows(pilot, "Trying again")
        assert pilot.app.screen.query_one("#talk", TextArea).text == "@B1 Are you ther"
        await pilot.press("e", "enter")
        await shows(pilot, "wait to be sent", 30)
        seen = pilot.app.screen.watched.view.seq  # type: ignore[attr-defined]
        second = Server(database, tmp_path, 2, options=("--port", str(port)))
        second.base = first.base
        try:
            feed = pilot.app.screen.watched.feed  # type: ignore[attr-defined]
            await until(lambda: "Are you there" in [getattr(e.event, "text", "") for e in list(feed)], 120)
            entries = [entry.seq for entry in pilot.app.screen.watched.feed]  # type: ignore[attr-defined]
            assert entries[-1] > seen
            assert entries == list(range(entries[0], entries[-1] + 1)), "no event is missing"
            await until(lambda: pilot.app.screen.query_one("#talk", TextArea).text == "")
        finally:
            await asyncio.to_thread(second.end, 9)


async def test_no_server_is_told_and_waited_for(tmp_path: Path) -> None:
    async with running("http://127.0.0.1:9") as pilot:
        await shows(pilot, "sandbox serve")


async def test_every_key_is_in_the_palette_and_in_the_help(base: str, client: httpx.Client) -> None:
    session = create(client, seats="2x2", rounds=0)
    async with running(base, session, keys={"society.charts": "z"}) as pilot:
        await shows(pilot, "live")
        await pilot.press("f1")
        await shows(pilot, "Take seat")
        await pilot.press("f1")
        await pilot.press("z")
        await shows(pilot, "● revision")
        await pilot.press("c")
        assert "● revision" in screen(pilot), "the old key is free"
        await pilot.press("ctrl+p")
        await pilot.press(*"agreem")
        await shows(pilot, "Agreement")
        await pilot.press("enter", "enter")
        await shows(pilot, "n pairs")


@pytest.mark.parametrize("theme", ["dark", "light", "contrast", "nord"])
async def test_themes(base: str, theme: str) -> None:
    async with running(base, theme=theme) as pilot:
        await shows(pilot, "There are no sessions yet")
        await pilot.press("ctrl+t")


async def test_a_terminal_that_is_too_small_is_told(base: str) -> None:
    async with running(base, size=(40, 12)) as pilot:
        await shows(pilot, "40×12")


def test_keys_are_given_to_actions_that_there_are_and_to_one_each() -> None:
    check_keys({"society.charts": "h", "queue.skip": "h", "app.help": "f2"})  # of different screens
    with pytest.raises(UserError, match=r"no action. There are: .*society.charts"):
        check_keys({"society.chart": "h"})
    with pytest.raises(UserError, match="gives 'h' to"):
        check_keys({"society.charts": "h", "live.take": "h"})


def test_every_action_that_the_docs_name_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "terminal.md").read_text("utf-8")
    told = " ".join(text.partition("Names of actions:")[2].partition("\n\n")[0].split())
    named = [
        (name, word) for name, words in re.findall(r"`(\w+)\.`([^`]*)", told) for word in words.split(",")
    ]
    named += re.findall(r"`(\w+)\.(\w+)`", told)
    assert len(named) > 30
    for name, word in named:
        check_keys({f"{name}.{re.sub(r'[^a-z]', '', word)}": "f9"} if word.strip(" .;") else {})
