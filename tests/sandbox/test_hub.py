"""Models of a hub: a wrong name, or a hub that is away, is told at once; what is cached needs no hub."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from sandbox.errors import ModelUnavailable
from sandbox.models import weights

NAME = "somebody/some-model"


class Asked(Exception):
    """Instead of an answer: the hub was asked, or the loading began."""


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    """Have the hub answer so whoever asks about a model."""

    def model_info(self: object, name: str, **options: object) -> None:
        assert name == NAME
        assert options["timeout"]
        if error:
            raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)


def http(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    """An error as the hub's client raises it."""
    error = kind.__new__(kind)
    Exception.__init__(error, "said no")
    return error


def test_without_a_network_it_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no such folder, and the hub can't be reached"):
        weights.load(NAME, tmp_path)  # tests run offline


def test_a_model_that_the_hub_does_not_have_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer(monkeypatch, http(RepositoryNotFoundError))
    with pytest.raises(ModelUnavailable, match=r"no such model on the hub.*The packaged one is smollm2"):
        weights.load(NAME, tmp_path)


@pytest.mark.parametrize("name", ["foo--bar", "-x", "smo..l", "a/b.git"])
def test_a_name_that_no_hub_has_is_told(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="can't be loaded"):
        weights.load(name, tmp_path)


@pytest.mark.parametrize("error", [None, http(HfHubHTTPError)], ids=["found", "troubled"])
def test_else_loading_has_the_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception | None
) -> None:
    answer(monkeypatch, error)
    with pytest.raises(ModelUnavailable) as raised:
        weights.load(NAME, tmp_path)
    assert "the hub can't be reached" not in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.model
def test_what_is_in_the_cache_needs_no_hub(
    model_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer(monkeypatch, Asked())
    kept = tmp_path / "models--somebody--some-model"
    (kept / "snapshots").mkdir(parents=True)
    (kept / "snapshots" / "1").symlink_to(weights.locate(weights.PACKAGED, model_cache))
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("1")
    for module in ("huggingface_hub.constants", "huggingface_hub.file_download.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights.load(NAME, tmp_path, device="cpu").model.config.model_type
