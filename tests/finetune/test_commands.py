"""The commands, as they are typed: data out of sessions, an adapter out of data, and what is refused."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiny
from support import Run

from finetune.adapters import read_card
from sandbox.models import weights

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture
def session(sandbox: Run) -> str:
    """A finished session of a scripted society."""
    code, _, err = sandbox("run", "scripted", "--seats", "3x3", "--rounds", "3", "--seed", "5")
    assert code == 0, err
    return str(json.loads(sandbox("sessions", "list", "--json")[1].splitlines()[0])["session"])


def made(sandbox: Run, *arguments: str) -> dict[str, Any]:
    code, out, err = sandbox(*arguments, "--json")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[0])
    return found


def train(sandbox: Run, base: Path, *more: str) -> dict[str, Any]:
    options = (
        "--base",
        str(base),
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--max-steps",
        "2",
        "--batch",
        "2",
    )
    return made(sandbox, "train", "data", *options, *more)


def test_the_whole_way_from_a_session_to_a_seat_and_back(sandbox: Run, session: str, base: Path) -> None:
    card = made(sandbox, "dataset", "build", "last", "--name", "data", "--split", "0.2")
    assert card["sessions"] == [session]
    assert set(card["report"]["rows"]) == {"imitation", "self-critic", "realignment"}
    assert card["report"]["heldout"] > 0
    trained = train(sandbox, base, "--name", "kinder")
    assert trained["lineage"]["digest"] == card["digest"]
    # Backwards, from a row to its ratings, and forwards to what was made of it.
    row = json.loads(sandbox("dataset", "show", "data", "--row", "1", "--json")[1].splitlines()[1])
    message = row["candidates"][0]["messages"][0]
    assert message.startswith(f"{session}/")
    traced = json.loads(sandbox("dataset", "trace", message, "--json")[1].splitlines()[0])
    assert (traced["dataset"], traced["row"]) == ("data", 1)
    assert traced["adapters"] == {"kinder": []}
    rating = row["candidates"][0]["judgements"][0]["reference"]
    assert json.loads(sandbox("dataset", "trace", rating, "--json")[1].splitlines()[0])["row"] == 1


def test_options_choose_what_is_taken(sandbox: Run, session: str) -> None:
    card = made(sandbox, "dataset", "build", session, "--name", "a", "--kind", "imitation", "--least", "2")
    assert set(card["report"]["rows"]) == {"imitation"}
    assert "1" not in card["report"]["candidates"]
    card = made(sandbox, "dataset", "build", session, "--name", "b", "--mix", "1:1:1")
    assert len(set(card["report"]["rows"].values())) == 1
    assert card["report"]["dropped"]["left out for the mix"] > 0
    card = made(sandbox, "dataset", "build", session, "--name", "c", "--per-source-cap", "1")
    assert sum(card["report"]["rows"].values()) <= 9
    again = made(sandbox, "dataset", "build", session, session, "--name", "d", "--per-source-cap", "1")
    assert again["digest"] == card["digest"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("build", "nowhere"), 2, "no session"),
        (("build", "last", "--raters", "people"), 2, "can be trained on"),
        (("build", "last", "--rubric", "9"), 2, "no rubric version 9"),
        (("build", "last", "--dimension", "charm"), 2, "alignment, engagement"),
        (("build", "last", "--mix", "5:1"), 2, "5:1:1"),
        (("build", "last", "--mix", "nan:1:1"), 2, "5:1:1"),
        (("build", "last", "--kind", "lies"), 2, "imitation, self-critic, realignment"),
        (("build", "last", "--name", "../evil"), 2, "can't be called"),
        (("build", "last", "--kind", "imitation", "--mix", "1:1:0"), 2, "self-critic"),
        (("show", "none"), 2, "dataset list"),
        (("delete", "none", "--yes"), 2, "no dataset"),
        (("trace", "last"), 2, "SESSION/MESSAGE"),
        (("import", "missing.jsonl", "--format", "groups"), 2, "does not exist"),
    ],
)
def test_what_can_not_be_is_said_with_the_remedy(
    sandbox: Run, session: str, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = sandbox("dataset", *arguments)
    assert got == code, (out, err)
    assert words in " ".join(err.split())
    assert "Traceback" not in err


def test_data_goes_out_and_comes_in_again(sandbox: Run, session: str, tmp_path: Path) -> None:
    card = made(sandbox, "dataset", "build", session, "--name", "one", "--split", "0.3")
    assert sandbox("dataset", "export", "one", "--part", "all", "--out", "rows.jsonl")[0] == 0
    back = made(
        sandbox, "dataset", "import", "rows.jsonl", "--format", "groups", "--name", "two", "--split", "0.3"
    )
    assert back["digest"] == card["digest"]
    assert sandbox("dataset", "export", "one", "--format", "parquet", "--out", "cards")[0] == 0
    readme = (tmp_path / "cards" / "README.md").read_text()
    assert "data/train.parquet" in readme
    assert card["digest"] in readme
    back = made(
        sandbox, "dataset", "import", "cards", "--format", "parquet", "--name", "three", "--split", "0.3"
    )
    assert back["report"]["rows"] == card["report"]["rows"]
    from datasets import load_dataset

    loaded = load_dataset(str(tmp_path / "cards"), cache_dir=str(tmp_path / "hf"))
    assert {part: len(rows) for part, rows in loaded.items()} == {
        "train": card["report"]["train"],
        "heldout": card["report"]["heldout"],
    }
    code, out, _ = sandbox("dataset", "export", "one", "--format", "preference")
    assert code == 0
    first = json.loads(out.splitlines()[0])
    assert first["score_chosen"] > first["score_rejected"]


def test_changed_rows_are_noticed(sandbox: Run, session: str, tmp_path: Path) -> None:
    made(sandbox, "dataset", "build", session, "--name", "one")
    rows = tmp_path / "data" / "datasets" / "one" / "train.jsonl"
    rows.write_text(rows.read_text().replace('"rating":', '"rating": ', 1))
    assert sandbox("dataset", "show", "one")[0] == 0  # the same rows, written differently
    rows.write_text("\n".join(rows.read_text().splitlines()[1:]) + "\n")
    code, _, err = sandbox("dataset", "show", "one")
    assert code == 2
    assert "have been changed" in err


def test_a_hub_that_is_not_reached_is_said(
    sandbox: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "one")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    code, _, err = sandbox("dataset", "push", "one", "me/one")
    assert code == 2
    assert "hf auth login" in err


def test_what_is_pushed_is_the_card_and_the_rows(
    sandbox: Run, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "one")
    seen: dict[str, Any] = {}

    class Hub:
        def create_repo(self, name: str, **options: Any) -> str:
            seen.update(options, name=name)
            return f"https://hub/{name}"

        def upload_folder(self, folder_path: Path, **_: Any) -> None:
            seen["files"] = sorted(
                str(p.relative_to(folder_path)) for p in folder_path.rglob("*") if p.is_file()
            )

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    code, out, _ = sandbox("dataset", "push", "one", "me/one")
    assert (code, out) == (0, "https://hub/me/one\n")
    assert seen == {
        "name": "me/one",
        "repo_type": "dataset",
        "private": True,
        "exist_ok": True,
        "files": ["README.md", "data/train.parquet"],
    }


def test_adapters_are_listed_shown_exported_merged_and_deleted(
    sandbox: Run, session: str, base: Path, tmp_path: Path
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "data")
    train(sandbox, base, "--name", "kind")
    assert "kind" in sandbox("adapters", "list")[1]
    shown = sandbox("adapters", "show", "kind")[1]
    assert "It serves no seat yet" in shown
    assert session in shown
    code, _, err = sandbox("train", "data", "--base", str(base), "--name", "kind")
    assert (code, "adapters delete kind" in err) == (2, True)
    assert sandbox("adapters", "export", "kind", "--out", "copy")[0] == 0
    assert read_card(tmp_path / "copy").name == "kind"
    assert sandbox("adapters", "merge", "kind", "--out", "whole")[0] == 0
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert merged.config.model_type == "llama"
    assert sandbox("adapters", "merge", "kind", "--out", "whole")[0] == 2
    assert sandbox("adapters", "delete", "kind", "--yes")[0] == 0
    assert not (tmp_path / "data" / "adapters" / "kind").exists()
    code, _, err = sandbox("adapters", "show", "kind")
    assert (code, "adapters list" in err) == (2, True)


def test_an_adapter_is_what_peft_and_vllm_take(
    sandbox: Run, session: str, base: Path, tmp_path: Path
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "data")
    train(sandbox, base, "--name", "kind")
    folder = tmp_path / "data" / "adapters" / "kind"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["r"] <= 16
    assert not config["modules_to_save"]
    assert not list(folder.glob("*.bin"))
    assert not list(folder.glob("added_tokens*"))
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", "pt") as file:
        assert all("lora_" in name and "embed" not in name for name in file.keys())  # noqa: SIM118
    from peft import PeftModel

    PeftModel.from_pretrained(tiny.model(), str(folder))


def test_what_an_adapter_was_not_made_for_is_refused(
    sandbox: Run, session: str, base: Path, tmp_path: Path
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "data")
    train(sandbox, base, "--name", "kind")
    folder = tmp_path / "data" / "adapters" / "kind"
    from sandbox.errors import ModelRefused

    other = tiny.saved(tmp_path / "other", initializer_range=0.1)
    template = tmp_path / "template"
    shutil.copytree(base, template)
    tiny.tokenizer(tiny.TEMPLATE.replace("assistant", "bot")).save_pretrained(template)
    for model, words in ((other, "other weights"), (template, "another tokenizer or chat template")):
        loaded = weights.load(str(model), tmp_path, device="cpu", dtype="float32")
        with pytest.raises(ModelRefused, match=f"{words}.*Seat it as"):
            weights.attach(loaded, "x", folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelRefused, match="is missing"):
        weights.attach(weights.load(str(base), tmp_path, device="cpu"), "x", folder)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--learning-rate", "-1"), "--learning-rate"),
        (("--rank", "0"), "--rank"),
        (("--stages", "lies"), "--stages"),
        (("--base", "litellm/openai/x"), "local"),
        (("--base", "/nowhere"), "no folder"),
        (("--base", "local/smollm2#other"), "leave out"),
        (("--name", "a/b"), "can't be called"),
        (("--report-to", "nothing_of_the_kind"), "pip install"),
        (("--resume",), "Leave out --resume"),
    ],
)
def test_options_that_can_not_be_are_named(
    sandbox: Run, session: str, base: Path, arguments: tuple[str, ...], words: str
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "data")
    code, _, err = sandbox("train", "data", "--base", str(base), *arguments)
    assert code in (2, 4), err
    assert words in err


def test_an_adapter_without_a_record_can_be_deleted_and_no_other_folder(
    sandbox: Run, session: str, base: Path, tmp_path: Path
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "data")
    train(sandbox, base, "--name", "kind")
    folder = tmp_path / "data" / "adapters" / "kind"
    shutil.copytree(folder, tmp_path / "copy")
    assert sandbox("adapters", "delete", "kind", "--yes")[0] == 0
    shutil.copytree(tmp_path / "copy", folder)  # as a crash before it was put on record would leave it
    code, _, err = sandbox("train", "data", "--base", str(base), "--name", "kind", "--device", "cpu")
    assert (code, "adapters delete kind" in err) == (2, True)
    assert sandbox("adapters", "delete", "kind", "--yes")[0] == 0
    assert not folder.exists()
    shutil.copytree(tmp_path / "copy", folder.parent / "other")  # another's card
    code, _, err = sandbox("adapters", "delete", "other", "--yes")
    assert (code, "by hand" in err) == (2, True)
    assert (folder.parent / "other" / "card.json").is_file()


def test_a_card_from_elsewhere_can_not_speak_to_the_terminal(
    sandbox: Run, session: str, tmp_path: Path
) -> None:
    made(sandbox, "dataset", "build", session, "--name", "one")
    card = tmp_path / "data" / "datasets" / "one" / "card.json"
    told = json.loads(card.read_text())
    for changed in ({"name": "\x1b]0;x\x07"}, {"report": told["report"] | {"rows": {"\x1b[2Jx": 1}}}):
        card.write_text(json.dumps(told | changed))
        code, out, err = sandbox("dataset", "show", "one")
        assert code in (0, 2)
        assert "\x1b" not in out + err


def test_a_flagged_dataset_is_exported_with_a_warning(sandbox: Run, session: str, tmp_path: Path) -> None:
    assert sandbox("rate", "1.draft", "--in", session, "--value", "6", "--as", "Ann")[0] == 0
    made(sandbox, "dataset", "build", session, "--name", "one")
    assert json.loads(sandbox("sessions", "forget", session, "Ann", "--yes", "--json")[1])["datasets"] == [
        "one"
    ]
    with closing(sqlite3.connect(tmp_path / "data" / "sandbox.db")) as database:
        named = {row[0] for row in database.execute("SELECT person FROM dataset_sources")}
    assert "Ann" not in named
    code, _, err = sandbox("dataset", "export", "one")
    assert (code, "flagged" in err) == (0, True)
    made(sandbox, "dataset", "build", session, "--name", "two")
    assert "flagged" not in sandbox("dataset", "export", "two")[2]


def test_looking_at_what_is_there_loads_no_torch() -> None:
    program = (
        "import sys, finetune.adapters, finetune.looping, finetune.evaluate.comparing\n"
        "from finetune.commands import adapters, compare, dataset, evaluate, loop, train\n"
        "sys.exit(','.join({'torch', 'litellm', 'transformers', 'scipy'} & sys.modules.keys()) or 0)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
