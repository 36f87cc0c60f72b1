"""What a model takes in memory and on disk, foretold from its sizes: nothing is downloaded and nothing allocated."""

import dataclasses
import functools
import importlib.resources
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from lapwing.models.lora import LoraSettings, add_adapter
from lapwing.models.model_files import check_model_files

_ATTENTION = "lapwing_footprint"
_BYTES = {"float32": 4, "bfloat16": 2}


@functools.cache
def known_sizes() -> dict[str, dict[str, Any]]:
    """Sizes of models that people post-train, by hub id, from their published configurations."""
    text = importlib.resources.files("lapwing.models").joinpath("known_sizes.toml").read_text("utf-8")
    return tomllib.loads(text)


def configuration(path: str, *, revision: str | None = None) -> Any:
    """The configuration of a model as far as it can be had without the network; None where it cannot.

    Args:
      path: a local folder, or a hub id that is in the local cache or among the known sizes.
      revision: branch, tag or commit on the hub.

    Raises:
      UserError: the folder is one of no model.
    """
    from transformers import AutoConfig

    if (Path(path) / "config.json").is_file():
        check_model_files(Path(path))
    try:
        return AutoConfig.from_pretrained(path, revision=revision, local_files_only=True)
    except (OSError, ValueError):
        sizes = dict(known_sizes().get(path, {}))
        return AutoConfig.for_model(sizes.pop("model_type"), **sizes) if sizes else None


def skeleton(config: Any, *, dtype: str = "float32") -> Any:
    """The model of a configuration without any memory for its weights (on torch's meta device)."""
    from transformers import AttentionInterface, AutoModelForCausalLM

    AttentionInterface.register(_ATTENTION, _counted_attention)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation=_ATTENTION)
    model.tie_weights()
    return model.eval()


class _FusedAttention(torch.autograd.Function):
    """Stands for a fused attention kernel: the same tensors are kept for the backward pass, nothing is computed."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:  # pyright: ignore
        """An output of the query's shape; query, keys, values, output and one log-sum-exp per query are kept."""
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output, output.new_empty(query.shape[:-1], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        """Gradients of the right shapes."""
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _counted_attention(
    _module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _mask: Any, **_: Any
) -> tuple[torch.Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # as transformers does where a mask is given
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    output: Any = _FusedAttention.apply(query, key, value)
    return output.transpose(1, 2).contiguous(), None


def activation_bytes(
    model: Any, *, rows: int, row_tokens: int, checkpointing: bool = False, head_bytes: int = 0
) -> int:
    """Bytes that a forward pass keeps for its backward pass, mask included.

    Args:
      model: a skeleton, or a real model, which then runs once on zeros.
      rows, row_tokens: of one forward pass.
      checkpointing: only the inputs of the layers are kept, and one layer at a time is computed again.
      head_bytes: what the head has alive besides; its backward pass is over when the first layer is computed again.
    """
    kept = _kept_bytes(lambda: _forward(model, rows, row_tokens), model)
    if not checkpointing:
        return kept + head_bytes
    parameter = next(model.parameters())
    layers = model.config.get_text_config().num_hidden_layers
    inputs = rows * row_tokens * model.config.get_text_config().hidden_size * parameter.element_size()
    return inputs * layers + max(kept // layers, head_bytes)


def _forward(model: Any, rows: int, row_tokens: int) -> Any:
    parameter = next(model.parameters())
    device, shape = parameter.device, (rows, row_tokens)
    mask: Any = torch.zeros(rows, 1, row_tokens, row_tokens, device=device, dtype=parameter.dtype)
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    return model.base_model(
        input_ids=torch.zeros(shape, dtype=torch.long, device=device),
        position_ids=torch.zeros(shape, dtype=torch.long, device=device),
        attention_mask=dict.fromkeys(kinds, mask) if len(kinds) > 1 else mask,
        use_cache=False,
    )


def _kept_bytes(run: Callable[[], Any], model: Any) -> int:
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[torch.Tensor] = []  # a storage that is freed could lend its address to another

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


def cache_bytes_per_token(config: Any, *, dtype: str) -> int:
    """Bytes of keys and values that one token of one sequence takes in all layers, windows not counted."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers * heads * head * _BYTES[dtype]


@dataclass(frozen=True)
class Footprint:
    """Bytes of one training process, on its device and on disk.

    Attributes:
      parameters, trainable: numbers, not bytes.
      weights: parameters as they are computed with.
      masters: copies of the trainable ones in float32, where these are in bfloat16.
      moments: both moments of AdamW.
      gradients: in float32.
      activations: what the largest forward pass of an update keeps, and its logits.
      cache: keys and values while replies are generated.
      version: a copy of the weights that are trained, as the pool of past versions keeps them.
      checkpoint: one checkpoint: the model as it is exported, masters and moments.
    """

    parameters: int
    trainable: int
    weights: int
    masters: int
    moments: int
    gradients: int
    activations: int
    cache: int
    version: int
    checkpoint: int

    def of_models(self, number: int) -> "Footprint":
        """The same for several models that learn one after the other; tensors that are not trained they share."""
        return dataclasses.replace(
            self,
            weights=self.weights + (number - 1) * self.version,
            masters=number * self.masters,
            moments=number * self.moments,
            # Those of an update stay until the next one of the same model.
            gradients=number * self.gradients,
            checkpoint=number * self.checkpoint,
        )

    @property
    def standing(self) -> int:
        """Bytes that are taken all the time."""
        return self.weights + self.masters + self.moments

    @property
    def peak(self) -> int:
        """Bytes at the most: while playing or while updating, whichever takes more."""
        return self.standing + max(self.cache, self.gradients + self.activations)


def footprint(
    config: Any,
    *,
    dtype: Literal["float32", "bfloat16"],
    row_tokens: int,
    batch_tokens: int,
    logit_bytes: int,
    cache_tokens: int,
    checkpointing: bool = False,
    lora: LoraSettings | None = None,
    moment_bytes: int = 4,
) -> Footprint:
    """Foretell what training takes.

    Args:
      config: of transformers.
      dtype: of the weights.
      row_tokens, batch_tokens: of the packed rows and of a forward pass of the update, in tokens.
      logit_bytes: most bytes of logits, and of what is computed from them, that are alive at once.
      cache_tokens: tokens whose keys and values are kept while replies are generated.
      checkpointing: of gradients.
      lora: the adapter that is trained; None trains all weights.
      moment_bytes: of one moment of one parameter.
    """
    model = skeleton(config, dtype=dtype)
    if lora is not None:
        add_adapter(model, lora, seed=0, base="", revision=None)
    trained = [p for p in model.parameters() if p.requires_grad]
    trainable = sum(p.numel() for p in trained)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    version = sum(p.numel() * p.element_size() for p in trained)
    exported = weights if lora is None else version
    masters = 4 * sum(p.numel() for p in trained if p.element_size() < 4)
    moments = 2 * moment_bytes * trainable
    rows = max(1, batch_tokens // row_tokens)
    # A token's logits, log-probabilities, probabilities and gradient, in float32.
    logits = min(logit_bytes, 16 * rows * row_tokens * config.get_text_config().vocab_size)
    return Footprint(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=trainable,
        weights=weights,
        masters=masters,
        moments=moments,
        gradients=4 * trainable,
        activations=activation_bytes(
            model, rows=rows, row_tokens=row_tokens, checkpointing=checkpointing, head_bytes=logits
        ),
        cache=cache_tokens * cache_bytes_per_token(config, dtype=dtype),
        version=version,
        checkpoint=exported + masters + moments,
    )
