"""Whose key pays for what a session spends.

Rounds are paid for by who started them; a question, a message or a rating by who asked for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from sandbox import events as ev
from sandbox.store.inbox import Command
from server.purse import KeyPurse, Purses


class Booking:
    """The accounts of one session. ``payer`` is the key that pays for its rounds, ``over`` stops them."""

    payer: int | None = None

    def __init__(self, purses: Purses, over: Callable[[], Awaitable[None]]) -> None:
        self._purses = purses
        self._over = over
        self._payers: dict[int, int] = {}

    def take_over(self, opened: Iterable[ev.InteractionStarted], askers: Mapping[int, str]) -> None:
        """Pay on for what another process has begun: rounds, and what was asked by ``askers``."""
        for started in opened:
            asker = key_of(askers.get(started.interaction))
            self.begun(started.interaction, asker if started.round is None else self.payer)

    def begun(self, interaction: int, payer: int | None) -> None:
        """Somebody asked for an interaction outside rounds."""
        if payer is not None:
            self._payers[interaction] = payer

    def take(self, event: ev.Event) -> None:
        """Take an event into account; within the event loop."""
        if isinstance(event, ev.InteractionStarted) and event.round is not None:
            self.begun(event.interaction, self.payer)
        elif isinstance(event, ev.InteractionFinished):
            self._payers.pop(event.interaction, None)

    def purse_of(self, interaction: int) -> KeyPurse | None:
        """What an interaction's calls are paid from; None if nobody's key pays."""
        payer = self._payers.get(interaction)
        if payer is None:
            return None
        return KeyPurse(self._purses, payer, self._over if payer == self.payer else None)


def payer_of(command: Command) -> int | None:
    """The key that a command came with."""
    return key_of(command.actor)


def key_of(actor: str | None) -> int | None:
    """The number of the key that an actor is; None if they are none."""
    kind, _, number = (actor or "").partition(":")
    return int(number) if kind == "key" and number.isdecimal() else None
