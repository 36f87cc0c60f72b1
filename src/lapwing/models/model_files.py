"""The settings of a model folder that somebody else made, looked at before a library acts on them."""

from pathlib import Path
from typing import Any

from lapwing.core.errors import UserError
from lapwing.core.json_lines import shown
from lapwing.models.settings_files import check_size, read_settings
from lapwing.models.weights import weight_files

# The largest published tokenizers have 35 MB.
_MAX_TOKENIZER_BYTES = 256 * 2**20
_CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json", "adapter_config.json")
_TOKENIZERS = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json", "merges.txt")

# More than any model has; below the numbers at which building one takes minutes or all memory.
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_key_value_heads")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_INNER = ("intermediate_size", "moe_intermediate_size", "n_inner", "ffn_dim", "d_ff")
_LARGEST = {
    **dict.fromkeys(_WIDTHS, 2**20),
    **dict.fromkeys(_LAYERS, 2**12),
    **dict.fromkeys(_HEADS, 2**14),
    **dict.fromkeys(_EXPERTS, 2**14),
    **dict.fromkeys(_INNER, 2**24),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 2**31),
    **{"vocab_size": 2**24, "head_dim": 2**14},
}
# A dense model says that it has no experts, and one without attention that it has no heads.
_MAY_BE_ZERO = (*_EXPERTS, *_INNER, *_HEADS)
_MOST_EXPERTS_OF_ALL_LAYERS = 2**18


def check_model_files(folder: Path) -> None:
    """Refuse a model folder whose settings no model can have.

    Args:
      folder: with `config.json` and safetensors.

    Raises:
      UserError: a file is larger than any of its kind or no JSON, a size in `config.json` is out of its range, it
        describes more parameters than the weights can hold, or it names weights or tokens that there cannot be.
    """
    for name in _TOKENIZERS:
        check_size(folder / name, _MAX_TOKENIZER_BYTES)
    found = {name: read_settings(folder / name) for name in _CONFIGS if (folder / name).is_file()}
    config = found.get("config.json", {})
    if "transformers_weights" in config:
        raise UserError(f"{folder / 'config.json'} names other weights by transformers_weights; take the entry out.")
    for name in ("config.json", "generation_config.json"):
        for key in ("eos_token_id", "bos_token_id", "pad_token_id"):
            _check_token(folder / name, key, found.get(name, {}).get(key))
    stored = sum(file.stat().st_size for file in weight_files(folder))
    for part in (config, config.get("text_config")):
        if isinstance(part, dict):
            _check_sizes(folder / "config.json", part, stored)


def _check_token(file: Path, key: str, value: Any) -> None:
    tokens = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and -1 <= token < 2**31 for token in tokens):
        raise UserError(f"{file}: {key} is {shown(value)}, and a token's number is needed, or a list of some.")


def _check_sizes(file: Path, config: dict[str, Any], stored: int) -> None:
    for key, most in _LARGEST.items():
        least = 0 if key in _MAY_BE_ZERO else 1
        for value in _each(config.get(key)):
            if type(value) is not int or not least <= value <= most:
                raise UserError(
                    f"{file}: {key} is {shown(value)}, and a model has a whole number from {least} to {most:,}."
                )
    layers, experts = _largest(config, _LAYERS), max(1, _largest(config, _EXPERTS))
    if layers * experts > _MOST_EXPERTS_OF_ALL_LAYERS:
        raise UserError(f"{file} describes {layers:,} layers of {experts:,} experts each, which no model has.")
    least_parameters = _least_parameters(config, layers, experts)
    # No format takes less than a bit for a number.
    if least_parameters > 8 * stored:
        raise UserError(
            f"{file} describes a model of at least {least_parameters:,} parameters, and its weights have {stored:,} "
            "bytes; they do not belong together."
        )


def _least_parameters(config: dict[str, Any], layers: int, experts: int) -> int:
    """A number that the model cannot have less than: one embedding, and of each layer one matrix of each kind."""
    width = _largest(config, _WIDTHS)
    inner = _largest(config, ("moe_intermediate_size",)) if experts > 1 else _largest(config, _INNER)
    heads = _largest(config, ("num_attention_heads", "n_head", "n_heads")) * _largest(config, ("head_dim",))
    return width * (_largest(config, ("vocab_size",)) + layers * (max(1, inner) * experts + heads))


def _largest(config: dict[str, Any], keys: tuple[str, ...]) -> int:
    return max((value for key in keys for value in _each(config.get(key))), default=0)


def _each(value: Any) -> list[Any]:
    """Some models have a number for each layer; what is not there is no number."""
    return [one for one in value if one is not None] if isinstance(value, list) else [] if value is None else [value]
