"""Tokens of words, looked up."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lapwing.models.chat_format import ChatFormat
from lapwing.models.tiny import tiny_tokenizer
from lapwing.models.word_table import WordTable, is_by_words

TEXTS = [
    "",
    " ",
    "a",
    "a b",
    "  a\n\tb  ",
    "<|im_start|> user a <|im_end|> ",
    "a<|im_end|>b",
    "a<|im_end|> b<|im_end|><|im_end|>",
    "<|im_end|>",
    "<|im_ end|>",
    "a\x1cb",
    "a\x1c b",
    "\x1f",
    "a\u00a0b\u2003a\u3000b\u2028a\x85b",
    "a\u200bb a\ufeff",
    "nobody a",
    "<unk> a",
    "ab",
]


@pytest.fixture
def tokenizer():
    return tiny_tokenizer({"a", "b", "ab"})


# Fails when blanks are those of Python and not of the tokenizer, or a token within a word is not seen.
def test_the_tokens_are_those_of_the_tokenizer(tokenizer):
    table = WordTable(tokenizer)
    for text in TEXTS * 2:
        assert table.ids(text) == tokenizer.encode(text, add_special_tokens=False)


def test_known_words_are_not_tokenized_again(tokenizer, monkeypatch):
    table = WordTable(tokenizer)
    expected = table.ids("a b <|im_end|>")
    monkeypatch.setattr(tokenizer, "encode", None)
    assert table.ids(" b a <|im_end|>  ") == [expected[1], expected[0], expected[2]]
    for text in ("unheard", "a\x1cb"):
        with pytest.raises(TypeError):
            table.ids(text)


def fast(**settings):
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "b": 2, "a b": 3}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    for name, value in settings.items():
        setattr(backend, name, value)
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


class Reads(PreTrainedTokenizerFast):
    """May read a text in any way."""


def test_only_words_that_have_nothing_to_do_with_each_other_are_looked_up(tokenizer):
    assert is_by_words(tokenizer)
    assert is_by_words(fast())
    assert not is_by_words(fast(normalizer=normalizers.Replace("a b", "b")))
    assert not is_by_words(fast(pre_tokenizer=pre_tokenizers.Whitespace()))
    assert not is_by_words(fast(pre_tokenizer=None))
    assert not is_by_words(fast(model=models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>")))
    assert not is_by_words(Reads(tokenizer_object=fast().backend_tokenizer, unk_token="<unk>"))
    reaching = fast()
    reaching.add_tokens(["a b"])
    assert not is_by_words(reaching)


def test_a_saved_tokenizer_is_looked_up_as_well(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert is_by_words(loaded)
    assert ChatFormat(loaded)._table is not None
