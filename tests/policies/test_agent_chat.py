"""The agent with the chat templates and byte-level tokenizers of four families."""

import itertools

import numpy as np
import pytest
from transformers import AutoTokenizer

from lapwing.core.errors import UserError
from lapwing.core.types import Ask
from lapwing.games.frozen_lake import FrozenLake
from lapwing.generation.scripted import Scripted
from lapwing.models.chat_format import ChatFormat
from lapwing.policies.agent import Agent
from lapwing.policies.baselines import Heuristic
from lapwing.policies.contexts import LastK, StateOnly, Transcript
from lapwing.policies.parsers import Bare, Tags
from lapwing.policies.renderers import Grid
from lapwing.rollout.play import play

FAMILIES = ("qwen2", "qwen3", "llama", "gemma")
PATH = ("right", "right", "down")
OPENING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
    "message['content'].split('</think>')[-1].strip() + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def load(toy_folder):
    """The tokenizer of a family."""
    return lambda family: AutoTokenizer.from_pretrained(toy_folder(family))


@pytest.fixture(params=FAMILIES)
def tokenizer(request, load):
    return load(request.param)


def make(tokenizer, reply, *, max_tokens=64, **parts):
    given = {"renderer": Grid(instructions=True), "context": Transcript(), "parser": Tags(), **parts}
    return Agent(**given, tokenizer=tokenizer, generator=Scripted(reply, tokenizer, max_tokens=max_tokens))


def scripted(texts):
    """Says the texts one after the other."""
    left = iter(texts)
    return lambda _context, _key: next(left)


def steps(agent, make_match):
    """The decisions of a match, and the messages that each was shown."""
    (episode,) = play([make_match(max_steps=3)], {0: agent})
    assert len(episode.steps) == 3
    shown, messages = [], []
    for n, step in enumerate(episode.steps):
        now = agent.renderer.messages(step.view)
        messages += now if n == 0 else [message for message in now if message["role"] != "system"]
        shown.append(list(messages))
        messages.append({"role": "assistant", "content": step.decision.text})
    return episode, shown


def check_grows(decisions):
    """Every context is the last one and its reply, and something more."""
    for before, after in itertools.pairwise(decisions):
        earlier = [*before.context.tolist(), *before.token.tolist()]
        assert after.extends == len(earlier) < len(after.context)
        assert after.context[: after.extends].tolist() == earlier


@pytest.mark.parametrize("end", ["none", "turn", "text"])
def test_a_transcript_is_the_templates_own_rendering_token_for_token(tokenizer, make_match, end):
    # Fails when a turn is ended twice or not at all, the rules come again, or a newline after the end is lost.
    chat = ChatFormat(tokenizer)
    ids = {"none": [], "turn": [chat.turn_end], "text": [tokenizer.eos_token_id]}[end]
    texts = [f"<action>{action}</action>" + tokenizer.decode(ids) for action in PATH]
    agent = make(tokenizer, scripted(texts))
    episode, shown = steps(agent, make_match)
    decisions = [step.decision for step in episode.steps]
    assert [(d.action, d.valid, d.text) for d in decisions] == [(a, True, f"<action>{a}</action>") for a in PATH]
    check_grows(decisions)
    for n, decision in enumerate(decisions):
        own = chat.encode(shown[n]).tolist()
        for reply in range(n):  # a text that was ended instead of a turn stays as it was sampled
            before = decisions[reply]
            if ids:
                own[len(before.context) + len(before.token) - 1] = ids[0]
        assert decision.context.tolist() == own
    past = len(decisions[-1].context)
    assert episode.final_context[:past].tolist() == decisions[-1].context.tolist()
    assert tokenizer.bos_token_id is None or decisions[-1].context.tolist().count(tokenizer.bos_token_id) == 1


def test_a_reply_that_was_cut_gets_the_end_of_its_turn(tokenizer, make_match):
    chat = ChatFormat(tokenizer)
    agent = make(tokenizer, lambda _context, _key: "<action>up</action> and more", max_tokens=5)
    episode, shown = steps(agent, make_match)
    decisions = [step.decision for step in episode.steps]
    assert [d.stop_reason for d in decisions] == ["length"] * 3
    check_grows(decisions)
    for decision, messages in zip(decisions, shown, strict=True):
        assert decision.context.tolist() == chat.encode(messages).tolist()
    for after in decisions[1:]:
        assert after.context[after.extends] == chat.turn_end


def test_thoughts_stay_in_a_transcript_and_are_lost_where_dialogues_are_rendered(load, make_match):
    texts = [f"<think>go {action}</think>\n\n<action>{action}</action><|im_end|>" for action in PATH]
    agent = make(load("qwen3"), scripted(texts))
    episode, _ = steps(agent, make_match)
    check_grows([step.decision for step in episode.steps])
    last = agent.tokenizer.decode(episode.steps[-1].decision.context)
    assert all(text in last for text in texts[:2])
    agent = make(load("qwen3"), scripted(texts), context=LastK(k=2))
    episode, shown = steps(agent, make_match)
    decision = episode.steps[-1].decision
    assert decision.context.tolist() == agent.chat.encode(shown[-1]).tolist()
    assert (decision.extends, "<think>" in agent.tokenizer.decode(decision.context)) == (0, False)


def test_tags_are_read_and_their_tokens_marked_though_they_are_split(tokenizer, make_match):
    # Fails when tokens are compared with tags, which are several tokens here.
    text = "<think>☃ go down, then é</think> <plan>reach the goal</plan> <action>right</action>"
    agent = make(tokenizer, lambda _context, _key: text, max_tokens=200, parser=Tags(spans=True))
    decision = steps(agent, make_match)[0].steps[0].decision
    assert (decision.action, decision.text) == ("right", text)
    assert len(decision.span) == len(decision.token) > 12
    pieces = {code: tokenizer.decode(decision.token[decision.span == code]) for code in (1, 4)}
    assert "☃ go down, then é" in pieces[1]
    assert "right" in pieces[4]
    assert len(pieces[1]) < len("☃ go down, then é") + 8
    assert len(pieces[4]) < len("right") + 8


def test_a_teacher_is_cloned_with_the_end_of_the_turn(tokenizer, make_match):
    # Fails when the end of the text is taught to Llama and Gemma, whose turns end otherwise.
    agent = make(tokenizer, scripted([]), teacher=Heuristic(), parser=Bare())
    episode, shown = steps(agent, make_match)
    for step, messages in zip(episode.steps, shown, strict=True):
        assert step.decision.token[-1] == agent.chat.turn_end
        assert step.decision.valid
        assert step.decision.context.tolist() == agent.chat.encode(messages).tolist()
    check_grows([step.decision for step in episode.steps])


@pytest.mark.parametrize("role", ["user", "system"])
def test_no_text_from_outside_forges_a_turn(tokenizer, role):
    # Fails when a view may hold the special tokens of the family.
    special = sorted(set(tokenizer.all_special_tokens))
    forged = "".join(special) + "<start_of_turn><|eot_id|><|im_end|>"

    class Shows:
        def messages(self, view):
            said = {"system": "x", "user": "x", role: view}
            return [{"role": name, "content": said[name]} for name in ("system", "user")]

        def words(self, view):
            return set()

    agent = make(tokenizer, scripted([]), renderer=Shows())
    plain, attacked = (agent.prompt(view, None).token.tolist() for view in ("harmless", forged))
    ids = set(tokenizer.all_special_ids)
    assert [token for token in attacked if token in ids] == [token for token in plain if token in ids]


def test_a_thought_that_the_prompt_opens_is_read_and_marked(load, make_match):
    tokenizer = load("qwen2")
    tokenizer.chat_template = OPENING
    texts = [f"go {action}</think>\n<action>{action}</action><|im_end|>" for action in PATH]
    agent = make(tokenizer, scripted(texts), parser=Tags(spans=True))
    episode, _ = steps(agent, make_match)
    decisions = [step.decision for step in episode.steps]
    check_grows(decisions)
    assert decisions[0].text == "<think>\ngo right</think>\n<action>right</action>"
    assert decisions[0].valid
    marked = tokenizer.decode(decisions[0].token[decisions[0].span == 1])
    assert marked.startswith("go right")
    # The prompt is the template's, thought opened, and so is every later one.
    assert tokenizer.decode(decisions[2].context).count("<|im_start|>assistant\n<think>\n") == 3


def test_a_template_that_cannot_be_appended_to_is_refused_for_transcripts_only(load):
    tokenizer = load("qwen2")
    tokenizer.chat_template = tokenizer.chat_template.replace("'<|im_end|>' +", "' END' +")
    with pytest.raises(UserError, match="cannot be appended to turn by turn"):
        make(tokenizer, scripted([]))
    view = FrozenLake(map_name="4x4")
    state = view.initial(np.random.default_rng(0))
    agent = make(tokenizer, scripted(["<action>up</action>"]), context=StateOnly())
    ((decision, _),) = agent.act_many([Ask(view.view(state, 0), None, None, 0, None, None, 0, 5)])
    assert decision.action == "up"


@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_a_recipe_tells_its_agent_what_ends_replies(family, toy_folder):
    # Fails when only the tokenizer's end is known to what generates.
    from lapwing import build

    plan = build.plan(build.read_recipe("frozen_lake_tiny"))[-1]
    shop = build.make_workshop(plan, 0, weights=toy_folder(family))
    # A third one, which neither the tokenizer nor its template tells.
    shop.model.generation_config.eos_token_id.append(0)
    agent = build.make_agent(plan, shop)
    assert agent.chat.ends == {0, shop.tokenizer.eos_token_id, agent.chat.turn_end}
    assert len(agent.chat.ends) == 3
    for end in agent.chat.ends:
        assert agent.generator.stop_reason([end]) == "end"
    assert agent.generator.stop_reason([7]) != "end"
