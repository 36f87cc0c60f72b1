"""Toy language models of the architectures that people bring, as ordinary folders: Qwen2, Qwen3, Llama and Gemma.

Each has a byte-level BPE tokenizer that was trained here on a few sentences, and a chat template of its family's
shape: Qwen2 adds a system message where there is none, Qwen3 thinks and forgets earlier thoughts, Llama writes headers
and ends turns with another token than texts, Gemma refuses system messages and calls the assistant "model".
"""

from pathlib import Path
from typing import Any

ARCHITECTURES = ("qwen2", "qwen3", "llama", "gemma")

_TEXT = (
    "You move on a frozen lake. Reach the goal and avoid the holes. "
    "You are at row 0 column 1; the goal is at row 3 column 3; near you: hole frozen start goal edge. "
    "Reply with one move: UP DOWN LEFT RIGHT. <action>LEFT</action> <think>go right, then down</think> "
    "<plan>reach the goal</plan> system user assistant model up down left right apples snake head body wall food. "
)

_CHATML = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}"
    "{% endif %}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_THINKING = (
    "{% for message in messages %}{% set content = message['content'] %}"
    "{% if message['role'] == 'assistant' and '</think>' in content and not loop.last %}"
    "{% set content = content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
_HEADERS = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_TURNS = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)

# Special tokens, the first of which pads; the tokens that open a text, end a text, and end a turn; the template.
_FAMILIES: dict[str, tuple[tuple[str, ...], str | None, str, str, str]] = {
    "qwen2": (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, "<|im_end|>", "<|im_end|>", _CHATML),
    "qwen3": (("<|endoftext|>", "<|im_start|>", "<|im_end|>"), None, "<|im_end|>", "<|im_end|>", _THINKING),
    "llama": (
        ("<|finetune_right_pad_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
         "<|end_header_id|>", "<|eot_id|>"),
        "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", _HEADERS,
    ),
    "gemma": (
        ("<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), "<bos>", "<eos>", "<end_of_turn>", _TURNS,
    ),
}  # fmt: skip


def make_toy(
    folder: Path, architecture: str, *, hidden: int = 32, layers: int = 2, seed: int = 0, **config: Any
) -> Path:
    """Write a toy model of an architecture, with its tokenizer and generation settings.

    Args:
      folder: where to.
      architecture: one of `ARCHITECTURES`.
      hidden, layers: sizes; four heads, two of them for keys and values.
      seed: of the weights.
      config: further settings of the architecture's configuration.

    Returns:
      The folder.
    """
    import torch
    from transformers import GenerationConfig

    tokenizer = make_tokenizer(architecture)
    turn_end = tokenizer.convert_tokens_to_ids(_FAMILIES[architecture][3])
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": hidden // 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.1,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        **config,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(architecture, sizes)
    ends = sorted({tokenizer.eos_token_id, turn_end})
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _model(architecture: str, sizes: dict[str, Any]) -> Any:
    import transformers as hf

    if architecture == "qwen2":
        sizes.pop("head_dim")
        return hf.Qwen2ForCausalLM(hf.Qwen2Config(**{"tie_word_embeddings": True, **sizes}))
    if architecture == "qwen3":
        return hf.Qwen3ForCausalLM(hf.Qwen3Config(**{"tie_word_embeddings": False, **sizes}))
    if architecture == "llama":
        return hf.LlamaForCausalLM(hf.LlamaConfig(**{"tie_word_embeddings": False, **sizes}))
    # Every second layer sees a short window only, and the logits are capped.
    window = {"sliding_window": 16, "query_pre_attn_scalar": sizes["head_dim"], "final_logit_softcapping": 30.0}
    return hf.Gemma2ForCausalLM(hf.Gemma2Config(**{**window, **sizes}))


def make_tokenizer(architecture: str) -> Any:
    """The tokenizer of an architecture's family."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special, bos, eos, _, template = _FAMILIES[architecture]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_TEXT] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=special[0],
        additional_special_tokens=[token for token in special[1:] if token not in (bos, eos)],
        chat_template=template,
        clean_up_tokenization_spaces=False,
    )
