"""Naming a model, embedding or source has the server reach no address and no file, and run no code."""

from __future__ import annotations

import json
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import create
from support import small_society

from sandbox.errors import ModelRefused, ModelUnavailable
from sandbox.society import Agent, Observer

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def base(friendly: str) -> str:
    return friendly


# Models, embeddings, sources


@contextmanager
def metadata_service() -> Iterator[tuple[int, list[bytes]]]:
    """Something on this machine that only the server can reach, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(2000))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1], asked
        listener.shutdown(socket.SHUT_RDWR)


ADDRESSES = (
    "openai/http://169.254.169.254/v1/x",
    "openai/http://127.0.0.1:{port}/v1/x",
    "openai/http://[::1]:{port}/v1/x",
    "litellm/oobabooga/http://127.0.0.1:{port}/latest",
    "litellm/huggingface/http://127.0.0.1:{port}/latest",
    "litellm/huggingface/https://169.254.169.254/latest",
)
FILES = (
    "local/../../etc",
    "local//etc",
    "local/~",
    "local/./x",
    "local/someone/with-code",
    "local/smollm2/../../etc",
    "local/smollm2#../../../etc",
    "local/smollm2#a/b",
    "local/smollm2#",
    "local/smollm2#.ssh",
    "local/SmolLM2",
    "file:///etc/passwd",
)


@pytest.mark.parametrize("form", [*ADDRESSES, *FILES])
def test_no_request_has_the_server_reach_an_address_or_a_file_by_a_model(
    client: httpx.Client, form: str
) -> None:
    session = create(client, seats="2x2")
    with metadata_service() as (port, asked):
        model = form.format(port=port)
        seats = small_society().agents
        rated = small_society(agents=(seats[0].model_copy(update={"rating_model": model}), *seats[1:]))
        watched = small_society(observers=(Observer(name="observer", model=model),))
        seated = small_society(agents=(Agent(name="S0", place=0, model=model, label="bad"), *seats[1:]))
        toml = f'name = "x"\n[agents]\nmodel = "{model}"\n'
        bodies: list[dict[str, Any]] = [
            {"example": "scripted", "model": model},
            {"toml": toml},
            *({"society": society.model_dump(mode="json")} for society in (rated, watched, seated)),
        ]
        for body in bodies:
            for path in ("/api/v1/sessions", "/api/v1/estimate"):
                refused = client.post(path, json=body)
                assert refused.status_code == 422, (path, refused.text[:300])
        for path, method, body in (
            ("seats/A1/model", "PUT", {"model": model}),
            ("seats", "POST", {"seat": "guest", "model": model}),
            ("commands", "POST", {"do": "change_model", "seat": "A1", "model": model}),
        ):
            refused = client.request(method, f"/api/v1/sessions/{session}/{path}", json=body)
            assert refused.status_code in (409, 422), (path, refused.text[:300])
        assert asked == []


@pytest.mark.parametrize(
    "embedding",
    [
        "local/../../etc",
        "local//etc/passwd",
        "local/someone/with-code",
        "litellm/huggingface/http://169.254.169.254/x",
        "openai/http://169.254.169.254/v1/x",
    ],
)
def test_nor_by_an_embedding(client: httpx.Client, embedding: str) -> None:
    whole = small_society(embedding=embedding).model_dump(mode="json")
    toml = f'name = "x"\nembedding = "{embedding}"\n[agents]\nmodel = "scripted/kind"\n'
    for body in ({"society": whole}, {"toml": toml}):
        assert client.post("/api/v1/sessions", json=body).status_code == 422
    asked = client.post("/v1/embeddings", json={"model": f"sandbox/{embedding}", "input": "x"})
    assert asked.status_code in (400, 404)


@pytest.mark.parametrize("part", ["questions", "memories"])
@pytest.mark.parametrize(
    "source", ["/etc/passwd", "../x.csv", "~/x.jsonl", "hf:someone/data", "https://x.example/q"]
)
def test_nor_by_a_source(client: httpx.Client, part: str, source: str) -> None:
    toml = f'name = "x"\n[agents]\nmodel = "scripted/kind"\n[{part}]\nsource = "{source}"\n'
    for path in ("/api/v1/sessions", "/api/v1/estimate"):
        refused = client.post(path, json={"toml": toml})
        assert refused.status_code == 422
        assert "root:" not in refused.text
    assert client.post("/api/v1/sessions", json={"example": source}).status_code == 422


class Armed:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def test_files_of_models_and_adapters_run_no_code(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from sandbox.models import weights

    mark = tmp_path / "was-run"
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 8, "hidden_size": 8}
    config |= {"num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps(config))
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(Armed(mark)))
    coded = tmp_path / "coded"
    coded.mkdir()
    own = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    (coded / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": own}))
    (coded / "evil.py").write_text(
        f"import os\nos.mkdir({str(mark)!r})\nclass Config: ...\nclass Model: ...\n"
    )
    for folder in (pickled, coded):
        with pytest.raises(ModelUnavailable, match="can't be loaded"):
            weights.load(str(folder), tmp_path)
        assert not mark.exists()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(Armed(mark)))
    with pytest.raises(ModelRefused, match="safetensors"):
        weights.require_adapter(adapter)
    assert not mark.exists()
    pickle.loads((pickled / "pytorch_model.bin").read_bytes())
    assert mark.exists(), "it would have"
