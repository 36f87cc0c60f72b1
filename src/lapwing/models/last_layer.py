"""The last layer of a model at the tokens whose hidden states are wanted, and not at all the others."""

import threading
from collections.abc import Mapping
from typing import Any

import torch

# Where more than this share of the tokens is wanted, choosing them costs more than it spares.
_MOST = 0.5
# What architectures call the cache among the arguments of their layers.
_CACHES = ("past_key_values", "layer_past", "past_key_value")
_wanted = threading.local()
_trying = threading.Lock()


class _Known(Exception):
    """The keys and values of the last layer are there; what comes after them is not needed."""

    def __init__(self, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.pair = pair


class _Capture:
    """In the place of a cache: hands over what it is given, and ends the computation."""

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> Any:
        """Raise what was given."""
        raise _Known((keys, values))


class _Given:
    """In the place of a cache: answers with keys and values that are known."""

    def __init__(self, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.pair = pair

    def update(self, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The known ones."""
        return self.pair


def last_layer_at(body: Any, place: torch.Tensor, **inputs: Any) -> torch.Tensor | None:
    """The last hidden states of a model's body at some places of each row: the last layer asks there only.

    Its keys and values are those of all tokens, so that the result is that of the whole forward pass up to rounding;
    its attention, output projection and feed-forward network, a fourth of the arithmetic of a model with three layers,
    are left out where nobody reads them. Gradients are exact too.

    Args:
      body: of transformers.
      place: the places in each of the B rows, int64 [B, W].
      **inputs: of the body, without a cache: token ids [B, S], positions, mask.

    Returns:
      [B, W, width]; None where the body is not built so that this can be done, or too much is wanted.
    """
    if place.shape[1] > _MOST * inputs["input_ids"].shape[1] or not _fits(body):
        return None
    _wanted.place = place
    try:
        return body(**inputs, use_cache=False).last_hidden_state
    finally:
        _wanted.place = None


def _fits(body: Any) -> bool:
    """Whether it can be done with this body; found out once, by doing it, and looked at again where that may change."""
    layers = getattr(body, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or len(layers) == 0:
        return False
    # Layers that are computed again going backward (transformers does so in training mode) must be called as they are,
    # and so must those that wait elsewhere for their turn. Dropout would be drawn twice.
    moved = hasattr(body, "_hf_hook") or hasattr(layers[-1], "_hf_hook")
    if moved or body.training or layers[-1].training:
        return False
    with _trying:  # two threads would both put a hook there
        known = getattr(body, "_lapwing_last_layer", None)
        if known is None:
            if any(hasattr(parameter, "full_tensor") for parameter in body.parameters()):
                return False  # other processes would have to make the same passes
            known = body._lapwing_last_layer = _try(body)
    return known


def _try(body: Any) -> bool:
    """Compare with the whole pass on two rows of six tokens."""
    parameter = next(body.parameters())
    hook = body.layers[-1].register_forward_pre_hook(_restrict, with_kwargs=True)
    try:
        with torch.no_grad():
            vocabulary = body.get_input_embeddings().weight.shape[0]
            token = (torch.arange(12, device=parameter.device) % vocabulary).view(2, 6)
            place = torch.tensor([[5, 1], [3, 0]], device=parameter.device)
            mask = torch.full((2, 1, 6, 6), torch.finfo(parameter.dtype).min, dtype=parameter.dtype).triu(1)
            inputs = {
                "input_ids": token,
                "position_ids": torch.arange(6, device=parameter.device).expand(2, 6),
                "attention_mask": _by_type(body.config, mask.to(parameter.device)),
                "use_cache": False,
            }
            whole = body.forward(**inputs).last_hidden_state
            _wanted.place = place
            found = body.forward(**inputs).last_hidden_state
            right = torch.stack([whole[row, at] for row, at in enumerate(place)])
            exact = 1e-4 if parameter.dtype in (torch.float32, torch.float64) else 0.05
            fits = found.shape == right.shape and bool(
                (found - right).abs().max() <= exact * whole.abs().max().clamp(min=1e-6)
            )
    except torch.OutOfMemoryError:
        hook.remove()
        raise
    except (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, _Known):
        fits = False
    finally:
        _wanted.place = None
    if not fits:
        hook.remove()
    return fits


def _by_type(config: Any, mask: torch.Tensor) -> Any:
    types = set(getattr(config.get_text_config(), "layer_types", None) or ())
    return dict.fromkeys(types, mask) if len(types) > 1 else mask


def _restrict(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before the last layer runs: compute keys and values of all tokens, and go on with the wanted ones."""
    place = getattr(_wanted, "place", None)
    if place is None:
        return None
    hidden, *rest = args
    if "attention_mask" not in kwargs:
        raise TypeError("the last layer's mask is not found by its name")
    cache = next((name for name in _CACHES if name in kwargs), _CACHES[0])
    pair = None
    try:
        layer.forward(hidden, *rest, **{**kwargs, cache: _Capture()})
    except _Known as known:
        pair = known.pair
    if pair is None:
        raise TypeError("the last layer asks no cache")
    size = hidden.shape[:2]
    chosen = {name: _take(value, place, size) for name, value in kwargs.items()}
    if chosen["attention_mask"] is None:
        chosen["attention_mask"] = _causal(place, hidden)
    return (_take(hidden, place, size), *(_take(value, place, size) for value in rest)), {
        **chosen,
        cache: _Given(pair),
    }


def _causal(place: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """The mask [B, 1, W, S] of chosen tokens where all tokens would attend to all before them without one."""
    later = torch.arange(hidden.shape[1], device=place.device) > place[:, None, :, None]
    mask = torch.zeros(later.shape, dtype=hidden.dtype, device=hidden.device)
    return mask.masked_fill_(later.to(hidden.device), torch.finfo(hidden.dtype).min)


def _take(value: Any, place: torch.Tensor, size: torch.Size) -> Any:
    """The part of an argument of a layer that belongs to the wanted places."""
    if isinstance(value, tuple | list):
        return type(value)(_take(item, place, size) for item in value)
    if isinstance(value, Mapping):
        return {name: _take(item, place, size) for name, item in value.items()}
    if not isinstance(value, torch.Tensor):
        return value
    rows, width = size
    if value.dim() == 4 and value.shape[2] == width and value.shape[3] == width:  # a mask [B, 1, S, S]
        index = place[:, None, :, None].expand(rows, value.shape[1], place.shape[1], width)
        return value.expand(rows, *value.shape[1:]).gather(2, index)
    if value.dim() >= 2 and value.shape[0] in (1, rows) and value.shape[1] == width:
        at = place.reshape(*place.shape, *(1 for _ in value.shape[2:])).expand(*place.shape, *value.shape[2:])
        return value.expand(rows, *value.shape[1:]).gather(1, at)
    return value
