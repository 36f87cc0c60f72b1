import dataclasses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapwing.policies.escape import SpecialTokens, without_tags
from lapwing.policies.tool_parser import ToolUse

SPECIAL = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>", "[END]")
# Whole and broken special tokens and tags, so that many of them meet.
pieces = [*SPECIAL, "<unk>", "<|im_", "start|>", "<", ">", "|", "[", "]", "END", "[END", "</", "tool_call>", "&lt;"]
pieces += ["<tool>", "</result>", "< ", "<tool ", "a", " ", "\n", "\0", "é", "<|IM_END|>"]
texts = st.lists(st.sampled_from(pieces), max_size=12).map("".join) | st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("</result> <answer> x", "&lt;/result> &lt;answer> x"),
        ("<|im_end|><|im_start|>assistant", "&lt;|im_end|>&lt;|im_start|>assistant"),
        ('<a href="x">', '&lt;a href="x">'),
        ("<tool", "&lt;tool"),
        ("<_x> <é> <工具>", "&lt;_x> &lt;é> &lt;工具>"),
        ("<<tool>>", "<&lt;tool>>"),
        ("</|x|>", "&lt;/|x|>"),
        # What begins no tag stays.
        ("1 < 2 <3 <- x <= y << z <", "1 < 2 <3 <- x <= y << z <"),
        ("a < b", "a < b"),
        ("&lt;tool>", "&lt;tool>"),
        ("", ""),
    ],
)
def test_what_begins_a_tag_is_escaped_and_nothing_else(text, expected):
    assert without_tags(text) == expected


@given(texts, st.from_regex(r"[^\W\d]\w{0,8}", fullmatch=True))
def test_no_tag_that_a_parser_can_have_survives(text, tag):
    tags = ToolUse(tool_tag=tag, answer_tag="", reasoning_tag="").tags
    escaped = without_tags(f"{text}<{tag}>{text}</{tag}>")
    assert not any(bracket in escaped for name in tags for bracket in (f"<{name}>", f"</{name}>"))
    assert without_tags(escaped) == escaped


@given(texts)
def test_words_are_escaped_one_by_one(text):
    # Fails when blanks are looked over: a vocabulary could not be escaped like the texts.
    assert without_tags(text).split() == [without_tags(word) for word in text.split()]


@given(texts)
@example("<|im_<|im_end|>end|>")
@example("[[END]END]")
@example("[END]" * 50)
def test_a_neutral_text_has_no_special_tokens(tool_tokenizer, text):
    # Fails when what is left of two special tokens is not looked at again.
    special = SpecialTokens(tool_tokenizer)
    neutral = special.neutral(text)
    ids = set(tool_tokenizer.encode(neutral, add_special_tokens=False)) - {tool_tokenizer.unk_token_id}
    assert not ids & set(tool_tokenizer.all_special_ids)
    assert "\0" not in neutral
    assert special.neutral(neutral) == neutral


def test_special_tokens_are_taken_apart_or_become_unknown(make_tool_tokenizer):
    without, with_one = make_tool_tokenizer(), make_tool_tokenizer(unknown="<unk>")
    text = "a <|im_end|>[END] b"
    assert SpecialTokens(without).neutral(text) == "a < |im_end|>[ END] b"
    assert SpecialTokens(with_one).neutral(text) == "a <unk><unk> b"
    assert SpecialTokens(without).neutral("<unk> <|im_end >") == "<unk> <|im_end >"


def test_an_end_token_that_is_also_the_unknown_one_is_taken_apart(make_tool_tokenizer):
    # As in GPT-2, where unknown, begin and end are one token. Fails when it is left as unknown, or put for others.
    tokenizer = make_tool_tokenizer(unknown="<|im_end|>")
    neutral = SpecialTokens(tokenizer).neutral("<|im_end|> [END]")
    assert neutral == "< |im_end|> [ END]"
    assert tokenizer.eos_token_id not in tokenizer.encode(neutral, add_special_tokens=False)


def test_so_is_padding_that_is_also_the_unknown_one(make_tool_tokenizer):
    # As in Qwen2, where both are <|endoftext|>, which ends texts.
    tokenizer = make_tool_tokenizer(unknown="[END]")
    tokenizer.pad_token = "[END]"
    assert SpecialTokens(tokenizer).neutral("<|im_end|> [END]") == "< |im_end|> [ END]"


def test_tokens_that_grow_from_what_takes_them_apart_come_to_an_end(make_tool_tokenizer):
    # Two blanks are a special token: a blank put between them makes more of them.
    special = SpecialTokens(make_tool_tokenizer(special=("  ", "x", "<  |a|>", "<|a|>")))
    assert special.neutral("a    b x <|a|>") == "ab< |a|>"
    assert special.neutral("xxx") == ""


def test_the_agents_side_keeps_its_own_tags_and_no_others(make_tool_tokenizer):
    special = SpecialTokens(make_tool_tokenizer(), {"<tool_call>", "</tool_call>"})
    text = "<tool_call> x </tool_call> <|im_end|>"
    assert special.neutral(text, is_own=True) == "<tool_call> x </tool_call> < |im_end|>"
    assert special.neutral(text) == "< tool_call> x < /tool_call> < |im_end|>"


def test_a_tokenizer_without_special_tokens_changes_nothing():
    @dataclasses.dataclass
    class Plain:
        all_special_tokens: tuple[str, ...] = ()
        unk_token: str | None = None
        bos_token: str | None = None
        eos_token: str | None = None

    assert SpecialTokens(Plain()).neutral("<|im_end|>") == "<|im_end|>"


def test_the_texts_and_the_names_of_a_json_value_are_neutral(make_tool_tokenizer):
    special = SpecialTokens(make_tool_tokenizer())
    value = {"a[END]": ["[END]", {"b": "<|im_end|>"}], "n": 1, "t": True, "none": None, "x": 0.5}
    expected = {"a[ END]": ["[ END]", {"b": "< |im_end|>"}], "n": 1, "t": True, "none": None, "x": 0.5}
    assert special.neutral_in(value) == expected
    assert special.neutral_in(None) is None
