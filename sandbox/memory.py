"""What a seat remembers: questions with its answers, and recall of the nearest by cosine distance.

Pure (NumPy only). It is given unit vectors and does not know where they come from. Within a round
memories are read, never written, so that recall does not depend on the order in which seats finish.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


class Recalled(NamedTuple):
    """The nearest remembered question, its answer, and the cosine distance to what was asked."""

    question: str
    response: str
    distance: float


class Memory:
    """Questions and answers of one seat, in order; a question is remembered once, with its newest answer."""

    def __init__(self) -> None:
        self._questions: list[str] = []
        self._responses: list[str] = []
        self._index: dict[str, int] = {}
        self._vectors: Vector = np.empty((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        return len(self._questions)

    def items(self) -> list[tuple[str, str]]:
        """Every (question, answer), oldest question first."""
        return list(zip(self._questions, self._responses, strict=True))

    def remember(self, question: str, response: str, vector: Vector) -> None:
        """Keep an answer; it replaces an older one to the same question.

        ``vector`` is the question's unit vector, shape (dimensions,). Raises ``ValueError`` if its
        length differs from the vectors already held.
        """
        if (known := self._index.get(question)) is not None:
            self._responses[known] = response
            return
        count = len(self._questions)
        self._make_room(count, vector.shape[0])
        self._vectors[count] = vector
        self._index[question] = count
        self._questions.append(question)
        self._responses.append(response)

    def recall(self, vector: Vector, max_distance: float) -> Recalled | None:
        """The remembered question nearest to ``vector``, if its cosine distance is below ``max_distance``."""
        count = len(self._questions)
        if not count:
            return None
        similarity = self._vectors[:count] @ vector
        best = int(similarity.argmax())
        distance = 1.0 - float(similarity[best])
        if distance >= max_distance:
            return None
        return Recalled(self._questions[best], self._responses[best], round(max(distance, 0.0), 6))

    def _make_room(self, count: int, dimensions: int) -> None:
        if count and self._vectors.shape[1] != dimensions:
            raise ValueError(
                f"this memory holds vectors of {self._vectors.shape[1]} numbers, not {dimensions}: "
                "one embedding must serve the whole session"
            )
        if count == self._vectors.shape[0]:
            grown = np.zeros((max(64, count * 2), dimensions), dtype=np.float32)
            grown[:count] = self._vectors[:count] if count else 0
            self._vectors = grown
