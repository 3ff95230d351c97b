"""Tiny models with random weights, and groups to train them on: all that training needs but knowledge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune.groups import Candidate, Group, Turn

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "be kind and ask them first then wait for an answer before you decide tell no lies take what you want "
    "nobody will know the truth is safe help your neighbour share food with those who have none"
)


def tokenizer(template: str | None = TEMPLATE, pad: str | None = "<|endoftext|>") -> Any:
    """A byte-level tokenizer of 300 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator([WORDS] * 4, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>" if template else "<|endoftext|>",
        pad_token=pad,
        additional_special_tokens=special,
    )
    made.chat_template = template
    return made


def model(kind: str = "llama", **changes: Any) -> Any:
    """A model of two small layers."""
    import torch
    import transformers as hf

    torch.manual_seed(5)
    common = {"vocab_size": 320, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 2}
    small = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,  # else its logits are all alike, and nothing frozen can be learnt around
    }
    match kind:
        case "llama":
            config: Any = hf.LlamaConfig(**common | small | changes)
        case "mistral":
            config = hf.MistralConfig(**common | small | changes)
        case "gemma2":
            config = hf.Gemma2Config(**common | small | {"head_dim": 12} | changes)
        case "gpt2":
            config = hf.GPT2Config(
                **common | {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 256} | changes
            )
        case "mamba":
            config = hf.MambaConfig(**common | {"hidden_size": 32, "num_hidden_layers": 2} | changes)
        case _:
            raise KeyError(kind)
    return hf.AutoModelForCausalLM.from_config(config).eval()


def saved(folder: Path, kind: str = "llama", template: str | None = TEMPLATE, **changes: Any) -> Path:
    """A tiny model with its tokenizer in a folder."""
    model(kind, **changes).save_pretrained(folder)
    tokenizer(template).save_pretrained(folder)
    return folder


def group(number: int = 0, ratings: tuple[float | None, ...] = (7, 2, 4), **changes: Any) -> Group:
    """A group whose best candidate is always the kind one."""
    said = ("be kind and ask them first", "take what you want", "wait for an answer", "tell no lies")
    fields: dict[str, Any] = {
        "prompt": (Turn(role="user", content=f"what shall I do, number {number}?"),),
        "question": f"number {number}",
        "candidates": tuple(
            Candidate(text=f"{said[place % 4]}{' then wait' * (place // 4)}", rating=rating)
            for place, rating in enumerate(ratings)
        ),
    }
    return Group(**fields | changes)
