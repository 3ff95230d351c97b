"""Messages and reasons in the terminal app: sent once, to whom they are meant for, and nothing is lost."""

from __future__ import annotations

import httpx
import pytest
from piloting import finished, running, shows, until
from serving import create, wait_for
from textual.events import Key, Paste
from textual.widgets import Input, TextArea

from tui.screens.dialogs import RateMessage


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
        await pilot.press("m", "enter", "enter", "x", "o")
        talk = pilot.app.screen.query_one("#talk", TextArea)
        assert talk.text == "xo", "Enter on nothing leaves the line open: what is typed next is no command"
        await pilot.press("escape")
        assert not talk.display


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
