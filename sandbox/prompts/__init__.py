"""Prompt templates: one file a template, one folder a language, loaded once; an undefined variable raises.

A template is rendered once for every shape of its variables (which texts are there, how many reasons, on
which scale), with blanks where texts go; after that, filling in the texts is all that a prompt costs.
Templates never run code from data: they never see the texts. Those of agents and people enter only
through the ``data`` filter, which fences them and disarms look-alikes of the fence.
"""

from __future__ import annotations

import re
import secrets
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined, Template

from sandbox.errors import SocietyError
from sandbox.exchange import ChatMessage
from sandbox.memory import Recalled
from sandbox.society import Agent, Human, Observer, Seat

FENCE = '"""'


def fenced(text: str) -> str:
    """``text`` between two lines of three quotation marks; the same marks inside it are disarmed."""
    return _fence(_disarmed(text))


def _fence(text: str) -> str:
    return f"{FENCE}\n{text}\n{FENCE}"


def _disarmed(text: str) -> str:
    return text.replace(FENCE, "\u201d\u201d\u201d")


def languages() -> tuple[str, ...]:
    """The languages that have templates, as two-letter codes."""
    root = resources.files(__name__)
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and len(entry.name) == 2))


def require_prompts(language: str) -> None:
    """Raise ``SocietyError`` if there are no templates in ``language``."""
    if language not in languages():
        raise SocietyError(
            f"There are no prompts in language '{language}'. Set rubric.language to one of: "
            f"{', '.join(languages())}."
        )


@lru_cache(maxsize=256)
def template(language: str, name: str) -> Template:
    """The template ``name`` in ``language``. Raises ``SocietyError`` if the language has no templates."""
    require_prompts(language)
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


def introduction(language: str, seat: Seat) -> ChatMessage:
    """The system message that tells a seat who it is."""
    if isinstance(seat, Observer) or (isinstance(seat, Human) and seat.role == "observer"):
        return _introduction(language, "observer", seat.name, "")
    return _introduction(language, "system", seat.name, seat.persona)


def guest_introduction(language: str, agent: Agent, wishes: str) -> ChatMessage:
    """The system message for talk with somebody from outside, who may wish for something (``wishes``)."""
    own = introduction(language, agent)
    if not wishes:
        return own
    return ChatMessage("system", f"{own.content}\n\n{render(language, 'guest', wishes=wishes).strip()}")


@lru_cache(maxsize=16_384)
def _introduction(language: str, name: str, seat: str, persona: str) -> ChatMessage:
    return ChatMessage("system", render(language, name, name=seat, persona=persona).strip())


def render(language: str, name: str, /, **variables: object) -> str:
    """The prompt ``name`` filled in. Raises ``jinja2.UndefinedError`` if a variable is missing.

    Texts, what is recalled and lists of texts are data; other variables must be hashable.
    """
    texts: list[str] = []
    shape: list[object] = []
    for value in variables.values():
        if isinstance(value, str):
            texts.append(value)
            shape.append(_TEXT if value else "")
        elif isinstance(value, Recalled):
            texts += (value.question, value.response)
            shape.append(_RECALLED)
        elif isinstance(value, list):
            texts += value
            shape.append(_Reasons(len(value)))
        else:
            shape.append(value)
    return _outline(language, name, tuple(variables), tuple(shape)).filled(texts)


class _Reasons(NamedTuple):
    """The shape of a list of texts."""

    number: int


_TEXT = object()
_RECALLED = object()
_MARK = secrets.token_hex(8)  # what nobody can write, lest a text be taken for a blank
_BLANK = re.compile(rf"\x00{_MARK}(\d+)(!?)\x00")


class _Blank(str):
    """Stands where a text goes, in a template that is rendered without it."""

    __slots__ = ()


class _Hole(NamedTuple):
    """A place among the pieces of an outline, the number of the text that goes there, and whether fenced."""

    place: int
    number: int
    disarm: bool


class _Outline(NamedTuple):
    """A prompt rendered but for its texts."""

    pieces: tuple[str, ...]
    holes: tuple[_Hole, ...]

    def filled(self, texts: list[str]) -> str:
        parts = list(self.pieces)
        for place, number, disarm in self.holes:
            parts[place] = _disarmed(texts[number]) if disarm else texts[number]
        return "".join(parts)


@lru_cache(maxsize=1024)
def _outline(language: str, name: str, keys: tuple[str, ...], shape: tuple[object, ...]) -> _Outline:
    count = 0

    def blank() -> _Blank:
        nonlocal count
        count += 1
        return _Blank(f"\x00{_MARK}{count - 1}\x00")

    variables: dict[str, object] = {}
    for key, form in zip(keys, shape, strict=True):
        if form is _TEXT or form == "":
            text = blank()
            variables[key] = text if form else ""
        elif form is _RECALLED:
            variables[key] = Recalled(blank(), blank(), 0.0)
        elif isinstance(form, _Reasons):
            variables[key] = [blank() for _ in range(form.number)]
        else:
            variables[key] = form
    return _parted(template(language, name).render(variables))


def _parted(text: str) -> _Outline:
    pieces: list[str] = []
    holes: list[_Hole] = []
    end = 0
    for found in _BLANK.finditer(text):
        pieces += (text[end : found.start()], "")
        holes.append(_Hole(len(pieces) - 1, int(found[1]), bool(found[2])))
        end = found.end()
    return _Outline((*pieces, text[end:]), tuple(holes))


def _data(text: str) -> str:
    """The ``data`` filter."""
    return _fence(f"{text[:-1]}!\x00") if isinstance(text, _Blank) else fenced(text)


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
    environment.filters["data"] = _data
    return environment
