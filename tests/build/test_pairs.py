"""Pairs of methods that undo or double one another are refused with the reason, and no others."""

import dataclasses
import json

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


def test_the_format_gate_comes_before_a_coefficient(reasons):
    gate, otc = part("router_r1"), part("otc", limit=4)
    assert "put router_r1 before otc" in one(reasons(None, shaping=[otc, part("tspo"), gate]))
    assert reasons(None, shaping=[gate, part("tspo"), otc]) == []
    assert reasons(None, shaping=[otc]) == reasons(None, shaping=[gate]) == []


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
        ("shaping=[{name='otc', limit=0}]", ["'otc' needs the column tool_calls", "limit is the most turns"]),
        ("shaping=[{name='otc'}]", ["shaping.0.limit is missing"]),
        ("shaping=[{name='router_r1'}]", ["'router_r1' needs the column tool_cost"]),
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


# ---------------------------------------------------------------------------------------------------------------------
# Games with tools.

TWO_TURNS = ("game.max_turns=2", "sampler.max_steps=3", "copying.sampler.max_steps=3", "warm_start.sampler.max_steps=3")


@pytest.mark.parametrize(
    ("recipe", "overrides", "sentence"),
    [
        (
            "search_qa_mt_grpo",
            ["policy.renderer={name='grid'}"],
            "main: search_qa is a dialogue with tools; set policy.renderer.name = 'tool_dialogue'.",
        ),
        (
            "search_qa_mt_grpo",
            ["policy.parser={name='tags'}"],
            "main: search_qa takes calls and answers; set policy.parser.name = 'tool_use'.",
        ),
        (
            "search_qa_mt_grpo",
            ["policy.context={name='state_only'}"],
            "main: the context 'state_only' forgets the question before the answer is due; set policy.context.name = "
            "'transcript'.",
        ),
        (
            "search_qa_mt_grpo",
            ["policy.context={name='last_k', k=1}", *TWO_TURNS],
            "main: the context 'last_k' forgets the question before the answer is due",
        ),
        (
            "search_qa_mt_grpo",
            ["sampler.max_steps=1"],
            "main: after 1 calls the answer is step 2, but sampler.max_steps is 1; raise it.",
        ),
        (
            "search_qa_mt_grpo",
            ["game.max_turns=2", "sampler.max_steps=3"],
            "copying: after 2 calls the answer is step 3, but sampler.max_steps is 2; raise it.",
        ),
        (
            "search_qa_mt_grpo",
            ["policy.parser.style=json"],
            "main: the tiny model has one token a word and cannot write JSON; set policy.parser.style = 'words'.",
        ),
        (
            "search_qa_mt_grpo",
            ["policy.renderer.errors=full"],
            "main: the tiny model does not know the words of errors; set policy.renderer.errors = 'bare'.",
        ),
        (
            "search_qa_mt_grpo",
            ["generation.max_tokens=6"],
            "needs 7 tokens.",
        ),
        (
            "frozen_lake_tiny",
            ["policy.renderer={name='tool_dialogue'}"],
            "main: 'tool_dialogue' is for games with tools, and frozen_lake has none.",
        ),
        (
            "frozen_lake_tiny",
            ["policy.parser={name='tool_use'}"],
            "main: 'tool_use' is for games with tools, and frozen_lake has none.",
        ),
        # The same weights on another game, with the same parts of the policy.
        (
            "search_qa_mt_grpo",
            ["evaluation.transfer=[{name='frozen_lake'}]"],
            "main.evaluation.transfer.0: 'tool_use' is for games with tools, and frozen_lake has none.",
        ),
        (
            "search_qa_mt_grpo",
            ["evaluation.transfer=[{hops=1}, {max_turns=3}]"],
            "main.evaluation.transfer.1: after 3 calls the answer is step 4, but sampler.max_steps is 2; raise it.",
        ),
        (
            "frozen_lake_tiny",
            ["evaluation.transfer=[{name='search_qa'}]"],
            "main.evaluation.transfer.0: search_qa is a dialogue with tools",
        ),
    ],
)
def test_parts_that_do_not_go_with_tools_are_refused(recipe, overrides, sentence):
    assert sentence in complaint(recipe, *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        TWO_TURNS,
        ("policy.context={name='last_k', k=1}",),
        ("policy.context={name='last_k', k=2}", *TWO_TURNS),
        ("game.max_turns=0", "policy.context={name='state_only'}", "sampler.max_steps=1"),
        ("evaluation.transfer=[{max_turns=3, max_steps=4}]",),
        ("generation.max_tokens=7",),
        # No action is legal, and none is a default: the game has an error for what cannot be read.
        ("policy.invalid=retry",),
        ("policy.invalid=forfeit",),
    ],
)
def test_parts_that_go_with_tools_plan(overrides):
    build.plan(build.read_recipe("search_qa_mt_grpo", overrides=overrides))


@pytest.mark.parametrize("name", ["policy.renderer={name='grid'}", "policy.parser={name='bare'}"])
def test_a_wrong_dialogue_is_refused_before_any_work(name, tmp_path):
    import lapwing

    with pytest.raises(UserError, match="search_qa"):
        lapwing.train("search_qa_mt_grpo", run=tmp_path / "run", overrides=[name])
    assert not (tmp_path / "run").exists()


def test_shaping_by_calls_has_its_columns_where_the_game_supplies_them():
    # Fails when what a game produces is not looked at; on the lake the same shaping is refused, above.
    for shaping in ("{name='otc', limit=2}", "{name='router_r1'}"):
        build.plan(build.read_recipe("search_qa_mt_grpo", overrides=[f"shaping=[{shaping}]"]))


@pytest.mark.parametrize(
    ("teacher", "sentence"),
    [
        ("{name='random'}", "SearchQa lists no legal actions"),
        ("{name='demonstrator', call_share=1.5}", "call_share is a probability in [0, 1], not 1.5"),
    ],
)
def test_a_teacher_that_cannot_teach_a_dialogue_is_refused(teacher, sentence):
    assert sentence in complaint("search_qa_mt_grpo", f"warm_start.policy.teacher={teacher}")


def test_games_without_demonstrations_have_no_demonstrator():
    message = complaint("frozen_lake_tiny", "warm_start.policy.teacher={name='demonstrator'}")
    assert "FrozenLake has no demonstrations; choose another teacher." in message


def test_the_tiny_model_knows_the_words_of_a_corpus_as_they_are_shown(tmp_path):
    # Fails when its vocabulary is taken from the texts as they stand: what begins a tag is shown with "&lt;".
    document = {"id": "1", "title": "ka", "text": "ka is <b>ve</b> and 1 < 2"}
    asked = {"question": "what is <i>ka</i> ?", "answers": ["<b>ve</b>"], "query": "ka"}
    questions = [{"id": str(n), **asked, "split": split} for n, split in enumerate(("train", "development", "test"))]
    for name, rows in (("corpus", [document]), ("questions", questions)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = f"corpus='{tmp_path / 'corpus.jsonl'}', questions='{tmp_path / 'questions.jsonl'}'"
    overrides = [f"game={{name='search_qa', {files}}}", "model={name='tiny', hidden=16, layers=1, heads=2}"]
    stage = build.plan(build.read_recipe("search_qa_mt_grpo", overrides=overrides))[-1]
    shop = build.make_workshop(stage, 0)
    agent, game = build.make_agent(stage, shop), build.make_game(stage.game)
    state = game.initial(np.random.default_rng(0))
    assert "what is &lt;i>ka&lt;/i> ?" in shop.tokenizer.decode(agent.prompt(game.view(state, 0), None).token)
    known = set(shop.tokenizer.get_vocab())
    assert set(["ka", "is", "&lt;b>ve&lt;/b>", "and", "1", "<", "2", "<b>ve</b>"]) <= known


# Fails when what a person says of advantages is dropped without a word, or what a base recipe says of them is refused.
def test_what_a_stage_with_pairs_would_not_read_is_refused_with_its_place(tmp_path):
    build.plan(build.read_recipe("frozen_lake_fixed_dpo"))
    overridden = build.read_recipe("frozen_lake_fixed_dpo", overrides=["credit.name=grpo"])
    with pytest.raises(
        UserError, match=r"^--set credit\.name=grpo: main\.credit\.name is not read in a stage with pairs"
    ):
        build.plan(overridden)
    path = tmp_path / "own.toml"
    text = 'extends = "frozen_lake_fixed_dpo"\n[[stage]]\nname = "main"\n{}[[stage.modulation]]\nname = "whiten"\n'
    path.write_text(text.format('[stage.pairs]\nname = "by_return"\n'), "utf-8")
    with pytest.raises(UserError, match=r"own\.toml, line 6: main\.modulation.* is not read"):
        build.plan(build.read_recipe(str(path)))
