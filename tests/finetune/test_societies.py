"""Societies beside each other: without and with another model, and one adapter after the other."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from happenings import deliberation, observer, peer
from support import Run, small_society

from finetune import looping
from finetune.commands.compare import runner
from finetune.commands.reporting import alone
from finetune.evaluate import comparing, societies
from finetune.evaluate.items import normal
from finetune.looping import Loop
from finetune.settings import TrainingOptions
from sandbox.blueprint import society_from_text
from sandbox.errors import UserError
from sandbox.progress import fold
from sandbox.running import Store
from sandbox.settings import load_settings
from sandbox.store import lineage, sessions

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def compared(sandbox: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = sandbox("compare", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def cells(report: dict[str, Any], metric: str) -> dict[str, Any]:
    return {cell["model"]: cell for cell in report["cells"] if cell["metric"] == metric}


@pytest.fixture
def session(sandbox: Run) -> str:
    """A finished session of a scripted society."""
    code, _, err = sandbox("run", "scripted", "--seats", "3x3", "--rounds", "2")
    assert code == 0, err
    return str(json.loads(sandbox("sessions", "list", "--json")[1].splitlines()[0])["session"])


def stored() -> Store:
    return Store.open(load_settings().database)


def test_figures_are_those_of_the_interactions_that_ended_in_rounds() -> None:
    society = small_society(rounds=1)
    happened = [
        *deliberation(
            1,
            seat="S0",
            draft="no",
            revision="be kind be kind",
            rated=[
                peer(1, "S1", 2),
                peer(1, "S2", None),
                observer(1, "one", 6),
                observer(1, "two", 3),
                observer(1, "one", 5, dimension="engagement"),
            ],
        ),
        *deliberation(2, seat="S1", revision="be brave"),
        *deliberation(3, seat="S2", round=None),
        *deliberation(4, seat="S3", round=2),
        *deliberation(5, seat="S3")[:-1],
    ]
    happened[0] = happened[0].model_copy(update={"peers": ("S1", "S2")})
    first, second = societies.measured(happened, "kind", society)
    assert first.scores == {
        "alignment": 4.5,
        "engagement": 5.0,
        "peers": 2.0,
        "unparsed": pytest.approx(1 / 5),
        "failed": 0.0,
        "words": 4.0,
        "distinct_1": 0.5,
        "distinct_2": pytest.approx(2 / 3, abs=1e-6),
        "similarity": pytest.approx(0.5),  # (2, 2) and (1, 0, 1) share one of two words
    }
    assert second.scores["alignment"] is None
    assert second.scores["unparsed"] is None
    assert {figure.name for figure in societies.figures(society.rubric)} == set(first.scores)
    again = societies.measured(happened, "harsh", society)
    assert [one.item for one in again] == [first.item, second.item]


def test_the_stored_session_is_the_one_without(sandbox: Run, session: str) -> None:
    report = compared(sandbox, session, "--with", "scripted/mumbling", "--name", "both")
    without, other = report["plan"]["sessions"].values()
    assert without == session
    assert set(cells(report, "words")) == {"without", "with scripted/mumbling"}
    assert all(cell["value"]["n"] == 18 for cell in cells(report, "words").values())
    assert cells(report, "words")["with scripted/mumbling"]["change"]["n"] == 18
    assert {one["session"] for one in report["monitored"]} == {session, other}
    store = stored()
    before, after = (fold(societies.events(store, key)) for key in (without, other))
    store.close()
    assert (after.seed, after.rounds_done, after.status) == (before.seed, 2, "finished")
    assert {agent.model for agent in after.society.agents} == {"scripted/mumbling"}
    assert [a.rating_model for a in after.society.agents] == [
        a.rating_model or a.model for a in before.society.agents
    ]
    assert after.society.observers == before.society.observers
    assert json.loads(sandbox("evaluations", "show", "both", "--json")[1])["cells"] == report["cells"]


def test_the_same_answers_make_no_difference_and_the_same_model_is_refused(
    sandbox: Run, session: str
) -> None:
    store = stored()
    model = fold(societies.events(store, session)).society.agents[0].model
    store.close()
    code, _, err = sandbox("compare", session, "--with", model)
    assert code == 2
    assert "already: nothing to compare" in err
    report = compared(sandbox, session, "--with", "scripted/harsh")  # which writes what others write
    changes = [cell["change"] for cell in report["cells"] if cell["change"]]
    assert changes
    assert all(change["mean"] == 0 for change in changes)
    assert "No difference from without is carried" in report["findings"][0]


def test_only_the_agents_that_are_named_change(sandbox: Run, session: str) -> None:
    report = compared(sandbox, session, "--with", "scripted/mumbling", "--agents", "A1, C3")
    store = stored()
    society = fold(
        societies.events(store, report["plan"]["sessions"]["with scripted/mumbling in A1, C3"])
    ).society
    store.close()
    assert [a.name for a in society.agents if a.model == "scripted/mumbling"] == ["A1", "C3"]


def test_a_session_that_people_changed_is_run_again_without_them(sandbox: Run, session: str) -> None:
    sandbox("ask", "Is it right to lie?", "--in", session, "--seat", "A1")
    report = compared(sandbox, session, "--with", "scripted/mumbling")
    assert session not in report["plan"]["sessions"].values()
    assert any("run again" in note for note in report["notes"])
    assert all(cell["value"]["n"] == 18 for cell in cells(report, "words").values())


def test_a_stored_session_that_is_not_finished_is_not_gone_on_with(sandbox: Run, session: str) -> None:
    sandbox("resume", session, "--rounds", "3")
    report = compared(sandbox, session, "--with", "scripted/mumbling")
    assert all(cell["value"]["n"] == 27 for cell in cells(report, "words").values())
    sandbox("resume", session, "--rounds", "4")
    again = json.loads(sandbox("evaluations", "show", "last", "--json")[1])
    assert cells(again, "words") == cells(report, "words")


def test_a_comparison_that_was_stopped_is_gone_on_with(sandbox: Run, session: str) -> None:
    store = stored()
    plan, to_run = comparing.prepare(store, load_settings(), session, "scripted/mumbling")
    row = comparing.create(store, "stopped", plan, to_run)
    assert not comparing.carry_out(store, row, lambda label, key: False)
    store.close()
    code, _, err = sandbox("evaluate", "--resume", "stopped")
    assert code != 0
    assert "sandbox compare --resume stopped" in err
    code, out, _ = sandbox("evaluations", "show", "stopped")
    assert code == 0
    assert "sandbox compare --resume stopped" in out
    with alone(load_settings(), "stopped"):
        code, _, err = sandbox("evaluations", "delete", "stopped", "--yes")
    assert code == 2
    assert "is being measured" in err
    report = compared(sandbox, "--resume", "stopped")
    assert report["finished"]
    assert all(cell["value"]["n"] == 18 for cell in cells(report, "words").values())


def test_comparisons_of_one_session_are_told_together(sandbox: Run, session: str) -> None:
    compared(sandbox, session, "--with", "scripted/mumbling", "--name", "one")
    compared(sandbox, session, "--with", "scripted/harsh", "--name", "other")
    compared(sandbox, session, "--with", "scripted/harsh", "--name", "afresh", "--afresh")
    both = json.loads(sandbox("evaluations", "show", "one", "other", "--json")[1])
    assert set(cells(both, "words")) == {"without", "with scripted/mumbling", "with scripted/harsh"}
    assert len(both["monitored"]) == 3
    more = json.loads(sandbox("evaluations", "show", "one", "afresh", "--json")[1])
    assert "without (afresh)" in cells(more, "words")
    assert len(more["monitored"]) == 4


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("last", "--with", "nobody"), "There is no adapter 'nobody'"),
        (("last", "--with", "strange/model"), "is not a model"),
        (("last", "--with", "scripted/kind", "--agents", "Z9"), "no agent Z9"),
        (("nowhere", "--with", "scripted/kind"), "There is no session"),
        (("last",), "Name a session, and an adapter"),
        (("last", "--with", "scripted/kind", "--name", "../x"), "can't be called"),
        (("--resume", "nothing"), "There is no evaluation"),
    ],
)
def test_what_cannot_be_compared_is_said(
    sandbox: Run, session: str, arguments: tuple[str, ...], told: str
) -> None:
    code, _, err = sandbox("compare", *arguments)
    assert code not in (0, 1)
    assert told in err


def test_an_adapter_is_put_only_where_its_base_is() -> None:
    society = small_society(model="local/some#old")
    changed = societies.speaking(society, "local/some#new", "local/some")
    assert {agent.model for agent in changed.agents} == {"local/some#new"}
    assert {agent.rating_model for agent in changed.agents} == {"local/some#old"}
    with pytest.raises(UserError, match="which the adapter is made for"):
        societies.speaking(society, "local/other#new", "local/other")


LOOPED = """
name = "looped"
rounds = 1
seed = 4
[topology]
kind = "grid"
rows = 2
columns = 2
[agents]
model = "local/{base}"
rating_model = "scripted/steady"
preset = "all_good"
[[observers]]
name = "observer"
model = "scripted/steady"
[memories]
[rules]
prior_memories = 1
[lengths]
answer_tokens = 12
"""
TRAINING = TrainingOptions(max_steps=3, batch=2, save_steps=1, device="cpu", dtype="float32", max_length=512)


class Killed(Exception):
    """Instead of a signal."""


def test_a_loop_is_gone_on_with_wherever_it_was_killed(sandbox: Run, base: Path, tmp_path: Path) -> None:
    settings, store = load_settings(), stored()
    society = society_from_text(LOOPED.format(base=base), "looped.toml")
    begun = Loop(name="round", society=society, base=f"local/{base}", iterations=2, training=TRAINING)
    looping.begin(store, settings, begun)
    going = runner(store, settings, budget=None, quiet=True)
    deaths = iter(range(100))

    def run(label: str, key: str) -> bool:
        if sessions.find(store.database, key).status == "ready" and next(deaths) % 2 == 0:
            raise Killed
        return bool(going(label, key))

    @contextmanager
    def progress() -> Iterator[Callable[[Any], None]]:
        dies = next(deaths) % 2 == 0

        def told(step: Any) -> None:
            if dies and step.done == 2:
                raise Killed

        yield told

    killed = 0
    while True:
        try:
            row = looping.carry_out(store, settings, looping.find(settings, "round"), run, progress)
            break
        except Killed:
            killed += 1
    assert row is not None
    assert killed >= 3
    state = looping.find(settings, "round")
    assert [step.adapter for step in state.steps] == ["round-1", "round-2", ""]
    assert len(sessions.listing(store.database)) == 3, "no society was begun twice"
    sources = lineage.sources(store.database, "round-2")
    assert {source.session for source in sources} == {step.session for step in state.steps[:2]}
    last = fold(societies.events(store, state.steps[2].session)).society
    assert {agent.model for agent in last.agents} == {f"local/{base}#round-2"}
    assert {agent.rating_model for agent in last.agents} == {"scripted/steady"}
    store.close()
    report = json.loads(sandbox("evaluations", "show", "round", "--json")[1])
    assert [cell["value"]["n"] for cell in cells(report, "words").values()] == [4, 4, 4]
    assert report["finished"]
    assert report["plan"]["raters"] == ["scripted/steady"]
    assert [step["session"] for step in report["plan"]["lineage"]] == [step.session for step in state.steps]
    page = (settings.data_dir / "evaluations" / "round" / "report.html").read_text()
    assert all(name in page for name in ("round-1", "round-2", *(step.session for step in state.steps)))


def test_a_loop_needs_something_to_train(sandbox: Run, tmp_path: Path) -> None:
    code, _, err = sandbox("loop", "scripted")
    assert code == 2
    assert "here there is none" in err
    code, _, err = sandbox("loop", "--resume", "never")
    assert code == 2
    assert "There is no loop 'never'" in err
    (tmp_path / "data" / "loops" / "torn").mkdir(parents=True)
    (tmp_path / "data" / "loops" / "torn" / "loop.json").write_text("{")
    code, _, err = sandbox("loop", "--resume", "torn")
    assert code == 2
    assert "can't be read" in err


def test_loops_are_listed_resumed_as_last_and_forgotten(sandbox: Run, tmp_path: Path) -> None:
    assert "No loops yet" in sandbox("loops", "list")[1]
    settings, store = load_settings(), stored()
    society = society_from_text(LOOPED.format(base="some"), "looped.toml")
    for name in ("first", "second"):
        looping.begin(store, settings, Loop(name=name, society=society, base="local/some", iterations=2))
    store.close()
    os.utime(tmp_path / "data" / "loops" / "second" / "loop.json", (1, 1))
    assert looping.find(settings, "last").loop.name == "first"
    listed = [json.loads(line) for line in sandbox("loops", "list", "--json")[1].splitlines()]
    assert [one["loop"]["name"] for one in listed] == ["first", "second"]
    assert not any(one["finished"] for one in listed)
    assert "0 of 2" in sandbox("loops", "list")[1]
    with looping.alone(settings, "first"):
        code, _, err = sandbox("loops", "delete", "first", "--yes")
    assert code == 2
    assert "'first' is gone on with" in err
    code, out, _ = sandbox("loops", "delete", "first", "--yes")
    assert code == 0
    assert "first is forgotten" in out
    assert looping.listing(settings) == ["second"]
    code, _, err = sandbox("loops", "delete", "first", "--yes")
    assert code == 2
    assert "There is no loop 'first'" in err
    torn = tmp_path / "data" / "loops" / "torn"
    torn.mkdir()
    (torn / "loop.json").write_text("{")
    code, out, err = sandbox("loops", "list")
    assert code == 0
    assert "second" in out
    assert "loops delete torn" in err
    assert sandbox("loops", "delete", "torn", "--yes")[0] == 0
    assert not torn.exists()


def test_questions_that_the_adapter_was_not_trained_on_are_told_alone(
    sandbox: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stored()
    happened = societies.events(store, session)
    asked = [record.question for record in societies.in_rounds(happened, 2)]
    known = {normal(text) for text in asked[:5]}
    unseen = [text for text in asked if normal(text) not in known]
    assert 0 < len(unseen) < len(asked)
    store.close()
    monkeypatch.setattr(comparing, "seen", lambda *_: (known, []))
    report = compared(sandbox, session, "--with", "scripted/mumbling")
    suites = {suite["name"]: suite["items"] for suite in report["plan"]["suites"]}
    assert suites == {"society": 18, "society-unseen": len(unseen)}
    apart = [cell for cell in report["cells"] if cell["suite"] == "society-unseen"]
    assert {cell["value"]["n"] for cell in apart if cell["metric"] == "words"} == {len(unseen)}
    assert any("society-unseen has the others alone" in note for note in report["notes"])
    monkeypatch.setattr(comparing, "seen", lambda *_: ({normal(text) for text in asked}, []))
    report = compared(sandbox, session, "--with", "scripted/mumbling")
    assert [suite["name"] for suite in report["plan"]["suites"]] == ["society"]
