"""Recipes: everything that ships plans, everything that is wrong is said at once and before any work starts."""

import copy
import dataclasses
import inspect
import math

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lapwing import build
from lapwing.core.errors import UserError

RECIPES = build.recipe_names()


def resolved(name, *, overrides=(), seed=None):
    recipe = build.read_recipe(str(name), overrides=overrides, seed=seed)
    return build.resolved(recipe, build.plan(recipe))


def main_of(recipe):
    return recipe["stage"][-1]


@pytest.fixture
def write(tmp_path):
    """Write a recipe and return its path."""

    def to_file(recipe, name="mine.toml"):
        path = tmp_path / name
        content = recipe if isinstance(recipe, (str, bytes)) else tomli_w.dumps(recipe)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return to_file


def complaint(name, *overrides):
    with pytest.raises(UserError) as raised:
        resolved(name, overrides=overrides)
    message = str(raised.value)
    assert "Traceback" not in message
    return message


# ---------------------------------------------------------------------------------------------------------------------
# What ships, and what is resolved.


def test_the_recipes_of_the_issue_ship_with_their_variants_of_the_selection():
    named = ("frozen_lake_fixed_tiny", "frozen_lake_tiny", "frozen_lake_think_tiny", "snake_5x5_tiny", "bandit_tiny")
    assert {name + variant for name in named for variant in ("", "_uniform", "_all")} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_plans_and_is_called_as_its_file(name):
    recipe = resolved(name)
    assert recipe["name"] == name
    *before, main = (stage["name"] for stage in recipe["stage"])
    # Search and answer clones twice: first to copy, then a poor demonstrator.
    assert main == "main"
    if "qwen" in name:  # these can speak already
        assert before == []
    else:
        # MPO learns from easy pairs first.
        further = ["easy"] if name.endswith("_mpo_mixed") else []
        assert before == (["copying", "warm_start"] if name.startswith("search_qa") else ["warm_start", *further])


@pytest.mark.parametrize("name", RECIPES)
def test_a_resolved_recipe_resolves_to_itself(name, write):
    recipe = resolved(name, seed=5)
    assert resolved(write(recipe)) == recipe


@pytest.mark.parametrize("name", [name for name in RECIPES if name.endswith(("_all", "_uniform"))])
def test_a_variant_differs_from_its_recipe_in_the_selection_alone(name):
    base = resolved(name.removesuffix("_all").removesuffix("_uniform"))
    variant = resolved(name)
    assert main_of(variant)["selection"]["name"] == ("all_episodes" if name.endswith("_all") else "uniform")
    main_of(variant)["selection"] = main_of(base)["selection"]
    assert variant["stage"] == base["stage"]


def test_defaults_come_from_signatures(write):
    recipe = resolved(
        write("""
            [[stage]]
            name = "main"
            game.name = "frozen_lake"
            loss.name = "clipped_surrogate"
            credit.name = "grpo"
        """)
    )
    stage = main_of(recipe)
    from lapwing.credit.grpo import grpo
    from lapwing.games.frozen_lake import FrozenLake
    from lapwing.losses.clipped_surrogate import clipped_surrogate
    from lapwing.models.tiny import tiny_model
    from lapwing.samplers.grouped import Grouped
    from lapwing.training.learner import AdamW

    for section, make in (
        ("game", FrozenLake),
        ("credit", grpo),
        ("loss", clipped_surrogate),
        ("model", tiny_model),
        ("sampler", Grouped),
        ("optimizer", AdamW),
    ):
        defaults = {
            name: list(p.default) if isinstance(p.default, tuple) else p.default
            for name, p in inspect.signature(make).parameters.items()
            if p.default is not inspect.Parameter.empty and p.default is not None
        }
        found = {key: value for key, value in stage[section].items() if key != "name"}
        assert found == defaults
    assert recipe["seed"] == 0
    assert stage["selection"]["name"] == "all_episodes"
    assert stage["aggregation"] == {"name": "token_mean"}


def test_a_stage_takes_from_the_main_one_what_it_does_not_say():
    warm_start, main = resolved("snake_5x5_tiny", overrides=["warm_start.policy.renderer.nearby=0"])["stage"]
    assert warm_start["game"] == main["game"]
    assert warm_start["model"] == main["model"]
    assert (warm_start["policy"]["renderer"]["nearby"], main["policy"]["renderer"]["nearby"]) == (0, 1)
    assert warm_start["policy"]["teacher"]["expert"] == "heuristic"
    assert "teacher" not in main["policy"]
    assert "credit" not in warm_start


def test_a_recipe_that_extends_another_says_only_what_differs(write):
    path = write("""
        extends = "frozen_lake_tiny"
        [[stage]]
        name = "main"
        sampler.groups = 3
        aggregation.name = "constant"
        aggregation.budget = 20
    """)
    mine, base = resolved(path), resolved("frozen_lake_tiny")
    assert mine["name"] == "mine"
    assert main_of(mine).pop("aggregation") == {"name": "constant", "budget": 20.0}
    assert main_of(mine)["sampler"].pop("groups") == 3
    del main_of(base)["aggregation"], main_of(base)["sampler"]["groups"]
    assert mine["stage"] == base["stage"]


def test_a_file_may_begin_with_a_byte_order_mark(write):
    assert resolved(write(b"\xef\xbb\xbfextends = 'bandit_tiny'"))["stage"] == resolved("bandit_tiny")["stage"]


# ---------------------------------------------------------------------------------------------------------------------
# Overrides.


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("sampler.groups=3", ("sampler", "groups"), 3),
        ("main.sampler.groups=3", ("sampler", "groups"), 3),
        (" sampler.groups = 3 ", ("sampler", "groups"), 3),
        ("policy.renderer.nearby=0", ("policy", "renderer", "nearby"), 0),
        ("policy.invalid=forfeit", ("policy", "invalid"), "forfeit"),
        ("policy.invalid='retry'", ("policy", "invalid"), "retry"),
        ("iterations=7", ("iterations",), 7),
        ("optimizer.betas=[0.5, 0.75]", ("optimizer", "betas"), [0.5, 0.75]),
        ("optimizer.learning_rate=1e-3", ("optimizer", "learning_rate"), 1e-3),
        ("optimizer.learning_rate=1", ("optimizer", "learning_rate"), 1.0),
        ("sampler.share_chance=false", ("sampler", "share_chance"), False),
        ("regularisers.0.coefficient=0.5", ("regularisers", 0, "coefficient"), 0.5),
        ("selection={name='top_k', keep=0.25}", ("selection", "keep"), 0.25),
        ("evaluation.transfer=[{size=6}]", ("evaluation", "transfer"), [{"size": 6}]),
        ("selection.name=uniform", ("selection", "name"), "uniform"),
    ],
)
def test_an_override_changes_one_setting(override, path, value):
    table = main_of(resolved("frozen_lake_tiny", overrides=[override]))
    for key in path:
        table = table[key]
    assert table == value
    assert type(table) is type(value)


def test_an_override_may_name_another_stage():
    warm_start, main = resolved("frozen_lake_tiny", overrides=["warm_start.iterations=7"])["stage"]
    assert (warm_start["iterations"], main["iterations"] == 7) == (7, False)


def test_later_overrides_win():
    assert main_of(resolved("frozen_lake_tiny", overrides=["iterations=7", "iterations=8"]))["iterations"] == 8


def test_the_seed_of_the_command_line_replaces_the_recipes():
    assert resolved("bandit_tiny", seed=9)["seed"] == 9


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sampler.groups", ["section.key=value", "sampler.groups"]),
        ("=3", ["section.key=value"]),
        ("sampler..groups=3", ["section.key=value"]),
        ("samplr.groups=3", ["samplr", "did you mean sampler?"]),
        ("sampler.group=3", ["group is unknown", "did you mean", "groups"]),
        ("warmstart.iterations=3", ["warmstart", "did you mean warm_start?"]),
        ("regularisers.9.coefficient=3", ["nothing called '9'"]),
        ("regularisers.coefficient=3", ["is a list", "filters.0.name"]),
        ("iterations.x=3", ["iterations"]),
        ("name=other", ["keep their names"]),
        ("warm_start.name=other", ["keep their names"]),
    ],
)
def test_an_override_that_is_off_is_refused(override, words):
    message = complaint("frozen_lake_tiny", override)
    assert all(word in message for word in words), message


# ---------------------------------------------------------------------------------------------------------------------
# Wrong recipes.

WRONG = {
    # Unknown names come with the nearest valid ones.
    "unknown section": ("smapler={}", ["smapler", "did you mean sampler?"]),
    "unknown key": ("optimizer.learning_rat=1e-3", ["learning_rat is unknown", "did you mean learning_rate?"]),
    "unknown key of the policy": ("policy.format_penlty=1", ["format_penlty", "format_penalty"]),
    "hyphen for underscore": ("optimizer.learning-rate=1e-3", ["learning-rate", "learning_rate"]),
    "key of another level": ("learning_rate=1e-3", ["learning_rate"]),
    "unknown credit": ("credit.name=grop", ["no 'grop' in credit", "grpo"]),
    "unknown loss": ("loss.name=clip", ["no 'clip' in losses"]),
    "unknown selection": ("selection.name=awa", ["awa", "aaw"]),
    "unknown game": ("game={name='frozen_lak'}", ["frozen_lak", "did you mean frozen_lake?"]),
    "unknown game setting": ("game.sizes=4", ["sizes is unknown", "did you mean size?"]),
    "unknown map": ("game.map_name=4x5", ["4x5", "4x4"]),
    "unknown renderer": ("policy.renderer.name=gird", ["gird", "grid"]),
    "unknown context": ("policy.context.name=last", ["last"]),
    "unknown parser": ("policy.parser.name=tag", ["did you mean tags?"]),
    "unknown rule for invalid replies": ("policy.invalid=defualt", ["did you mean default?"]),
    "unknown teacher": ("warm_start.policy.teacher.name=noisyexpert", ["noisy_expert"]),
    "unknown expert": ("warm_start.policy.teacher.expert=best", ["optimal", "heuristic", "best"]),
    "unknown optimizer": ("optimizer.name=adam", ["did you mean adamw?"]),
    "code outside": ("credit.name=os:system", ["os:system", "--allow-code os"]),
    "a name with a path": ("credit.name='../grpo'", ["no '../grpo'"]),
    "a placeholder": ("credit.name='${oc.env:HOME}'", ["no '${oc.env:HOME}'", "my_pkg.my_file"]),
    # Types.
    "text for a number": ("sampler.groups=many", ["sampler.groups", "integer", "'many'"]),
    "truth for a number": ("sampler.groups=true", ["sampler.groups", "integer", "True"]),
    "part of a number": ("sampler.groups=2.5", ["sampler.groups", "integer"]),
    "number for truth": ("sampler.share_chance=1", ["share_chance", "bool"]),
    "number for text": ("policy.invalid=3", ["policy.invalid", "string"]),
    "list for a number": ("optimizer.learning_rate=[1.0]", ["learning_rate", "number"]),
    "three of two": ("optimizer.betas=[0.1, 0.2, 0.3]", ["betas"]),
    "not a number": ("optimizer.learning_rate=nan", ["learning_rate", "finite"]),
    "infinity": ("optimizer.learning_rate=inf", ["learning_rate", "finite"]),
    "a number too large": (f"optimizer.learning_rate=1{'0' * 400}", ["learning_rate"]),
    "number for a section": ("sampler=3", ["sampler needs a name"]),
    "table for a list": ("filters={name='zero_spread'}", ["filters", "array of tables"]),
    "no name": ("credit={epsilon=1}", ["credit needs a name"]),
    "a list for a name": ("policy.renderer.name=['grid']", ["renderer", "grid"]),
    "a number for a model": ("model.name=3", ["model needs a name"]),
    # Values.
    "group of one": ("sampler.group_size=1", ["sampler.group_size is 1", "group of one", "2 or more"]),
    "no groups": ("sampler.groups=0", ["sampler.groups is at least 1, not 0"]),
    "no steps": ("sampler.max_steps=0", ["sampler.max_steps is at least 1"]),
    "no reply": ("generation.max_tokens=0", ["budget of at least 1 token, not 0"]),
    "temperature 0": ("generation.temperature=0", ["temperature is above 0"]),
    "temperature below 0": ("generation.temperature=-1.0", ["temperature is above 0"]),
    "row of no tokens": ("generation.row_tokens=0", ["row_tokens is at least 1"]),
    "a lake of one cell": ("game.size=1", ["2 to 64 cells", "not 1"]),
    "a huge lake": ("game.size=1000000", ["2 to 64 cells"]),
    "no ice": ("game.frozen_probability=0", ["above 0"]),
    "too much ice": ("game.frozen_probability=1.5", ["(0, 1]"]),
    "no lake has a path": ("game={name='frozen_lake', size=40, frozen_probability=0.01}", ["10,000 draws"]),
    "nobody kept": ("selection.keep=0", ["keep", "(0, 1]"]),
    "more than all kept": ("selection.keep=1.5", ["keep", "(0, 1]"]),
    "learning rate 0": ("optimizer.learning_rate=0.0", ["learning_rate", "above 0"]),
    "learning rate below 0": ("optimizer.learning_rate=-1e-3", ["learning_rate", "above 0"]),
    "gradient of no length": ("optimizer.clip_norm=0", ["clip_norm is above 0"]),
    "decay of 1": ("optimizer.betas=[0.9, 1.0]", ["betas", "[0, 1)"]),
    "no epochs": ("optimizer.epochs=0", ["epochs", "at least 1"]),
    "a clip of all sizes": ("loss.clip_low=-0.5", ["clip_low", "-0.5"]),
    "a budget of nothing": ("aggregation={name='constant', budget=0}", ["budget", "positive"]),
    "a penalty that pays": ("policy.format_penalty=-1.0", ["penalty", "at least 0"]),
    "an action that is none": ("policy.default_action=fly", ["'fly' is not legal", "left"]),
    "a share above 1": ("warm_start.policy.teacher.expert_share=1.5", ["[0, 1]", "1.5"]),
    "heads that do not divide": ("model.hidden=30", ["model.hidden (30)", "model.heads"]),
    "weights too far apart": ("model.initializer_range=3.0", ["initializer_range", "[0, 1]"]),
    "no layers": ("model.layers=0", ["positive"]),
    "below no iterations": ("iterations=-1", ["iterations is at least 0, not -1"]),
    "checkpoints never": ("checkpoint_every=0", ["checkpoint_every is at least 1"]),
    "one checkpoint kept": ("checkpoints_kept=1", ["checkpoints_kept is at least 2, not 1"]),
    "no test matches": ("evaluation.episodes=0", ["at least 1"]),
    "an evaluation of no steps": ("evaluation.max_steps=0", ["evaluation.max_steps is at least 1"]),
    "a transfer to no lake": ("evaluation.transfer=[{size=1}]", ["transfer.0", "2 to 64 cells"]),
    "a transfer with a typo": ("evaluation.transfer=[{sizes=5}]", ["transfer.0", "did you mean size?"]),
    "a transfer of no steps": ("evaluation.transfer=[{size=5, max_steps=0}]", ["transfer.0", "at least 1"]),
    # Settings that would change nothing, or never work.
    "a split of one's own": ("game.split=test", ["split is set by the engine"]),
    "an evaluation of the warm start": ("warm_start.evaluation.every=5", ["only the main stage is evaluated"]),
    "a reply that never fits": ("policy.parser={name='tags'}", ["max_tokens is 1", "needs 3 tokens"]),
    "a deadline that has passed": ("deadline_seconds=-1.0", ["deadline_seconds is above 0"]),
    # Combinations.
    "a column that nobody makes": ("regularisers=[{name='kl_k3', coefficient=0.1}]", ["kl_k3", "reference_logprob"]),
    "an opponent too many": ("opponents={1={name='random'}}", ["opponents", "none", "[1]"]),
    "an opponent without a seat": ("opponents={red={name='random'}}", ["opponents.red", "seat"]),
    "unknown model folder": ("model={name='no_such_folder'}", ["no_such_folder", "existing folder"]),
    "unknown path of a model": ("model={name='./runs/none/model'}", ["runs/none", "existing folder"]),
    "a model name that is too long": (f"model={{name='{'a' * 300}'}}", ["existing folder"]),
}


@pytest.mark.parametrize(("override", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_recipe_is_refused_with_what_is_wrong(override, words):
    message = complaint("frozen_lake_tiny", override)
    assert all(word in message for word in words), message
    # What is shared by both stages is said once.
    assert "errors:" not in message, message


def test_a_policy_loss_without_credit_is_refused(write):
    recipe = resolved("bandit_tiny")
    del main_of(recipe)["credit"]
    assert "'clipped_surrogate' needs an advantage; add a credit section" in complaint(write(recipe))


def test_a_teacher_that_the_game_cannot_have_is_refused():
    message = complaint("snake_5x5_tiny", "warm_start.policy.teacher={name='noisy_expert', expert_share=0.5}")
    assert "warm_start.policy.teacher: Snake cannot be enumerated" in message


def test_two_snakes_need_an_opponent():
    message = complaint("snake_5x5_tiny", "game.num_snakes=2")
    assert "needs opponents for these seats: 1" in message
    resolved("snake_5x5_tiny", overrides=["game.num_snakes=2", "opponents.1.name=scripted"])


def test_everything_that_is_wrong_is_said_at_once():
    message = complaint(
        "frozen_lake_tiny", "sampler.group_size=1", "optimizer.learning_rate=-1.0", "generation.max_tokens=0"
    )
    assert "has 3 errors" in message
    assert all(word in message for word in ("group of one", "learning_rate", "budget"))
    message = complaint("frozen_lake_tiny", "sampler.x=1", "warm_start.optimizer.y=1", "nonsense=3")
    assert "nonsense" in message


TEXTS = {
    "nothing": "",
    "no TOML": "[[stage",
    "not UTF-8": b"\xff\xfe\x00",
    "a list of stages that is none": "stage = 3",
    "stages that are no tables": "stage = [1, 2]",
    "no stage": "name = 'x'",
    "the last stage is not main": "[[stage]]\nname = 'main'\n[[stage]]\nname = 'last'",
    "two stages of one name": "[[stage]]\nname = 'main'\n[[stage]]\nname = 'main'",
    "two stages of one name in an extension": "extends = 'bandit_tiny'\n" + "[[stage]]\nname = 'main'\n" * 2,
    "a stage without a name": "[[stage]]\niterations = 3",
    "a stage whose name is a list": "[[stage]]\nname = ['main']",
    "a stage whose name is a path": "[[stage]]\nname = '../x'\n[[stage]]\nname = 'main'",
    "an extension of an unknown recipe": "extends = 'frozen_lake_tin'",
    "an extension of a list": "extends = ['bandit_tiny']",
    "an extension with an unknown stage": "extends = 'bandit_tiny'\n[[stage]]\nname = 'cool_down'",
    "an extension whose stages are a number": "extends = 'bandit_tiny'\nstage = 3",
    "an unknown key at the top": "extends = 'bandit_tiny'\nsed = 3",
    "a section at the top": "extends = 'bandit_tiny'\n[game]\nname = 'snake'",
    "a seed below 0": "extends = 'bandit_tiny'\nseed = -1",
    "a seed that is a text": "extends = 'bandit_tiny'\nseed = 'x'",
    "a seed that is a truth": "extends = 'bandit_tiny'\nseed = true",
    "a seed that is too large": f"extends = 'bandit_tiny'\nseed = {2**63}",
    "a key twice": "seed = 1\nseed = 2",
    "a name that leaves the folder": "extends = 'bandit_tiny'\nname = '../../x'",
    "a name with a slash": "extends = 'bandit_tiny'\nname = '/tmp/x'",
    "a name with a line break": 'extends = "bandit_tiny"\nname = "a\\nb"',
    "a name that is too long": f"extends = 'bandit_tiny'\nname = '{'a' * 300}'",
    "a name that is a number": "extends = 'bandit_tiny'\nname = 3",
    "deep nesting": "x = " + "[" * 5000,
    "YAML": "stage:\n  - name: main",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_file_that_is_no_recipe_is_refused(text, write):
    assert complaint(write(text))


def test_a_last_stage_of_another_name_is_named(write):
    assert "called 'main', not 'teach'" in complaint(write("[[stage]]\nname = 'teach'"))


@pytest.mark.parametrize("name", ["frozen_lake_tny", "", "none.toml", "a\0b.toml", "/", "x" * 300 + ".toml", "..toml"])
def test_a_recipe_that_is_not_there_is_refused(name):
    assert complaint(name)


def test_the_nearest_recipe_is_offered():
    assert "did you mean" in complaint("frozen_lake_tny")
    assert "frozen_lake_tiny" in complaint("frozen_lake_tny")


@pytest.mark.parametrize("seed", [-1, 2**63, True, 1.0, "0"])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(UserError, match="seed is a whole number"):
        build.read_recipe("bandit_tiny", seed=seed)


# ---------------------------------------------------------------------------------------------------------------------
# Anything at all.

SCALARS = st.one_of(
    st.sampled_from([0, 1, -1, 2, 10**30, 0.0, -0.5, 1e308, math.nan, math.inf, True, False, "", "x", "tiny", "grid"]),
    st.text(max_size=8),
    st.integers(-3, 5),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["name", "size", "0", "x", "coefficient"]), inner, max_size=3),
    ),
    max_leaves=4,
)


def places(table, path=()):
    """The address of everything inside a recipe."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    for key, value in list(items):
        yield (*path, key)
        yield from places(value, (*path, key))


BASES = {name: resolved(name) for name in ("frozen_lake_tiny", "snake_5x5_tiny", "bandit_tiny")}
# A big lake with few frozen cells makes 10,000 draws before it gives up, which is right but slow.
SLOW = {"size", "frozen_probability", "width", "height"}


@st.composite
def damaged(draw):
    """A good recipe with something replaced, dropped or added at up to three random places."""
    recipe = copy.deepcopy(BASES[draw(st.sampled_from(sorted(BASES)))])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from([place for place in places(recipe) if place[-1] not in SLOW]))
        table = recipe
        for key in at[:-1]:
            table = table[key]
        how = draw(st.sampled_from(["replace", "replace", "drop", "add"]))
        if how == "replace":
            table[at[-1]] = draw(VALUES)
        elif how == "drop":
            del table[at[-1]]
        elif isinstance(table, dict):
            table[draw(st.sampled_from(["name", "x", "keep", "path", "self", "model_config"]))] = draw(VALUES)
        else:
            table.append(draw(VALUES))
    return recipe


# Fails when a check lets any other exception through: `name not in options` for an unhashable name was one.
@given(recipe=damaged())
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_a_damaged_recipe_plans_or_is_refused(recipe, write):
    try:
        found = resolved(write(recipe, "damaged.toml"))
    except UserError as error:
        assert str(error)
        return
    # What plans can be written down, and read again as the same.
    assert resolved(write(found, "damaged.toml")) == found


def test_the_schema_of_a_section_is_its_signature():
    parameters = build.parameters_of(build.baselines()["noisy_expert"])
    assert set(parameters) == {"expert_share", "expert"}


def test_a_plan_can_be_copied_with_another_game():
    (_, main) = build.plan(build.read_recipe("frozen_lake_tiny"))
    larger = build.with_game(main, {"size": 6, "max_steps": 40})
    assert build.make_game(larger.game) == dataclasses.replace(build.make_game(main.game), size=6)
    with pytest.raises(UserError, match="did you mean size"):
        build.with_game(main, {"sizes": 6})


def test_a_list_can_be_begun_and_continued_with_overrides():
    read = build.read_recipe(
        "frozen_lake_fixed_tiny",
        overrides=[
            "annotate.0.name=value",
            "credit.name=gae",
            "filters.0.name=zero_spread",
            "filters.1.name=star_po_top_k",
        ],
    )
    plan = build.plan(read)[-1]
    assert [part.name for part in plan.annotate] == ["value"]
    assert [part.name for part in plan.filters] == ["zero_spread", "star_po_top_k"]
    with pytest.raises(UserError, match="nothing called '5'"):
        build.read_recipe("frozen_lake_fixed_tiny", overrides=["regularisers.5.name=entropy"])


def test_what_supplies_branch_values_is_said():
    with pytest.raises(UserError, match=r"set sampler\.name = 'branching'"):
        build.plan(build.read_recipe("frozen_lake_fixed_tiny", overrides=["credit.name=vine"]))


def test_a_file_that_is_no_toml_is_told_from_a_missing_recipe(tmp_path):
    (tmp_path / "mine.txt").write_text("name = 'mine'")
    with pytest.raises(UserError, match=r"not a \.toml file"):
        build.read_recipe(str(tmp_path / "mine.txt"))
