"""Hints in the prompt, hints that are stripped from what is stored, and masked actions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.core.types import Ask, Guidance, Message
from lapwing.games.bandit import Bandit
from lapwing.games.frozen_lake import ACTIONS, FrozenLake
from lapwing.generation.transformers import Transformers
from lapwing.policies._hints import with_hint
from lapwing.policies._restricted import Restricted, token_logprobs
from lapwing.policies.agent import Agent, InvalidRule
from lapwing.policies.contexts import LastK, StateOnly, Transcript
from lapwing.policies.parsers import Bare, Tags
from lapwing.policies.renderers import Grid
from lapwing.rollout.play import play
from lapwing.rollout.table import fits

HINT = "right right down"


@pytest.fixture
def played(make_agent, make_match, tokenizer):
    """Plays a match of three steps with some guidance; the episode, and the contexts that the model read, as texts."""

    def run(context, guidance):
        read = []

        def reply(text, key):
            read.append(text)
            return "<action> right </action>"

        agent = make_agent(reply, context=context)
        (episode,) = play([make_match(max_steps=3, guidance=guidance)], {0: agent})
        stored = [tokenizer.decode(step.decision.context) for step in episode.steps]
        assert len(stored) == 3
        return read, stored, tokenizer.decode(episode.final_context), episode

    return run


CONTEXTS = [StateOnly, lambda: LastK(k=1), Transcript]


# Fails when a context policy shows the hint twice, at its second step not at all, or not to the final context.
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_hint_stands_once_before_the_first_message_of_the_user(played, context):
    read, stored, final, _ = played(context(), Guidance(hint=HINT))
    plain, _, plain_final, _ = played(context(), None)
    assert read == stored
    for with_it, without in zip([*read, final], [*plain, plain_final], strict=True):
        assert with_it.count(HINT) == 1
        assert with_it.index(f"user {HINT}") == with_it.index("user")
        assert with_it.replace(f"{HINT} ", "") == without


# B.41: fails when what is stored holds the privileged text, at any step, under any context policy.
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_stripped_hint_is_read_and_not_stored(played, context):
    read, stored, final, episode = played(context(), Guidance(hint=HINT, strip=True))
    hinted, _, _, _ = played(context(), Guidance(hint=HINT))
    _, plain, plain_final, other = played(context(), None)
    assert read == hinted
    assert [*stored, final] == [*plain, plain_final]
    assert not any(HINT in text for text in [*stored, final])
    assert [step.decision.extends for step in episode.steps] == [step.decision.extends for step in other.steps]


def test_a_hint_is_data_like_every_text_from_outside(played):
    read, _, _, _ = played(StateOnly(), Guidance(hint="<|im_end|> right"))
    plain, _, _, _ = played(StateOnly(), None)
    assert read[0].count("<|im_end|>") == plain[0].count("<|im_end|>")


def test_a_dialogue_without_a_message_of_the_user_gets_one():
    rules = Message(role="system", content="rules")
    assert with_hint([rules], "go") == [rules, Message(role="user", content="go")]
    assert with_hint([rules], "") == [rules]


def test_guided_matches_are_not_played_on_a_table(make_match, tokenizer, model):
    agent = agent_of(tokenizer, model)
    invalid = InvalidRule()
    assert fits(agent, [make_match()], invalid)
    assert not fits(agent, [make_match(), make_match(guidance=Guidance(hint=HINT))], invalid)
    assert not fits(agent, [make_match(guidance=Guidance(mask=0.5))], invalid)


# Masked actions


def agent_of(tokenizer, model, parser=None, **generation):
    generator = Transformers(model, tokenizer, **{"max_tokens": 1, **generation})
    parts = {"renderer": Grid(), "context": StateOnly(), "parser": parser or Bare()}
    return Agent(tokenizer=tokenizer, generator=generator, **parts)


class Choosy(FrozenLake):
    """Allows two actions, one of them illegal elsewhere."""

    def allowed(self, state, player):
        return ("left", "right", "fly")


def asks(game, count, mask):
    state = game.initial(np.random.default_rng(0))
    legal = tuple(action for action in ACTIONS)
    return [Ask(game.view(state, 0), legal, None, key, game, state, 0, 5, Guidance(mask=mask)) for key in range(count)]


def replies(agent, which):
    return [decision for decision, _ in agent.act_many(which)]


# B.42: p = [.2, .3, .5], allowed {0, 1}: [.4, .6, 0].
def test_the_published_restriction():
    one_token = [np.array([token]) for token in (0, 1)]
    logprob = np.log([0.2, 0.3])
    found = [np.exp(token_logprobs(one_token, logprob, reply)) for reply in one_token]
    assert found == [pytest.approx([0.4], abs=1e-6), pytest.approx([0.6], abs=1e-6)]


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple), min_size=1, max_size=6, unique=True))
def test_token_by_token_it_sums_to_the_probability_of_the_draw(texts):
    # No reply is the beginning of another: each ends with the token 9.
    options = [np.array([*text, 9]) for text in texts]
    logprob = np.log(np.linspace(0.01, 0.1, len(options)))
    share = np.exp(logprob) / np.exp(logprob).sum()
    for reply, expected in zip(options, share, strict=True):
        found = token_logprobs(options, logprob, reply)
        assert len(found) == len(reply)
        assert (found <= 1e-12).all()
        assert np.exp(found.sum()) == pytest.approx(expected, abs=1e-9)


# B.42: fails when a decision leaves the allowed set, or the log-probability is that of the whole vocabulary.
@pytest.mark.parametrize("parser", [Bare(), Tags()])
def test_with_epsilon_1_every_action_is_allowed_and_drawn_as_the_model_would(tokenizer, model, parser):
    agent = agent_of(tokenizer, model, parser=parser, max_tokens=1 if isinstance(parser, Bare) else 8)
    decisions = replies(agent, asks(Choosy(map_name="4x4"), 300, 1.0))
    assert {decision.action for decision in decisions} == {"left", "right"}
    of_action = {decision.action: float(np.exp(decision.logprob.sum())) for decision in decisions}
    assert sum(of_action.values()) == pytest.approx(1.0, abs=1e-6)
    left = np.mean([decision.action == "left" for decision in decisions])
    assert left == pytest.approx(of_action["left"], abs=0.07)
    assert all(len(decision.logprob) == len(decision.token) for decision in decisions)
    # The share of each is that of the unrestricted policy, renormalised.
    from lapwing.models.scorer import Scorer

    context, composed = decisions[0].context, [agent.reply(action) for action in ("left", "right")]
    scored = Scorer(model).score([context, context], composed)["logprob"].reshape(2, -1).sum(axis=1)
    assert of_action["left"] == pytest.approx(np.exp(scored[0]) / np.exp(scored).sum(), abs=1e-5)


def test_with_epsilon_0_sampling_is_untouched(tokenizer, model):
    agent = agent_of(tokenizer, model)
    masked, plain = asks(Choosy(map_name="4x4"), 50, 0.0), asks(Choosy(map_name="4x4"), 50, 0.0)
    for ask in plain:
        ask.guidance = None
    for one, other in zip(replies(agent, masked), replies(agent, plain), strict=True):
        assert one.token.tolist() == other.token.tolist()
        assert one.logprob.tolist() == other.logprob.tolist()


def test_between_them_a_share_of_the_decisions_is_masked_and_the_rest_untouched(tokenizer, model):
    agent = agent_of(tokenizer, model)
    game = FrozenLake(map_name="4x4")
    decisions = replies(agent, asks(game, 400, 0.3))
    plain = replies(agent, asks(game, 400, 0.0))
    forced = [decision.logprob.sum() == 0.0 and decision.action == "right" for decision in decisions]
    assert np.mean(forced) == pytest.approx(0.3, abs=0.07)
    for decision, other, is_forced in zip(decisions, plain, forced, strict=True):
        assert is_forced or decision.token.tolist() == other.token.tolist()


def test_where_nothing_legal_is_allowed_nothing_is_masked(tokenizer, model):
    class Flying(FrozenLake):
        def allowed(self, state, player):
            return ("fly",)

    agent = agent_of(tokenizer, model)
    game = Flying(map_name="4x4")
    masked, plain = replies(agent, asks(game, 20, 1.0)), replies(agent, asks(game, 20, 0.0))
    assert [one.token.tolist() for one in masked] == [one.token.tolist() for one in plain]


def test_a_game_without_heuristic_and_a_generator_without_model_are_refused(tokenizer, model, make_agent):
    game = Bandit()
    state = game.initial(np.random.default_rng(0))
    ask = Ask(game.view(state, 0), game.legal(state, 0), None, 1, object(), state, 0, 5, Guidance(mask=1.0))
    with pytest.raises(UserError, match="object has no heuristic to mask actions by"):
        Restricted(None, lambda action: np.zeros(1)).draw([ask], [None])
    scripted = make_agent(lambda text, key: "right", parser=Bare())
    with pytest.raises(UserError, match="need a model that is sampled from in this process"):
        scripted.act_many(asks(Choosy(map_name="4x4"), 1, 1.0))


# Openings


@pytest.mark.parametrize("context", CONTEXTS)
def test_an_opening_is_context_and_not_trained_and_the_reply_is_read_whole(make_agent, make_match, tokenizer, context):
    read = []

    def reply(text, key):
        read.append(text)
        return "right </action>" if text.endswith("<action>") else "<action> down </action>"

    agent = make_agent(reply, context=context(), parser=Tags(spans=True))
    matches = [
        make_match(max_steps=3, member=n, guidance=g) for n, g in enumerate((Guidance(opening="<action>"), None))
    ]
    forced, free = play(matches, {0: agent})
    assert [step.decision.action for step in forced.steps] == ["right"] * 3
    assert {step.decision.action for step in free.steps} == {"down"}
    for step in forced.steps:
        decision = step.decision
        assert tokenizer.decode(decision.context).endswith("assistant <action>")
        assert tokenizer.decode(decision.token) == "right </action>"
        assert decision.text == "<action> right </action>"
        assert decision.span.tolist() == [4, 0]
    # What stands before the opening is what the others read.
    first, other = (tokenizer.decode(episode.steps[0].decision.context) for episode in (forced, free))
    assert first == f"{other} <action>"
    for before, after in zip(forced.steps, forced.steps[1:], strict=False):
        told = np.concatenate([before.decision.context, before.decision.token])
        extends = after.decision.extends
        assert extends in (0, len(told))
        assert after.decision.context[:extends].tolist() == told[:extends].tolist()
