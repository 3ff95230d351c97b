"""Models as judges, beside the people who rated the same."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from happenings import deliberation, person
from support import Run, small_society

from finetune.evaluate.answers import Answering, Told
from finetune.evaluate.items import Item
from finetune.evaluate.people import PeopleSuite
from finetune.evaluate.plan import Figure, Options, Plan, SuitePlan
from finetune.evaluate.report import make
from sandbox import events as ev
from sandbox.errors import UserError
from sandbox.exchange import Reply, Request
from sandbox.redaction import Redactor
from sandbox.store.evaluations import Measured

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Judge:
    """Rates by what was said: the number in it."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def generate(self, request: Request, on_delta: object = None) -> Reply:
        self.asked.append(request)
        text = request.messages[-1].content
        return Reply("no idea" if "draft 4" in text else f"Rating: {text[text.index('draft ') + 6]}")


def happened(*rated: ev.RatingGiven) -> list[ev.Event]:
    told: list[ev.Event] = [ev.SessionCreated(society=small_society())]
    for number in range(1, 6):
        told += deliberation(number, draft=f"draft {number}")
    return [*told, *rated]


def measured(suite: PeopleSuite) -> tuple[Judge, dict[str, Told]]:
    judge = Judge()
    found: dict[str, Told] = {}

    def told(item: Item, what: Told) -> None:
        found[item.content.text] = what

    asyncio.run(suite.measure(suite.items, "scripted/x", lambda _: judge, Redactor(), Answering(), told))
    return judge, found


def test_a_judge_is_asked_what_people_rated_as_an_observer_is() -> None:
    rated = [
        person(1, "ann", 2, at=1),
        person(1, "bea", 3, at=1),
        person(3, "ann", 7, at=3),
        person(4, "ann", 1, at=4),
    ]
    suite = PeopleSuite("people:s", "s", happened(*rated))
    judge, found = measured(suite)
    assert len(judge.asked) == 3
    assert {request.purpose for request in judge.asked} == {"observe"}
    assert found["draft 1"].scores == {"judge": 1.0, "people": 2.5, "apart": 1.5, "unparsed": 0.0}
    assert found["draft 3"].scores == {"judge": 3.0, "people": 7.0, "apart": 4.0, "unparsed": 0.0}
    assert found["draft 4"].scores == {"judge": None, "people": 1.0, "apart": None, "unparsed": 1.0}


def test_what_is_withdrawn_or_not_by_people_is_not_asked_about() -> None:
    withdrawn = person(2, "ann", 4, at=2).model_copy(update={"value": None, "unparsed": "withdrawn"})
    suite = PeopleSuite(
        "people:s", "s", happened(person(1, "ann", 2, at=1), person(2, "ann", 4, at=2), withdrawn)
    )
    assert [item.content.text for item in suite.items] == ["draft 1"]
    with pytest.raises(UserError, match="No person rated"):
        PeopleSuite("people:s", "s", happened())


def alpha(judge: Sequence[float | None], people: Sequence[float]) -> float | None:
    scores = [
        Measured("j", "people:s", str(place), {"judge": one, "people": other})
        for place, (one, other) in enumerate(zip(judge, people, strict=True))
    ]
    figure = Figure(name="alpha", help="", better="", low=None, high=1)
    suite = SuitePlan(name="people:s", source="", digest="", items=len(scores), figures=(figure,))
    plan = Plan(options=Options(models=("j",), suites=("people:s",)), suites=(suite,))
    value = make("x", NOW, NOW, plan, scores).cell("people:s", "alpha", "j").value
    return value.mean if value else None


def test_alpha_is_one_for_a_judge_who_says_what_people_say_and_less_for_others() -> None:
    people = [1.0, 2.0, 4.0, 6.0, 7.0, 3.0]
    assert alpha(people, people) == pytest.approx(1)
    turned = alpha([7.0, 6.0, 4.0, 2.0, 1.0, 5.0], people)
    assert turned is not None
    assert turned < 0
    assert alpha([*people[:5], None], people) == pytest.approx(1), "what can't be read takes no part"
    assert alpha([None] * 6, people) is None


def test_judges_are_measured_side_by_side(sandbox: Run) -> None:
    code, _, err = sandbox("run", "scripted", "--seats", "2x2", "--rounds", "3")
    assert code == 0, err
    code, _, err = sandbox("evaluate", "scripted/steady", "--suite", "people:last")
    assert code == 2
    assert "No person rated" in err
    for number in range(1, 11):
        code, _, err = sandbox("rate", f"{number}.draft", "--value", str(number % 7 + 1), "--as", "ann")
        assert code == 0, err
    code, out, err = sandbox(
        "evaluate", "scripted/steady", "scripted/mumbling", "--suite", "people:last", "--json"
    )
    assert code == 0, err
    report = json.loads(out)
    cells = {(cell["metric"], cell["model"]): cell["value"] for cell in report["cells"]}
    assert cells["people", "scripted/steady"]["n"] == 10
    assert cells["unparsed", "scripted/steady"]["mean"] == 0
    assert cells["alpha", "scripted/steady"]["n"] == 10
    code, out, err = sandbox("sessions", "forget", "last", "ann", "--yes", "--json")
    assert code == 0, err
    assert json.loads(out)["evaluations"] == [report["name"]]
    again = json.loads(sandbox("evaluations", "show", "last", "--json")[1])
    assert all(cell["value"] is None for cell in again["cells"])
    assert sandbox("evaluations", "delete", "last", "--yes")[0] == 0
    assert not Path(again["folder"]).exists()


def test_a_session_is_named_by_its_key_and_not_another_tomorrow(sandbox: Run) -> None:
    assert sandbox("run", "scripted", "--seats", "2x2", "--rounds", "1")[0] == 0
    assert sandbox("rate", "1.draft", "--value", "3", "--as", "ann")[0] == 0
    key = json.loads(sandbox("sessions", "list", "--json")[1].splitlines()[0])["session"]
    assert sandbox("evaluate", "scripted/steady", "--suite", "people:last", "--name", "one")[0] == 0
    assert sandbox("run", "scripted", "--seats", "2x2", "--rounds", "1")[0] == 0
    report = json.loads(sandbox("evaluations", "show", "one", "--json")[1])
    assert report["plan"]["options"]["suites"] == [f"people:{key}"]
    code, _, err = sandbox("evaluate", "--resume", "one", "--limit", "3")
    assert code == 2
    assert "--limit" in err
    assert sandbox("evaluate", "--resume", "one")[0] == 0
    assert sandbox("rate", "1.draft", "--value", "5", "--as", "ann", "--in", key)[0] == 0
    code, _, err = sandbox("evaluate", "--resume", "one")
    assert code == 2
    assert "has changed" in err
