"""Training jobs on a tiny model, in one folder."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from finetune import datasets
from finetune.groups import Group
from finetune.job import Job
from finetune.settings import TrainingOptions


class Jobs:
    """Makes jobs in one folder."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder, self.base = folder, base

    def dataset(self, name: str, train: list[Group], heldout: list[Group] | None = None) -> datasets.Dataset:
        """A dataset in the folder."""
        place = self.folder / "datasets" / name
        if not place.exists():
            datasets.write(place, (train, heldout or []), Counter())
        return datasets.read(place)

    def job(
        self, name: str, train: list[Group], heldout: list[Group] | None = None, **options: object
    ) -> Job:
        """A job on the tiny model."""
        given = {"dtype": "float32", "device": "cpu", "batch": 2, "targets": ("all-linear",)} | options
        return Job(
            self.dataset(f"{name}-data", train, heldout),
            f"local/{self.base}",
            name,
            TrainingOptions(**given),  # type: ignore[arg-type]
            self.folder / "training" / name,
            self.folder / "adapters" / name,
            self.folder / "cache",
        )
