"""A tiny base model and a dataset to train it on."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
from jobs import Jobs


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    return tiny.saved(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def jobs(tmp_path: Path, base: Path) -> Jobs:
    """See the class."""
    return Jobs(tmp_path, base)
