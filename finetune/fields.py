"""What single fields of imported rows mean: labels, scores, systems, histories, whole conversations. Pure.

Other programs write the same thing in several ways. What can't be told for certain is refused with a
``ValueError`` that says what is wrong; nothing is guessed and nothing is left out in silence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finetune.groups import Turn

ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_HH = re.compile(r"\n\n(Human|Assistant): ?")
_LABELS = {"true": True, "1": True, "false": False, "0": False}


def is_good(label: Any) -> bool:
    """A label as true or false: a boolean, 1 or 0, or one of these as text ("False" is false)."""
    told = _LABELS.get(str(int(label) if label in (0, 1) else label).strip().lower())
    if told is None:
        raise ValueError(f"a label must be true or false, not {label!r:.60}")
    return told


def score(value: Any) -> float:
    """A score as a number."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"a score must be a number, not {value!r:.60}") from None


def system(row: Mapping[str, Any], told: Sequence[Turn]) -> tuple[Turn, ...]:
    """The system prompt that a row has in a column of its own, unless its turns ``told`` begin with one."""
    text = row.get("system") or ""
    if not text or (told and told[0] == Turn(role="system", content=text)):
        return ()
    if told and told[0].role == "system":
        raise ValueError("the column system and the first turn are two different system prompts")
    return (Turn(role="system", content=text),)


def history(row: Mapping[str, Any]) -> tuple[Turn, ...]:
    """The turns in a row's column ``history``: pairs of what was asked and answered."""
    turns: list[Turn] = []
    for asked, answered in row.get("history") or ():
        turns += [Turn(role="user", content=asked), Turn(role="assistant", content=answered)]
    return tuple(turns)


def conversation(
    messages: Sequence[Mapping[str, Any]], who: str = "role", what: str = "content"
) -> tuple[Turn, ...]:
    """The turns of a whole conversation, which must end with the assistant after at least one other."""
    turns = tuple(Turn(role=ROLES[message[who]], content=message[what]) for message in messages)
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("a conversation that does not end with the assistant")
    return turns


def parting(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> int:
    """The turn at which two conversations part: the last one of the shorter at the latest."""
    shorter = min(len(chosen), len(rejected)) - 1
    place = next((n for n in range(shorter) if chosen[n] != rejected[n]), shorter)
    if {chosen[place].role, rejected[place].role} != {"assistant"} or place == 0:
        raise ValueError("two transcripts that don't part at a turn of the assistant")
    return place


def is_conversation(value: Any) -> bool:
    """Whether a reply is a whole conversation: a list of several messages."""
    return isinstance(value, list) and len(value) > 1


def asked_in(prompt: Any, told: Sequence[Turn]) -> None:
    """Require that a prompt, where a row has one, is in the conversation that the row has as well."""
    texts = [prompt] if isinstance(prompt, str) else [turn["content"] for turn in prompt or ()]
    known = {turn.content for turn in told}
    if any(text not in known for text in texts):
        raise ValueError("the prompt is not in the conversation beside it")


def unmarked(text: str) -> str:
    """A text in which nothing reads as the beginning of a turn."""
    return _HH.sub(lambda found: found[0].replace("\n\n", "\n"), text)


def transcript(text: str) -> tuple[Turn, ...]:
    pieces = _HH.split(text)
    turns = [
        Turn(role="user" if who == "Human" else "assistant", content=said.strip())
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    if len(turns) < 2 or turns[-1].role != "assistant":
        raise ValueError("a transcript that does not end with the assistant")
    before = pieces[0].strip().removeprefix("System:").strip()
    return (*([Turn(role="system", content=before)] if before else []), *turns)
