"""What tells one base model from another: digests of its weights' files and of its tokenizer.

An adapter names those that it was trained on; seated on others it would load, and talk nonsense.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_SAMPLE = 1 << 20


def of_weights(source: str) -> str | None:
    """The digest of a model's safetensors: of all headers, and of each file's first and last mebibyte.

    ``source`` is a folder, or a hub's name whose files are in the cache. None if there is no such file.
    Raises ``ValueError`` for a file that is cut short.
    """
    files = sorted(_folder(source).glob("*.safetensors"))
    if not files:
        return None
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as data:
            size = int.from_bytes(data.read(8), "little")
            header = json.loads(data.read(size))
            header.pop("__metadata__", None)
            whole.update(json.dumps(header, sort_keys=True).encode())
            whole.update(data.read(_SAMPLE))
            data.seek(max(8 + size, file.stat().st_size - _SAMPLE))
            whole.update(data.read(_SAMPLE))
    return whole.hexdigest()


def of_tokenizer(tokenizer: Any) -> str:
    """The digest of a tokenizer's vocabulary, special tokens and chat template."""
    told = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": sorted(str(token) for token in tokenizer.all_special_tokens),
        "template": str(tokenizer.chat_template or ""),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _folder(source: str) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    return Path(found).parent if isinstance(found, str) else folder
