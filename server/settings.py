"""The server's settings, from ``SANDBOX_SERVER_*`` and a TOML file; typed, and passed on."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from sandbox.errors import SocietyError, UserError
from sandbox.models.spec import parse
from sandbox.society import Society


class ServerSettings(BaseSettings):
    """How the server listens, what it allows, and its limits. Times are in seconds, money in US dollars.

    ``session`` is the one that ``sandbox/SEAT`` and ``sandbox/society`` mean. ``models`` are patterns of the
    specs that may be seated by request (``*`` for any); ``endpoints`` the base URLs that ``openai/URL/MODEL``
    may name. ``origins`` are those of web pages that may call the server; ``hosts`` the names it answers to.
    ``listed_seats`` are patterns of the seats that ``/v1/models`` lists (``*`` for all). ``show_draft`` is
    whether a society's streams hold the draft. A lone user message that fits one of ``task_prompts`` (a front
    end's request for a title, tags, follow-ups) is answered by a seat, not by its society.
    ``per_minute`` bounds each key's requests: 600 if it is not set, and none at all where no key is needed.
    ``tries_per_minute`` bounds the bad keys and tickets of one address; good ones are not counted.
    ``take_over`` is whether sessions that a server left running are gone on with; without, they are paused
    when this one opens or leaves them.
    ``keyless`` is set by ``sandbox serve`` for its workers, on loopback only.
    """

    model_config = SettingsConfigDict(env_prefix="SANDBOX_SERVER_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    session: str | None = None
    models: tuple[str, ...] = ("scripted/*", "local/smollm2", "local/smollm2#*", "litellm/*")
    endpoints: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    listed_seats: tuple[str, ...] = ()
    show_draft: bool = True
    task_prompts: tuple[str, ...] = ("### Task:*### Output*", "### Task:*<chat_history>*")
    blind: bool = True
    budget: float | None = Field(default=None, ge=0)
    per_minute: int | None = Field(default=None, ge=1)
    tries_per_minute: int = Field(default=60, ge=1)
    max_frame_bytes: int = Field(default=256 * 1024, ge=1024)
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024)
    max_lag: int = Field(default=1000, ge=10)
    slow_s: float = Field(default=10.0, gt=0)
    max_sockets: int = Field(default=5000, ge=1)
    max_seats: int = Field(default=1000, ge=1)
    heartbeat_s: float = Field(default=20.0, gt=0)
    pong_timeout_s: float = Field(default=60.0, gt=0)
    delta_interval_s: float = Field(default=0.05, ge=0)
    idle_s: float = Field(default=60.0, gt=0)
    scan_s: float = Field(default=1.0, gt=0)
    command_timeout_s: float = Field(default=30.0, gt=0)
    shutdown_s: int = Field(default=10, ge=1)
    take_over: bool = True
    keyless: bool = False
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    @field_validator("log_format", "log_level", mode="before")
    @classmethod
    def _in_any_case(cls, value: Any) -> Any:
        """A choice is one in any case; a level has the names that Python's logging knows."""
        given = value.strip().lower() if isinstance(value, str) else value
        return {"warn": "warning", "fatal": "critical"}.get(given, given) if isinstance(given, str) else given

    def check_models(self, society: Society) -> None:
        """Raise ``SocietyError`` if a request may not seat one of the society's models or embeddings."""
        for spec in society.models():
            self.check_model(spec)
        if society.embedding != "hashed" and society.embedding != "local/minilm":
            self._check_pattern(society.embedding)

    def check_model(self, spec: str) -> None:
        """Raise ``SocietyError`` if a request may not seat a model: it could reach what the operator can."""
        parsed = parse(spec)
        if parsed.family == "openai":
            if parsed.base.rstrip("/") not in {base.rstrip("/") for base in self.endpoints}:
                raise SocietyError(
                    f"This server may not call {parsed.base}. Its operator can add that to 'endpoints'."
                )
            return
        self._check_pattern(spec)

    def _check_pattern(self, spec: str) -> None:
        # Some of LiteLLM's providers take an address for a model's name: those must be allowed as such.
        if not any(
            fnmatchcase(spec, pattern) and (pattern == "*" or "://" in pattern or "://" not in spec)
            for pattern in self.models
        ):
            raise SocietyError(
                f"This server may not seat '{spec}'. Its operator can add a pattern to 'models'; it allows: "
                f"{', '.join(self.models)}."
            )


PER_MINUTE = 600
"""Requests of a key, if neither it nor the settings say otherwise."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def load_server_settings(file: Path | None = None, **given: object) -> ServerSettings:
    """The settings: what is given, over the environment, over the file. Raises ``UserError``."""
    try:
        filed = tomllib.loads(file.read_text("utf-8")) if file else {}
    except (OSError, ValueError) as error:
        raise UserError(f"The settings file '{file}' can't be read: {error}") from error
    try:
        chosen = {key: value for key, value in given.items() if value is not None}
        from_environment = ServerSettings().model_dump(exclude_unset=True)
        return ServerSettings(**{**filed, **from_environment, **chosen})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"The server's setting '{name}' can't be used: {first['msg']}.") from error
