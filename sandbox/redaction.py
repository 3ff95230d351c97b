"""Secrets never leave: the one place where keys are masked in what is stored, shown or raised.

It knows the shapes of common keys, and the exact secrets it was told of.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "[redacted]"
_SHAPES = re.compile(
    r"""(?ix)
    (?P<url>://[^/\s:@]*:)[^/\s@]+(?=@)
    | (?P<keep>
        (?<![a-z0-9])(?:api[_-]?key|access[_-]?token|token|secret|password|key|authorization)\b
        \\?["']?\s*[=:]\s*\\?["']?(?:Bearer\s+|Basic\s+)?
      | \bBearer\s+
      | \bticket[.=]
    )
    (?!\[redacted\])[^\s"'&,;)}\]@]{6,}
    | \b(?-i:sk|pk|rk|gsk|hf|xai|ghp|glpat|sbx)[-_][A-Za-z0-9_-]{8,}
    | \bAIza[A-Za-z0-9_-]{20,}
    """
)


def masked(text: str) -> str:
    """``text`` with everything masked that looks like a secret."""
    return _SHAPES.sub(lambda m: (m.group("url") or m.group("keep") or "") + MASK, text)


class Redactor:
    """Masks known secrets and what looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({secret for secret in secrets if len(secret) >= 6}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def __call__(self, text: str) -> str:
        """``text`` with every secret replaced by ``[redacted]``."""
        if self._known:
            text = self._known.sub(MASK, text)
        return masked(text)
