"""An adapter's files serve other programs: its base can be loaded, its modes are alike, it merges right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from jobs import Jobs

from finetune import adapters, training
from finetune.merging import merge
from sandbox.errors import UserError
from sandbox.models.weights import PACKAGED_HUB

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
TEXT = "be kind and ask them first, then wait"


@pytest.fixture
def trained(jobs: Jobs) -> Path:
    """The folder of an adapter that changes much."""
    return train(jobs, "kind")


def train(jobs: Jobs, name: str, **options: Any) -> Path:
    job = jobs.job(name, [tiny.group(n) for n in range(4)], epochs=2, learning_rate=5e-2, **options)
    training.train(job)
    return job.out


def logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([tiny.tokenizer().encode(TEXT)])).logits.float()


def base_named(folder: Path) -> str:
    return str(json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"])


def test_peft_loads_an_exported_adapter_with_its_base(
    jobs: Jobs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel

    adapters.export(trained, tmp_path / "out")
    monkeypatch.chdir(tmp_path)
    found = AutoPeftModelForCausalLM.from_pretrained("out")
    assert logits(found).allclose(logits(PeftModel.from_pretrained(tiny.model(), trained)), atol=1e-4)
    assert "AutoPeftModelForCausalLM" in (tmp_path / "out" / "README.md").read_text()
    assert "base_model:" not in (tmp_path / "out" / "README.md").read_text()  # hubs refuse a path


def test_a_base_that_was_named_from_one_folder_is_found_from_another(
    jobs: Jobs, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(jobs.base.parent)
    config = trained / "adapter_config.json"
    config.write_text(config.read_text().replace(str(jobs.base), jobs.base.name))
    adapters.export(trained, tmp_path / "out")
    assert base_named(tmp_path / "out") == str(jobs.base.resolve())


@pytest.mark.parametrize(("spec", "named"), [("smollm2", PACKAGED_HUB), ("owner/model-1B", "owner/model-1B")])
def test_a_base_from_a_hub_is_named_as_there(trained: Path, tmp_path: Path, spec: str, named: str) -> None:
    card = adapters.read_card(trained).model_copy(update={"base": f"local/{spec}"})
    (trained / "card.json").write_text(card.model_dump_json())
    config = json.loads((trained / "adapter_config.json").read_text())
    (trained / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": spec}))
    adapters.export(trained, tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert base_named(tmp_path / "out") == named
    assert f"base_model: {named}\n" in readme
    assert (f"`{named}`" in readme and "4-bit copy" in readme) == (spec == "smollm2")


def test_all_files_of_a_folder_have_the_mode_of_new_ones(jobs: Jobs, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "file").touch()
    adapters.export(trained, tmp_path / "out")
    merge(trained, tmp_path, tmp_path / "whole")
    wanted = {(tmp_path / "new" / "file").stat().st_mode}
    for folder in (trained, tmp_path / "out", tmp_path / "whole", jobs.folder / "datasets" / "kind-data"):
        assert {path.stat().st_mode for path in folder.iterdir()} == wanted
        assert folder.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_merged_model_says_what_base_and_adapter_say(trained: Path, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    wanted = logits(PeftModel.from_pretrained(tiny.model(), trained))
    off = merge(trained, tmp_path, tmp_path / "whole")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "whole")
    assert whole.dtype == torch.float32
    assert off < 1e-3
    assert logits(whole).allclose(wanted, atol=1e-3)
    rounded = merge(trained, tmp_path, tmp_path / "half", "bfloat16")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert whole.dtype == torch.bfloat16
    assert rounded > 10 * off  # and it is said


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_an_adapter_of_tied_weights_is_not_merged(tmp_path: Path, target: str) -> None:
    tied = Jobs(tmp_path, tiny.saved(tmp_path / "tied", tie_word_embeddings=True))
    folder = train(tied, "head", targets=(target, "q_proj"), sharing="off")
    with pytest.raises(UserError, match=f"changes {target}, .*tied embeddings"):
        merge(folder, tmp_path, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


def test_an_adapter_of_weights_that_are_not_tied_is_merged(jobs: Jobs, tmp_path: Path) -> None:
    folder = train(jobs, "head", targets=("lm_head", "q_proj"), sharing="off")
    assert merge(folder, tmp_path, tmp_path / "whole") < 1e-3
