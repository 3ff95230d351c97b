"""Whole trainings of a tiny model: they learn, stop, go on, and say what they can't do."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from jobs import Jobs

from finetune import job as job_folder
from finetune import training
from finetune.adapters import read_card
from finetune.encode import encode
from finetune.groups import Candidate, Turn
from finetune.scoring import score
from finetune.settings import METHODS
from finetune.trainer import COMPLETE, AlignmentTrainer, TrainingFailed, keep, last_complete
from sandbox.errors import UserError
from sandbox.models import weights

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def groups(count: int) -> list[Any]:
    return [tiny.group(number) for number in range(count)]


def scored(loaded: weights.Loaded, some: list[Any]) -> torch.Tensor:
    rows = encode(some, loaded.tokenizer, 256).rows
    with torch.no_grad():
        return score(loaded.model, rows, "apart", 0).mean


def greedy(loaded: weights.Loaded, group: Any) -> str:
    [row] = encode([group], loaded.tokenizer, 256).rows
    with torch.no_grad():
        out = loaded.model.generate(
            input_ids=torch.tensor([row.query]), max_new_tokens=12, do_sample=False, pad_token_id=0
        )
    return str(loaded.tokenizer.decode(out[0, len(row.query) :]))


def test_overfitting_learns_the_best_and_leaves_the_others_behind(jobs: Jobs) -> None:
    some = groups(32)
    job = jobs.job("over", some, epochs=12, batch=8, learning_rate=2e-2, rank=16, alpha=32)
    card = training.train(job)
    before = weights.load(str(jobs.base), jobs.folder, device="cpu", dtype="float32")
    first, said = scored(before, some), [greedy(before, group) for group in some[:4]]
    after = weights.attach(before, "over", job.out)
    last = scored(after, some)
    assert last[:, 0].mean() < first[:, 0].mean() / 2
    assert (last[:, 1:].mean() - last[:, 0].mean()) > (first[:, 1:].mean() - first[:, 0].mean()) + 0.5
    assert [greedy(after, group) for group in some[:4]] != said
    assert card.metrics.steps == 48
    assert card.metrics.sharing == "blocks"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_on_the_same_data(jobs: Jobs, method: str) -> None:
    job = jobs.job("one", groups(6), groups(3), method=method, max_steps=3)
    card = training.train(job)
    assert card.metrics.steps == 3
    assert card.metrics.before is not None
    assert card.metrics.after is not None
    assert card.metrics.after.pairs == 9
    assert math.isfinite(card.metrics.loss or math.nan)
    log = [json.loads(line) for line in (job.out / "training.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3]
    assert all(entry["learning_rate"] > 0 for entry in log if "loss" in entry), "no step is idle"
    assert not job.run.exists()
    assert read_card(job.out) == card


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_in_half_precision(jobs: Jobs, method: str) -> None:
    card = training.train(
        jobs.job("half", groups(4), groups(2), method=method, dtype="bfloat16", max_steps=1)
    )
    assert card.metrics.after is not None
    assert math.isfinite(card.metrics.after.margin)


def test_the_seed_decides(jobs: Jobs) -> None:
    def weights_of(name: str, seed: int) -> bytes:
        job = jobs.job(name, groups(6), seed=seed)
        training.train(job)
        return (job.out / "adapter_model.safetensors").read_bytes()

    assert weights_of("a", 1) == weights_of("b", 1)
    assert weights_of("a2", 1) != weights_of("c", 2)


def test_shared_or_not_the_same_is_learnt(jobs: Jobs) -> None:
    told = {}
    for sharing in ("auto", "off"):
        card = training.train(jobs.job(sharing, groups(8), sharing=sharing, epochs=2))
        told[sharing] = card.metrics.loss
        assert card.metrics.sharing.startswith("blocks" if sharing == "auto" else "apart: switched off")
    assert told["auto"] == pytest.approx(told["off"], abs=1e-4)


def test_computing_activations_twice_changes_nothing(jobs: Jobs) -> None:
    plain = training.train(jobs.job("plain", groups(6)))
    twice = training.train(jobs.job("twice", groups(6), checkpointing=True))
    assert twice.metrics.loss == pytest.approx(plain.metrics.loss, abs=1e-5)


def test_gradients_may_be_added_up(jobs: Jobs) -> None:
    whole = training.train(jobs.job("whole", groups(8), batch=4))
    parts = training.train(jobs.job("parts", groups(8), batch=2, accumulate=2))
    assert parts.metrics.steps == whole.metrics.steps == 2
    assert parts.metrics.loss == pytest.approx(whole.metrics.loss, rel=0.05)


def test_stages_come_one_after_another(jobs: Jobs) -> None:
    some = [tiny.group(n, kind=kind) for kind in ("realignment", "imitation") for n in range(4)]
    job = jobs.job("staged", some, stages=("imitation", "realignment"))
    assert training.train(job).metrics.steps == 4
    with pytest.raises(UserError, match="No row is of the stages self-critic"):
        training.train(jobs.job("none", some, stages=("self-critic",)))


def test_it_stops_early_when_nothing_improves(jobs: Jobs) -> None:
    # Steps too small to change any loss. Large ones would do as well, but whether they end in a NaN
    # depends on the processor's arithmetic.
    job = jobs.job(
        "early", groups(4), groups(2), epochs=50, eval_steps=2, patience=2, learning_rate=1e-30, rank=1
    )
    assert training.train(job).metrics.steps < 100
    with pytest.raises(UserError, match="--split"):
        training.train(jobs.job("blind", groups(4), patience=2))


def test_a_loss_that_is_no_number_ends_it(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.job("nan", groups(8), save_steps=1)
    weigh = AlignmentTrainer.weigh

    def spoilt(self: Any, mean: torch.Tensor, *rest: Any) -> Any:
        return weigh(self, mean * (math.nan if self.state.global_step == 2 else 1), *rest)

    monkeypatch.setattr(AlignmentTrainer, "weigh", spoilt)
    with pytest.raises(TrainingFailed, match=r"step 2.*--learning-rate"):
        training.train(job)
    assert not job.out.exists()
    found = last_complete(job.run)
    assert found is not None
    assert found.name == "checkpoint-2"
    monkeypatch.setattr(AlignmentTrainer, "weigh", weigh)
    assert training.train(job, resume=True).metrics.steps == 4


def test_nothing_to_train_on_is_said(jobs: Jobs) -> None:
    long = tiny.group(prompt=(Turn(role="user", content="why " * 300),))
    with pytest.raises(UserError, match="the query fills the window: 1"):
        training.train(jobs.job("long", [long]))
    unrated = tiny.group(candidates=(Candidate(text="a"),))
    with pytest.raises(UserError, match="no candidate is rated"):
        training.train(jobs.job("unrated", [unrated]))
    with pytest.raises(UserError, match="another --method"):
        training.train(jobs.job("single", [tiny.group(ratings=(5,))], method="dpo"))
    with pytest.raises(UserError, match="--target"):
        training.train(jobs.job("target", groups(2), targets=("nowhere",)))


def test_candidates_of_very_different_length_are_trained_on(jobs: Jobs) -> None:
    some = [
        tiny.group(n, candidates=(Candidate(text="no", rating=2), Candidate(text="wait " * 150, rating=6)))
        for n in range(3)
    ]
    card = training.train(jobs.job("uneven", [*some, tiny.group(9, ratings=(3,))]))
    assert math.isfinite(card.metrics.loss or math.nan)


def test_a_training_is_gone_on_with_only_if_it_is_the_same(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs.job("again", groups(4))
    with pytest.raises(UserError, match="Leave out --resume"):
        training.train(job, resume=True)
    monkeypatch.setattr(AlignmentTrainer, "train", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        training.train(job)
    monkeypatch.undo()
    with pytest.raises(UserError, match="--resume"):
        training.train(job)
    with pytest.raises(UserError, match="another --seed"):
        training.train(job._replace(options=job.options.model_copy(update={"seed": 9})), resume=True)
    training.train(job, resume=True)
    with pytest.raises(UserError, match="already"):
        training.train(job)


def test_the_log_of_a_training_that_goes_on_has_every_step_once(jobs: Jobs) -> None:
    job = jobs.job("logged", groups(24), save_steps=2)

    def stop(step: training.Progress) -> None:
        if step.doing == "training" and step.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(job, on_progress=stop)
    with (job.run / training.LOG).open("a") as file:
        file.write('{"step": 3, "se')  # as a crash leaves it
    training.train(job, resume=True)
    lines = [json.loads(line) for line in (job.out / "training.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "loss" in line]
    assert steps == list(range(1, steps[-1] + 1))
    assert steps[-1] >= 6
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


def test_what_never_began_does_not_stand_in_the_way(jobs: Jobs) -> None:
    job = jobs.job("wrong", groups(4))
    with pytest.raises(UserError, match="--target"):
        training.train(job._replace(options=job.options.model_copy(update={"targets": ("nowhere",)})))
    (job.run / "plan.json").write_text("")  # as a full disk may leave it
    assert training.train(job).metrics.steps == 2


def test_one_training_of_a_name_at_a_time(jobs: Jobs) -> None:
    job = jobs.job("busy", groups(4))
    with job_folder.alone(job.run), pytest.raises(UserError, match="another process"):
        training.train(job, restart=True)
    training.train(job, restart=True)


def test_max_steps_only_ends_it_earlier(jobs: Jobs) -> None:
    assert training.train(jobs.job("more", groups(4), max_steps=9)).metrics.steps == 2
    assert training.train(jobs.job("less", groups(8), max_steps=1)).metrics.steps == 1


def test_numbers_that_are_not_finite_are_never_saved(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    weigh = AlignmentTrainer.weigh

    def spoilt(self: Any, mean: torch.Tensor, *rest: Any) -> Any:
        told = weigh(self, mean, *rest)
        return told._replace(
            loss=told.loss + (mean - mean.detach()).clamp(min=0).sqrt().sum()
        )  # slope: infinite

    monkeypatch.setattr(AlignmentTrainer, "weigh", spoilt)
    for clip in (1, 1000):
        job = jobs.job(f"slope{clip}", groups(2), clip=clip)
        with pytest.raises(TrainingFailed, match=r"not.*finite"):
            training.train(job)
        assert not job.out.exists()


def test_a_processor_is_not_sharded_over(jobs: Jobs) -> None:
    with pytest.raises(UserError, match="--fsdp"):
        training.train(jobs.job("shards", groups(2), fsdp=True))


def test_older_checkpoints_go_and_the_best_stays(tmp_path: Path) -> None:
    for step in (5, 10, 15, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        keep(tmp_path, step, best=str(tmp_path / "checkpoint-5"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-15",
        "checkpoint-20",
        "checkpoint-5",
    ]
    (tmp_path / "checkpoint-25").mkdir()
    assert last_complete(tmp_path, tidy=False) == tmp_path / "checkpoint-20"
    assert (tmp_path / "checkpoint-25").exists()
    last_complete(tmp_path)
    assert not (tmp_path / "checkpoint-25").exists()


KILLS = int(os.environ.get("SANDBOX_TEST_KILLS", "6"))
"""Each takes some seconds; ``SANDBOX_TEST_KILLS=30`` is the whole."""
SLOW_SAVE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[4:]
import warnings; warnings.simplefilter("ignore")
from jobs import Jobs
from finetune import training
import tiny
folder, base, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
job = Jobs(folder, base).job(name, [tiny.group(n) for n in range(80)], save_steps=1, epochs=3)
print("ready", flush=True)
resume = (job.run / "plan.json").is_file()
training.train(job, resume=resume, on_progress=lambda step: print(step.done, flush=True))
print("done", flush=True)
"""


@pytest.mark.timeout(60 * KILLS + 300)
def test_a_kill_at_any_moment_loses_no_whole_checkpoint(jobs: Jobs) -> None:
    """Kills, most of them while a checkpoint is written; after each it goes on from the last whole one."""
    here = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    command = [sys.executable, "-c", SLOW_SAVE, str(jobs.folder), str(jobs.base), "killed", *here]
    run = jobs.folder / "training" / "killed"
    kills = interrupted = 0
    best = 0
    deadline = time.monotonic() + 40 * KILLS
    while kills < KILLS and time.monotonic() < deadline:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for line in process.stdout:
            if line.strip().isdecimal() and int(line) > 0:
                break
        while process.poll() is None:  # the next checkpoint is begun: its folder is there, and not complete
            if any(not (folder / COMPLETE).is_file() for folder in run.glob("checkpoint-*")):
                break
        interrupted += any(not (folder / COMPLETE).is_file() for folder in run.glob("checkpoint-*"))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
        found = last_complete(run)
        if found is not None:
            number = int(found.name.rpartition("-")[2])
            assert number >= best
            best = number
            assert (found / "adapter_model.safetensors").stat().st_size > 1000
            json.loads((found / "trainer_state.json").read_text())
        if (jobs.folder / "adapters" / "killed").exists():
            break
    assert interrupted > kills / 2
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ended.stdout.endswith("done\n"), ended.stderr[-2000:]
    assert read_card(jobs.folder / "adapters" / "killed").metrics.steps == 120


def test_two_processes_learn_what_one_does(jobs: Jobs, tmp_path: Path) -> None:
    script = tmp_path / "both.py"
    script.write_text(
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from pathlib import Path\n"
        f"sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[2])]!r}\n"
        "from jobs import Jobs\nfrom finetune import training\nimport tiny\n"
        "job = Jobs(Path(sys.argv[1]), Path(sys.argv[2])).job(sys.argv[3],"
        " [tiny.group(n) for n in range(16)], batch=int(sys.argv[4]), learning_rate=5e-3)\n"
        "training.train(job)\n"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(jobs.folder), str(jobs.base)]
    two = subprocess.run(
        [*torchrun, str(script), *arguments, "two", "2"],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert two.returncode == 0, two.stderr[-3000:]
    one = subprocess.run(
        [sys.executable, str(script), *arguments, "one", "4"],
        env=env,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert one.returncode == 0, one.stderr[-3000:]

    def losses(name: str) -> list[float]:
        log = (jobs.folder / "adapters" / name / "training.jsonl").read_text().splitlines()
        return [entry["loss"] for line in log if "loss" in (entry := json.loads(line))]

    assert losses("two") == pytest.approx(losses("one"), abs=2e-3)
    assert len(losses("one")) == 4
