"""Every error the product raises on purpose, grouped by who must act.

::

    SandboxError
    ├── UserError            the person at the keyboard: a file, an option or an input is wrong
    │   ├── SocietyError         the society file or a source it names
    │   ├── SessionError         no such session, wrong state, or in use elsewhere
    │   └── MissingExtra         an optional package is needed
    ├── StoreError           the operator of the database: locked, full, out of date
    │   ├── StoreBusy            locked by another program; trying again may do
    │   └── LeaseLost            another process has taken the session over
    └── ModelError           a model's provider; a failed turn, recorded, and the society goes on
        ├── RateLimited          429
        ├── ModelUnavailable     500s, connection refused or reset
        ├── ModelTimeout         no reply in time
        ├── EmptyReply           no content, no choices
        ├── ContextOverflow      the prompt does not fit, even trimmed
        ├── ModelRefused         authentication, permission, unknown model, bad request, content filter
        └── BudgetExhausted      the session's budget does not cover the call; the run pauses

A message states the fact, then the remedy. ``exit_code`` is what the command line exits with.
"""

from __future__ import annotations

from typing import ClassVar


class SandboxError(Exception):
    """Base of all errors raised on purpose."""

    exit_code: ClassVar[int] = 1


class UserError(SandboxError):
    """Something the user gave is wrong; the message says what to change."""

    exit_code = 2


class SocietyError(UserError):
    """A society file, or a question or memory source that it names, can't be used."""


class SessionError(UserError):
    """A session does not exist, is in the wrong state, or is in use by another process."""


class MissingExtra(UserError):
    """An optional package is needed for what was asked."""

    def __init__(self, what: str, install: str) -> None:
        super().__init__(f"{what} needs a package that is not installed. Install it with: {install}")


class StoreError(SandboxError):
    """The database can't take or give what was asked; what was committed before stands."""

    exit_code = 3


class StoreFull(StoreError):
    """The disk of the database is full."""


class StoreBusy(StoreError):
    """The database is locked by another program for longer than we wait."""


class LeaseLost(StoreError):
    """Another process has taken over this session; this one must stop writing to it."""


class ModelError(SandboxError):
    """A model gave no usable reply. ``kind`` is what the record keeps, with attempts and cost."""

    exit_code = 4
    kind: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.attempts = 1
        self.cost = 0.0


class RateLimited(ModelError):
    """The provider asks to slow down."""

    kind = "rate_limited"
    retryable = True


class ModelUnavailable(ModelError):
    """The provider failed, or the connection did."""

    kind = "unavailable"
    retryable = True


class ModelTimeout(ModelError):
    """No reply within the time allowed."""

    kind = "timeout"
    retryable = True


class EmptyReply(ModelError):
    """A reply without content. Some providers answer so when they mean 429."""

    kind = "empty"
    retryable = True


class ContextOverflow(ModelError):
    """The prompt does not fit into the model's window, even trimmed."""

    kind = "context_overflow"


class ModelRefused(ModelError):
    """The provider will not answer this request however often it is sent."""

    kind = "refused"


class BudgetExhausted(ModelError):
    """The budget does not cover the next call."""

    kind = "budget"
    exit_code = 5


def first_cause(error: Exception) -> Exception:
    """What went wrong first, below all groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
