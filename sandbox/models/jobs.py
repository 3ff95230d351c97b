"""What waits for a local model: requests, plain continuations and scorings, each with who waits for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from sandbox.errors import SandboxError
from sandbox.exchange import Reply, Request, Sampling, Usage
from sandbox.models.base import OnDelta
from sandbox.text import storable

if TYPE_CHECKING:
    from sandbox.models.generation import Scored

Prompt = str | Sequence[int]
"""Plain text, or the model's own token ids."""


class Continued(NamedTuple):
    """What follows a plain prompt, and the token ids of both; ``lead`` of them begin every text."""

    text: str
    lead: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    usage: Usage


class Continuing(NamedTuple):
    """A plain prompt to be continued."""

    prompt: Prompt
    sampling: Sampling
    seed: int


class Scoring(NamedTuple):
    """A plain prompt to be scored: see ``LocalWorker.score``."""

    prompt: Prompt
    top: int
    extend: bool


@dataclass(slots=True, eq=False)
class Job:
    """One thing to be done, for one adapter."""

    work: Request | Continuing | Scoring
    adapter: str
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    on_delta: OnDelta | None
    submitted: float = field(default_factory=time.perf_counter)
    cancelled: bool = False

    @property
    def kind(self) -> str:
        """What may share a batch: where one forward pass is enough, jobs don't wait for others' words."""
        match self.work:
            case Scoring():
                return "score"
            case Request(scale=scale, form=(_, ""), method="best") if scale is not None:
                return "judge"
        return "generate"

    def resolve(self, reply: Reply | Continued | Scored | SandboxError) -> None:
        """Hand over the outcome; may be called in any thread."""

        def settle() -> None:
            if self.future.done():
                return
            if isinstance(reply, SandboxError):
                self.future.set_exception(reply)
            else:
                self.future.set_result(reply)

        with suppress(RuntimeError):  # the loop has been closed: nobody waits any more
            self.loop.call_soon_threadsafe(settle)


def streaming(job: Job) -> Callable[[str], None] | None:
    """What hands pieces of text to the event loop, if anybody wants them."""
    if job.on_delta is None:
        return None
    on_delta = job.on_delta

    def forward(piece: str) -> None:
        with suppress(RuntimeError):  # the loop has been closed
            job.loop.call_soon_threadsafe(on_delta, storable(piece))

    return forward


def fail(jobs: Sequence[Job], error: SandboxError) -> None:
    """Hand an error to all who wait."""
    for job in jobs:
        job.resolve(error)
