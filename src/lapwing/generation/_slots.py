"""A key–value cache of preallocated slots, in which the rows of a batch have lengths of their own."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers.cache_utils import Cache, DynamicLayer

from lapwing.core.errors import UserError
from lapwing.generation._prefixes import Layers

# Up to this many entries, whole distributions are kept on the host.
_SMALL_VOCABULARY = 4096
_TYPES = ("full_attention", "sliding_attention")
# Their attention takes any mask [B, 1, Q, L].
_IMPLEMENTATIONS = ("sdpa", "eager", "flex_attention")


def layer_types(config: Any) -> list[str]:
    """The different types of a model's layers, in alphabetical order."""
    text = config.get_text_config()
    types: set[str] = set(getattr(text, "layer_types", None) or ())
    if types:
        return sorted(types)
    # Mistral, Mixtral, Phi-3 and others have one kind of layer, with or without a window.
    return ["sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"]


def unsupported(config: Any) -> str:
    """Why a model cannot be decoded on slots; empty where it can."""
    if unknown := [name for name in layer_types(config) if name not in _TYPES]:
        return f"has layers of type {', '.join(unknown)}"
    implementation = getattr(config, "_attn_implementation", None)
    return "" if implementation in _IMPLEMENTATIONS else f"computes attention with '{implementation}'"


def draws_on_device(model: Any, wanted: bool | None, *, append_only: bool) -> bool:
    """Whether tokens are drawn on the model's device, as a setting and what fits decide.

    Raises:
      UserError: it is wanted, and the model cannot be decoded on slots.
    """
    why_not = unsupported(model.config)
    if wanted and why_not:
        raise UserError(
            "generation.on_device needs a model that attends to tokens with 'sdpa' or 'eager', but this one "
            f"{why_not}; leave on_device out."
        )
    if wanted is not None or why_not:
        return bool(wanted)
    large = model.config.get_text_config().vocab_size > _SMALL_VOCABULARY
    return large or append_only or next(model.parameters()).device.type != "cpu"


class _Place(NamedTuple):
    """Where the tokens of one forward pass go: rows, their slots, and how many slots attention reads."""

    rows: slice
    first: int | None  # the first slot, where it is the same in all rows
    row: torch.Tensor | None  # [B, 1]
    slot: torch.Tensor | None  # [B, Q]
    length: int


@dataclass
class _Layout:
    """What a cache and its layers both know; they must not know each other, or only a collector frees their memory."""

    rows: int
    slots: int
    place: _Place


class SlotCache(Cache):
    """Keys and values of R rows with room for S tokens each; the token at position p of a row stands in its slot p.

    Because slot and position are the same number, rows of different lengths need no padding between the tokens, and
    a layer with a sliding window sees the right tokens whatever the other rows are. The last slot takes the padding of
    a batch and is seen by nobody. All layers have all slots, those with a sliding window too.
    """

    def __init__(self, config: Any, rows: int, slots: int, device: torch.device) -> None:
        """Reserve nothing yet: a layer takes its memory when it sees its first keys.

        Args:
          config: of the model.
          rows, slots: R and S.
          device: of the first layer.
        """
        self.layout = _Layout(rows, slots, _Place(slice(0, 0), 0, None, None, 0))
        layers: list[Any] = [_SlotLayer(self.layout) for _ in range(config.get_text_config().num_hidden_layers)]
        super().__init__(layers=layers)
        self._slots = layers
        self.config = config
        self.device = device

    def settle(self, row: int, start: np.ndarray, count: np.ndarray, like: torch.Tensor) -> dict[str, Any]:
        """Say where the tokens of the next forward pass go.

        Args:
          row: the first of B consecutive rows.
          start: how many tokens each of them holds, [B].
          count: how many come to each, [B]; the pass is as wide as the largest, padding stands on the right.
          like: a tensor with the dtype and the device of an additive mask.

        Returns:
          The arguments `position_ids` and `attention_mask` of the model. Where all rows hold equally many tokens the
          mask is None: the model builds its own, or takes a kernel that needs none.
        """
        offset = np.arange(int(count.max()))
        position = start[:, None] + np.minimum(offset, count[:, None] - 1)
        rows = slice(row, row + len(start))
        length = int((start + count).max())
        ids = torch.from_numpy(position).to(like.device)
        if (start == start[0]).all():
            self.layout.place = _Place(rows, int(start[0]), None, None, length)
            return {"position_ids": ids, "attention_mask": None}
        slot = torch.from_numpy(np.where(offset < count[:, None], position, self.layout.slots - 1)).to(like.device)
        at = torch.arange(rows.start, rows.stop, device=like.device)[:, None]
        self.layout.place = _Place(rows, None, at, slot, length)
        return {"position_ids": ids, "attention_mask": _masks(self.config, ids, length, like)}

    def load(self, row: int, layers: Layers, length: int) -> None:
        """Put known keys and values into the first slots of a row."""
        for layer, known in zip(self._slots, layers, strict=True):
            if known is not None:
                layer.reserve(known[0][None], known[1][None])
                layer.keys[row, :, :length] = known[0][:, :length]
                layer.values[row, :, :length] = known[1][:, :length]

    def take(self, row: int, length: int) -> Layers:
        """A copy of the first slots of a row."""
        return [
            (layer.keys[row, :, :length].clone(), layer.values[row, :, :length].clone())
            if layer.is_initialized
            else None
            for layer in self._slots
        ]

    def copy(self, source: list[int], target: list[int], length: int) -> None:
        """Copy the first slots of some rows to other rows."""
        read, write = torch.tensor(source, device=self.device), torch.tensor(target, device=self.device)
        for layer in self._slots:
            if layer.is_initialized:
                read, write = read.to(layer.device), write.to(layer.device)
                for store in (layer.keys, layer.values):
                    # The right side is read whole before anything is written.
                    store[write, :, :length] = store[read, :, :length]


class _SlotLayer(DynamicLayer):
    """One layer of a `SlotCache`."""

    def __init__(self, layout: _Layout) -> None:
        super().__init__()
        self.layout = layout

    def reserve(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Take the memory, for keys and values of these heads, widths, dtype and device."""
        if self.is_initialized:
            return
        self.dtype, self.device = keys.dtype, keys.device
        # Zeros, because attention multiplies what it does not see by 0, and 0 times what memory may hold is not 0.
        self.keys, self.values = (
            part.new_zeros(self.layout.rows, part.shape[1], self.layout.slots, part.shape[3]) for part in (keys, values)
        )
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the keys and values of a pass into their slots; returns those of all tokens of the rows."""
        self.reserve(key_states, value_states)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Slots that attention reads, and the first of them."""
        return self.layout.place.length, 0

    def get_seq_length(self) -> int:
        """How many tokens each row held before this pass, where that is one number."""
        return self.layout.place.first or 0

    def _write(self, store: Any, new: torch.Tensor) -> torch.Tensor:
        place = self.layout.place
        if place.first is not None:
            store[place.rows, :, place.first : place.first + new.shape[2]] = new
        else:
            store[place.row, :, place.slot] = new.transpose(1, 2)
        return store[place.rows, :, : place.length]


def _masks(config: Any, position: torch.Tensor, length: int, like: torch.Tensor) -> Any:
    """The mask [B, 1, Q, L] of each type of layer; one tensor where there is one type."""
    types = layer_types(config)
    masks = {name: _as_needed(config, _visible(config, name, position, length), like) for name in types}
    return masks if len(types) > 1 else masks[types[0]]


def _visible(config: Any, layer_type: str, position: torch.Tensor, length: int) -> torch.Tensor:
    """Which slots each token sees, bool [B, 1, Q, L]."""
    slot = torch.arange(length, device=position.device)
    query = position[:, None, :, None]
    visible = slot <= query
    window = config.get_text_config().sliding_window if layer_type == "sliding_attention" else None
    return visible if window is None or length <= window else visible & (slot > query - window)


def _as_needed(config: Any, visible: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    if config._attn_implementation == "sdpa":
        return visible
    return torch.zeros_like(visible, dtype=like.dtype).masked_fill_(~visible, torch.finfo(like.dtype).min)
