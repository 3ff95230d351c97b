"""Every screen looks as it did, narrow and wide; and the pictures in the docs are of today's app."""

from __future__ import annotations

import html
import re

import pytest
from pictures import DOCS, HERE, SCREENS, SIZES, events, picture, size_in_docs

from sandbox import events as ev

AGAIN = "If it is meant to look otherwise now: python tests/tui/pictures.py, and look at the difference."


@pytest.fixture(scope="module")
def past() -> list[ev.Recorded]:
    return events()


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", SCREENS)
async def test_a_screen_looks_as_it_did(name: str, size: tuple[int, int], past: list[ev.Recorded]) -> None:
    text, svg = await picture(name, size, past)
    kept = (HERE / f"{name}-{size[0]}x{size[1]}.txt").read_text("utf-8")
    assert text + "\n" == kept, AGAIN
    shown = DOCS / f"{name}.svg"
    drawn = _words(shown.read_text("utf-8"))
    if size == size_in_docs(name):
        assert drawn == _words(svg), AGAIN


def _words(svg: str) -> list[str]:
    """What stands in a picture, whatever the fonts and colours."""
    return [
        html.unescape(text).replace("\xa0", " ") for text in re.findall(r"<text [^>]*>([^<]*)</text>", svg)
    ]
