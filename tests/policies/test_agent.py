import itertools

import numpy as np
import pytest

from lapwing.core.errors import UserError
from lapwing.core.types import Ask
from lapwing.games.frozen_lake import FrozenLakeView
from lapwing.models.tiny import CHAT_TEMPLATE
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Heuristic, Random
from lapwing.policies.contexts import CurrentPlan, LastK, StateOnly, Summary, Transcript
from lapwing.policies.parsers import Bare, Hierarchical, Notes, Tags

LEGAL = ("left", "down", "right", "up")
VIEWS = [FrozenLakeView(("SF", "FG"), 0, 0, False), FrozenLakeView(("SF", "FG"), 0, 1, False)]


def ask(view, memory=None, key=0):
    return Ask(view, LEGAL, memory, key, None, None, 0, 5)


def dialogue(agent, replies, views):
    """The decisions of one episode."""
    memory, decisions = None, []
    for n, _ in enumerate(replies):
        ((decision, memory),) = agent.act_many([ask(views[n % len(views)], memory, key=n)])
        decisions.append(decision)
    return decisions


def test_a_decision_holds_the_context_the_reply_and_the_action(make_agent, tokenizer):
    agent = make_agent(lambda _text, _key: "<action> Right </action>".lower())
    ((decision, memory),) = agent.act_many([ask(VIEWS[0])])
    assert tokenizer.decode(decision.context) == (
        "<|im_start|> user dry lake : P F / F G <|im_end|> <|im_start|> assistant"
    )
    assert tokenizer.decode(decision.token) == "<action> right </action>"
    assert (decision.action, decision.valid, decision.reason, decision.extends) == ("right", True, "", 0)
    assert memory is None


def test_many_asks_are_answered_in_their_order(make_agent):
    agent = make_agent(lambda text, _key: "<action> down </action>" if ": P" in text else "hm")
    (first, _), (second, _) = agent.act_many([ask(VIEWS[0]), ask(VIEWS[1])])
    assert first.action == "down"
    assert (second.action, second.valid, second.reason) == (None, False, "no <action> tag")


@pytest.mark.parametrize("ended", [True, False], ids=["the reply ends itself", "the template ends the reply"])
def test_a_transcript_grows_token_by_token(make_agent, tokenizer, ended):
    # Fails when the earlier replies are rendered anew, or an end token is written twice.
    end = " <|im_end|>" if ended else ""
    replies = [f"<action> {action} </action>{end}" for action in LEGAL]
    agent = make_agent(lambda _text, key: replies[key], context=Transcript())
    decisions = dialogue(agent, replies, VIEWS)
    assert decisions[0].extends == 0
    messages = []
    for n, decision in enumerate(decisions):
        if n:
            before = np.concatenate([decisions[n - 1].context, decisions[n - 1].token])
            assert decision.extends == len(before)
            assert decision.context[: len(before)].tolist() == before.tolist()
        messages += agent.renderer.messages(VIEWS[n % 2])
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert decision.context.tolist() == tokenizer.encode(text, add_special_tokens=False)
        messages.append({"role": "assistant", "content": f"<action> {LEGAL[n]} </action>"})
    assert tokenizer.unk_token_id not in decisions[-1].context


def test_a_transcript_keeps_tokens_that_no_text_would_give_back(make_agent, tokenizer):
    # Fails when the reply is decoded and encoded again: an unknown word would change its neighbours.
    agent = make_agent(lambda _text, _key: "nonsense <pad> <action> up </action>", context=Transcript())
    first, second = dialogue(agent, ["", ""], VIEWS)
    assert second.context[len(first.context) :][: len(first.token)].tolist() == first.token.tolist()
    assert tokenizer.pad_token_id in first.token


@pytest.mark.parametrize("context", [LastK(k=1), LastK(k=3), StateOnly()])
def test_other_contexts_are_rendered_afresh(make_agent, tokenizer, context):
    replies = [f"<action> {action} </action>" for action in LEGAL]
    agent = make_agent(lambda _text, key: replies[key], context=context)
    decisions = dialogue(agent, replies, VIEWS)
    assert [decision.extends for decision in decisions] == [0, 0, 0, 0]
    shown = min(getattr(context, "k", 0), 3)
    messages = []
    for n in range(3 - shown, 3):
        messages += [*agent.renderer.messages(VIEWS[n % 2]), {"role": "assistant", "content": replies[n]}]
    messages += agent.renderer.messages(VIEWS[1])
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert decisions[3].context.tolist() == tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.unk_token_id not in decisions[3].context


@pytest.mark.parametrize(
    ("parser", "reply"), [(Bare(), "right <|im_end|>"), (Tags(), "<action> right </action>")], ids=["bare", "tags"]
)
def test_a_teacher_is_put_into_words_that_end_as_the_model_must_end(make_agent, tokenizer, parser, reply):
    # Fails when the bare reply is taught without its end token: the clone would never stop.
    from lapwing.games.frozen_lake import FrozenLake

    game = FrozenLake(map_name="4x4")
    state = game.initial(np.random.default_rng(0))
    agent = make_agent(lambda _text, _key: "never asked", parser=parser, teacher=Heuristic())
    ((decision, _),) = agent.act_many([Ask(game.view(state, 0), LEGAL, None, 0, game, state, 0, 5)])
    assert tokenizer.decode(decision.token) == reply
    assert (decision.action, decision.valid) == ("right", True)
    assert len(decision.logprob) == len(decision.token)


def test_the_default_is_the_first_action_or_the_one_that_was_set():
    assert InvalidRule().action(LEGAL, 0) == "left"
    assert InvalidRule(default_action="up").action(LEGAL, 0) == "up"
    assert InvalidRule(default_action="yes").action(None, 0) == "yes"
    # Fails when the text itself is played where actions are no strings.
    assert InvalidRule(default_action="3").action((1, 3), 0) == 3


def test_a_default_that_is_not_legal_is_refused_by_name():
    with pytest.raises(UserError, match="default_action 'lefft' is not legal; did you mean left"):
        InvalidRule(default_action="lefft").action(LEGAL, 0)
    with pytest.raises(UserError, match=r"open-ended game needs policy\.default_action"):
        InvalidRule().action(None, 0)


@pytest.mark.parametrize(
    ("settings", "legal", "expected"),
    [
        ({}, None, "unreadable"),
        ({}, LEGAL, "unreadable"),
        ({"default_action": "up"}, LEGAL, "unreadable"),
        ({"default_action": "yes"}, None, "unreadable"),
        ({"rule": "retry"}, None, "unreadable"),
        ({"rule": "random_legal"}, None, "unreadable"),
    ],
)
def test_what_the_game_takes_an_unreadable_reply_for_goes_before_the_default(settings, legal, expected):
    # Fails when an open-ended game asks for a default action all the same.
    assert InvalidRule(**settings).action(legal, 0, unreadable="unreadable") == expected


def test_a_random_legal_action_goes_before_it_where_there_are_legal_ones():
    assert InvalidRule(rule="random_legal").action(LEGAL, 0, unreadable="unreadable") in LEGAL


def test_the_form_of_replies_is_the_parsers_to_judge(make_agent):
    from lapwing.policies.tool_parser import ToolUse

    assert make_agent(lambda _text, _key: "").form_rewards(["<action> up </action>"]) == {}
    parser = ToolUse(reasoning_tag="", format_weight=0.5, tags_weight=-1.0)
    agent = make_agent(lambda _text, _key: "", parser=parser)
    assert agent.form_rewards(["<answer> x </answer>", "x"]) == {
        "format": (pytest.approx((1.0 + 0.2) / 2), 0.5),
        "tags": (pytest.approx(0.5), -1.0),
    }


def test_a_random_legal_action_belongs_to_its_key_and_every_action_occurs():
    rule = InvalidRule(rule="random_legal")
    drawn = [rule.action(LEGAL, key) for key in range(400)]
    assert drawn == [rule.action(LEGAL, key) for key in range(400)]
    assert min(drawn.count(action) for action in LEGAL) > 60


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"rule": "defualt"}, "did you mean default"),
        ({"penalty": -1.0}, "at least 0, not -1"),
        ({"penalty": float("nan")}, "finite number"),
        ({"penalty": float("inf")}, "finite number"),
        ({"retries": 0}, "at least 1, not 0"),
    ],
)
def test_impossible_rules_are_refused(setting, sentence):
    with pytest.raises(UserError, match=sentence):
        InvalidRule(**setting)


PLAN = "<switch> {} </switch> <subgoal> {} </subgoal> <action> {} </action>"


@pytest.fixture(scope="module")
def plan_tokenizer():
    from lapwing.games.frozen_lake import ACTIONS
    from lapwing.models.tiny import tiny_tokenizer
    from lapwing.policies.renderers import Grid

    return tiny_tokenizer(Grid().words(VIEWS[0]) | Hierarchical().words(ACTIONS) | {"hm"})


def planning_agent(tokenizer, reply, **others):
    from lapwing.generation.scripted import Scripted
    from lapwing.policies.agent import Agent
    from lapwing.policies.renderers import Grid

    given = {"renderer": Grid(), "context": CurrentPlan(), "parser": Hierarchical(), "tokenizer": tokenizer}
    return Agent(**{**given, **others}, generator=Scripted(reply, tokenizer))


def test_an_agent_that_plans_sees_its_subgoal_and_marks_its_tokens(plan_tokenizer):
    replies = [
        PLAN.format("SWITCH", "key", "up"),
        PLAN.format("KEEP", "door", "down"),
        PLAN.format("SWITCH", "goal", "left"),
        "hm",
    ]
    agent = planning_agent(plan_tokenizer, lambda _text, key: replies[key])
    decisions = dialogue(agent, replies, VIEWS)
    shown = [plan_tokenizer.decode(decision.context) for decision in decisions]
    assert "<subgoal>" not in shown[0]
    assert ["<subgoal> key </subgoal>" in text for text in shown] == [False, True, True, False]
    assert "<subgoal> goal </subgoal> <|im_end|>" in shown[3]
    assert [decision.switch for decision in decisions] == [True, False, True, False]
    # <switch> SWITCH </switch> <subgoal> key </subgoal> <action> up </action>
    assert decisions[0].span.tolist() == [0, 2, 0, 0, 3, 0, 0, 4, 0]
    assert decisions[3].span.tolist() == [0]
    assert [decision.action for decision in decisions] == ["up", "down", "left", None]


def test_other_parsers_mark_nothing_unless_they_are_asked_to(make_agent):
    reply = "<think> go up </think> <action> up </action>"
    ((plain, _),) = make_agent(lambda _text, _key: reply).act_many([ask(VIEWS[0])])
    assert (plain.span, plain.switch) == (None, None)
    ((marked, _),) = make_agent(lambda _text, _key: reply, parser=Tags(spans=True)).act_many([ask(VIEWS[0])])
    assert marked.span.tolist() == [0, 1, 1, 0, 0, 4, 0]
    assert marked.switch is None


def test_a_teacher_that_plans_keeps_what_it_followed(plan_tokenizer):
    from lapwing.games.frozen_lake import FrozenLake
    from lapwing.policies.parsers import read_plan

    game = FrozenLake(map_name="4x4")
    state = game.initial(np.random.default_rng(0))
    agent = planning_agent(plan_tokenizer, lambda _text, _key: "never asked", teacher=Heuristic())
    memory, plans = None, []
    for key in range(60):
        question = Ask(game.view(state, 0), LEGAL, memory, key, game, state, 0, 5)
        ((decision, memory),) = agent.act_many([question])
        assert (decision.action, decision.valid) == ("right", True)
        plans.append(read_plan(decision.text))
    assert plans[0].switch
    for before, after in itertools.pairwise(plans):
        assert after.switch or after.subgoal == before.subgoal
    assert {plan.switch for plan in plans} == {True, False}
    assert {plan.subgoal for plan in plans} == {"key", "door", "goal"}


@pytest.fixture(scope="module")
def notes_tokenizer():
    from lapwing.games.frozen_lake import ACTIONS
    from lapwing.models.tiny import tiny_tokenizer
    from lapwing.policies.renderers import Grid

    return tiny_tokenizer(Grid().words(VIEWS[0]) | Notes(lexicon=("ice", "hole")).words(ACTIONS) | {"hm"})


def test_a_summary_is_read_back_and_is_a_part_of_the_reply(notes_tokenizer):
    # Fails when the text is not among the reply tokens, which are trained on, or the context extends the last one.
    replies = [
        "<summary> ice </summary> <action> up </action>",
        "hm",
        "<summary> hole </summary> <action> left </action>",
    ]
    given = {"context": Summary(), "parser": Notes(lexicon=("ice", "hole"))}
    agent = planning_agent(notes_tokenizer, lambda _text, key: replies[key % 3], **given)
    decisions = dialogue(agent, [*replies, *replies], VIEWS)
    shown = [notes_tokenizer.decode(decision.context) for decision in decisions]
    assert "<summary>" not in shown[0]
    assert "<summary> ice </summary> <|im_end|>" in shown[1]
    assert "<summary> ice </summary> <|im_end|>" in shown[2]
    assert "<summary> hole </summary> <|im_end|>" in shown[3]
    assert [decision.extends for decision in decisions] == [0] * len(decisions)
    assert notes_tokenizer.decode(decisions[0].token).startswith(replies[0])
    assert len(decisions[0].logprob) == len(decisions[0].token) >= 6


def test_a_teacher_with_notes_repeats_what_is_carried(notes_tokenizer):
    from lapwing.games.frozen_lake import FrozenLake

    game = FrozenLake(map_name="4x4")
    state = game.initial(np.random.default_rng(0))
    given = {"context": Summary(), "parser": Notes(lexicon=("ice", "hole"), composed="drawn", keep_share=1.0)}
    agent = planning_agent(notes_tokenizer, lambda _text, _key: "never asked", teacher=Heuristic(), **given)
    memory, texts = None, []
    for key in range(8):
        question = Ask(game.view(state, 0), LEGAL, memory, key, game, state, 0, 5)
        ((decision, memory),) = agent.act_many([question])
        texts.append(decision.text)
    assert len(set(texts)) == 1
    assert texts[0].endswith("<action> right </action>")


def test_a_teacher_with_notes_copies_from_the_view(notes_tokenizer):
    given = {"context": Summary(), "parser": Notes(lexicon=("S", "G")), "teacher": Random()}
    agent = planning_agent(notes_tokenizer, lambda _text, _key: "never asked", **given)
    ((decision, _),) = agent.act_many([ask(VIEWS[1])])
    assert decision.text.startswith("<summary> G </summary> <action> ")


def merging_tokenizer(pieces):
    """A subword tokenizer that likes long pieces and has every character besides."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(32, 127)]
    lexicon = [("<unk>", -100.0), *((c, -10.0) for c in characters), *((p, -1.0) for p in pieces)]
    tokenizer = Tokenizer(models.Unigram(lexicon, unk_id=0))
    tokenizer.decoder = decoders.Fuse()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        eos_token="<unk>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def test_tokens_that_merge_a_tag_with_its_content_belong_to_the_content():
    # Fails when tokens are compared with tags, or a token must lie within the content.
    tokenizer = merging_tokenizer(["<switch>", "KE", "EP</switch>", "<subgoal>[", "door", "]</subgoal>", "<action>u"])
    text = "<switch>KEEP</switch><subgoal>[door]</subgoal><action>up</action>"
    token = np.array(tokenizer.encode(text, add_special_tokens=False), dtype=np.int32)
    pieces = [tokenizer.decode([number]) for number in token]
    agent = planning_agent(tokenizer, lambda _text, _key: "")
    span = agent._span(token, tokenizer.decode(token))
    marked = [(piece, code) for piece, code in zip(pieces, span.tolist(), strict=True) if code]
    assert [piece for piece, code in marked if code == 2] == ["KE", "EP</switch>"]
    assert [piece for piece, code in marked if code == 3] == ["<subgoal>[", "door", "]</subgoal>"]
    assert [piece for piece, code in marked if code == 4] == ["<action>u", "p"]
    assert span[pieces.index("<switch>")] == 0


def test_tokens_that_are_parts_of_a_character_belong_where_the_character_does():
    # é is two bytes and ☃ three; each byte is a token of its own.
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    text = "<subgoal>é☃</subgoal><action>up</action>"
    token = np.array(wrapped.encode(text, add_special_tokens=False), dtype=np.int32)
    span = planning_agent(wrapped, lambda _text, _key: "")._span(token, text)
    assert len(token) == len(text.encode())
    assert span.tolist() == [0] * 9 + [3] * 5 + [0] * 10 + [0] * 8 + [4] * 2 + [0] * 9


def test_an_empty_reply_has_no_spans(plan_tokenizer):
    agent = planning_agent(plan_tokenizer, lambda _text, _key: "")
    assert agent._span(np.zeros(0, dtype=np.int32), "").tolist() == []
