"""Chat templates of real families' shapes, and of shapes that must be refused."""

import numpy as np
import pytest
from transformers import AutoTokenizer

from lapwing.core.errors import UserError
from lapwing.models.chat_format import REPLY, ChatFormat
from lapwing.models.tiny import tiny_tokenizer

FAMILIES = ("qwen2", "qwen3", "llama", "gemma")
ENDS = {"qwen2": "<|im_end|>", "qwen3": "<|im_end|>", "llama": "<|eot_id|>", "gemma": "<end_of_turn>"}
TAIL = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
TURN = "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
PLAIN = "{% for message in messages %}" + TURN + "{% endfor %}" + TAIL
# As Mistral: blanks around replies, and the rules in the newest question.
MOVING = (
    "{% set rules = messages[0]['content'] + '\n\n' if messages[0]['role'] == 'system' else '' %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}"
    "[INST] {{ rules if loop.last else '' }}{{ message['content'] }}[/INST]"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'].strip() + ' <|im_end|>' }}{% endif %}"
    "{% endfor %}"
)
# As DeepSeek-R1: the prompt opens the thought, and earlier thoughts are not shown.
OPENING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'].split('</think>')[-1].strip() + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **further):
    return {"role": "assistant", "content": text, **further}


RULES = {"role": "system", "content": "Be brief."}


@pytest.fixture(scope="module")
def load(toy_folder):
    """The tokenizer of a family, with another template if one is given."""

    def make(family="qwen2", template=None):
        tokenizer = AutoTokenizer.from_pretrained(toy_folder(family))
        if template is not None:
            tokenizer.chat_template = template
        return tokenizer

    return make


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


def rendered(tokenizer, messages, **further):
    return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **further)


def text_of(chat, token):
    return chat.tokenizer.decode(token)


# ---------------------------------------------------------------------------------------------------------------------
# Contexts.


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama"])
def test_a_template_that_takes_all_roles_is_left_alone(load, family):
    tokenizer = load(family)
    messages = [RULES, user("one"), user("two"), assistant("a"), user("three")]
    text = rendered(tokenizer, messages)
    chat = ChatFormat(tokenizer)
    assert chat.text(messages) == text
    assert chat.encode(messages).tolist() == tokenizer.encode(text, add_special_tokens=False)
    assert chat.encode(messages).dtype == np.int32


def test_a_text_begins_once(load, family):
    # Fails when the tokenizer is let add what the template wrote already.
    tokenizer = load(family)
    ids = ChatFormat(tokenizer).encode([RULES, user("one")]).tolist()
    assert ids.count(tokenizer.bos_token_id) == (tokenizer.bos_token_id is not None)
    assert tokenizer.bos_token_id in (None, ids[0])


def test_rules_are_put_before_the_first_question_where_there_is_no_role_for_them(load):
    chat = ChatFormat(load("gemma"))
    dialogue = [RULES, user("one"), assistant("a"), user("two")]
    assert chat.text(dialogue) == (
        "<bos><start_of_turn>user\nBe brief.\n\none<end_of_turn>\n<start_of_turn>model\na<end_of_turn>\n"
        "<start_of_turn>user\ntwo<end_of_turn>\n<start_of_turn>model\n"
    )
    assert dialogue[0] is RULES  # the caller's own list
    assert chat.text([RULES]) == chat.text([user("Be brief.")])


def test_questions_are_joined_where_roles_must_alternate(load):
    chat = ChatFormat(load("gemma"))
    several = [user("one"), user("two"), assistant("a"), user("three"), user("four"), user("five")]
    assert chat.text(several) == chat.text([user("one\n\ntwo"), assistant("a"), user("three\n\nfour\n\nfive")])


def test_rules_that_a_template_hides_are_folded_too(load):
    # Fails when only a refusal is noticed.
    hiding = (
        "{% for message in messages %}{% if message['role'] != 'system' %}" + TURN + "{% endif %}{% endfor %}" + TAIL
    )
    tokenizer = load(template=hiding)
    assert "Be brief.\n\none" in ChatFormat(tokenizer).text([RULES, user("one")])


def test_rules_that_wander_to_the_newest_question_stay_with_the_first(load):
    # Fails when the template is only asked whether it shows them.
    chat = ChatFormat(load(template=MOVING))
    chat.check_append_only()
    text = chat.text([RULES, user("one"), assistant("a"), user("two")])
    assert text == "[INST] Be brief.\n\none[/INST] a <|im_end|>[INST] two[/INST]"


def test_a_refusal_is_one_sentence_with_the_templates_own_words(load):
    chat = ChatFormat(load("gemma"))
    with pytest.raises(UserError, match=r"refuses a dialogue of assistant, user \(Conversation roles must alternate"):
        chat.text([assistant("a"), user("b")])
    with pytest.raises(UserError, match=r"set policy\.renderer\.result_role = 'user'"):
        chat.text([user("b"), assistant("a"), {"role": "tool", "content": "x"}])


def test_words_that_a_vocabulary_lacks_are_named():
    chat = ChatFormat(tiny_tokenizer({"known"}))
    assert text_of(chat, chat.encode([user("known")])) == "<|im_start|> user known <|im_end|> <|im_start|> assistant"
    assert chat.tokenizer.unk_token_id in chat.encode([assistant("known <unk>")])
    with pytest.raises(UserError, match="vocabulary lacks the words how, so; "):
        chat.encode([user("so known how")])


# ---------------------------------------------------------------------------------------------------------------------
# Thoughts.


def test_the_switch_for_thoughts_is_passed_or_left_alone(load):
    tokenizer = load("qwen3")
    asked = [user("one")]
    assert ChatFormat(tokenizer).text(asked) == rendered(tokenizer, asked)
    for thinking in (True, False):
        text = ChatFormat(tokenizer, thinking=thinking).text(asked)
        assert text == rendered(tokenizer, asked, enable_thinking=thinking)
    assert text.endswith("<think>\n\n</think>\n\n")
    # A thought that is over is no beginning of the reply.
    assert ChatFormat(tokenizer, thinking=False).opened == ""


def test_the_switch_may_have_another_name(load):
    other = PLAIN + "{% if add_generation_prompt and thinking %}<think>\n{% endif %}"
    chat = ChatFormat(load(template=other), thinking=True)
    assert (chat.text([user("one")])[-8:], chat.opened) == ("<think>\n", "<think>\n")
    assert ChatFormat(load(template=other), thinking=False).opened == ""


@pytest.mark.parametrize("family", ["qwen2", "llama", "gemma"])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_switch_that_is_not_there_is_refused(load, family, thinking):
    with pytest.raises(UserError, match=r"policy\.thinking is set, but the model's chat template has no switch"):
        ChatFormat(load(family), thinking=thinking)


def test_a_reply_that_its_prompt_began_is_read_whole(load):
    # Fails when a parser never sees the tag that the prompt opened.
    chat = ChatFormat(load(template=OPENING))
    chat.check_append_only()
    reply = np.array(chat.tokenizer.encode("go right</think>\n<action>RIGHT</action><|im_end|>"), dtype=np.int32)
    assert chat.opened == "<think>\n"
    assert chat.read(reply) == "<think>\ngo right</think>\n<action>RIGHT</action>"
    ends = chat.boundaries(reply)
    assert (ends[0], ends[-1], len(ends)) == (8, len(chat.read(reply)) + len("<|im_end|>"), len(reply) + 1)


def test_a_composed_reply_goes_on_with_the_thought_or_ends_it(load):
    chat = ChatFormat(load(template=OPENING))
    written = {text: text_of(chat, chat.reply(text)) for text in ("<think>\nhm\n</think>\n\nb", "b")}
    assert written == {
        "<think>\nhm\n</think>\n\nb": "hm\n</think>\n\nb<|im_end|>",
        "b": "\n</think>\n\nb<|im_end|>",
    }
    # A template without that leaves replies alone.
    assert text_of(ChatFormat(load()), ChatFormat(load()).reply("<think>a</think>")) == "<think>a</think><|im_end|>"


def test_a_role_in_brackets_is_no_thought(load):
    bracketed = PLAIN.replace("<|im_start|>{{ message['role'] }}", "<{{ message['role'] }}>").replace(
        "<|im_start|>assistant", "<assistant>"
    )
    assert ChatFormat(load(template=bracketed)).opened == ""


# ---------------------------------------------------------------------------------------------------------------------
# Ends of replies.


def test_the_end_of_a_turn_is_read_off_the_template(load, family):
    # Fails when the end of a text is taken for the end of a turn: a clone of Llama would never stop.
    tokenizer = load(family)
    chat = ChatFormat(tokenizer)
    assert tokenizer.convert_ids_to_tokens(chat.turn_end) == ENDS[family]
    assert chat.ends == {chat.turn_end, tokenizer.eos_token_id}
    assert ChatFormat(tokenizer, ends=[0]).ends == {0, chat.turn_end, tokenizer.eos_token_id}
    assert text_of(chat, chat.reply("a b")) == f"a b{ENDS[family]}"
    assert text_of(chat, chat.reply("a b", is_ended=False)) == "a b"


def test_only_the_token_that_ended_a_reply_is_no_part_of_its_text(load, family):
    chat = ChatFormat(load(family))
    ids = chat.tokenizer.encode("a b", add_special_tokens=False)
    for end in chat.ends:
        assert chat.read(np.array([*ids, end])) == "a b"
        assert chat.read(np.array([end, *ids])) == f"{chat.tokenizer.convert_ids_to_tokens(end)}a b"
    assert chat.read(np.array(ids)) == "a b"
    assert chat.read(np.zeros(0, dtype=np.int32)) == ""


def test_a_token_that_begins_the_next_turn_ends_one_only_if_the_model_says_it(load):
    # As GLM: nothing stands between a reply and the next role.
    bare = "{% for message in messages %}<|im_start|>{{ message['role'] + message['content'] }}{% endfor %}"
    bare += "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
    tokenizer = load(template=bare)
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    with pytest.raises(UserError, match="no token ends a turn"):
        ChatFormat(tokenizer).check_append_only()
    assert ChatFormat(tokenizer).turn_end == tokenizer.eos_token_id
    chat = ChatFormat(tokenizer, ends=[start])
    chat.check_append_only()
    assert chat.turn_end == start
    assert text_of(chat, chat.added([user("q"), assistant(REPLY), user("r")], start)) == "userr<|im_start|>assistant"


def test_a_tokenizer_without_a_template_or_an_end_is_refused(load):
    with pytest.raises(UserError, match="no chat template; choose an instruction-tuned model"):
        ChatFormat(load(template=""))
    tokenizer = load(template="{% for message in messages %}{{ message['content'] }} {% endfor %}")
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="Neither the tokenizer nor its chat template"):
        ChatFormat(tokenizer)
    assert ChatFormat(tokenizer, ends=[7]).turn_end == 7


# ---------------------------------------------------------------------------------------------------------------------
# Contexts that grow.


def grown(chat, questions, replies):
    """The context that each reply answers, each grown from the one before."""
    context = chat.encode([RULES, user(questions[0])])
    contexts, messages = [context], [RULES, user(questions[0])]
    for question, reply in zip(questions[1:], replies, strict=True):
        messages += [assistant(REPLY), user(question)]
        context = np.concatenate([context, reply, chat.added(messages, int(reply[-1]))])
        contexts.append(context)
        messages[-2] = assistant(chat.read(reply))
    return contexts


def test_a_context_that_grows_is_the_templates_own(load, family):
    chat = ChatFormat(load(family))
    chat.check_append_only()
    texts = ["<action>UP</action>", "two\nlines", "x"]
    questions = ["one", "two", "three", "four"]
    contexts = grown(chat, questions, [chat.reply(text) for text in texts])
    messages = [RULES]
    for n, context in enumerate(contexts):
        messages.append(user(questions[n]))
        assert context.tolist() == chat.encode(messages).tolist()
        messages += [assistant(text) for text in texts[n : n + 1]]


def test_a_reply_that_was_cut_is_ended_and_one_that_ended_is_not_ended_twice(load, family):
    # Fails when only one of the tokens that end replies is known, or a newline after it is lost.
    chat = ChatFormat(load(family))
    ids = chat.tokenizer.encode("a b", add_special_tokens=False)
    whole = chat.encode([RULES, user("q"), assistant("a b"), user("r")]).tolist()
    for reply in ([*ids], *([*ids, end] for end in chat.ends)):
        context = grown(chat, ["q", "r"], [np.array(reply, dtype=np.int32)])[-1].tolist()
        if reply[-1] in chat.ends:
            at = len(chat.encode([RULES, user("q")])) + len(ids)
            assert context[at] == reply[-1]
            context[at] = chat.turn_end
        assert context == whole


def test_blanks_around_replies_are_the_templates(load):
    # Fails when a composed reply lacks the blank that the template writes before or after one.
    chat = ChatFormat(load(template=MOVING))
    assert text_of(chat, chat.reply("a b")) == " a b <|im_end|>"
    ended, cut = chat.reply("a"), chat.reply("a", is_ended=False)
    whole = "[INST] Be brief.\n\nq[/INST] a <|im_end|>[INST] r[/INST]"
    assert text_of(chat, grown(chat, ["q", "r"], [ended])[-1]) == whole
    assert text_of(chat, grown(chat, ["q", "r"], [cut])[-1]) == whole


def test_a_word_level_template_grows_as_well():
    tokenizer = tiny_tokenizer({"a", "b"})
    chat = ChatFormat(tokenizer)
    end = tokenizer.eos_token_id
    assert chat.added([user("a"), assistant(REPLY), user("b")], end).tolist() == tokenizer.encode(
        "<|im_start|> user b <|im_end|> <|im_start|> assistant", add_special_tokens=False
    )
    assert chat.added([user("a"), assistant(REPLY), user("b")], 0)[0] == end


def test_earlier_thoughts_are_kept_by_a_context_that_grows_and_lost_by_one_that_is_rendered(load):
    chat = ChatFormat(load("qwen3"))
    chat.check_append_only()
    context = text_of(chat, grown(chat, ["q", "r"], [chat.reply("<think>hm</think>\n\na")])[-1])
    assert "<think>hm</think>\n\na<|im_end|>\n<|im_start|>user\nr" in context
    assert "<think>" not in chat.text([user("q"), assistant("<think>hm</think>\n\na"), user("r")])


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            PLAIN.replace("<|im_end|>", "({{ loop.index }})<|im_end|>"),
            "what it writes after a reply depends on what stands before",
        ),
        (PLAIN.replace("message['content']", "message['content'][:3]"), "does not show a reply as it was said"),
        (
            PLAIN.replace("{{ message['content'] }}", "{{ message['content'] if loop.last else 'said' }}"),
            "does not show a reply as it was said",
        ),
        (
            PLAIN.replace("{{ message['role'] }}", "{{ message['role'] if loop.last else 'past' }}"),
            "it writes earlier turns in another way once a turn follows",
        ),
        (PLAIN.replace("<|im_end|>", " END"), "no token ends a turn"),
        ("{{ raise_exception('no') if messages | length > 1 }}" + PLAIN, "refuses a dialogue"),
    ],
    ids=["counts turns", "cuts replies", "hides replies", "renames roles", "no end token", "single turns only"],
)
def test_a_template_that_cannot_be_appended_to_is_good_for_single_turns_only(load, template, reason):
    tokenizer = load(template=template)
    chat = ChatFormat(tokenizer)
    assert chat.text([user("one")]) == rendered(tokenizer, [user("one")])
    assert chat.turn_end == tokenizer.eos_token_id
    with pytest.raises(UserError, match=reason) as refused:
        chat.check_append_only()
    assert "choose the context 'state_only' or 'last_k'" in str(refused.value)


def test_tools_that_are_written_anew_at_every_turn_are_refused(load):
    # As Mistral: the definitions wander to the newest question, and only dialogues with tools cannot grow.
    written = "{% if tools and loop.WHERE %}{{ tools | tojson }}{% endif %}" + TURN
    wandering, first = (PLAIN.replace(TURN, written.replace("WHERE", where)) for where in ("last", "first"))
    chat = ChatFormat(load(template=wandering))
    dialogue = [user("q"), assistant(REPLY), user("r")]
    chat.added(dialogue, 0)
    with pytest.raises(UserError, match="writes the tools anew at every turn"):
        chat.added(dialogue, 0, [{"name": "search"}])
    chat = ChatFormat(load(template=first))
    assert chat.added(dialogue, 0, [{"name": "search"}]).tolist() == chat.added(dialogue, 0).tolist()


# ---------------------------------------------------------------------------------------------------------------------
# Turns of others.


def test_a_turn_is_what_the_template_writes_for_it(load, family):
    chat = ChatFormat(load(family))
    context, reply = chat.turn([RULES, user("q"), assistant("a b")])
    assert context.tolist() == chat.encode([RULES, user("q")]).tolist()
    assert reply.tolist() == chat.reply("a b").tolist()
    assert (context.dtype, reply.dtype) == (np.int32, np.int32)


def test_a_turn_is_trimmed_as_the_template_trims_it(load):
    for family, written in (("llama", "a<|eot_id|>"), ("qwen2", " a\n<|im_end|>")):
        chat = ChatFormat(load(family))
        assert text_of(chat, chat.turn([user("q"), assistant(" a\n")])[1]) == written


def test_a_turn_whose_thought_is_not_shown_is_taken_from_the_message(load):
    chat = ChatFormat(load(template=OPENING))
    said = [user("q"), assistant("<think>\nhm\n</think>\n\na")]
    assert text_of(chat, chat.turn(said)[1]) == "hm\n</think>\n\na<|im_end|>"
    chat = ChatFormat(load("qwen3"), thinking=False)
    context, reply = chat.turn([user("q"), assistant("a")])
    assert text_of(chat, context).endswith("<think>\n\n</think>\n\n")
    assert text_of(chat, reply) == "a<|im_end|>"


CALLS = "{% for call in message['tool_calls'] %}<tool>{{ call['function'] | tojson }}</tool>{% endfor %}"
CALLING = PLAIN.replace("<|im_end|>", CALLS + "<|im_end|>")


def test_calls_of_tools_are_the_templates_to_write(load):
    call = {"function": {"name": "f", "arguments": {"x": 1}}}
    chat = ChatFormat(load(template=CALLING))
    _, reply = chat.turn([user("q"), assistant("", tool_calls=[call])], [{"name": "f"}])
    assert text_of(chat, reply) == '<tool>{"name": "f", "arguments": {"x": 1}}</tool><|im_end|>'
    opened = CALLING.replace(TAIL, TAIL.replace("assistant\n", "assistant\n<think>\n"))
    with pytest.raises(UserError, match="writes a call of a tool in another way than it asks for it"):
        ChatFormat(load(template=opened)).turn([user("q"), assistant("", tool_calls=[call])])


def test_an_end_within_a_reply_is_refused(load):
    for text in ("a<|im_end|>b", "a<|im_end|>"):
        with pytest.raises(UserError, match="A reply holds a token that ends replies"):
            ChatFormat(load()).turn([user("q"), assistant(text)])


# ---------------------------------------------------------------------------------------------------------------------
# Characters of tokens.


@pytest.mark.parametrize("text", ["<action>UP</action>", "é☃ 工具 a", " a  b ", "", "\ufffd\ufffd"])
def test_the_ends_of_tokens_are_those_of_the_decoded_beginnings(load, text):
    chat = ChatFormat(load())
    for token in (np.array(chat.tokenizer.encode(text), dtype=np.int32), chat.reply(text)):
        assert chat.boundaries(token) == [len(chat.decode(token[:n])) for n in range(len(token) + 1)]


def test_so_they_are_where_words_are_joined_with_blanks():
    chat = ChatFormat(tiny_tokenizer({"a", "bc"}))
    assert chat.boundaries(chat.reply("a bc")) == [0, 1, 4, 15]
