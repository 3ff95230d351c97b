"""The memories of all seats of a running session: seeded, recalled from, and added to between rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sandbox.embeddings import Embedder
from sandbox.memory import Memory, Recalled
from sandbox.seeds import draw
from sandbox.society import Society


class Recollection:
    """One ``Memory`` for each agent. Vectors come from one embedder, which serves the whole session."""

    def __init__(self, society: Society, embedder: Embedder) -> None:
        self._society = society
        self._embedder = embedder
        self._memories = {agent.name: Memory() for agent in society.agents}

    async def seed(self) -> None:
        """Give every agent its prior memories: a seeded draw among those with its label."""
        society = self._society
        by_label: dict[str, list[int]] = {}
        for index, memory in enumerate(society.memories):
            by_label.setdefault(memory.label, []).append(index)
        chosen = {
            agent.name: draw(
                by_label.get(agent.label, ()),
                society.rules.prior_memories,
                society.seed,
                "memories",
                agent.name,
            )
            for agent in society.agents
        }
        needed = sorted({index for indices in chosen.values() for index in indices})
        texts = [society.memories[index].question for index in needed]
        vectors = dict(zip(needed, await self._embedder.embed(texts), strict=True)) if texts else {}
        for name, indices in chosen.items():
            for index in indices:
                memory = society.memories[index]
                self._memories[name].remember(memory.question, memory.response, vectors[index])

    async def remember(self, revised: Sequence[tuple[str, str, str]]) -> None:
        """Add (seat, question, revision) in order."""
        vectors = await self._embedder.embed([question for _, question, _ in revised])
        for (seat, question, text), vector in zip(revised, vectors, strict=True):
            self._memories[seat].remember(question, text, vector)

    async def recall(self, question: str, seats: Iterable[str]) -> dict[str, Recalled]:
        """What each seat remembers that is near enough to ``question``; seats without such are left out."""
        (vector,) = await self._embedder.embed([question])
        limit = self._society.recall_limit
        found = ((seat, self._memories[seat].recall(vector, limit)) for seat in seats)
        return {seat: recalled for seat, recalled in found if recalled}

    def memory(self, seat: str) -> Memory:
        """The memory of one agent. Raises ``KeyError``."""
        return self._memories[seat]


_QUESTIONS, _SEATS = 200, 20


async def recall_share(society: Society, embedder: Embedder) -> float | None:
    """The share of questions, over the seats, that remind an agent of a prior memory; None without any.

    Of at most 200 questions and 20 seats. What agents remember of a run itself comes on top.
    """
    agents = [agent for agent in society.agents if agent.active][:_SEATS]
    texts = [question.text for question in society.questions]
    texts = [texts[place] for place in draw(range(len(texts)), _QUESTIONS, society.seed, "recall share")]
    if not (agents and texts and society.memories and society.rules.prior_memories):
        return None
    recollection = Recollection(society, embedder)
    await recollection.seed()
    await embedder.embed(texts)  # all at once; each is looked up from now on
    names = [agent.name for agent in agents]
    recalled = sum([len(await recollection.recall(text, names)) for text in texts])
    return recalled / (len(texts) * len(agents))
