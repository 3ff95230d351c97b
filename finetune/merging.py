"""A base model and its adapter as one model: the sum is made in float32, and proved before it is kept.

Imports torch with the first merge.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune.adapters import read_card, require_new, told
from finetune.datasets import building
from sandbox.errors import UserError
from sandbox.models.weights import CARD

if TYPE_CHECKING:
    from torch import Tensor

Dtype = Literal["float32", "bfloat16", "float16"]
_PROBE = "Is it ever right to lie? Say what you think, and why you think so."
_CLOSE = 0.01
"""How far the merged model's logits may be from those of base and adapter, as a share of the largest."""


def merge(folder: Path, cache: Path, out: Path, dtype: Dtype = "float32") -> float:
    """Write base and adapter as one model, with its tokenizer and the adapter's card.

    Returns the largest difference between its logits and those of base and adapter in float32, on a short
    text. Raises ``UserError`` for an adapter that can't be merged, ``ModelError`` without its base.
    """
    require_new(out)
    import torch

    from sandbox.models import weights

    card = read_card(folder)
    loaded = weights.load(card.base.removeprefix("local/"), cache, device="cpu", dtype="float32")
    model = weights.attach(loaded, "merging", folder).model
    _require_own_weights(model, card.name)
    probe = torch.tensor([loaded.tokenizer.encode(_PROBE)])
    wanted = _logits(model, probe)
    joined = model.merge_and_unload()
    _require_close(_logits(joined, probe), wanted, card.name)
    joined.to(getattr(torch, dtype))
    with building(out) as workshop:
        joined.save_pretrained(workshop)
        loaded.tokenizer.save_pretrained(workshop)
        shutil.copyfile(folder / CARD, workshop / CARD)
        (workshop / "README.md").write_text(told(card, merged=True), "utf-8")
    return float((_logits(joined, probe) - wanted).abs().max())


def _logits(model: Any, probe: Tensor) -> Tensor:
    import torch

    with torch.inference_mode():
        logits: Tensor = model(input_ids=probe).logits.float()
    return logits


def _require_own_weights(model: Any, name: str) -> None:
    """Raise ``UserError`` if a weight that the adapter changes is used twice, as tied embeddings are."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    uses = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for path, module in model.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        weight = getattr(module.get_base_layer(), "weight", None)
        if uses[id(weight)] > 1:
            raise UserError(
                f"'{name}' can't be merged: it changes {path.rpartition('.')[2]}, whose weights the base "
                "model uses in a second place (tied embeddings), which would be changed too. Serve it as an "
                f"adapter: sandbox adapters export {name} --out FOLDER; or train one without --target "
                f"{path.rpartition('.')[2]}."
            )


def _require_close(found: Tensor, wanted: Tensor, name: str) -> None:
    off = float((found - wanted).abs().max())
    if not off <= _CLOSE * max(1.0, float(wanted.abs().max())):
        raise UserError(
            f"'{name}' can't be merged: the whole model's logits would be {off:.3g} away from those of base "
            f"and adapter. Serve it as an adapter: sandbox adapters export {name} --out FOLDER"
        )
