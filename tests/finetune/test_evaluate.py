"""Evaluation: likelihoods as lm-eval's, what is left out, intervals, judges, and going on after a stop."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

from finetune import making
from finetune.commands.reporting import alone, command_line
from finetune.evaluate import report, running, suites
from finetune.evaluate.answers import UNDER_BUDGET, Answering, answer_all
from finetune.evaluate.items import Call, Item, Likelihood, chosen
from finetune.evaluate.likelihood import Scorer
from finetune.evaluate.plan import Figure, Options, Plan, SuitePlan
from finetune.evaluate.provenance import seen
from finetune.evaluate.statistics import Difference, difference, estimate, holm
from finetune.making import Selection
from finetune.rows import Pairing
from sandbox.cli import cli
from sandbox.errors import BudgetExhausted, SandboxError, UserError
from sandbox.exchange import Reply, Request
from sandbox.redaction import Redactor
from sandbox.running import Store
from sandbox.settings import Settings, load_settings
from sandbox.store import evaluations, lineage
from sandbox.store.database import Database
from sandbox.store.evaluations import Measured

LONG = " ".join(["the quick brown fox jumps over the lazy dog"] * 6)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("SANDBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return load_settings()


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    found = Store.open(settings.database)
    yield found
    found.close()


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
    asked = [[Call(f"{LONG}\n\n{question}?", " yes")] for question in ("one", "two", "three", "four", "five")]
    scorer.score(asked[:2], lambda *_: None)
    assert not scorer._prefixes, "trying it would cost more than it saves"
    scorer.score(asked, lambda *_: None)
    assert [prefix is not None for prefix in scorer._prefixes.values()] == [True]


def test_a_context_that_does_not_fit_is_cut_at_its_beginning() -> None:
    found: dict[int, list[Likelihood]] = {}
    model, tokenizer = tiny.model(), tiny.tokenizer()
    Scorer(model, tokenizer, 16).score(
        [[Call(LONG, " yes"), Call(LONG, " no, not at all")]], found.__setitem__
    )
    assert all(one.logprob < 0 for one in found[0])


def test_a_lost_line_does_not_shift_the_groups_of_four(
    tmp_path: Path, settings: Settings, store: Store
) -> None:
    file = tmp_path / "deontology.csv"
    lines = ["label,scenario,excuse"]
    lines += [f"{n % 2},Are you coming?,No because of {n}." for n in range(3)]  # one is lost
    lines += ["the way home?,I have no money."]
    lines += [f"{n % 2},Do you eat?,No because of {n}." for n in range(4)]
    file.write_text("\n".join(lines))
    suite = suites.load("ethics-deontology", {"ethics-deontology": str(file)}, settings, store)
    assert [[row["scenario"] for row in item.content] for item in suite.items] == [["Do you eat?"] * 4]
    assert suite.source.dropped == {"rows that can't be used": 1, "rows outside a group of 4": 3}
    right = [Likelihood(0.0, 1, True), Likelihood(-1.0, 1, False)]
    item = suite.items[0]
    answers = [one for row in item.content for one in (right if row["label"] == 0 else right[::-1])]
    assert suite.scores(item, answers) == {"acc": 1.0, "exact": 1.0}  # type: ignore[union-attr]
    answers[0], answers[1] = answers[1], answers[0]
    assert suite.scores(item, answers) == {"acc": 0.75, "exact": 0.0}  # type: ignore[union-attr]


def test_a_row_that_cannot_be_used_does_not_shift_groups_without_a_scenario_of_their_own(
    tmp_path: Path, settings: Settings, store: Store
) -> None:
    file = tmp_path / "justice.csv"
    rows = [f"{'' if n == 1 else n % 2},group {n // 4} row {n % 4}" for n in range(12)]
    file.write_text("\n".join(["label,scenario", *rows]))
    suite = suites.load("ethics-justice", {"ethics-justice": str(file)}, settings, store)
    groups = sorted([row["scenario"] for row in item.content] for item in suite.items)
    assert groups == [[f"group {group} row {row}" for row in range(4)] for group in (1, 2)]
    assert suite.source.dropped == {"rows that can't be used": 1, "rows outside a group of 4": 3}


def test_truthfulqa_is_read_from_its_table(tmp_path: Path, settings: Settings, store: Store) -> None:
    file = tmp_path / "truthfulqa.csv"
    file.write_text(
        "Question,Best Answer,Correct Answers,Incorrect Answers\n"
        "Is it so?,It is,It is; Quite so,It is not; Never\n"
    )
    suite = suites.load("truthfulqa", {"": str(tmp_path)}, settings, store)
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
    assert (same.mean, same.low, same.high, same.p) == (0.0, None, None, 1.0)


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
        (("scripted/kind", "--suite", "hh"), "a judge rates the answers"),
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


PAIRS = [
    {
        "chosen": f"\n\nHuman: Hello {n}\n\nAssistant: Hi\n\nHuman: How is number {n}?\n\nAssistant: Well.",
        "rejected": f"\n\nHuman: Hello {n}\n\nAssistant: Hi\n\nHuman: How is number {n}?\n\nAssistant: Bad.",
    }
    for n in range(30)
]


def trained_on(settings: Settings, store: Store, rows: list[dict[str, str]]) -> None:
    """Put an adapter on record whose data are these pairs; its files are not looked at."""
    file = settings.data_dir / "some.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    card = making.take_in(store, settings, "some", file, "hh-rlhf", Pairing(), Selection())
    (settings.adapters_dir / "kinder").mkdir(parents=True)
    (settings.adapters_dir / "kinder" / "adapter_config.json").write_text("{}")
    lineage.add_adapter(store.database, "kinder", "local/x", "", "{}", card.digest)


def options(file: Path, **more: object) -> Options:
    fields = {"models": ("local/x#kinder",), "suites": ("hh",), "judge": "scripted/steady"}
    return Options(**{**fields, "data": {"hh": str(file)}, **more})  # type: ignore[arg-type]


def test_what_an_adapter_was_trained_on_is_left_out_in_conversations_too(
    tmp_path: Path, settings: Settings, store: Store
) -> None:
    trained_on(settings, store, PAIRS[:10])
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    (suite,) = running.prepare(store, settings, options(file)).plan.suites
    assert suite.items == 20
    assert suite.dropped == {running.SEEN: 10}


def test_what_is_gone_on_with_has_the_items_that_it_began_with(
    tmp_path: Path, settings: Settings, store: Store
) -> None:
    trained_on(settings, store, PAIRS[:10])
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    plan = running.prepare(store, settings, options(file, limit=8)).plan
    assert running.reload(store, settings, plan).plan == plan
    making.delete(store, settings, "some")
    with pytest.raises(UserError, match="has changed since"):
        running.reload(store, settings, plan)


def test_what_an_adapter_was_trained_on_may_be_gone(tmp_path: Path, settings: Settings, store: Store) -> None:
    trained_on(settings, store, PAIRS[:10])
    shutil.rmtree(settings.data_dir / "datasets" / "some")
    known, notes = seen(store, ["local/x#kinder"])
    assert not known
    assert "not on record any more" in notes[0]


def test_what_is_paid_for_is_kept_when_the_budget_is_spent(settings: Settings, store: Store) -> None:
    spent = 0

    class Costly:
        async def generate(self, request: Request, on_delta: object = None) -> Reply:
            nonlocal spent
            spent += 1
            if spent > 20:
                raise BudgetExhausted("No more.")
            return Reply("Rating: 5")

    suite = suites.load("hh", {}, settings, store)
    told: list[Item] = []

    async def measure() -> None:
        judge = Costly()
        await answer_all(
            suite.items,
            "scripted/a",
            "scripted/b",
            lambda _: judge,
            Redactor(),
            Answering(at_once=UNDER_BUDGET),
            lambda item, _: told.append(item),
        )

    with pytest.raises(BudgetExhausted):
        asyncio.run(measure())
    assert spent > 20
    assert told, "20 calls are more than the three of the first item"


def test_measures_of_different_judges_are_not_told_together(settings: Settings) -> None:
    run("scripted/kind", *HH, "--name", "one")
    run("scripted/kind", "--suite", "hh", "--limit", "5", "--judge", "scripted/harsh", "--name", "other")
    result = CliRunner().invoke(cli, ["evaluations", "show", "one", "other"])
    assert isinstance(result.exception, UserError)
    assert "another judge" in str(result.exception)


def test_a_report_is_markdown_and_a_plot_whatever_things_are_called(settings: Settings) -> None:
    name = "local/$a_{$<img src=x onerror=a()>|`x`"
    figure = Figure(name="f", help="<b>", better="higher", low=0, high=1)
    suite = SuitePlan(name="hh", source="a|b", digest="", items=6, figures=(figure,))
    plan = Plan(options=Options(models=("local/x", name), suites=("hh",)), suites=(suite,), notes=("<i>",))
    scores = [Measured(model, "hh", str(n), {"f": n / 6}) for n in range(6) for model in ("local/x", name)]
    now = datetime(2026, 1, 1, tzinfo=UTC)
    found = report.make("r", now, now, plan, scores)
    told = report.markdown(found)
    assert "<img" not in told
    assert "<i>" not in told
    page = report.html(found)
    assert "<img" not in page
    assert page.count("<svg") == 1


def test_two_processes_do_not_measure_the_same(settings: Settings) -> None:
    run("scripted/kind", *HH, "--name", "one")
    with alone(settings, "one"):
        result = CliRunner().invoke(cli, ["evaluate", "--resume", "one"])
    assert isinstance(result.exception, UserError)
    assert "'one' is being measured by another process" in str(result.exception)


def test_a_password_is_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["sandbox", "evaluate", "--db", "postgresql://me:S3cret@host/db"])
    assert command_line() == "sandbox evaluate --db 'postgresql://me:***@host/db'"
