"""From messages to a local model's prompt, by its own chat template. It loads and runs no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sandbox.exchange import ChatMessage


def encode_chat(tokenizer: Any, messages: Sequence[ChatMessage]) -> list[int]:
    """The prompt's tokens by the model's chat template, up to where its reply begins.

    A template that takes no system role gets it as the head of the first user message; a tokenizer
    without a template gets plain "role: text" lines.
    """
    messages = [message._replace(content=disarmed(tokenizer, message.content)) for message in messages]
    if not tokenizer.chat_template:
        text = "\n\n".join(f"{message.role.title()}: {message.content}" for message in messages)
        return list(tokenizer.encode(f"{text}\n\nAssistant:"))
    from jinja2 import TemplateError

    plain = [{"role": message.role, "content": message.content} for message in messages]

    try:
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
    except TemplateError:
        text = tokenizer.apply_chat_template(
            _without_system(messages), tokenize=False, add_generation_prompt=True
        )
    return list(tokenizer.encode(text, add_special_tokens=False))


def disarmed(tokenizer: Any, content: str) -> str:
    """``content`` in which no text reads as one of the model's own control tokens."""
    for token in tokenizer.all_special_tokens:
        if token in content:
            content = content.replace(token, f"{token[0]} {token[1:]}")
    return content


def _without_system(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    system = "\n".join(message.content for message in messages if message.role == "system")
    rest = [{"role": m.role, "content": m.content} for m in messages if m.role != "system"]
    if rest and system:
        rest[0]["content"] = f"{system}\n\n{rest[0]['content']}"
    return rest
