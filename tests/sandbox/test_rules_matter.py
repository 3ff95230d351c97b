"""Every rule of a society makes a difference to what is asked of its models, or it is no rule."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support import engine_for, scripted, small_society

from sandbox.blueprint import society_from_text
from sandbox.exchange import Reply, Request
from sandbox.models.base import Model, OnDelta
from sandbox.rubric import Criterion, Rubric, Scale
from sandbox.running import Store
from sandbox.society import Lengths, PriorMemory, Question, Rules, Society
from sandbox.store import sessions
from sandbox.topology import Grid, Ring

RULES: dict[str, Any] = {
    "peers": 1,
    "far_peers": 2,
    "radius": 2.5,
    "max_distance": 0.01,
    "prior_memories": 0,
    "per_seat": 2,
    "shuffle_questions": False,
    "ratings": "text",
}
LENGTHS: dict[str, Any] = {"answer_tokens": 7, "rating_tokens": 7, "temperature": 0.1, "top_p": 0.5}
PARTS: dict[str, Any] = {
    "seed": 4,
    "rounds": 1,
    "topology": Ring(size=9),
    "rubric": Rubric(scale=Scale(low=1, high=5)),
    "observers": (),
    "questions": tuple(Question(text=f"Is it wrong to do what is numbered {n}?") for n in range(9)),
    "memories": tuple(
        PriorMemory(question=f"Is it right to do the thing numbered {n}?", response="Yes.", label=label)
        for n in range(9)
        for label in ("good", "bad")
    ),
}


class Noting:
    """A scripted model that notes what it is asked."""

    def __init__(self, model: Model, asked: list[Request]) -> None:
        self._model, self._asked = model, asked

    async def generate(self, request: Request, on_delta: OnDelta | None = None) -> Reply:
        """See ``Model``."""
        self._asked.append(request)
        return await self._model.generate(request, on_delta)


def nine(**changes: Any) -> Society:
    """Nine seats on a grid, who know something like every question."""
    fields = {
        "size": (3, 3),
        "topology": Grid(rows=3, columns=3),
        "questions": tuple(Question(text=f"Is it right to do the thing numbered {n}?") for n in range(9)),
        "rules": Rules(prior_memories=2, radius=1.0, max_distance=0.9),
    }
    return small_society(**{**fields, **changes})


def asked(folder: Path, society: Society) -> set[tuple[Any, ...]]:
    """All that its models are asked in a whole run: who, what, and how."""
    found: list[Request] = []
    store = Store.open(str(folder / "rules.db"))
    handle = sessions.create(store.database, store.log, society)
    engine = engine_for(store, handle, lambda spec: Noting(scripted(spec), found))
    asyncio.run(engine.run())
    sessions.release(store.database, handle)
    store.close()
    assert found
    return {(r.seat, r.step, r.messages, r.sampling, r.scale, r.method) for r in found}


def changed(model: Any, name: str, value: Any) -> Any:
    assert getattr(model, name) != value, "the change must be one"
    return model.model_copy(update={name: value})


@pytest.mark.parametrize("name", Rules.model_fields)
def test_every_rule_makes_a_difference(tmp_path: Path, name: str) -> None:
    base = nine()
    assert asked(tmp_path, base) == asked(tmp_path, base)
    other = nine(rules=changed(base.rules, name, RULES[name]))
    assert asked(tmp_path, other) != asked(tmp_path, base)


@pytest.mark.parametrize("name", Lengths.model_fields)
def test_every_length_makes_a_difference(tmp_path: Path, name: str) -> None:
    base = nine()
    other = nine(lengths=changed(base.lengths, name, LENGTHS[name]))
    assert asked(tmp_path, other) != asked(tmp_path, base)


@pytest.mark.parametrize("name", PARTS)
def test_every_part_makes_a_difference(tmp_path: Path, name: str) -> None:
    base = nine()
    other = nine(**{name: PARTS[name]})
    assert getattr(other, name) != getattr(base, name)
    assert asked(tmp_path, other) != asked(tmp_path, base)


@pytest.mark.parametrize(
    ("field", "value"), [("label", "good"), ("persona", "You are a smith."), ("active", False)]
)
def test_every_trait_of_an_agent_makes_a_difference(tmp_path: Path, field: str, value: Any) -> None:
    base = nine()
    first, *rest = base.agents
    other = nine(agents=(changed(first, field, value), *rest))
    assert asked(tmp_path, other) != asked(tmp_path, base)


def test_the_norms_make_a_difference(tmp_path: Path) -> None:
    wit = Criterion(name="wit", question="How witty?", worst="dull", best="a joy")
    assert asked(tmp_path, nine(rubric=Rubric(criteria=(wit,), peer="wit"))) != asked(tmp_path, nine())


def test_presets_differ_from_one_another(tmp_path: Path) -> None:
    """Of four presets no two ask the same; none of them needs a change of anything else."""
    presets = ("all_good", "all_bad", "half_half", "mixed_half_half")
    told = []
    for preset in presets:
        text = f'name = "p"\nobservers = []\n[agents]\nmodel = "scripted/steady"\npreset = "{preset}"\n'
        told.append(asked(tmp_path, society_from_text(text, "p")))
    assert all(one != other for place, one in enumerate(told) for other in told[:place])
