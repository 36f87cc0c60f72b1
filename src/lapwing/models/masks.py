"""Which tokens of a packed tree each layer of a model attends to."""

from typing import Any

import numpy as np
import torch

from lapwing.core.errors import UserError
from lapwing.models.tree import Tree, grow

_TYPES = ("full_attention", "sliding_attention")

Mask = torch.Tensor | None


def attention_masks(config: Any, tree: Tree, like: torch.Tensor, *, causal: bool = False) -> Mask | dict[str, Mask]:
    """The attention mask that a transformers model takes for a packed tree.

    A token attends to itself and to its ancestors; in a layer with a sliding window of w tokens to those less than w
    above it:

        keep[q, k] and depth(q) − depth(k) < w

    Depth is the position in a token's own sequence, so that every token sees what it would see there, however far
    apart the layout puts it from its ancestors. Where no row has branches, a token attends to all that stand before it,
    and nobody reads the padding that comes after: attention that is causal by itself needs no mask for this. That
    spares the mask's memory, and the arithmetic of what it would hide.

    Args:
      config: of the model's body.
      tree: B packed rows of S tokens.
      like: a tensor with the dtype and the device of the mask.
      causal: the model's attention is causal where it gets no mask; see `is_causal`.

    Returns:
      An additive mask [B, 1, S, S], 0 where a query may attend to a key and the least number of its dtype elsewhere,
      or None where it would hide what comes later and nothing else; for a model whose layers are of several types, one
      mask by type of layer.

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
    # Most batches are shorter than the window, and then one mask does for all layers.
    window: int = text.sliding_window if "sliding_attention" in types else tree.width
    is_near = int(tree.position.max(initial=0)) < window
    needless = causal and bool(tree.is_chain.all())
    whole = None if needless or (types == ["sliding_attention"] and not is_near) else _additive(tree.keep, like)
    near = whole if is_near else _additive(_within(tree, window), like)
    masks = {"full_attention": whole, "sliding_attention": near}
    return masks if len(types) > 1 else masks[types[0]]


def is_causal(body: Any) -> bool:
    """Whether the attention of a model's body is causal where it gets no mask; found out once, on six tokens.

    Args:
      body: of transformers.
    """
    known = getattr(body, "_lapwing_is_causal", None)
    if known is None:
        if any(hasattr(parameter, "full_tensor") for parameter in body.parameters()):
            return False  # other processes would have to make the same passes
        known = body._lapwing_is_causal = body.config._attn_implementation == "sdpa" and _same_without(body)
    return known


def _same_without(body: Any) -> bool:
    # What others have hung on the body is not called: this is no pass of theirs.
    parameter = next(body.parameters())
    tree = grow([np.arange(6, dtype=np.int64) % body.get_input_embeddings().weight.shape[0]])
    inputs = {
        "input_ids": torch.from_numpy(tree.token).to(parameter.device),
        "position_ids": torch.from_numpy(tree.position).to(parameter.device),
        "use_cache": False,
    }
    with torch.no_grad():
        one, other = (
            body.forward(**inputs, attention_mask=attention_masks(body.config, tree, parameter, causal=causal))
            for causal in (False, True)
        )
    one, other = one.last_hidden_state.float(), other.last_hidden_state.float()
    exact = 1e-4 if parameter.dtype in (torch.float32, torch.float64) else 0.05
    return bool((one - other).abs().max() <= exact * one.abs().max())


def _within(tree: Tree, window: int) -> np.ndarray:
    return tree.keep & (tree.position[:, None, :, None] - tree.position[:, None, None, :] < window)


def _additive(keep: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    allowed = torch.from_numpy(keep).to(like.device)
    mask = torch.zeros(allowed.shape, dtype=like.dtype, device=like.device)
    return mask.masked_fill_(~allowed, torch.finfo(like.dtype).min)
