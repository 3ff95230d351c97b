"""Prompt templates: one file a template, one folder a language, loaded once; an undefined variable raises.

Templates never run code from data: text of agents and people enters only through the ``data`` filter,
which fences it and disarms look-alikes of the fence.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from sandbox.errors import SocietyError
from sandbox.exchange import ChatMessage
from sandbox.society import Agent, Observer

FENCE = '"""'


def fenced(text: str) -> str:
    """``text`` between two lines of three quotation marks; the same marks inside it are disarmed."""
    return f"{FENCE}\n{text.replace(FENCE, chr(0x201D) * 3)}\n{FENCE}"


def languages() -> tuple[str, ...]:
    """The languages that have templates, as two-letter codes."""
    root = resources.files(__name__)
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and len(entry.name) == 2))


@lru_cache(maxsize=256)
def template(language: str, name: str) -> Template:
    """The template ``name`` in ``language``. Raises ``SocietyError`` if the language has no templates."""
    if language not in languages():
        raise SocietyError(
            f"There are no prompts in language '{language}'. Set rubric.language to one of: "
            f"{', '.join(languages())}."
        )
    return _environment().get_template(f"{language}/{name}.txt")


class Form(NamedTuple):
    """The field names of a rating reply in one language, without the colon."""

    rating: str
    reason: str


@lru_cache(maxsize=64)
def form(language: str) -> Form:
    """The field names that raters are asked to use in ``language``."""
    rating, reason = template(language, "form").render().splitlines()
    return Form(rating, reason)


def introduction(language: str, seat: Agent | Observer) -> ChatMessage:
    """The system message that tells a seat who it is."""
    if isinstance(seat, Agent):
        return _introduction(language, "system", seat.name, seat.persona)
    return _introduction(language, "observer", seat.name, "")


@lru_cache(maxsize=16_384)
def _introduction(language: str, name: str, seat: str, persona: str) -> ChatMessage:
    return ChatMessage("system", render(language, name, name=seat, persona=persona).strip())


def render(language: str, name: str, /, **variables: object) -> str:
    """The prompt ``name`` filled in. Raises ``jinja2.UndefinedError`` if a variable is missing."""
    chosen = template(language, name)
    # What Template.render does, less a copy of the variables.
    return "".join(chosen.root_render_func(chosen.new_context(variables, shared=True)))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    def source(path: str) -> str:
        return resources.files(__name__).joinpath(path).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(source),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - prompts are not HTML; `data` fences what is not ours
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters["data"] = fenced
    environment.globals.clear()  # ours need none, and every rendering walks through them
    return environment
