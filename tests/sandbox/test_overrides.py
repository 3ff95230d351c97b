"""What the command line changes about a society file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sandbox.blueprint import read_society, society_from_text
from sandbox.errors import SocietyError
from sandbox.society import Society
from sandbox.societyfile import Overrides
from sandbox.topology import Complete, Grid, Ring


def society(text: str, **overrides: Any) -> Society:
    return society_from_text(text, "mine.toml", None, Overrides(**overrides))


def test_the_command_line_overrides_the_file(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("Why?\nHow?\n")
    file = 'rounds = 5\nseed = 1\nrules.peers = 2\nquestions.list = ["Who?"]\nlimits.attempts = 9'
    found = society(file, rounds=2, seed=9, questions=str(tmp_path / "q.txt"), per_seat=2, budget=0.5)
    assert (found.rounds, found.seed, found.rules.per_seat, found.limits.budget) == (2, 9, 2, 0.5)
    assert [question.text for question in found.questions] == ["Why?", "How?"]
    assert (found.rules.peers, found.limits.attempts) == (2, 9)
    assert society(file, rounds=0).rounds == 0


def test_questions_of_the_command_line_are_not_looked_up_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.toml").write_text("")
    (tmp_path / "q.txt").write_text("Here?\n")
    monkeypatch.chdir(tmp_path)
    found = read_society(tmp_path / "there" / "mine.toml", Overrides(questions="q.txt"))
    assert found.questions[0].text == "Here?"


def test_one_model_for_all_replaces_every_other() -> None:
    file = """
        agents = {model = "local/a", rating_model = "local/b"}
        seats = [{name = "A1", model = "local/c", rating_model = "local/d", persona = "You are calm."}]
        observers = [{name = "o", model = "local/e"}]
        """
    found = society(file, model="scripted/kind")
    assert {seat.model for seat in found.seats()} == {"scripted/kind"}
    assert {agent.rating_model for agent in found.agents} == {None}
    assert found.agent("A1").persona == "You are calm."
    assert [o.model for o in society("", model="scripted/kind").observers] == ["scripted/kind"]
    assert society("observers = []", model="scripted/kind").observers == ()


def test_one_model_for_answers_leaves_who_rates() -> None:
    file = """
        agents = {model = "scripted/steady"}
        seats = [{name = "A1", model = "scripted/harsh", persona = "You are calm."}]
        observers = [{name = "o", model = "scripted/mumbling"}]
        """
    found = society(file, answers="scripted/kind")
    assert {agent.model for agent in found.agents} == {"scripted/kind"}
    assert found.agent("A1").rating_model == "scripted/harsh"
    assert found.agent("A2").rating_model == "scripted/steady"
    assert [o.model for o in found.observers] == ["scripted/mumbling"]
    plain, bare = society(""), society("", answers="scripted/kind")
    assert bare.agents[0].rating_model == plain.agents[0].model
    assert bare.observers == plain.observers


@pytest.mark.parametrize(
    ("file", "seats", "topology"),
    [
        ("", "2x4", Grid(rows=2, columns=4)),
        ("topology = {kind='complete', size=3}", "2X2", Grid(rows=2, columns=2)),
        ("topology = {kind='complete', size=3}", "5", Complete(size=5)),
        (
            "topology = {kind='ring', size=3}\nagents.names=['a','b','c']\nseats=[{name='a'}]",
            "2",
            Ring(size=2),
        ),
        ("", "7", Ring(size=7)),
    ],
)
def test_another_size_is_given_in_short(file: str, seats: str, topology: object) -> None:
    assert society(file, seats=seats).topology == topology


@pytest.mark.parametrize("seats", ["", "x", "3x", "-3", "3x3x3", "²", "3x²", "three", "1e3", "9" * 5000])
def test_a_size_that_is_none_is_refused(seats: str) -> None:
    with pytest.raises(SocietyError, match="--seats takes ROWSxCOLUMNS"):
        society("", seats=seats)
