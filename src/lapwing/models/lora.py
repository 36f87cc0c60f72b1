"""Low-rank adapters: few weights that learn beside a frozen model, saved as PEFT saves them."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lapwing.core import rng
from lapwing.core.errors import UserError, nearest
from lapwing.core.json_lines import shown
from lapwing.core.storage import read_json, write_json
from lapwing.models.settings_files import read_settings
from lapwing.models.weights import check_safetensors

TRAINED = "default"
REFERENCE = "reference"
_CONFIG, _WEIGHTS, _PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
# Wider than any layer that people adapt.
_LARGEST_RANK = 2**16


@dataclass(frozen=True)
class LoraSettings:
    """How large an adapter is and where it sits.

    W′ = W + (α / r) B A,   or (α / √r) B A with `rslora`

    A has r rows and begins random, B has r columns and begins at 0, so that an adapter that has learnt nothing changes
    nothing. There is no dropout: the policy that is trained must be the one that played.

    Reference: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". https://arxiv.org/abs/2106.09685;
      the scale of `rslora`: Kalajdzievski 2023, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA".
      https://arxiv.org/abs/2312.03732

    Attributes:
      rank: r, at least 1.
      alpha: α, at least 1.
      targets: names of linear layers of the body, such as "q_proj"; "all-linear" for all of them.
      rslora: divide α by the root of the rank instead of by the rank.
    """

    rank: int = 16
    alpha: int = 32
    targets: str | tuple[str, ...] = "all-linear"
    rslora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha < 1:
            raise UserError(f"lora.rank ({self.rank}) and lora.alpha ({self.alpha}) are at least 1.")
        if self.rank > _LARGEST_RANK:
            raise UserError(f"lora.rank is at most {_LARGEST_RANK:,}, not {self.rank}.")
        if not self.targets:
            raise UserError("lora.targets names no layer; leave it out for all linear layers.")


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise UserError('LoRA needs the package peft: pip install "lapwing[lora]"') from error
    return peft


def has_adapter(model: Any) -> bool:
    """Whether a model has an adapter that learns."""
    return TRAINED in (getattr(model, "peft_config", None) or {})


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / _CONFIG).is_file()


def add_adapter(model: Any, settings: LoraSettings, *, seed: int, base: str, revision: str | None) -> None:
    """Put a fresh adapter into a model, in place; only its weights learn from now on.

    Args:
      model: a causal language model of transformers; it stays the same object.
      settings: of the adapter.
      seed: of the run; the first weights follow from it.
      base: the folder or hub id that the model came from, which a saved adapter names.
      revision: of the base on the hub.

    Raises:
      UserError: peft is not installed, or the model has no such layers.
    """
    targets = settings.targets if isinstance(settings.targets, str) else list(settings.targets)
    if isinstance(targets, str) and targets != "all-linear":
        targets = [targets]
    config = _peft().LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=targets,
        use_rslora=settings.rslora,
        lora_dropout=0.0,
    )
    _check_targets(model, targets)
    _inject(model, config, TRAINED, seed=seed)
    config.base_model_name_or_path = _lasting(base)
    config.revision = revision


def _check_targets(model: Any, targets: str | list[str]) -> None:
    if isinstance(targets, str):
        return
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    for target in targets:
        if target.rpartition(".")[2] not in linear:
            raise UserError(f"lora.targets: the model's body has no linear layer '{target}'; {nearest(target, linear)}")


def _inject(model: Any, config: Any, name: str, *, seed: int) -> None:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # The reference is a second adapter on purpose.
        warnings.filterwarnings("ignore", "Already found a `peft_config`")
        torch.manual_seed(rng.fold(0, "lora", seed) & 0x7FFF_FFFF_FFFF_FFFF)
        try:
            model.add_adapter(config, name)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # whatever PEFT makes of settings that somebody else wrote
            first = " ".join(str(error).split())[:300]
            raise UserError(f"An adapter cannot be put into {type(model).__name__}: {first}") from error
    # Small steps get lost in bfloat16, and an adapter is small.
    for _, parameter in adapter_parameters(model, name):
        parameter.data = parameter.data.float()
    model.set_adapter(TRAINED)


def adapter_parameters(model: Any, name: str = TRAINED) -> list[tuple[str, torch.nn.Parameter]]:
    """The weights of an adapter by their names in the model."""
    ends = (f".lora_A.{name}.weight", f".lora_B.{name}.weight")
    return [(key, parameter) for key, parameter in model.named_parameters() if key.endswith(ends)]


def base_of(folder: Path) -> tuple[str, str | None]:
    """The folder or hub id of the model that an adapter belongs to, and its revision.

    Raises:
      UserError: the adapter does not say.
    """
    config = read_settings(folder / _CONFIG)
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(base, str) or not base:
        raise UserError(f"The adapter in {folder} does not say which model it belongs to; set it in {_CONFIG}.")
    if revision is not None and not isinstance(revision, str):
        raise UserError(f"{folder / _CONFIG}: revision is {shown(revision)}, and a text is needed; take the entry out.")
    return base, revision


def attach(model: Any, folder: Path, settings: LoraSettings | None = None, *, base: str) -> None:
    """Put a saved adapter into its base model, in place; it goes on learning.

    Args:
      model: the base.
      folder: of the adapter.
      settings: what the adapter is expected to be; None takes any.
      base: the folder or hub id that the model came from.

    Raises:
      UserError: it is no plain LoRA on linear layers, or another one than expected.
    """
    config = _read_config(folder)
    if settings is not None:
        found = (config.r, config.lora_alpha, config.use_rslora)
        expected = (settings.rank, settings.alpha, settings.rslora)
        if found != expected:
            raise UserError(
                f"The adapter in {folder} has rank, alpha and rslora {found}, and model.lora says {expected}; make "
                "model.lora say the same, or merge the adapter first with `lapwing export`."
            )
    config.lora_dropout, config.inference_mode = 0.0, False
    # The weights follow; some initialisers would change the base.
    config.init_lora_weights = True
    _inject(model, config, TRAINED, seed=0)
    config.base_model_name_or_path = _lasting(base)
    _read_generation_settings(model, folder)
    load_adapter(model, folder)


def _read_config(folder: Path) -> Any:
    """The settings of a saved LoRA."""
    peft = _peft()
    said = read_settings(folder / _CONFIG)
    patterns = [said.get(key) or {} for key in ("rank_pattern", "alpha_pattern")]
    ranks = [said.get("r"), *(patterns[0].values() if isinstance(patterns[0], dict) else [None])]
    if said.get("peft_type") == "LORA":
        for rank in ranks:
            if type(rank) is not int or not 1 <= rank <= _LARGEST_RANK:
                raise UserError(f"{folder / _CONFIG} has the rank {shown(rank)}; one is from 1 to {_LARGEST_RANK:,}.")
    try:
        with warnings.catch_warnings():
            # Of settings that a newer PEFT has, which is said once the weights do not fit.
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(str(folder))
    except Exception as error:  # of a type that PEFT does not know, or with settings of the wrong kind
        first = " ".join(str(error).split())[:300]
        raise UserError(f"{folder / _CONFIG} is not what PEFT writes ({first}); fetch it again.") from error
    if not isinstance(config, peft.LoraConfig):
        raise UserError(f"The adapter in {folder} is of type {config.peft_type.value}; Lapwing trains LoRA.")
    return config


def _lasting(base: str) -> str:
    """A name of the base that holds in any working directory."""
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def _read_generation_settings(model: Any, folder: Path) -> None:
    from transformers import GenerationConfig

    if (folder / "generation_config.json").is_file():
        read_settings(folder / "generation_config.json")
        try:
            model.generation_config = GenerationConfig.from_pretrained(folder)
        except (TypeError, ValueError, AttributeError) as error:
            first = " ".join(str(error).split())[:300]
            raise UserError(f"{folder / 'generation_config.json'} cannot be used ({first}); fetch it again.") from error


def save_adapter(folder: Path, model: Any) -> None:
    """Write the trained adapter as a folder that PEFT loads: its settings, its weights, where its base is.

    Args:
      folder: where to; it is made.
      model: with an adapter.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = model.peft_config[TRAINED]
    config.save_pretrained(str(folder))
    written = read_json(folder / _CONFIG)
    # PEFT takes these from a set, in another order each time.
    written |= {"inference_mode": True, "target_modules": _sorted(written["target_modules"])}
    write_json(folder / _CONFIG, written)
    tensors = {
        f"base_model.model.{name.replace(f'.{TRAINED}.', '.')}": parameter.detach().cpu().contiguous()
        for name, parameter in adapter_parameters(model)
    }
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    model.generation_config.save_pretrained(folder)


def _sorted(targets: Any) -> Any:
    return sorted(targets) if isinstance(targets, list) else targets


def load_adapter(model: Any, folder: Path, *, name: str = TRAINED) -> None:
    """Give an adapter of a model the weights of a PEFT folder, in place.

    Args:
      model: with an adapter of that name.
      folder: of the adapter.
      name: of the model's adapters.

    Raises:
      UserError: the weights are missing, damaged, or not those of such an adapter.
    """
    tensors = _read(folder)
    wanted = {key.replace(f".{name}.", "."): parameter for key, parameter in adapter_parameters(model, name)}
    if set(tensors) != set(wanted):
        odd = sorted(set(tensors) ^ set(wanted))
        raise UserError(
            f"The adapter in {folder} does not fit the model: {len(odd)} of its weights are too many or too few, "
            f"{odd[0]} first."
        )
    with torch.no_grad():
        for key, parameter in wanted.items():
            if tensors[key].shape != parameter.shape:
                raise UserError(f"The adapter in {folder} does not fit the model: {key} has another size.")
            parameter.copy_(tensors[key])


def _read(folder: Path) -> dict[str, torch.Tensor]:
    file = folder / _WEIGHTS
    if not file.is_file() and (folder / _PICKLE).is_file():
        raise UserError(
            f"The weights of the adapter in {folder} are a pickle ({_PICKLE}), which can run code when it is read; "
            "where you trust it, convert it: load it with PEFT and save it again, which writes safetensors."
        )
    check_safetensors(file)
    try:
        return {name.removeprefix("base_model.model."): tensor for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise UserError(f"{file} is damaged ({error}); fetch it again.") from error


@contextlib.contextmanager
def without_adapter(model: Any) -> Iterator[None]:
    """Let the bare base model speak."""
    model.disable_adapters()
    try:
        yield
    finally:
        model.enable_adapters()


def add_reference(model: Any, folder: Path) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Keep earlier weights of the adapter beside the current ones; the base is shared.

    Args:
      model: with an adapter.
      folder: a PEFT folder of the same adapter at an earlier time.

    Returns:
      A function without arguments that gives a context manager, inside of which the model speaks with these weights.
    """
    if all(not tensor.any() for key, tensor in _read(folder).items() if ".lora_B." in key):
        # B is still 0: the reference is the base itself.
        return lambda: without_adapter(model)
    if REFERENCE not in model.peft_config:
        _inject(model, copy.deepcopy(model.peft_config[TRAINED]), REFERENCE, seed=0)
    load_adapter(model, folder, name=REFERENCE)
    return lambda: _speaking_as(model, REFERENCE)


@contextlib.contextmanager
def _speaking_as(model: Any, name: str) -> Iterator[None]:
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(TRAINED)


def twin(model: Any, folder: Path) -> Any:
    """Another model with earlier weights of the adapter; the two share the tensors of the base.

    Args:
      model: with an adapter.
      folder: a PEFT folder of the same adapter.
    """
    other = _sharing_base(model).eval()
    load_adapter(other, folder)
    return other


def _sharing_base(model: Any) -> Any:
    own = {id(parameter) for name in model.peft_config for _, parameter in adapter_parameters(model, name)}
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in own}
    return copy.deepcopy(model, shared).requires_grad_(False)


def merged(model: Any) -> Any:
    """A model without adapters that has the trained one added to its weights, in the base's own number format.

    W′ = W + scale · B A, summed in float32. Tensors that no adapter touches are shared with the model, which stays as
    it is.

    Args:
      model: with an adapter.
    """
    other = _sharing_base(model)
    for name, layer in list(other.named_modules()):
        if not hasattr(layer, "get_delta_weight"):
            continue
        plain = layer.get_base_layer()
        weight = plain.weight.float() + layer.get_delta_weight(TRAINED)
        plain.weight = torch.nn.Parameter(weight.to(plain.weight.dtype), requires_grad=False)
        parent, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(parent), leaf, plain)
    del other.peft_config
    other._hf_peft_config_loaded = False
    return other


def save_merged(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the merged model as an ordinary folder, with its tokenizer.

    Args:
      model: with an adapter.
      tokenizer: of the model.
      folder: where to.
    """
    merged(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
