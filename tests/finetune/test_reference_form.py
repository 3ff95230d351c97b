"""The reference's form, both ways: what its collector writes is read, and what we write its reader takes.

Its reader's rules are stated anew in ``as_its_reader``.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
from jobs import Jobs
from support import Run

from finetune import formats, publishing
from finetune.groups import Group
from finetune.rows import Pairing

P = Pairing()


class Taken(NamedTuple):
    """A row as the reference trains on it."""

    texts: list[str]
    replies_begin_at: int
    scores: list[int]


def as_its_reader(file: str) -> list[Taken]:
    """A list of records; each reply right after the query; scores as whole numbers, cut, not rounded."""
    import pandas

    records = pandas.read_json(io.StringIO(file), orient="records").to_dict("records")
    return [
        Taken(
            [record["query"] + response for response in record["responses"]],
            len(record["query"]),
            [int(score) for score in record["scores"]],
        )
        for record in records
    ]


def written(jobs: Jobs, *groups: Group) -> str:
    out = io.StringIO()
    publishing.export(jobs.dataset("d", list(groups)), "reference", "train", P, out, names=True)
    return out.getvalue()


@pytest.mark.parametrize(
    ("ratings", "scores"),
    [
        ((7, 2, 4), [7, 4, 2]),
        ((4.6, 4.2), [46, 42]),  # both were 4
        ((6.5, 6.25), [650, 625]),
        ((5.001, 5.002, 1), [5002, 5001, 1000]),
        ((13 / 3, 5), [500, 433]),
    ],
)
def test_its_reader_tells_all_ratings_apart(
    jobs: Jobs, ratings: tuple[float, ...], scores: list[int]
) -> None:
    [taken] = as_its_reader(written(jobs, tiny.group(ratings=ratings)))
    assert taken.scores == scores


def test_its_reader_finds_where_a_reply_begins(jobs: Jobs) -> None:
    one, two = tiny.group(1, ratings=(7, 2)), tiny.group(2, ratings=(3, 5, None))
    first, second = as_its_reader(written(jobs, one, two))
    assert first.texts[0] == "what shall I do, number 1?\n\nbe kind and ask them first"
    assert [text[second.replies_begin_at :] for text in second.texts] == [
        "take what you want",
        "be kind and ask them first",
    ]


def test_all_groups_of_a_file_have_scores_of_one_size(jobs: Jobs) -> None:
    told = as_its_reader(written(jobs, tiny.group(1, ratings=(7, 2)), tiny.group(2, ratings=(4.5, 4.25))))
    assert [taken.scores for taken in told] == [[700, 200], [450, 425]]


def test_nothing_is_a_list_of_nothing(jobs: Jobs) -> None:
    assert as_its_reader(written(jobs, tiny.group(ratings=(None,)))) == []


def test_what_we_wrote_comes_back_as_it_was(jobs: Jobs) -> None:
    groups = [tiny.group(1, ratings=(7, 2)), tiny.group(2, ratings=(4.5, 4.25))]
    back = formats.read("reference", json.loads(written(jobs, *groups)), P)
    assert [(g.prompt, [(c.text, c.rating) for c in g.rated]) for g in back] == [
        (g.prompt, [(c.text, c.rating) for c in g.rated]) for g in groups
    ]


@pytest.mark.parametrize("unread", [-1, -1.0, 8, 10, "10", "8", None])
def test_what_its_collector_could_not_read_is_no_rating(unread: Any) -> None:
    row = {"query": "q", "responses": ["a", "b"], "scores": [unread, "3"], "models": ["m", "m"]}
    [group] = formats.read("reference", [row], P)
    assert {c.text: c.rating for c in group.candidates} == {"a": None, "b": 3}


def test_ten_is_a_rating_on_a_scale_that_has_it() -> None:
    row = {"query": "q", "responses": ["a", "b"], "scores": ["10", 8], "models": ["m", "m"]}
    [group] = formats.read("reference", [row], Pairing(high=10))
    assert [c.rating for c in group.candidates] == [10, 8]


def test_a_file_of_its_collector_becomes_a_dataset(sandbox: Run, tmp_path: Path) -> None:
    rows = [
        {"query": "one", "responses": ["a", "b"], "scores": [-1, 6], "models": ["m", "m"]},
        {"query": "two", "responses": ["a", "b"], "scores": [10, 2], "models": ["m", "m"]},
    ]
    (tmp_path / "world.json").write_text(json.dumps(rows, indent=2))
    code, out, err = sandbox("dataset", "import", "world.json", "--format", "reference", "--json")
    assert code == 0, err
    report = json.loads(out)["report"]
    assert report["spread"]["imitation"]["counts"] == {"2": 1, "6": 1}
    assert report["dropped"] == {"candidates without a rating on the scale 1–7 (kept, not trained on)": 2}
    code, out, err = sandbox("dataset", "export", "world", "--format", "reference")
    assert [taken.scores for taken in as_its_reader(out)] == [[6], [2]]


def test_an_export_says_how_its_scores_are_to_be_read(sandbox: Run, tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(tiny.group(ratings=(4.6, 4.2)).model_dump_json() + "\n")
    assert sandbox("dataset", "import", "d.jsonl", "--format", "groups")[0] == 0
    code, _, err = sandbox("dataset", "export", "d", "--format", "reference", "--out", "out.json")
    assert code == 0
    assert "multiply its --rating_scale by 10" in err
    [taken] = as_its_reader((tmp_path / "out.json").read_text())
    assert taken.scores == [46, 42]
    back = sandbox("dataset", "import", "out.json", "--format", "reference", "--name", "back", "--json")[1]
    assert json.loads(back)["report"]["spread"]["imitation"]["mean"] == pytest.approx(4.4)
