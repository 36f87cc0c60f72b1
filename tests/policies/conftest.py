"""A subword tokenizer with a chat template that knows tools, as the models of the Qwen family have them."""

from collections.abc import Callable
from typing import Any

import pytest

SPECIAL = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "[END]")
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}# Tools
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
A call is JSON: <tool_call>
{"name": <name>, "arguments": <object>}
</tool_call><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.role != 'system' %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def _bytes() -> Any:
    """Every byte is a token, so that any text can be written and is given back."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


def _characters() -> Any:
    """Every character of ASCII is a token, and any other is unknown."""
    from tokenizers import Tokenizer, decoders, models

    letters = ["<unk>", "\n", *map(chr, range(32, 127))]
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, [], unk_token="<unk>"))
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    return tokenizer


@pytest.fixture(scope="session")
def make_tool_tokenizer() -> Callable[..., Any]:
    """Tokenizers with special tokens and that template, with or without an unknown token."""
    from transformers import PreTrainedTokenizerFast

    def make(*, unknown: str | None = None, special: tuple[str, ...] = SPECIAL) -> Any:
        return PreTrainedTokenizerFast(
            tokenizer_object=_bytes() if unknown is None else _characters(),
            unk_token=unknown,
            eos_token="<|im_end|>",
            additional_special_tokens=[text for text in special if text != "<|im_end|>"],
            chat_template=CHAT_TEMPLATE,
            clean_up_tokenization_spaces=False,
        )

    return make


@pytest.fixture(scope="session", params=[None, "<unk>"], ids=["without an unknown token", "with an unknown token"])
def tool_tokenizer(request: pytest.FixtureRequest, make_tool_tokenizer: Callable[..., Any]) -> Any:
    """Both kinds."""
    return make_tool_tokenizer(unknown=request.param)
