"""Evaluation: likelihoods as lm-eval's, what is left out, intervals, judges, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

from finetune.evaluate import suites
from finetune.evaluate.items import Call, Item, Likelihood, chosen
from finetune.evaluate.likelihood import Scorer
from finetune.evaluate.statistics import Difference, difference, estimate, holm
from sandbox.cli import cli
from sandbox.errors import SandboxError, UserError
from sandbox.settings import Settings, load_settings
from sandbox.store import evaluations
from sandbox.store.database import Database

LONG = " ".join(["the quick brown fox jumps over the lazy dog"] * 6)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return load_settings()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beginning", ["", f"{LONG}\n\n"])
def test_likelihoods_are_those_of_lm_eval(beginning: str) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = tiny.model(), tiny.tokenizer()
    asked = [
        [Call(f"{beginning}{question}", f" {answer}") for answer in ("yes", "no, not at all", "the fox")]
        for question in ("Is it kind?", "Is the dog lazy? ", "What does the quick brown fox do?")
    ]
    found: dict[int, list[Likelihood]] = {}
    scorer = Scorer(model, tokenizer, 2048)
    scorer.score(asked, found.__setitem__)
    assert scorer.how == "blocks"
    model.config._attn_implementation = "sdpa"
    peer = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2)
    calls = [call for calls in asked for call in calls]
    wanted = peer.loglikelihood(
        [Instance("loglikelihood", {}, (c.context, c.continuation), 0, ("", 0, 1)) for c in calls],
        disable_tqdm=True,
    )
    ours = [one for place in range(len(asked)) for one in found[place]]
    assert [one.logprob for one in ours] == pytest.approx([one[0] for one in wanted], abs=1e-3)
    assert [one.is_greedy for one in ours] == [one[1] for one in wanted]


def test_what_all_contexts_begin_with_is_computed_once() -> None:
    scorer = Scorer(tiny.model(), tiny.tokenizer(), 2048)
    asked = [[Call(f"{LONG}\n\n{question}", " yes")] for question in ("one?", "two?", "three?")]
    scorer.score(asked, lambda *_: None)
    assert [prefix is not None for prefix in scorer._prefixes.values()] == [True]


def test_a_context_that_does_not_fit_is_cut_at_its_beginning() -> None:
    found: dict[int, list[Likelihood]] = {}
    model, tokenizer = tiny.model(), tiny.tokenizer()
    Scorer(model, tokenizer, 16).score(
        [[Call(LONG, " yes"), Call(LONG, " no, not at all")]], found.__setitem__
    )
    assert all(one.logprob < 0 for one in found[0])


def test_a_lost_line_does_not_shift_the_groups_of_four(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "deontology.csv"
    lines = ["label,scenario,excuse"]
    lines += [f"{n % 2},Are you coming?,No because of {n}." for n in range(3)]  # one is lost
    lines += ["the way home?,I have no money."]
    lines += [f"{n % 2},Do you eat?,No because of {n}." for n in range(4)]
    file.write_text("\n".join(lines))
    suite = suites.load("ethics-deontology", {"ethics-deontology": str(file)}, settings)
    assert [[row["scenario"] for row in item.content] for item in suite.items] == [["Do you eat?"] * 4]
    assert suite.source.dropped == {"rows that can't be used": 1, "rows outside a group of 4": 3}
    right = [Likelihood(0.0, 1, True), Likelihood(-1.0, 1, False)]
    item = suite.items[0]
    answers = [one for row in item.content for one in (right if row["label"] == 0 else right[::-1])]
    assert suite.scores(item, answers) == {"acc": 1.0, "exact": 1.0}  # type: ignore[union-attr]
    answers[0], answers[1] = answers[1], answers[0]
    assert suite.scores(item, answers) == {"acc": 0.75, "exact": 0.0}  # type: ignore[union-attr]


def test_truthfulqa_is_read_from_its_table(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "truthfulqa.csv"
    file.write_text(
        "Question,Best Answer,Correct Answers,Incorrect Answers\n"
        "Is it so?,It is,It is; Quite so,It is not; Never\n"
    )
    suite = suites.load("truthfulqa", {"": str(tmp_path)}, settings)
    (item,) = suite.items
    calls = suite.calls(item)  # type: ignore[union-attr]
    assert [call.continuation for call in calls] == [
        " It is", " It is not", " Never", " It is", " Quite so", " It is not", " Never",
    ]  # fmt: skip
    even = [Likelihood(-1.0, 1, False)] * len(calls)
    assert suite.scores(item, even) == pytest.approx({"mc1": 1.0, "mc2": 0.5})  # type: ignore[union-attr]


def test_the_same_items_are_drawn_whatever_their_order() -> None:
    items = [Item(f"{n:012x}", (), None) for n in range(50)]
    assert chosen(items, 7, 1, "hh") == chosen(items[::-1], 7, 1, "hh") != chosen(items, 7, 2, "hh")


def test_what_is_missing_enters_no_mean() -> None:
    found = estimate([1.0, None, 3.0])
    assert found is not None
    assert (found.mean, found.n) == (2.0, 2)
    assert estimate([None]) is None
    assert difference({"a": 1.0, "b": None}, {"b": 2.0}) is None


def test_a_clear_difference_is_told_from_chance() -> None:
    base = {str(n): float(n % 2) for n in range(40)}
    better = {item: value + 1.0 + int(item) % 3 for item, value in base.items()}
    found = difference(base, better)
    assert found is not None
    assert found.low is not None
    assert found.low > 0
    assert found.p is not None
    assert found.p < 0.001
    same = difference(base, base)
    assert same is not None
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_holm_adjusts_for_several_tests() -> None:
    tests = [Difference(0.0, None, None, 9, p) for p in (0.01, 0.04, 0.03)]
    assert [found.adjusted for found in holm(tests)] == pytest.approx([0.03, 0.06, 0.06])


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, ["evaluate", *arguments])
    if isinstance(result.exception, SandboxError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


HH = ("--suite", "hh", "--limit", "5", "--judge", "scripted/steady")


def test_answers_are_judged_and_reported(settings: Settings, tmp_path: Path) -> None:
    run("scripted/kind", "scripted/mumbling", *HH, "--name", "first", "--out", str(tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {cell["model"] for cell in report["cells"]} == {"scripted/kind", "scripted/mumbling"}
    assert all(cell["value"]["n"] == 5 for cell in report["cells"] if cell["metric"] == "words")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<svg" in page
    assert "scripted/mumbling" in page
    assert "| scripted/kind |" in (tmp_path / "out" / "report.md").read_text()


def test_what_was_measured_is_not_measured_again(settings: Settings) -> None:
    run("scripted/kind", *HH, "--name", "cut")
    database = Database(settings.database)
    row = evaluations.find(database, "cut")
    with database.writing() as connection:
        kept = evaluations.ITEMS
        item = connection.exec_driver_sql("SELECT min(item) FROM evaluation_items").scalar()
        connection.execute(kept.delete().where(kept.c.item != item))
        connection.execute(kept.update().values(scores='{"alignment": 9.5}'))
    run("--resume", "cut")
    found = {one.item: one.scores for one in evaluations.measured(database, row)}
    database.close()
    assert len(found) == 5
    assert found[str(item)] == {"alignment": 9.5}


def test_a_judge_of_its_own_answers_is_refused_unless_forced(settings: Settings) -> None:
    with pytest.raises(UserError, match="would judge itself"):
        run("scripted/steady", *HH)
    run("scripted/steady", *HH, "--force")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("scripted/kind", "--suite", "nonsense"), "There is no suite"),
        (("scripted/kind", "--suite", "hh"), "take a judge"),
        (("scripted/kind", "--suite", "truthfulqa"), "local models only"),
        (("local/smollm2#nobody", "--suite", "hh", "--judge", "scripted/kind"), "no adapter"),
        (("scripted/kind", *HH, "--data", "nowhere"), "neither a folder"),
        (("scripted/nobody", *HH), "no scripted model"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(
    arguments: tuple[str, ...], said: str, settings: Settings
) -> None:
    with pytest.raises(UserError, match=said):
        run(*arguments)


def test_evaluations_are_compared_later_on_their_common_items(settings: Settings) -> None:
    run("scripted/kind", *HH, "--name", "one")
    run("scripted/harsh", *HH, "--name", "two")
    result = CliRunner().invoke(cli, ["evaluations", "show", "one", "two", "--json"])
    report = json.loads(result.output)
    assert report["plan"]["options"]["models"] == ["scripted/kind", "scripted/harsh"]
    assert report["plan"]["suites"][0]["items"] == 5
