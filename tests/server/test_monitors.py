"""Monitors over REST: the figures of the log, and for who rates blind only those of what they may see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from serving import app_in, create, serve, status, wait_for

from sandbox.monitored import Monitors
from sandbox.monitors import monitor
from sandbox.running import Store


def run_whole(client: httpx.Client, **body: Any) -> str:
    session = create(client, **body)
    client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    wait_for(lambda: status(client, session) == "finished")
    return session


def monitors(client: httpx.Client, session: str) -> Monitors:
    response = client.get(f"/api/v1/sessions/{session}/monitors")
    assert response.status_code == 200, response.text
    return Monitors.model_validate_json(response.content)


def test_the_monitors_are_those_of_the_log(tmp_path: Path) -> None:
    with serve(app_in(tmp_path)) as base, httpx.Client(base_url=base, timeout=30) as client:
        session = run_whole(client)
        found = monitors(client, session)
        assert [one.name for one in found.inflation] == ["peers", "alignment", "engagement"]
        assert monitors(client, session) == found
    store = Store.open(str(tmp_path / "server.db"))
    assert monitor(recorded.event for recorded in store.log.read(session)) == found
    store.close()


def test_they_follow_the_log_and_go_with_the_session(client: httpx.Client) -> None:
    session = create(client)
    assert monitors(client, session) == Monitors()
    client.post(f"/api/v1/sessions/{session}/start").raise_for_status()
    wait_for(lambda: status(client, session) == "finished")
    assert [one.round for one in monitors(client, session).homogeneity.series] == [1, 2]
    assert client.delete(f"/api/v1/sessions/{session}").status_code == 204
    assert client.get(f"/api/v1/sessions/{session}/monitors").status_code == 404


def test_who_rates_blind_is_shown_only_what_comes_of_the_ratings_they_may_see(base: str) -> None:
    with httpx.Client(base_url=base, timeout=30) as client:
        session = run_whole(client)
        whole = monitors(client, session)
        with httpx.Client(base_url=base, headers={"X-Sandbox-Person": "Ann"}, timeout=30) as mine:
            before = monitors(mine, session)
            assert (before.inflation, before.severity, before.agreement, before.unparsed) == ((), (), (), ())
            assert before.homogeneity == whole.homogeneity, "answers are hidden from nobody"
            rated = mine.post(f"/api/v1/sessions/{session}/ratings", json={"message": "1.draft", "value": 2})
            assert rated.status_code == 201
            after = monitors(mine, session)
            assert "Ann" in {one.rater for one in after.severity}
            # Of 1.draft alone: its peers' ratings, one message of one interaction.
            (peers,) = after.inflation
            (drafted,) = peers.series
            page = client.get(
                f"/api/v1/sessions/{session}/ratings", params={"target": "1.draft", "limit": 1000}
            ).json()["items"]
            given = [row["value"] for row in page if row["step"].startswith("rate.")]
            assert drafted.n == sum(value is not None for value in given)
            assert sum(one.ratings for one in after.unparsed) == len(page)
        assert sum(one.ratings for one in monitors(client, session).unparsed) == (
            sum(one.ratings for one in whole.unparsed) + 1
        ), "who watches sees all"
