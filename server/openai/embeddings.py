"""Embeddings: texts to vectors, as numbers or as base64 of little-endian floats."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import numpy as np

from sandbox.embeddings import Embedder, HashedEmbedder, LocalEmbedder
from sandbox.memory import Vector
from sandbox.text import storable
from server.openai import models
from server.openai.errors import ApiError, no_model
from server.openai.wire import EmbeddingRequest
from server.services import Services

_MOST_TEXTS = 2048
_LONGEST = 100_000
_PER_TURN = 16
_SPECS = {"hashed": "hashed", "minilm": "local/minilm"}


async def embed(services: Services, body: EmbeddingRequest) -> dict[str, Any]:
    """The vectors of the input, in its order. Raises ``ApiError``."""
    texts = texts_of(body.input)
    name = body.model.removeprefix(models.PREFIX)
    there = models.embeddings()
    if not body.model.startswith(models.PREFIX) or name not in there:
        raise no_model(body.model, f"embeddings are: {', '.join(models.PREFIX + known for known in there)}.")
    embedder = _embedder(services, name)
    vectors: list[Vector] = []
    for start in range(0, len(texts), _PER_TURN):
        vectors += await embedder.embed(texts[start : start + _PER_TURN])
        await asyncio.sleep(0)  # others have their turn
    size = len(vectors[0])
    if body.dimensions not in (None, size):
        raise ApiError(f"{body.model} has {size} dimensions, no others.", param="dimensions")
    tokens = sum(len(text) // 4 + 1 for text in texts)
    return {
        "object": "list",
        "model": body.model,
        "data": [
            {"object": "embedding", "index": index, "embedding": _coded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def texts_of(given: Any) -> list[str]:
    """The texts to embed. Raises ``ApiError`` for token ids, and for nothing."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise ApiError("input holds nothing. Send a text, or a list of them.", param="input")
    if all(isinstance(item, int | list) for item in texts):
        raise ApiError(
            "input holds token ids of another model's tokenizer. Send texts: with LangChain's "
            "OpenAIEmbeddings, set check_embedding_ctx_length=False.",
            param="input",
            code="token_ids",
        )
    if not all(isinstance(text, str) for text in texts):
        raise ApiError("input holds something that is no text.", param="input")
    if not all(texts):
        raise ApiError("input holds an empty text.", param="input")
    if len(texts) > _MOST_TEXTS or max(map(len, texts)) > _LONGEST:
        raise ApiError(f"input may hold {_MOST_TEXTS} texts of {_LONGEST:,} characters.", param="input")
    return [storable(text) for text in texts]


def _embedder(services: Services, name: str) -> Embedder:
    """One without a memory: what the whole world sends is not to be kept."""
    spec = f"/v1/{_SPECS[name]}"
    if spec not in services.embedders:
        services.embedders[spec] = HashedEmbedder() if name == "hashed" else LocalEmbedder(name)
    return services.embedders[spec]


def _coded(vector: Vector, encoding: str | None) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
    floats: list[float] = vector.tolist()
    return floats
