"""Model specs: the strings that choose a model. Parsing loads nothing and reaches nothing."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args
from urllib.parse import parse_qsl, urlsplit

from sandbox.errors import SocietyError

Family = Literal["local", "litellm", "openai", "scripted"]
FORMS = (
    "local/smollm2, local/PATH_OR_HUB_NAME[#ADAPTER], litellm/PROVIDER/MODEL, openai/URL/MODEL or "
    "scripted/NAME[?OPTION=VALUE]"
)
_SECRET = re.compile(r"key|token|secret|password|auth", re.IGNORECASE)
_ADAPTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Spec(NamedTuple):
    """A parsed spec. ``base`` is the URL of an OpenAI-compatible endpoint, for that family only."""

    family: Family
    name: str
    adapter: str = ""
    base: str = ""
    options: tuple[tuple[str, str], ...] = ()


def parse(text: str) -> Spec:
    """The spec in ``text``. Raises ``SocietyError`` that shows the forms."""
    family, _, rest = text.partition("/")
    if family not in get_args(Family) or not rest.strip("/"):
        raise SocietyError(f"'{text}' is not a model. Write one of: {FORMS}.")
    match family:
        case "local":
            return _local(text, rest)
        case "scripted":
            name, _, query = rest.partition("?")
            if not name:
                raise SocietyError(f"'{text}' names no script. Write scripted/NAME[?OPTION=VALUE].")
            return Spec("scripted", name, options=_options(text, query))
        case "openai":
            return _openai(text, rest)
        case _:
            provider, _, model = rest.partition("/")
            if not provider or not model:
                raise SocietyError(f"'{text}' names no provider and model. Write litellm/PROVIDER/MODEL.")
            return Spec("litellm", rest)


def base_of(model: str) -> str:
    """A model without its adapter."""
    return model.partition("#")[0] if parse(model).adapter else model


def _local(text: str, rest: str) -> Spec:
    name, mark, adapter = rest.partition("#")
    if mark and not _ADAPTER.fullmatch(adapter):
        raise SocietyError(
            f"'{adapter}' in '{text}' is not an adapter's name. Use letters, digits, '.', '_' and '-' only."
        )
    if not name:
        raise SocietyError(f"'{text}' names no base model. Write local/PATH_OR_HUB_NAME#ADAPTER.")
    return Spec("local", name, adapter)


def _openai(text: str, rest: str) -> Spec:
    path, _, query = rest.partition("?")
    base, versioned, name = path.partition("/v1/")
    if versioned:
        base += "/v1"
    else:
        base, _, name = path.rpartition("/")
    try:
        parts = urlsplit(base)
    except ValueError:  # brackets without an address in them, and the like
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or not name:
        raise SocietyError(
            f"'{text}' is not an endpoint. Write openai/URL/MODEL, such as openai/http://127.0.0.1:8000/v1/my-model."
        )
    options = _options(text, query)
    if parts.username or parts.password or any(_SECRET.search(option) for option, _ in options):
        raise SocietyError("Keep keys out of model specs. Put them into the environment: SANDBOX_OPENAI_KEY.")
    return Spec("openai", name, base=base, options=options)


def _options(text: str, query: str) -> tuple[tuple[str, str], ...]:
    try:
        return tuple(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise SocietyError(f"The options of '{text}' can't be read. Write ?NAME=VALUE&NAME=VALUE.") from error
