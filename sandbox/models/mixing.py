"""Which rows go through the model together, and through which adapters.

PEFT takes rows of several plain LoRA adapters in one batch. Of other kinds (DoRA, IA³, …) it takes one alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

ALONE = ("use_dora", "alora_invocation_tokens", "target_parameters", "layer_replication")
"""Settings with which a LoRA adapter can't share a batch with others."""


class Row(Protocol):
    """What is asked of a model through an adapter, or through none ("")."""

    adapter: str


R = TypeVar("R", bound=Row)


def batches(model: Any, rows: Sequence[R]) -> list[list[R]]:
    """``rows`` in batches that the model can take: all in one, but for adapters that must be alone."""
    shared: list[R] = []
    alone: dict[str, list[R]] = {}
    for row in rows:
        (shared if _can_share(model, row.adapter) else alone.setdefault(row.adapter, [])).append(row)
    return [batch for batch in (shared, *alone.values()) if batch]


def _can_share(model: Any, adapter: str) -> bool:
    """Whether rows of this adapter can be in a batch with rows of others, or of none."""
    if not adapter:
        return True
    config = model.peft_config[adapter]
    kind = getattr(config.peft_type, "value", config.peft_type)
    return kind == "LORA" and not any(getattr(config, name, None) for name in ALONE)


@contextmanager
def speaking_through(model: Any, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Have each row speak through its adapter, or through none; yields what ``generate`` is told of it.

    A batch of one adapter is served by that adapter alone: mixing costs a quarter to a third more.
    """
    names = {row.adapter for row in rows}
    if not hasattr(model, "peft_config"):  # no adapter was ever attached
        yield {}
    elif names == {""}:
        with model.disable_adapter():
            yield {}
    elif len(names) == 1:
        model.set_adapter(names.pop())
        yield {}
    else:
        yield {"adapter_names": [row.adapter or "__base__" for row in rows]}
