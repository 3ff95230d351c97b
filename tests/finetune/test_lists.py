"""What lists and cards look like: names whole, Markdown drawn on a terminal and left as it is on a pipe."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from support import Run

from sandbox.commands.console import name_column, print_table

NAME = "a-name-of-forty-letters-and-some-more-01"


@pytest.mark.parametrize("width", [80, 40, 20])
def test_names_are_kept_whole_however_narrow_it_is(width: int) -> None:
    out = io.StringIO()
    table = Table(pad_edge=False)
    name_column(table, "name", [NAME, "b"])
    for _ in range(6):
        table.add_column("words", overflow="fold")
    table.add_row(NAME, *["something long that can be folded"] * 6)
    table.add_row("b", *["x"] * 6)
    print_table(Console(file=out, width=width), table)
    assert NAME in out.getvalue()


def listed(sandbox: Run, *names: str) -> str:
    code, out, err = sandbox(*names)
    assert code == 0, err
    return out


def test_the_lists_keep_names_whole(sandbox: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with open("rows.jsonl", "w") as file:  # noqa: PTH123 - the test's own folder
        file.write(json.dumps({"prompt": "p", "completion": "a"}) + "\n")
    listed(sandbox, "dataset", "import", "rows.jsonl", "--format", "completion", "--name", NAME)
    assert NAME in listed(sandbox, "dataset", "list")
    record(NAME)
    out = listed(sandbox, "adapters", "list")
    assert f"{NAME}-adapter" in out
    assert out.count(NAME) == 2


def record(dataset: str) -> None:
    """Put an adapter on record, without its files."""
    from datetime import UTC, datetime

    from finetune.adapters import Lineage, Metrics, new_card
    from finetune.settings import TrainingOptions
    from sandbox.commands.console import opened
    from sandbox.settings import load_settings
    from sandbox.store import lineage

    card = new_card(
        f"{dataset}-adapter",
        "local/smollm2",
        (None, "0" * 64),
        TrainingOptions(),
        Lineage(dataset=dataset, digest="0" * 64),
        Metrics(steps=1, groups=1, seconds=1),
    ).model_copy(update={"created": datetime(2026, 1, 1, tzinfo=UTC)})
    with opened(load_settings()) as store:
        lineage.add_adapter(store.database, card.name, card.base, "/gone", card.model_dump_json(), "0" * 64)


def test_a_card_is_drawn_on_a_terminal_and_raw_on_a_pipe(
    sandbox: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    record("data")
    raw = listed(sandbox, "adapters", "show", "data-adapter")
    assert "| base |" in raw
    assert raw.startswith("# data-adapter")

    def drawn(**_: Any) -> Console:
        return Console(force_terminal=True, width=100, no_color=True)

    monkeypatch.setattr("finetune.commands.adapters.terminal", drawn)
    out = listed(sandbox, "adapters", "show", "data-adapter")
    assert "| base |" not in out
    assert "# data-adapter" not in out
    assert "data-adapter" in out
    assert "held-out preference before" in out
    assert "\x1b]8" not in out


def test_every_export_calls_an_interaction_interaction(sandbox: Run) -> None:
    assert sandbox("run", "scripted", "--seats", "3x3", "--rounds", "1", "--seed", "5")[0] == 0
    numbers = {}
    for what in ("interactions", "messages", "ratings", "calls"):
        for form in ("jsonl", "csv"):
            out = listed(sandbox, "sessions", "export", "--what", what, "--format", form)
            if form == "csv":
                assert "interaction" in out.splitlines()[0].split(",")
                assert "number" not in out.splitlines()[0].split(",")
            else:
                numbers[what] = {json.loads(line)["interaction"] for line in out.splitlines()}
    assert numbers["messages"] <= numbers["interactions"] == numbers["calls"]
    listed(
        sandbox, "sessions", "export", "--what", "interactions", "--format", "parquet", "--out", "i.parquet"
    )
    from pyarrow import parquet

    assert set(parquet.read_table("i.parquet")["interaction"].to_pylist()) == numbers["interactions"]
