"""Texts as vectors: a pretrained encoder for dense retrieval."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from lapwing.core.clean_text import encodable
from lapwing.core.errors import UserError
from lapwing.models.hub import find_model
from lapwing.models.model_files import check_model_files
from lapwing.models.pretrained import quiet, shortened
from lapwing.models.weights import check_weights


class TextEncoder:
    """Turns texts into the mean of the last hidden states of their tokens.

        vector = Σ over tokens of hidden ÷ tokens

    Padding is left out of the mean; special tokens of the tokenizer are in it, as in E5. A text is cut after
    `max_tokens` tokens, and one without a token is a row of zeros.

    Reference: Wang et al. 2022, "Text Embeddings by Weakly-Supervised Contrastive Pre-training".
      https://arxiv.org/abs/2212.03533
    """

    def __init__(self, path: str, *, revision: str | None = None, max_tokens: int = 512) -> None:
        """Load an encoder and its tokenizer in float32.

        Args:
          path: a local Hugging Face folder, or a hub id such as "intfloat/e5-small-v2".
          revision: branch, tag or commit on the hub.
          max_tokens: tokens of a text that are read, at least 1; no more than the model has positions.

        Raises:
          UserError: there is no such model or it cannot be reached, or `max_tokens` is out of its range.
        """
        from transformers import AutoModel, AutoTokenizer

        found = find_model(path, revision)
        if Path(found).is_dir():
            check_weights(Path(found))
            check_model_files(Path(found))
        # A copy in the cache is that of the revision already.
        given = {"revision": revision if found == path else None, "trust_remote_code": False}
        try:
            with quiet():
                self._tokenizer: Any = AutoTokenizer.from_pretrained(found, **given)
                loaded: Any = AutoModel.from_pretrained(found, dtype="float32", use_safetensors=True, **given)
            self._model = loaded.eval()
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # of the libraries that read configurations, tokenizers and weights
            raise UserError(
                f"The encoder '{path}' could not be loaded ({shortened(error)}); give a local Hugging Face "
                "folder, or a hub id while the network is there."
            ) from error
        positions = getattr(self._model.config, "max_position_embeddings", None)
        if max_tokens < 1 or (positions is not None and max_tokens > positions):
            raise UserError(
                f"The encoder '{path}' reads from 1 to {positions or 'any number of'} tokens, not {max_tokens}; set "
                "max_tokens."
            )
        self._max_tokens = max_tokens

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Encode some texts at once.

        Args:
          texts: n of them.

        Returns:
          float32 [n, d].
        """
        texts = [encodable(text) for text in texts]
        rows = [self._tokenizer(text, truncation=True, max_length=self._max_tokens)["input_ids"] for text in texts]
        width = max((len(row) for row in rows), default=0)
        if not width:
            return np.zeros((len(texts), self._model.config.hidden_size), np.float32)
        # Padded at the end by hand: some tokenizers have no padding token, and the mask hides whatever stands there.
        token = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        keep = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            hidden = self._model(input_ids=token, attention_mask=keep).last_hidden_state
            # A row of padding alone may hold anything, even NaN, which times 0 stays NaN.
            total = torch.where(keep[..., None] > 0, hidden, 0.0).sum(1)
            return (total / keep.sum(1, keepdim=True).clamp(min=1)).float().numpy()
