"""Settings, typed, and the only place where the environment is read. Passed on, never global."""

from __future__ import annotations

import os
import re
from pathlib import Path

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from sandbox.errors import UserError
from sandbox.redaction import Redactor

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.I)


class Settings(BaseSettings):
    """From ``SANDBOX_*`` variables: where things are kept, and how local models run.

    ``db`` is a SQLite file or a database URL; ``adapters`` the folder of PEFT adapters, by name;
    ``openai_key`` is the bearer key sent to ``openai/URL/MODEL`` endpoints.
    """

    model_config = SettingsConfigDict(env_prefix="SANDBOX_", frozen=True, extra="ignore")

    data_dir: Path = Field(default_factory=lambda: user_data_path("social-sandbox", appauthor=False))
    cache_dir: Path = Field(default_factory=lambda: user_cache_path("social-sandbox", appauthor=False))
    db: str | None = None
    adapters: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    max_batch: int = Field(default=32, ge=1, le=1024)
    openai_key: SecretStr | None = None

    @property
    def database(self) -> str:
        """The database's URL or path."""
        return self.db or str(self.data_dir / "sandbox.db")

    @property
    def adapters_dir(self) -> Path:
        """The folder of adapters."""
        return self.adapters or self.data_dir / "adapters"


def load_settings(**given: object) -> Settings:
    """The settings from the environment, overridden by what is given (None means not given).

    Raises ``UserError`` that names the variable.
    """
    try:
        return Settings(**{key: value for key, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        name = "SANDBOX_" + "_".join(str(part) for part in first["loc"]).upper()
        raise UserError(f"{name} can't be used: {first['msg']}.") from error


def redactor() -> Redactor:
    """A redactor that knows every secret in the environment."""
    return Redactor(value for name, value in os.environ.items() if _SECRET_NAME.search(name))
