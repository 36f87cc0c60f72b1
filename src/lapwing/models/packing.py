"""Whether a model gives on packed trees what it gives on each sequence alone."""

import inspect
from typing import Any

import numpy as np
import torch

from lapwing.core.errors import UserError
from lapwing.models.scorer import next_token_logits
from lapwing.models.tree import grow

_SHARED, _OWN = 3, 3


def check_packing(model: Any, name: str) -> None:
    """Refuse a model whose architecture cannot be trained on packed trees.

    Two sequences of six tokens with a common beginning are laid into one tree. The second one must get the logits of
    its own sequence, and not those that it would get if it also saw the first one's branch:

        median |tree − alone|  ≤  c · median |one row − alone|,     c = 0.05, or 0.5 where less than float32 rounds

    Both sides scale with the model. Models with states instead of attention, and those that ignore or refuse a
    four-dimensional mask or positions, fail; so does one whose head does more than `next_token_logits` knows. It costs
    three forward passes of less than ten tokens.

    Args:
      model: a causal language model of transformers.
      name: what messages call it.

    Raises:
      UserError: the model fails.
    """
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise UserError(_sentence(model, name))
    try:
        with torch.no_grad():
            error, confusion = _errors(model)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as failure:
        raise UserError(_sentence(model, name)) from failure
    if not error <= (0.05 if model.dtype == torch.float32 else 0.5) * confusion:
        raise UserError(_sentence(model, name))


def _errors(model: Any) -> tuple[float, float]:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    tokens = np.arange(1, 1 + _SHARED + 2 * _OWN) * (vocabulary - 1) // (1 + _SHARED + 2 * _OWN)
    first, second = tokens[: _SHARED + _OWN], np.concatenate([tokens[:_SHARED], tokens[_SHARED + _OWN :]])
    tree = grow([first, second])
    nodes = tree.node[1][_SHARED:]
    one_row = tree.with_keep(np.tri(tree.width, dtype=bool)[None, None])
    device = next(model.parameters()).device
    alone = model(input_ids=torch.from_numpy(second)[None].to(device), use_cache=False).logits[0, _SHARED:]
    seen = [next_token_logits(model, laid, nodes) for laid in (tree, one_row)]
    error, confusion = (float((logits.float() - alone.float()).abs().median()) for logits in seen)
    return error, confusion


def _sentence(model: Any, name: str) -> str:
    return (
        f"The model '{name}' ({type(model).__name__}) cannot be trained on packed sequences: it predicts other tokens "
        "there than on each sequence alone; choose a decoder whose layers attend to tokens, such as Qwen, Llama, Gemma "
        "or Mistral."
    )
