"""Which tokens of a packed tree each layer of a model attends to."""

from typing import Any

import numpy as np
import torch

from lapwing.core.errors import UserError
from lapwing.models.tree import Tree

_TYPES = ("full_attention", "sliding_attention")


def attention_masks(config: Any, tree: Tree, like: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """The attention mask that a transformers model takes for a packed tree.

    A token attends to itself and to its ancestors; in a layer with a sliding window of w tokens to those less than w
    above it:

        keep[q, k] and depth(q) − depth(k) < w

    Depth is the position in a token's own sequence, so that every token sees what it would see there, however far
    apart the layout puts it from its ancestors.

    Args:
      config: of the model's body.
      tree: B packed rows of S tokens.
      like: a tensor with the dtype and the device of the mask.

    Returns:
      An additive mask [B, 1, S, S], 0 where a query may attend to a key and the least number of its dtype elsewhere;
      for a model whose layers are of several types, one mask by type of layer.

    Raises:
      UserError: a layer keeps a state instead of attending, so that it cannot tell the branches of a tree apart.
    """
    text = config.get_text_config()
    types = sorted(set(getattr(text, "layer_types", None) or ()))
    if unknown := [name for name in types if name not in _TYPES]:
        raise UserError(
            f"A model of type '{text.model_type}' has layers of type {', '.join(unknown)}, which packed trees cannot "
            "serve; choose a model whose layers attend to tokens."
        )
    if not types:
        # Mistral, Mixtral, Phi-3 and others have one kind of layer, with or without a window.
        types = ["sliding_attention" if getattr(text, "sliding_window", None) else "full_attention"]
    masks = {"full_attention": _additive(tree.keep, like)} if types != ["sliding_attention"] else {}
    if "sliding_attention" in types:
        near = _within(tree, text.sliding_window)
        # Most batches are shorter than the window, and then one mask does for all layers.
        same = near is tree.keep and "full_attention" in masks
        masks["sliding_attention"] = masks["full_attention"] if same else _additive(near, like)
    return masks if len(masks) > 1 else masks[types[0]]


def _within(tree: Tree, window: int) -> np.ndarray:
    if int(tree.position.max(initial=0)) < window:
        return tree.keep
    return tree.keep & (tree.position[:, None, :, None] - tree.position[:, None, None, :] < window)


def _additive(keep: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    allowed = torch.from_numpy(keep).to(like.device)
    mask = torch.zeros(allowed.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~allowed, torch.finfo(like.dtype).min)
