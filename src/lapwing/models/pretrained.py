"""Models from local folders and the Hugging Face hub."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file

from lapwing.core.errors import LapwingError, UserError
from lapwing.models import lora as adapters
from lapwing.models.hub import find_model
from lapwing.models.lora import LoraSettings
from lapwing.models.model_files import check_model_files
from lapwing.models.packing import check_packing
from lapwing.models.weights import check_safetensors, check_weights, weight_files

_DROPOUT = ("dropout", "pdrop", "layerdrop", "jitter")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars of transformers out of our own display."""
    from transformers.utils import logging

    had_bar = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if had_bar:
            logging.enable_progress_bar()


def pretrained_model(
    *,
    path: str,
    revision: str | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    device: str = "auto",
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto",
    gradient_checkpointing: bool = False,
    lora: LoraSettings | None = None,
    liger: bool = False,
    seed: int = 0,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer, ready to be trained on packed trees.

    All dropout is set to 0: the policy that is trained must be the one that played. Training mode therefore computes
    what evaluation mode does, and differs only in that gradient checkpointing works in it: keep it to the update, since
    checkpointed layers have no key–value cache.

    Args:
      path: a local folder, or a hub id such as "org/model"; weights are safetensors. A folder of a PEFT adapter is
        loaded into its base, and the adapter goes on learning.
      revision: branch, tag or commit on the hub.
      dtype: number format of the weights; "auto" is bfloat16 on a GPU and float32 on a CPU. An adapter's are float32.
      device: "cpu", "cuda", "cuda:1", …; "auto" is the current GPU if there is one.
      attention: implementation of attention; "auto" is "sdpa" on every device, and "eager" for an architecture that
        cannot do with it, such as Gemma 2. Packed trees need a mask that "flash_attention_2" does not take.
      gradient_checkpointing: keep the activations between layers only and compute the others again, when training.
      lora: train an adapter of this kind instead of the model's own weights.
      liger: take fused kernels for norms, gates and rotary positions (CUDA only; package liger-kernel).
      seed: of the run; the first weights of an adapter follow from it.
      trust_remote_code: run code that comes with the model.

    Returns:
      The model, in evaluation mode, and its tokenizer.

    Raises:
      UserError: there is no such model, it cannot be reached or read, or it cannot be trained as asked.
    """
    check_attention(attention)
    place = _device(device)
    number = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(dtype)
    number = number or (torch.bfloat16 if place.type == "cuda" else torch.float32)
    source = _find(path, revision, trust_remote_code)
    adapter = Path(source.found) if adapters.is_adapter_folder(Path(source.found)) else None
    base = source if adapter is None else _find(*adapters.base_of(adapter), trust_remote_code)
    if adapter is not None and adapters.is_adapter_folder(Path(base.found)):
        raise UserError(f"The base of the adapter in {adapter}, {base.name}, is an adapter itself; merge that first.")
    model = _load(base, number, None if attention == "auto" else attention)
    tokenizer = _load_tokenizer(source if adapter is None or _has_tokenizer(adapter) else base)
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        raise UserError(f"The tokenizer of '{path}' has more tokens than its model has embeddings; they do not fit.")
    if adapter is not None:
        adapters.attach(model, adapter, lora, base=base.name)
    elif lora is not None:
        adapters.add_adapter(model, lora, seed=seed, base=base.name, revision=base.revision)
    model.to(place)
    if liger:
        from lapwing.models.liger import apply_liger

        apply_liger(model)
    if gradient_checkpointing:
        _checkpoint_gradients(model, path)
    check_packing(model, path)
    return model, tokenizer


def check_attention(attention: str) -> None:
    """Refuse an implementation of attention that cannot train packed trees, without loading a model.

    Raises:
      UserError: it cannot.
    """
    if attention == "flash_attention_2":
        raise UserError(
            "model.attention: flash_attention_2 takes no mask that tells the branches of a packed tree apart; leave it "
            "out, or use sdpa or eager."
        )


def load_folder(folder: Path, *, base: str | None = None, **settings: Any) -> tuple[Any, Any]:
    """Load a model that Lapwing saved: a whole one, or an adapter, whose base is where the adapter says.

    Args:
      folder: of a checkpoint.
      base: where else the base of an adapter may be now; it must have the same last name.
      settings: as for `pretrained_model`; a revision is that of the base and not used.

    Raises:
      UserError: the folder holds no model, or the base of an adapter is gone.
    """
    settings = {**settings, "revision": None}
    if not adapters.is_adapter_folder(folder):
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} holds no model: it has no config.json.")
        return pretrained_model(path=str(folder), **settings)
    named, _ = adapters.base_of(folder)
    if not Path(named).is_absolute() or Path(named).is_dir():
        return pretrained_model(path=str(folder), **settings)
    if base is None or not Path(base).is_dir() or Path(base).resolve().name != Path(named).name:
        raise UserError(f"The base model of the adapter in {folder}, {named}, is gone; put it back.")
    model, tokenizer = pretrained_model(path=base, **{**settings, "lora": None})
    adapters.attach(model, folder, settings.get("lora"), base=base)
    return model, tokenizer


def load_in_place(model: Any, folder: Path) -> None:
    """Give a whole model the weights of a folder that was saved from one of its architecture.

    Raises:
      LapwingError: there are none, or they do not fit.
    """
    files = weight_files(folder)
    for file in files:
        check_safetensors(file)
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    try:
        if not tensors.keys() <= model.state_dict().keys():
            # Transformers saves some layers, such as experts, in other parts than it computes with.
            tensors = _as_computed(model, folder)
        missing, unexpected = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise LapwingError(f"The weights in {folder} do not fit the model: its sizes are others.") from error
    # Tied embeddings are stored once, so that the head may be missing.
    tied = {name for name in missing if name.endswith("lm_head.weight")}
    if unexpected or set(missing) - tied:
        raise LapwingError(
            f"The weights in {folder} do not fit the model: {sorted(set(missing) - tied) or unexpected}."
        )


def _as_computed(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    with quiet():
        other, info = type(model).from_pretrained(
            folder, dtype=model.dtype, use_safetensors=True, output_loading_info=True
        )
    if odd := sorted({*info["missing_keys"], *info["unexpected_keys"]}):
        raise LapwingError(f"The weights in {folder} do not fit the model: {odd}.")
    return other.state_dict()


class _Source(NamedTuple):
    """What messages call a model, what `from_pretrained` takes, and whether code of its own may run."""

    name: str
    found: str
    revision: str | None
    trust_remote_code: bool

    @property
    def given(self) -> dict[str, Any]:
        # Without the flag transformers would ask on the terminal.
        return {
            "revision": self.revision if self.found == self.name else None,
            "trust_remote_code": self.trust_remote_code,
        }


def _find(path: str, revision: str | None, trust_remote_code: bool) -> _Source:
    return _Source(path, find_model(path, revision), revision, trust_remote_code)


def _device(name: str) -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"model.device is 'auto', 'cpu', 'cuda' or 'cuda:N', not '{name}'.")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UserError(
            f"model.device: there is no '{name}' on this machine, which has {count} CUDA devices; use 'auto' or 'cpu'."
        )
    return device


@contextlib.contextmanager
def _one_sentence(source: _Source) -> Iterator[None]:
    """What the libraries make of a broken folder, or of one that they do not know, as one sentence."""
    try:
        with quiet():
            yield
    except (LapwingError, MemoryError, torch.OutOfMemoryError):
        raise
    # Configurations, tokenizers and weights are read by four libraries, each with errors of its own; those that are
    # written in Rust panic with something that is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        first = shortened(error)
        if "trust_remote_code" in str(error):
            raise UserError(
                f"The model '{source.name}' comes with Python code of its own, which is not run unasked; read it, and "
                "if you trust it, start with --trust-remote-code."
            ) from error
        raise UserError(
            f"The model '{source.name}' could not be loaded ({first}); give a whole Hugging Face folder of a causal "
            "language model with safetensors, or the hub id of one."
        ) from error


def shortened(error: BaseException) -> str:
    """What an error of a library says, on one line of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _load(source: _Source, dtype: torch.dtype, attention: str | None) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    if Path(source.found).is_dir():
        check_weights(Path(source.found))
        check_model_files(Path(source.found))
    with _one_sentence(source):
        config: Any = AutoConfig.from_pretrained(source.found, **source.given)
        _without_dropout(config)
        # A folder may ask for kernels from the hub, which are native code.
        config._attn_implementation = config._experts_implementation = None
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source.found,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            output_loading_info=True,
            **source.given,
        )
    model, info = loaded
    if info["missing_keys"]:
        # Transformers would begin with random numbers there.
        raise UserError(f"The model '{source.name}' lacks weights, {sorted(info['missing_keys'])[0]} first.")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    try:
        model.generation_config.validate(strict=True)
    except ValueError:
        # Some publish settings of sampling beside greedy decoding, which could not be saved again.
        model.generation_config.do_sample = True
    return model


def _without_dropout(config: Any) -> None:
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        for name, value in vars(part).items():
            if isinstance(value, float) and any(word in name for word in _DROPOUT):
                setattr(part, name, 0.0)


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()


def _load_tokenizer(source: _Source) -> Any:
    from transformers import AutoTokenizer

    with _one_sentence(source):
        tokenizer: Any = AutoTokenizer.from_pretrained(source.found, **source.given)
        has_tokens = bool(tokenizer.encode("a", add_special_tokens=False))
    # Transformers makes an empty tokenizer where a folder has none.
    if not has_tokens:
        raise UserError(f"The model '{source.name}' has no tokenizer; put its tokenizer files beside its weights.")
    if not tokenizer.chat_template:
        raise UserError(f"The tokenizer of '{source.name}' has no chat template; choose an instruction-tuned model.")
    return tokenizer


def _checkpoint_gradients(model: Any, name: str) -> None:
    if not model.supports_gradient_checkpointing:
        raise UserError(f"The model '{name}' has no gradient checkpointing; leave model.gradient_checkpointing out.")
    # The older name warns in newer versions of transformers.
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
