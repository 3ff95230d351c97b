"""Settings, typed, and the only place where the environment is read. Passed on, never global."""

from __future__ import annotations

import os
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sandbox.errors import UserError
from sandbox.redaction import Redactor

_PROVIDER_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.I)


class Settings(BaseSettings):
    """From ``SANDBOX_*`` variables: where things are kept, and how local models run.

    ``db`` is a SQLite file or a database URL; ``adapters`` the folder of PEFT adapters, by name;
    ``openai_key`` is the bearer key for the ``openai/URL/MODEL`` endpoint at ``openai_base`` (without a
    base: for endpoints on this machine).
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
    openai_base: str | None = None

    @field_validator("device", "dtype", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        return value.strip().lower() if isinstance(value, str) else value

    def trusts(self, base: str) -> bool:
        """Whether ``openai_key`` may be sent to the endpoint ``base``: the one named with it, or one here.

        A society file from elsewhere may name any URL; it must not be able to have the key sent there.
        """
        if self.openai_base is not None:
            return base.rstrip("/") == self.openai_base.rstrip("/")
        host = urlsplit(base).hostname or ""
        try:
            return ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"

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


def provider_keys() -> list[str]:
    """The names of the variables that hold a well-known provider's key."""
    return [name for name in _PROVIDER_KEYS if os.environ.get(name)]


def redactor() -> Redactor:
    """A redactor that knows every secret in the environment."""
    return Redactor(value for name, value in os.environ.items() if _SECRET_NAME.search(name))
