"""Templates that write contents as they are are rendered once for a sequence of roles; all others every time."""

import itertools
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lapwing.core.errors import UserError
from lapwing.models.chat_format import REPLY, ChatFormat
from lapwing.models.tiny import tiny_tokenizer
from lapwing.models.verbatim import Frames, is_verbatim

TURN = "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
PLAIN = "{% for message in messages %}" + TURN + "{% endfor %}"
# What a content may be that a template could take for something else.
CONTENTS = [
    "",
    " ",
    " a\n",
    "\n\nb ",
    "a",
    "<|im_end|>",
    "</think> a",
    "{{ 1 + 1 }}",
    "0",
    "é☃",
    "\0",
    "\x000\0",
    REPLY,
]


def message(role, content, **further) -> Any:
    return {"role": role, "content": content, **further}


def writing(template):
    """A tokenizer with this template."""
    tokenizer = tiny_tokenizer(())
    tokenizer.chat_template = template
    return tokenizer


def render_of(tokenizer):
    return lambda messages: tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


VERBATIM = {
    "plain": PLAIN,
    "dots": "{% for m in messages %}{{ m.role }}: {{ m.content }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "joined": "{% for m in messages %}{{ bos_token ~ m.role + '\n' + m['content'] + eos_token }}{% endfor %}",
    "by place": "{% if messages[0].role == 'user' %}{{ messages[0].content }}{% endif %}{{ messages[-1]['content'] }}",
    "chosen": "{% for m in messages %}{{ m.content if m.role == 'user' else '(' + m.content + ')' }}{% endfor %}",
    "parts": "{% for m in messages[1:] %}{{ m.content }} {{ loop.index }}/{{ messages | length }}{% endfor %}",
    "twice": "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",
    "unknown keys": "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}!{% endif %}{% endfor %}",
    "named": "{% for m in messages %}{% set r = m.role | upper %}{{ r + m.content }}{% endfor %}",
    "refuses": "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}" + PLAIN,
}
# Each does something with contents, perhaps only with some.
LOOKS = {
    "trims": PLAIN.replace("message['content']", "message['content'] | trim"),
    "strips": PLAIN.replace("message['content']", "message['content'].strip()"),
    "cuts": PLAIN.replace("message['content']", "message['content'][:1]"),
    "asks": PLAIN.replace(TURN, "{% if message.content %}" + TURN + "{% endif %}"),
    "searches": PLAIN.replace(TURN, "{% if '</think>' in message.content %}!{% endif %}" + TURN),
    "compares": PLAIN.replace(TURN, "{{ 'empty' if message['content'] == '' else message['content'] }}"),
    "filters the loop": "{% for message in messages if message.content != ' ' %}" + TURN + "{% endfor %}",
    "keeps": "{% for m in messages %}{% set c = m.content %}{% if c == 'a' %}A{% endif %}{{ c }}{% endfor %}",
    "keeps all": "{% set all = messages %}{% for m in all %}{{ m.content | upper }}{% endfor %}",
    "keeps one": "{% for m in messages %}{% set n = m %}{{ n.content | upper }}{% endfor %}",
    "renames": "{% for messages in [[messages[0]]] %}{{ messages[0].content | upper }}{% endfor %}",
    "looks back": "{% for m in messages %}{{ (loop.previtem or m).content }}{% endfor %}",
    "notices a change": "{% for m in messages %}{{ loop.changed(m.content) }}{% endfor %}",
    "another key": "{% set key = 'content' %}{% for m in messages %}{{ m[key] | upper }}{% endfor %}",
    "all keys": "{% for m in messages %}{{ m.items() | list }}{% endfor %}",
    "as JSON": "{{ messages | tojson }}",
    "as JSON, one": "{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "counts letters": "{% for m in messages %}{{ m.content | length }}{% endfor %}",
    "maps": "{{ messages | map(attribute='content') | join(' ') | upper }}",
    "last": "{{ (messages | last).content | upper }}",
    "macro": "{% macro say(m) %}{{ m.content }}{% endmacro %}{% for m in messages %}{{ say(m) | trim }}{% endfor %}",
    "block": "{% for m in messages %}{% set c %}{{ m.content }}{% endset %}{{ c | trim }}{% endfor %}",
    "filter block": "{% for m in messages %}{% filter upper %}{{ m.content }}{% endfilter %}{% endfor %}",
    "namespace": "{% set ns = namespace(m=messages[0]) %}{{ ns.m.content | upper }}",
    "multiplies": "{% for m in messages %}{{ (m.content + ' ') | trim }}{% endfor %}",
    "recurses": "{% for m in messages recursive %}{{ m.content | upper }}{% endfor %}",
    "with": "{% with c = messages[0].content %}{{ c | upper }}{% endwith %}",
    "refuses by content": "{% if messages[0].content == 'a' %}{{ raise_exception('no') }}{% endif %}" + PLAIN,
    "tells a content": "{{ raise_exception('no ' + messages[0].content) }}",
    "the time": "{{ strftime_now('%d %b %Y') }}" + PLAIN,
    "chance": "{{ [1, 2, 3] | random }}" + PLAIN,
}


def dialogues():
    for a, b in itertools.product(CONTENTS, repeat=2):
        yield [message("user", a)]
        yield [message("system", a), message("user", b)]
    for a in CONTENTS:
        yield [message("user", a), message("assistant", "x"), message("user", a)]


def told(render, messages):
    """What is written, or the error in its own words."""
    try:
        return render(messages)
    except Exception as error:
        return str(error)


# Fails when a place is filled with another message's content, or a content is read as a place.
@pytest.mark.parametrize("template", VERBATIM.values(), ids=VERBATIM)
def test_what_is_filled_in_is_what_the_template_writes(template):
    tokenizer = writing(template)
    assert is_verbatim(tokenizer)
    calls = []

    def render(messages):
        calls.append(messages)
        return render_of(tokenizer)(messages)

    frames = Frames(render)
    for dialogue in dialogues():
        assert told(frames, dialogue) == told(render_of(tokenizer), dialogue)
    if "raise" not in template:
        assert len(calls) == 3  # one for each sequence of roles


# Fails when a template that looks at what is said is taken for one that does not.
@pytest.mark.parametrize("template", LOOKS.values(), ids=LOOKS)
def test_a_template_that_looks_at_contents_is_rendered_every_time(template):
    assert not is_verbatim(writing(template))


def test_the_list_of_templates_that_look_has_no_harmless_one():
    # Otherwise the test above would pass for a check that refuses everything of a kind.
    tells_apart = []
    for name, template in LOOKS.items():
        tokenizer = writing(template)
        full, framed = render_of(tokenizer), Frames(render_of(tokenizer))
        if any(told(framed, dialogue) != told(full, dialogue) for dialogue in dialogues()):
            tells_apart.append(name)
    # Of these no dialogue here shows it, because a marked place is trimmed like any other, or nothing tells.
    blameless = {"looks back", "notices a change", "macro", "block", "recurses", "the time", "chance"}
    assert set(LOOKS) - set(tells_apart) <= blameless


def test_a_message_with_more_than_a_text_is_rendered():
    template = "{% for m in messages %}{{ m.content }}{% if m.tool_calls %}!{% endif %}{% endfor %}"
    tokenizer = writing(template)
    frames = Frames(render_of(tokenizer))
    assert frames([message("assistant", "a")]) == "a"
    assert frames([message("assistant", "a", tool_calls=[1])]) == "a!"
    assert frames([message("assistant", "b"), message("assistant", "c", tool_calls=[1])]) == "bc!"


def test_only_the_standard_way_to_apply_a_template_is_taken_for_granted():
    class Shouts(PreTrainedTokenizerFast):
        def apply_chat_template(self, *args, **settings):
            return super().apply_chat_template(*args, **settings).upper()

    plain = writing(PLAIN)
    loud = Shouts(tokenizer_object=plain.backend_tokenizer, chat_template=PLAIN, eos_token="<|im_end|>")
    assert is_verbatim(plain)
    assert not is_verbatim(loud)
    assert not is_verbatim(writing({"default": PLAIN}))
    assert not is_verbatim(writing(PLAIN + "\0"))
    assert not is_verbatim(writing(PLAIN + "{% generation %}{% endgeneration %}"))


# What a family's template does: Qwen3 looks for thoughts, Llama and Gemma trim.
FAMILIES = {"qwen2": True, "qwen3": False, "llama": False, "gemma": False}


@pytest.fixture(scope="module", params=["words", *FAMILIES])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind, toy_folder):
    if kind == "words":
        return tiny_tokenizer({"a", "b", "é☃", "0", "x", "{{", "1", "+", "}}", "</think>"})
    return AutoTokenizer.from_pretrained(toy_folder(kind))


def test_families_of_templates(kind, tokenizer):
    assert is_verbatim(tokenizer) is FAMILIES.get(kind, True)


# Fails when tokens differ from those of the whole text, for any tokenizer.
def test_prompts_have_the_tokens_of_the_whole_template(tokenizer):
    chat, plain = ChatFormat(tokenizer), ChatFormat(tokenizer)
    plain._frames = plain._table = None
    for dialogue in dialogues():
        if any("\0" in one["content"] for one in dialogue):
            continue  # no vocabulary of words has it
        assert chat.text(dialogue) == plain.text(dialogue)
        found, expected = chat.encode(dialogue), plain.encode(dialogue)
        assert found.tolist() == expected.tolist()
        assert found.dtype == expected.dtype


def test_a_refusal_stays_one():
    chat = ChatFormat(writing(VERBATIM["refuses"]))
    several = [message("user", text) for text in "abc"]
    for _ in range(2):
        with pytest.raises(UserError, match=r"refuses a dialogue of user, user, user \(too long\)"):
            chat.text(several)
