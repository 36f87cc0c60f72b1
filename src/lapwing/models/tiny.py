"""The embedded model: a small Llama from a configuration, with a word-level tokenizer made from given words."""

from collections.abc import Iterable
from typing import Any

import torch

from lapwing.core import rng
from lapwing.core.errors import UserError

SPECIAL = ("<pad>", "<unk>", "<|im_start|>", "<|im_end|>")
ROLES = ("system", "user", "assistant")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message.role }} {{ message.content }} <|im_end|> {% endfor %}"
    "{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)


def tiny_tokenizer(words: Iterable[str]) -> Any:
    """A tokenizer with one token per word, split at blanks, and a chat template.

    Args:
      words: the vocabulary besides the special tokens and the roles; its order does not matter.

    Returns:
      A `PreTrainedTokenizerFast` that ends replies with `<|im_end|>` and pads with `<pad>`.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = [*SPECIAL, *ROLES, *sorted(set(words) - set(SPECIAL) - set(ROLES))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    # Without a decoder the words are joined with blanks.
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def check_sizes(
    *,
    hidden: int = 128,
    layers: int = 3,
    heads: int = 8,
    intermediate: int = 320,
    initializer_range: float = 0.1,
    max_positions: int = 2048,
) -> None:
    """Refuse sizes that no network can have, without building one.

    Args:
      hidden, layers, heads, intermediate, initializer_range, max_positions: as for `tiny_model`.

    Raises:
      UserError: `heads` does not divide `hidden` into even parts, a size is not positive, or the range is none.
    """
    sizes = {"hidden": hidden, "layers": layers, "heads": heads, "intermediate": intermediate}
    for name, size in (*sizes.items(), ("max_positions", max_positions)):
        if size < 1:
            raise UserError(f"model.{name} is {size}, but all sizes are positive.")
    if hidden % heads or (hidden // heads) % 2:
        raise UserError(f"model.hidden ({hidden}) must be an even multiple of model.heads ({heads}).")
    if layers > 1000 or hidden * (hidden + intermediate) * layers > 10**9:
        raise UserError(
            f"A model of {layers} layers {hidden} wide is too large to start from nothing; lower model.layers or "
            "model.hidden, or load one by name."
        )
    if not 0.0 <= initializer_range <= 1.0:
        raise UserError(f"model.initializer_range is a standard deviation in [0, 1], not {initializer_range}.")


def tiny_model(
    vocabulary: int,
    *,
    seed: int,
    hidden: int = 128,
    layers: int = 3,
    heads: int = 8,
    intermediate: int = 320,
    initializer_range: float = 0.1,
    max_positions: int = 2048,
) -> torch.nn.Module:
    """Build a Llama for causal language modelling with tied embeddings and keyed initial weights.

    The default has about 0.57 M parameters. Its initialiser is wider than the usual 0.02, with which a model this
    small stays blind to positions for minutes.

    Args:
      vocabulary: number of tokens.
      seed: the weights are a function of the seed and the sizes.
      hidden, layers, heads, intermediate: sizes of the network.
      initializer_range: standard deviation of the initial weights.
      max_positions: longest sequence.

    Raises:
      UserError: `heads` does not divide `hidden`, or a size is not positive.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    check_sizes(
        hidden=hidden,
        layers=layers,
        heads=heads,
        intermediate=intermediate,
        initializer_range=initializer_range,
        max_positions=max_positions,
    )
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_positions,
        initializer_range=initializer_range,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=SPECIAL.index("<|im_end|>"),
        pad_token_id=SPECIAL.index("<pad>"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.fold(0, "weights", seed) & 0x7FFF_FFFF_FFFF_FFFF)
        # As a loaded model is: in training mode some passes go another way, and round differently.
        return LlamaForCausalLM(config).float().eval()
