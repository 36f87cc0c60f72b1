"""The probability of the gold answer: against a plain forward pass, and where it is refused."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from lapwing import build
from lapwing.annotate.gold_probability import GoldProbability
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.core.types import Answer, Match
from lapwing.games.game import for_split
from lapwing.models import lora
from lapwing.models.chat_format import ChatFormat
from lapwing.policies.agent import InvalidRule
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.play import initial_state


@pytest.fixture(scope="module")
def played():
    recipe = build.read_recipe("search_qa_igpo", overrides=["game.entities=30", "game.relations=2"])
    stage = build.plan(recipe)[-1]
    shop = build.make_workshop(stage, 3)
    agent = build.make_agent(stage, shop)
    game = for_split(build.make_game(stage.game), "train")
    matches = [
        Match(game=game, seed=1, split="train", iteration=0, group=group, member=member, max_steps=2)
        for group in range(4)
        for member in range(6)
    ]
    episodes = LocalCollector(agent, invalid=InvalidRule()).play(matches)
    # An untrained model answers rarely, but it calls: unreadable replies are turns too.
    assert {len(episode.steps) for episode in episodes} == {2}
    return shop, agent, game, matches, episodes, EpisodeBatch.pack(episodes)


def annotator(played, **settings):
    shop, agent, game, matches, *_ = played
    starts = settings.pop("starts", lambda: [initial_state(match) for match in matches])
    return GoldProbability(shop.model, agent=agent, game=game, starts=starts, **settings)


def test_it_is_the_mean_log_probability_of_the_answers_tokens(played, tmp_path):
    shop, _, _, _, episodes, batch = played
    found = annotator(played, weights=tmp_path).columns(batch)["gold_probability"]
    assert len(set(found.round(12))) > 4
    step = 0
    for episode in episodes:
        answer = initial_state(episode.match).task.answers[0]
        reply = shop.tokenizer.encode(f"<answer> {answer} </answer>", add_special_tokens=False)
        for played_step in episode.steps:
            ids = torch.tensor([[*played_step.decision.context.tolist(), *reply]])
            with torch.no_grad():
                logprobs = shop.model(ids).logits.double().log_softmax(-1)[0]
            at = len(played_step.decision.context)
            # The tags around the answer do not count.
            own = [logprobs[at + i - 1, reply[i]].item() for i in range(1, len(reply) - 1)]
            assert found[step] == pytest.approx(np.exp(np.mean(own)), rel=1e-4)
            step += 1


def test_frozen_weights_do_not_move_with_the_model(played, tmp_path):
    shop, *_, batch = played
    shop.model.save_pretrained(tmp_path)
    frozen, current = annotator(played, weights=tmp_path, frozen=True), annotator(played, weights=tmp_path)
    before = frozen.columns(batch)["gold_probability"]
    assert np.allclose(before, current.columns(batch)["gold_probability"])
    with torch.no_grad():
        for parameter in shop.model.parameters():
            parameter.mul_(0.9)
    try:
        assert np.array_equal(frozen.columns(batch)["gold_probability"], before)
        assert not np.allclose(current.columns(batch)["gold_probability"], before)
    finally:
        with torch.no_grad():
            for parameter in shop.model.parameters():
                parameter.div_(0.9)


def test_frozen_weights_of_an_adapter_do_not_move_with_it(played, tmp_path):
    # Fails when a PEFT folder is read as a whole model, of which nothing fits.
    shop, *others, batch = played
    model = copy.deepcopy(shop.model)
    lora.add_adapter(model, lora.LoraSettings(rank=2), seed=0, base="tiny", revision=None)
    move(model, 0)
    lora.save_adapter(tmp_path, model)
    mine = (dataclasses.replace(shop, model=model), *others, batch)
    now = annotator(mine, weights=tmp_path).columns(batch)["gold_probability"]
    move(model, 1)
    frozen, current = annotator(mine, weights=tmp_path, frozen=True), annotator(mine, weights=tmp_path)
    assert np.array_equal(frozen.columns(batch)["gold_probability"], now)
    assert not np.allclose(current.columns(batch)["gold_probability"], now)


def move(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for _, parameter in lora.adapter_parameters(model):
            parameter += 0.1 * torch.randn_like(parameter)


def test_an_episode_of_other_matches_is_refused(played, tmp_path):
    *_, matches, _, batch = played
    few = annotator(played, weights=tmp_path, starts=lambda: [initial_state(matches[0])])
    with pytest.raises(LapwingError, match="none of the matches"):
        few.columns(batch)


def test_a_game_without_gold_answers_is_refused():
    from lapwing.core.errors import UserError

    recipe = build.read_recipe("frozen_lake_fixed_tiny", overrides=['annotate=[{name="gold_probability"}]'])
    with pytest.raises(UserError, match="needs a game with gold answers, and frozen_lake has none"):
        build.plan(recipe)


# Fails when the answer is looked for in its own tag, or where it would stand if nothing came before it.
@pytest.mark.parametrize("tag", ["answer", None])
@pytest.mark.parametrize("opening", ["", "<think>\n"])
@pytest.mark.parametrize("text", ["a", "answer", "row 3 column 3"])
def test_the_answers_tokens_are_found_in_what_the_chat_format_writes(played, toy_folder, tmp_path, tag, opening, text):
    tokenizer = AutoTokenizer.from_pretrained(toy_folder("qwen2"))
    end = "assistant\n' }}{% endif %}"
    assert end in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(end, f"assistant\n{opening}' }}}}{{% endif %}}")
    agent = copy.copy(played[1])
    agent.chat, agent.parser = ChatFormat(tokenizer), copy.copy(agent.parser)
    agent.parser.answer_tag = tag
    assert agent.chat.opened == opening
    shop, _, *others = played
    token, counts = annotator((shop, agent, *others), weights=tmp_path)._answer_tokens(Answer(text))
    assert agent.chat.decode(token[counts]).strip() == text
    before = agent.chat.read(token[: int(counts.argmax())]).strip()
    assert before.endswith("<answer>" if tag else "</think>" if opening else "")
