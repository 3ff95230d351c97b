"""The terminal app's settings: a TOML file in the user's configuration folder, and environment variables.

::

    theme = "dark"            # dark, light, contrast, or any of Textual's
    person = "Ann"            # as whom you act, where the server lets you choose

    [keys]                    # other keys for what the footer shows; F1 lists the names
    "society.charts" = "h"

``SANDBOX_URL``, ``SANDBOX_KEY`` and ``SANDBOX_PERSON`` name the server, its key and the person.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from platformdirs import user_config_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sandbox.errors import UserError
from sandbox.names import NormalName

THEMES = {"dark": "textual-dark", "light": "textual-light", "contrast": "sandbox-contrast"}
URL = "http://127.0.0.1:8000"


class AppSettings(BaseModel):
    """See the module."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    theme: str = "dark"
    person: NormalName | None = None
    keys: dict[str, str] = Field(default_factory=dict)
    url: str = URL
    key: str | None = Field(default=None, repr=False)


def config_file() -> Path:
    """Where the settings are read from."""
    return user_config_path("social-sandbox") / "tui.toml"


def load_app_settings(**given: str | None) -> AppSettings:
    """What is given, over the environment, over the file. Raises ``UserError`` with the remedy."""
    file = config_file()
    try:
        filed = tomllib.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"The settings file '{file}' can't be read: {error}. Mend it, or remove it."
        ) from error
    named = {name: os.environ.get(f"SANDBOX_{name.upper()}") for name in ("url", "key", "person")}
    chosen = {name: value for name, value in (*named.items(), *given.items()) if value}
    try:
        return AppSettings(**{**filed, **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"The setting '{name}' can't be used: {first['msg']}. It is read from {file}."
        ) from error
