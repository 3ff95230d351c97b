"""The packaged model learns: the best answer gets likelier, the others stay behind, it speaks differently."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import torch
from jobs import Jobs

from finetune import training
from finetune.encode import encode
from finetune.groups import Candidate, Group, Turn
from finetune.scoring import score
from sandbox.models import weights

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore::FutureWarning")]


def groups() -> list[Group]:
    """Thirty-two questions, whose best answer is never what the model would say by itself."""
    return [
        tiny.group(
            number,
            prompt=(Turn(role="user", content=f"May I keep the {number} coins that I found?"),),
            candidates=(
                Candidate(text="Ask around first, and hand them in: they are somebody's.", rating=7),
                Candidate(text="Yes, nobody will ever know about it.", rating=2),
                Candidate(text="That depends on the place and on the law there.", rating=4),
            ),
        )
        for number in range(2, 34)
    ]


@pytest.mark.timeout(1200)  # a minute alone; beside another of its kind, six times as long
def test_it_overfits_on_thirty_two_groups(model_cache: Path, tmp_path: Path) -> None:
    some = groups()
    options = {"epochs": 2, "batch": 4, "learning_rate": 5e-4, "dtype": "auto", "targets": ()}
    job = Jobs(tmp_path, Path("smollm2")).job("over", some, **options)._replace(cache=model_cache)
    card = training.train(job)
    assert card.metrics.sharing == "blocks"
    loaded = weights.load("smollm2", model_cache, device="cpu")
    rows = encode(some[:8], loaded.tokenizer, 512).rows
    told = {}
    for when in ("before", "after"):
        if when == "after":
            loaded = weights.attach(loaded, "over", job.out)
        with torch.no_grad():
            mean = score(loaded.model, rows, "apart", 0).mean.float()
            out = loaded.model.generate(
                input_ids=torch.tensor([rows[0].query]), max_new_tokens=16, do_sample=False, pad_token_id=0
            )
        said = loaded.tokenizer.decode(out[0, len(rows[0].query) :])
        told[when] = (float(mean[:, 0].mean()), float((mean[:, 1:].mean(dim=1) - mean[:, 0]).mean()), said)
    assert told["after"][0] < told["before"][0] - 0.5
    assert told["after"][1] > told["before"][1] + 0.3
    assert told["after"][2] != told["before"][2]
