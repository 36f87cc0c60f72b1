"""Pairs of methods that undo or double one another are refused with the reason, and no others."""

import dataclasses

import numpy as np
import pytest

from lapwing import build
from lapwing.build.pairs import unsafe_pairs
from lapwing.build.schema import Part
from lapwing.core.errors import UserError

LEVEL = "token"  # of `per_token`, below


def per_token(batch):
    """A credit method of level token: what LEVEL says is read from this module."""
    return np.zeros(batch.num_tokens)


@pytest.fixture(scope="module")
def plan():
    return build.plan(build.read_recipe("snake_5x5_tiny"))[-1]


def part(name, **settings):
    """A part that is judged by its name and settings."""
    return Part(name, dict, settings)


@pytest.fixture
def reasons(plan):
    """Why a stage with other parts is refused."""

    def of(credit, modulation=(), shaping=(), **game):
        other = plan.game._replace(settings={**plan.game.settings, **game})
        given = {"credit": credit, "modulation": list(modulation), "shaping": list(shaping), "game": other}
        return unsafe_pairs(dataclasses.replace(plan, **given))

    return of


EPISODE_CREDIT = ["grpo", "dr_grpo", "rloo", "reinforce", "lite_ppo"]
GAE_FAMILY = ["gae", "token_gae", "bilevel_gae", "dual_gae", "egae", "hae"]
SALT, EMPG = part("salt"), part("empg")
BATCH, GROUP = part("whiten", over="batch"), part("whiten", over="group")


def one(reasons):
    (reason,) = reasons
    return reason


@pytest.mark.parametrize("credit", EPISODE_CREDIT)
def test_salt_goes_with_the_credit_of_whole_episodes(reasons, credit):
    assert reasons(part(credit), [SALT, EMPG, BATCH]) == []


@pytest.mark.parametrize("credit", ["gigpo", "return_to_go", "state_td", "mt_grpo", "gae", "rebn", "oracle"])
def test_salt_on_the_credit_of_steps_is_refused(reasons, credit):
    reason = one(reasons(part(credit), [SALT]))
    assert f"'{credit}' credits steps already" in reason
    assert "grpo" in reason


def test_salt_on_code_from_outside_is_ones_own_affair(reasons):
    assert reasons(part("mine.credit:gigpo"), [SALT]) == []


def test_salt_after_empg_is_refused(reasons):
    assert "put salt before empg" in one(reasons(part("grpo"), [EMPG, SALT]))


@pytest.mark.parametrize("credit", GAE_FAMILY)
def test_whitening_groups_on_top_of_a_critic_is_refused(reasons, credit):
    assert "second baseline" in one(reasons(part(credit), [GROUP]))
    assert reasons(part(credit), [BATCH]) == []
    assert reasons(part("grpo"), [GROUP]) == []


def test_empg_comes_before_the_batch_is_whitened_and_after_the_groups_are(reasons):
    assert reasons(part("grpo"), [EMPG, BATCH]) == []
    assert reasons(part("grpo"), [GROUP, EMPG]) == []
    assert "exchange them" in one(reasons(part("grpo"), [BATCH, EMPG]))
    assert "takes back the scale" in one(reasons(part("grpo"), [EMPG, GROUP]))
    # Both at once are both said.
    assert len(reasons(part("grpo"), [BATCH, EMPG, GROUP])) == 2


@pytest.mark.parametrize(
    ("game", "is_refused"),
    [
        ({"step_reward": -0.01}, True),
        ({"step_reward": 0.0}, False),
        ({"step_reward": 0.1}, False),
        ({"step_penalty": 0.1}, True),
        ({"step_penalty": -0.1}, True),
        ({"step_penalty": 0}, False),
        ({"death_reward": -2.0}, False),
    ],
)
def test_a_discount_and_a_penalty_per_step_price_time_twice(reasons, game, is_refused):
    found = reasons(part("gigpo", discount=0.95), **game)
    assert len(found) == is_refused
    assert all("discounts it twice" in reason and "credit.discount = 1" in reason for reason in found)
    assert reasons(part("gigpo", discount=1.0), **game) == []
    assert reasons(part("grpo"), **game) == []


@pytest.mark.parametrize("credit", ["mt_grpo", "mt_grpo_prefix"])
def test_suffix_sums_of_a_potential_telescope(reasons, credit):
    assert "telescopes" in one(reasons(part(credit, horizon="suffix"), shaping=[part("tips")]))
    assert reasons(part(credit, horizon="immediate"), shaping=[part("tips")]) == []
    assert reasons(part(credit, horizon="suffix"), shaping=[part("igpo")]) == []
    assert reasons(part("gtpo"), shaping=[part("tips")]) == []


def test_a_modulation_of_steps_on_a_credit_of_tokens_is_refused(reasons):
    from lapwing.modulation.empg import empg
    from lapwing.modulation.whiten import whiten

    tokens = Part("mine.credit:per_token", per_token, {})
    reason = one(reasons(tokens, [Part("empg", empg, {}), Part("whiten", whiten, {"over": "batch"})]))
    assert "'empg' takes one advantage per step" in reason
    assert "'mine.credit:per_token' gives one per token" in reason


def test_a_stage_without_credit_has_nothing_to_refuse(reasons):
    assert reasons(None, shaping=[part("tips")]) == []


# ---------------------------------------------------------------------------------------------------------------------
# In a recipe.


def complaint(recipe, *overrides):
    with pytest.raises(UserError) as raised:
        build.plan(build.read_recipe(recipe, overrides=overrides))
    return str(raised.value)


def test_a_recipe_with_an_unsafe_pair_is_refused():
    message = complaint("frozen_lake_tiny", "credit={name='return_to_go'}", "modulation=[{name='salt'}]")
    assert "main: the modulation 'salt' averages" in message
    assert "errors:" not in message
    build.plan(
        build.read_recipe("frozen_lake_tiny", overrides=["modulation=[{name='salt', history=1}, {name='whiten'}]"])
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        # What nobody produces is said with what to do, and once.
        ("modulation=[{name='empg'}]", ["'empg' needs the column entropy", "annotat"]),
        ("shaping=[{name='igpo'}]", ["'igpo' needs the column gold_probability", "annotat"]),
        ("shaping=[{name='tips', scale=2.0}]", ["'tips' needs the column gold_probability"]),
        # Settings are tried even so.
        ("modulation=[{name='empg', k=-1.0}]", ["k must be finite and at least 0", "needs the column entropy"]),
        ("modulation=[{name='adora', rule='lenght'}]", ["no rule 'lenght'"]),
        ("modulation=[{name='whiten', over='grup'}]", ["no scope 'grup'"]),
        ("modulation=[{name='salt', history=-2}]", ["history must be at least 0"]),
        ("modulation=[{name='salt', histroy=1}]", ["histroy is unknown", "history"]),
        ("filters=[{name='star_po_top_p', share=0.0}]", ["share must be in (0, 1]"]),
        ("shaping=[{name='tspo', part=''}]", ["part must name"]),
    ],
)
def test_wrong_settings_and_missing_columns_are_refused_before_the_run(override, words):
    message = complaint("frozen_lake_tiny", override)
    assert all(word in message for word in words), message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    "override",
    [
        # `success` is in every played batch.
        "modulation=[{name='adora', rule='turns'}]",
        "modulation=[{name='whiten', over='group'}]",
        "filters=[{name='star_po_top_k'}, {name='star_po_top_p', form='softmax'}, {name='star_po_min_p'}]",
        # Whether the game reports the part shows when it is played.
        "shaping=[{name='tspo', part='found', bonus=0.3}]",
    ],
)
def test_what_is_right_plans(override):
    build.plan(build.read_recipe("frozen_lake_tiny", overrides=[override]))


def test_an_annotator_may_come_from_outside(tmp_path, monkeypatch):
    (tmp_path / "my_columns.py").write_text(
        "PRODUCES = ('entropy', 'gold_probability')\n"
        "class Mine:\n"
        "    def __init__(self, model, *, weights):\n"
        "        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["annotate=[{name='my_columns:Mine'}]", "modulation=[{name='empg'}]", "shaping=[{name='tips'}]"]
    recipe = build.read_recipe("frozen_lake_tiny", overrides=overrides)
    build.plan(recipe, allow_code=("my_columns",))


def test_code_from_outside_that_reads_more_than_it_says_is_refused(tmp_path, monkeypatch):
    (tmp_path / "my_method.py").write_text(
        "NEEDS = ('valeu',)\ndef greedy(batch):\n    return batch.column('value', needed_by='greedy')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = build.read_recipe("frozen_lake_tiny", overrides=["credit={name='my_method:greedy'}"])
    with pytest.raises(UserError) as raised:
        build.plan(recipe, allow_code=("my_method",))
    # What it names is no column, and what it reads it does not name.
    assert "needs the column valeu; no column is called that; did you mean" in str(raised.value)
    assert "greedy needs the column 'value', but the batch has none" in str(raised.value)
