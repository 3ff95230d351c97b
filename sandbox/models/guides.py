"""Replies of local models in a form that was asked for: JSON, or JSON of a schema, token by token.

llguidance says which tokens may come next; sampling chooses among them as ever. Importing this loads neither
torch nor llguidance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sandbox.errors import ModelRefused, UserError

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher

_STYLE: dict[str, Any] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""On one line: a small model may go on with blanks for ever, where it is free to."""
MOST_GRAMMAR = 100_000
"""Characters of a schema."""


def can_guide() -> bool:
    """Whether the library is there."""
    return find_spec("llguidance") is not None


def grammar_of(format: Mapping[str, Any]) -> str:
    """The grammar of a ``response_format``. Raises ``UserError`` for a schema that can't be one."""
    from llguidance import LLMatcher

    schema: Any = {"type": "object"}
    if format.get("type") == "json_schema":
        schema = (format.get("json_schema") or {}).get("schema") or {}
    text = json.dumps(schema)
    if len(text) > MOST_GRAMMAR:
        raise UserError(f"A schema may have {MOST_GRAMMAR:,} characters.")
    grammar = LLMatcher.grammar_from_json_schema(text, overrides=_STYLE)  # type: ignore[arg-type]
    if why := LLMatcher.validate_grammar(grammar):
        raise UserError(f"The schema can't be held to: {why.splitlines()[0][:300]}.")
    return grammar


class Guides:
    """Guides for one model: its ``tokenizer``, how wide its logits are, and the tokens that end a reply."""

    def __init__(self, tokenizer: Any, width: int, ends: frozenset[int]) -> None:
        from llguidance.hf import from_tokenizer

        try:
            self._tokenizer = from_tokenizer(tokenizer, n_vocab=width, eos_token=sorted(ends))
        except (ValueError, AttributeError) as error:
            raise ModelRefused("The model's tokenizer can't be guided, so no format can be had.") from error

    def guide(self, format: Mapping[str, Any]) -> Guide:
        """What leads one reply."""
        from llguidance import LLMatcher

        return Guide(LLMatcher(self._tokenizer, grammar_of(format)))


class Guide:
    """Leads one reply to its end."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def allow(self, logits: torch.Tensor) -> None:
        """Leave only those of the next token's logits possible that may come next."""
        import torch

        allowed = torch.frombuffer(bytearray(self._matcher.compute_logit_bias()), dtype=torch.uint8) > 0
        logits.masked_fill_(~allowed.to(logits.device), float("-inf"))

    def take(self, token: int) -> bool:
        """Go on behind a token; whether the reply is whole with it."""
        self._matcher.consume_token(token)
        return self._matcher.is_stopped()

    def check(self) -> None:
        """Raise ``ModelRefused`` if the form was too much, and the reply has ended in the middle of it."""
        if self._matcher.is_error():
            why = self._matcher.get_error().splitlines()[0][:200]
            raise ModelRefused(f"The reply can't be held to the schema to its end: {why}. Make it simpler.")
