"""The arms of the comparison with peers read and say the same: one dialogue in every arm's own words for it."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from lapwing import build

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peer_arms"


@pytest.fixture(scope="module")
def lake():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("lake")
    finally:
        sys.path.remove(str(FOLDER))


def test_a_dialogue_with_tools_is_lapwings_transcript(lake):
    """What TRL reads before a reply, rendered from calls and their results, is Lapwing's context to the last token."""
    stage = lake.plans("fixed", "transcript", ["model.layers=1", "warm_start.sampler.groups=2"])[0]
    shop = build.make_workshop(stage, 0)
    shop.tokenizer.chat_template = lake.CHAT_TEMPLATE
    made = build.make_stage(stage, shop)  # a teacher plays at random
    rollout = made.collector.collect(made.sampler.draw(0))
    task, batch = lake.Task("fixed"), rollout.batch
    assert set(np.diff(batch.token_splits)) == {lake.REPLY_TOKENS}
    for episode, first in zip(rollout.episodes[:4], batch.step_splits.tolist(), strict=False):
        dialogue = []
        for number, step in enumerate(episode.steps):
            shown = {"role": "tool" if number else "user", "content": task.board(step.state)}
            dialogue.append(shown)
            theirs = shop.tokenizer.apply_chat_template(dialogue, add_generation_prompt=True, return_dict=False)
            assert batch.context(first + number).tolist() == theirs
            call = {"type": "function", "function": {"name": step.action, "arguments": {}}}
            dialogue.append({"role": "assistant", "content": "", "tool_calls": [call]})
            said = shop.tokenizer.decode(step.decision.token[:-1])
            assert lake.read_reply(said) == step.action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ("<tool> left </tool>", "left"),
        ("<tool> up", None),
        ("<tool> up up", None),
        ("<tool> left left </tool>", None),
        ("left", None),
        ("<tool> row </tool>", None),
        ("", None),
    ],
)
def test_only_a_whole_call_of_a_tool_is_a_move(lake, text, action):
    assert lake.read_reply(text) == action


def test_both_maps_are_the_recipes(lake):
    fixed, drawn = lake.Task("fixed"), lake.Task("random")
    assert len({state.rows for state in fixed.starts(0)}) == 1
    assert len({state.rows for n in range(3) for state in drawn.starts(n)}) > lake.GROUPS
    assert [state.rows for state in drawn.starts(3)] == [state.rows for state in lake.Task("random").starts(3)]
    assert [state.rows for state in drawn.starts(3)] != [state.rows for state in lake.Task("random", seed=1).starts(3)]


def test_every_arm_has_the_recipes_sizes(lake):
    plan = lake.plans("random", "state_only")[-1]
    sampler = plan.sampler.settings
    assert (sampler["groups"], sampler["group_size"], sampler["max_steps"]) == (
        lake.GROUPS,
        lake.GROUP_SIZE,
        lake.MAX_STEPS,
    )
    assert plan.generation.settings["max_tokens"] == lake.REPLY_TOKENS
    optimizer = plan.optimizer.settings
    assert (optimizer["clip_norm"], optimizer["betas"], optimizer["weight_decay"]) == (lake.CLIP_NORM, lake.BETAS, 0.0)
    assert (plan.loss.name, plan.selection.name, plan.aggregation.name) == (
        "clipped_surrogate",
        "all_episodes",
        "token_mean",
    )
    assert not plan.regularisers
