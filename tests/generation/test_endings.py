import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import Metaspace
from tokenizers.models import WordLevel
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from lapwing.generation._drafts import Endings

STOPS = (
    ("</action>",),
    ("\n\n", "ö"),
    ("</action>", "STOP HERE", "🙂"),
    ("a ",),
    ("snake head body",),
)


def whole(tokenizer, ends, stop, reply):
    """What the present answer must be: the whole reply decoded after every token."""
    for n in range(1, len(reply) + 1):
        if reply[n - 1] in ends:
            return n, "end"
        if any(text in tokenizer.decode(reply[:n]) for text in stop):
            return n, "stop"
    return len(reply), ""


def one_by_one(endings, reply):
    for n in range(1, len(reply) + 1):
        reason = endings.reason(reply[:n])
        if reason:
            return n, reason
    return len(reply), ""


def spell(tokenizer, text):
    """A text as one token per byte."""
    table, letter = tokenizer.get_vocab(), bytes_to_unicode()
    return [table[letter[byte]] for byte in text.encode()]


@pytest.fixture(scope="module")
def byte_level(toy_folder):
    return AutoTokenizer.from_pretrained(toy_folder("qwen2"))


@pytest.mark.parametrize("stop", STOPS, ids=repr)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_replies_end_where_the_whole_decoded_text_says(byte_level, stop, data):
    # Fails when the tail is too short for a stop string whose characters take several tokens each.
    text = st.text(st.sampled_from(list("ab </>action\nSTOPHEREöé🙂snk\x00\ufffd")), max_size=12)
    parts = data.draw(st.lists(text | st.sampled_from(stop) | st.integers(3, 419), max_size=12))
    reply = []
    for part in parts:
        reply += [part] if isinstance(part, int) else byte_level.encode(part, add_special_tokens=False)
    ends = frozenset({byte_level.eos_token_id, 7})
    assert one_by_one(Endings(byte_level, ends, stop), reply) == whole(byte_level, ends, stop, reply)


def test_replies_of_single_bytes_end_where_the_whole_decoded_text_says(byte_level):
    # Byte by byte, so that a character comes into being with its last token and replacement characters vanish.
    stop = ("übergröße 🙂🙂",)
    for before in ("", "x", "x" * 40, "🙂" * 5, "übergröße 🙂", "übergröß"):
        reply = spell(byte_level, before + stop[0] + "more")
        length = len(spell(byte_level, before + stop[0]))
        assert one_by_one(Endings(byte_level, frozenset(), stop), reply) == (length, "stop")
        assert whole(byte_level, frozenset(), stop, reply) == (length, "stop")


def test_a_tail_that_begins_within_a_character_ends_nothing(byte_level):
    # Fails when what the decoded tail shows is not looked for in the whole text.
    reply, stop = spell(byte_level, "🙂a" * 10), ("\ufffda",)
    assert one_by_one(Endings(byte_level, frozenset(), stop), reply) == (50, "")
    assert whole(byte_level, frozenset(), stop, reply) == (50, "")


def test_a_decoder_that_strips_the_first_blank_hides_no_stop_string():
    # Fails when the tail begins with the stop string itself: decoders of the Llama 2 kind drop a leading blank.
    letters = Tokenizer(WordLevel({"\u2581": 0, "b": 1, "c": 2, "a": 3}, unk_token="a"))
    letters.decoder = Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, clean_up_tokenization_spaces=False)
    assert tokenizer.decode([0, 1, 0, 2]) == "b c"
    endings = Endings(tokenizer, frozenset(), (" b c",))
    assert one_by_one(endings, [0, 1, 0, 2]) == (4, "")
    assert one_by_one(endings, [3] * 20 + [0, 1, 0, 2, 3]) == (24, "stop")


def test_words_with_blanks_between_them_end_alike(tokenizer):
    # The tiny tokenizer's decoder puts blanks between words.
    random = np.random.default_rng(2)
    words = [tokenizer.decode([i]) for i in range(4, 40)]
    stop = (f"{words[3]} {words[5]}", words[11], f"{words[7]} ")
    endings = Endings(tokenizer, frozenset({3}), stop)
    replies = [random.choice([3, 7, 9, 11, 15, *range(20, 36)], size=12).tolist() for _ in range(80)]
    found = [one_by_one(endings, reply) for reply in replies]
    assert found == [whole(tokenizer, {3}, stop, reply) for reply in replies]
    assert {reason for _, reason in found} == {"end", "stop", ""}


class Counting:
    """A tokenizer that counts the tokens that it decodes."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.tokens = 0

    def decode(self, token):
        self.tokens += len(token)
        return self.tokenizer.decode(token)


def test_a_long_reply_is_not_decoded_again_and_again(byte_level):
    # Fails when the whole reply is decoded after every token: that would be half a million tokens.
    counting = Counting(byte_level)
    endings = Endings(counting, frozenset(), ("</action>",))
    reply = np.random.default_rng(0).integers(8, 400, size=1000).tolist()
    assert one_by_one(endings, reply) == (1000, "")
    assert counting.tokens < 20_000


def test_without_stop_strings_nothing_is_decoded(byte_level):
    counting = Counting(byte_level)
    endings = Endings(counting, frozenset({9}), ())
    assert [endings.reason(reply) for reply in ([], [8], [8, 9])] == ["", "", "end"]
    assert counting.tokens == 0
