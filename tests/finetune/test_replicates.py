"""A comparison run several times: each with a seed of its own, and told by run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from support import Run

from finetune.evaluate import comparing, replicates, societies
from finetune.evaluate.items import normal
from finetune.evaluate.replicates import between, item_of, label_of, run_of
from sandbox.running import Store
from sandbox.settings import load_settings

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_runs_are_told_apart_by_their_items() -> None:
    assert [run_of(item_of("a1b2.2", run)) for run in (1, 2, 17)] == [1, 2, 17]
    assert len({label_of("with x", run) for run in (1, 2, 3)}) == 3


def test_the_variance_is_that_between_runs() -> None:
    first = {item_of(f"{n}", run): 1.0 for run in (1, 2, 3) for n in range(4)}
    second: dict[str, float | None] = {item: 1.0 + run_of(item) for item in first}
    found = between(first, second)
    assert found is not None
    assert (found.runs, found.mean, found.deviation) == ((1.0, 2.0, 3.0), 2.0, 1.0)
    # t with 2 degrees of freedom is 4.303; 4.303 / sqrt(3) is 2.484.
    assert (found.low, found.high) == (pytest.approx(-0.484, abs=1e-3), pytest.approx(4.484, abs=1e-3))
    assert "standard deviation between runs 1.000" in replicates.told(found)


def test_one_run_and_what_is_missing_say_nothing() -> None:
    assert between({"a": 1.0, "b": 2.0}, {"a": 2.0, "b": 2.0}) is None
    assert between({"a": 1.0, "a@2": None}, {"a": 2.0, "a@2": 2.0}) is None
    same = between({"a": 1.0, "a@2": 1.0}, {"a": 2.0, "a@2": 2.0})
    assert same is not None
    assert (same.deviation, same.low, same.high) == (0.0, None, None)


def test_the_interval_over_runs_covers_what_varies_between_runs() -> None:
    """Runs have effects of their own, which items of one run can't show."""
    chance = random.Random(1)
    covered = 0
    for _ in range(200):
        effects = [chance.gauss(0, 1) for _ in range(5)]
        first = {item_of(f"{n}", run + 1): 0.0 for run in range(5) for n in range(20)}
        second: dict[str, float | None] = {
            item: effects[run_of(item) - 1] + chance.gauss(0, 0.5) for item in first
        }
        found = between(first, second)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert 180 <= covered <= 199


@pytest.fixture
def session(sandbox: Run) -> str:
    """A finished session of a scripted society."""
    code, _, err = sandbox("run", "scripted", "--seats", "3x3", "--rounds", "2")
    assert code == 0, err
    return str(json.loads(sandbox("sessions", "list", "--json")[1].splitlines()[0])["session"])


def compared(sandbox: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = sandbox("compare", *arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_comparison_runs_with_several_seeds(sandbox: Run, session: str) -> None:
    report = compared(sandbox, session, "--with", "scripted/echo", "--seeds", "3", "--name", "three")
    keys = report["plan"]["sessions"]
    assert len(set(keys.values())) == 6
    assert keys["without"] == session
    listed = map(json.loads, sandbox("sessions", "list", "--json")[1].splitlines())
    seed_of = {row["session"]: row["seed"] for row in listed}
    models = report["plan"]["options"]["models"]
    seeds = {run: {seed_of[keys[label_of(model, run)]] for model in models} for run in (1, 2, 3)}
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == 3
    told = {one["metric"]: one for one in report["by_run"]}
    assert len(told["words"]["between"][0]) == 3
    (cell,) = [c for c in report["cells"] if c["metric"] == "words" and c["model"] != "without"]
    assert cell["change"]["n"] == 3 * 18
    assert cell["change"]["mean"] == pytest.approx(told["words"]["between"][1], abs=1e-9)  # runs of one size
    assert cell["change"]["mean"] != 0
    text = Path(report["folder"], "report.md").read_text()
    assert "## By run" in text
    assert "standard deviation between runs" in text
    assert "rest is missing" not in text
    out = sandbox("evaluations", "show", "three")[1]
    assert "standard deviation between runs" in out


def test_questions_that_are_new_to_the_adapter_are_counted_in_all_runs(
    sandbox: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(load_settings().database)
    asked = {record.question for record in societies.in_rounds(societies.events(store, session), 2)}
    store.close()
    known = {normal(text) for text in sorted(asked)[:2]}
    monkeypatch.setattr(comparing, "seen", lambda *_: (known, []))
    report = compared(sandbox, session, "--with", "scripted/echo", "--seeds", "2")
    suites = {suite["name"]: suite["items"] for suite in report["plan"]["suites"]}
    assert suites["society"] == 36
    assert 0 < suites["society-unseen"] < 36
    cells = [c for c in report["cells"] if (c["suite"], c["metric"]) == ("society-unseen", "words")]
    assert {cell["value"]["n"] for cell in cells} == {suites["society-unseen"]}
    assert not any("missing" in note for note in report["notes"])


def test_several_adapters_take_turns(sandbox: Run, session: str) -> None:
    report = compared(sandbox, session, "--with", "scripted/mumbling,scripted/echo", "--seeds", "2")
    label = report["plan"]["options"]["models"][1]
    spoken = []
    for run in (1, 2):
        key = report["plan"]["sessions"][label_of(label, run)]
        out = sandbox("sessions", "export", key, "--what", "seats")[1]
        spoken.append({json.loads(line)["model"] for line in out.splitlines() if "agent" in line})
    both = {"scripted/mumbling", "scripted/echo"}
    assert [found & both for found in spoken] == [{"scripted/mumbling"}, {"scripted/echo"}]
    code, _, err = sandbox("compare", session, "--with", "scripted/mumbling,scripted/echo")
    assert (code, "--seeds 2" in err) == (2, True)
