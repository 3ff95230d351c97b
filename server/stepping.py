"""Coroutines begun by hand: a send that need not wait costs no task (see decision 8)."""

from __future__ import annotations

import types
from collections.abc import Generator
from typing import Any


@types.coroutine
def the_rest(sending: Any, waits_for: Any) -> Generator[Any, Any, None]:
    """What is left of a coroutine that was begun by hand, to be awaited."""
    while True:
        try:
            came = yield waits_for
        except BaseException as error:  # noqa: BLE001 - handed on to where it belongs
            try:
                waits_for = sending.throw(error)
            except StopIteration:
                return
        else:
            try:
                waits_for = sending.send(came)
            except StopIteration:
                return
