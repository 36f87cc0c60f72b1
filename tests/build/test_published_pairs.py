"""Which of the published methods do not go together, and the sentence that says so; and ambiguous names."""

import json

import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.core.registry import resolve

LAKE = "frozen_lake_fixed_tiny"
SEARCH = "search_qa_otc"


def refused(recipe, *overrides):
    with pytest.raises(UserError) as error:
        build.plan(build.read_recipe(recipe, overrides=overrides))
    return str(error.value)


TWO = "optimizer.minibatches=2"
GATES = "[{name='overlong',limit=8,cache=2},{name='router_r1'}]"
REFUSED = {
    "overlong and its filter": (
        LAKE,
        ["shaping=[{name='overlong',limit=20,cache=5}]", "filters=[{name='truncated'}]"],
        "'overlong' punishes the episodes that 'truncated' leaves out",
    ),
    "overlong and its selection": (
        LAKE,
        ["shaping=[{name='overlong',limit=20,cache=5}]", "selection={name='untruncated'}"],
        "'overlong' punishes the episodes that 'untruncated' leaves out",
    ),
    "overlong before a gate": (SEARCH, [f"shaping={GATES}"], "put overlong at the end"),
    "a coefficient before a gate": (
        SEARCH,
        ["shaping=[{name='otc',limit=4},{name='router_r1'}]"],
        "put router_r1 before otc",
    ),
    "welfare after a coefficient": (
        SEARCH,
        ["shaping=[{name='otc',limit=4},{name='empo'}]"],
        "'empo' replaces the outcome",
    ),
    "empo where turns are paid": ("search_qa_empo", ["game.turn_weight=1.0"], "set game.turn_weight = 0"),
    "a divergence in reward and loss": (
        "frozen_lake_fixed_kl_penalty",
        ["regularisers=[{name='kl_k3',coefficient=0.1}]"],
        "the divergence is counted twice",
    ),
    "marginal gains with a discount": (
        "frozen_lake_fixed_submodular",
        ["credit={name='return_to_go',discount=0.9}"],
        "set credit.discount = 1",
    ),
    "bundles that do not come out even": ("frozen_lake_fixed_riskpo", ["credit.bundle=7"], "a multiple of"),
    "bundles without groups that have no spread": (
        "frozen_lake_fixed_riskpo",
        ["filters=[{name='zero_spread'}]"],
        "leave the filter 'zero_spread' out",
    ),
    "a ratio of episodes with credit of steps": (
        "frozen_lake_fixed_gspo",
        ["loss.span='episode'", "credit={name='return_to_go'}"],
        "use the loss 'gspo_token'",
    ),
    "a ratio of steps with credit of tokens": (
        "frozen_lake_fixed_gspo",
        ["credit={name='reinforce_pp'}"],
        "gives its tokens different advantages",
    ),
    "llds with one update": ("frozen_lake_fixed_llds", ["optimizer.minibatches=1"], "set optimizer.minibatches = 2"),
    "a weighted divergence that counts nothing": (
        "frozen_lake_fixed_apo_asymmetric",
        ["regularisers=[{name='apo_asymmetric',coefficient=0.0}]"],
        "whose coefficient is 0",
    ),
    "guided play with importance weights": (
        "frozen_lake_fixed_policy_rollout",
        ["corrections=[{name='truncated_importance'}]"],
        "would take the difference for one of the policy",
    ),
    "masks with thoughts": ("frozen_lake_think_tiny", ["sampler={name='masked'}"], "set policy.parser.name = 'bare'"),
    "an exact advantage of guided play": (
        "frozen_lake_fixed_oracle",
        ["sampler={name='ghpo',groups=1,group_size=160}"],
        "choose the sampler 'grouped'",
    ),
    "modes without tags": (
        LAKE,
        ["sampler={name='adaptive_modes',openings=['left','right']}"],
        "which the parser 'bare' does not read",
    ),
    "a price of modes without modes": (
        "frozen_lake_think_tiny",
        ["shaping=[{name='a2fm_adaptive'}]"],
        "set sampler.name = 'adaptive_modes'",
    ),
    "corrections of what a teacher said": (
        LAKE,
        ["warm_start.corrections=[{name='truncated_importance'}]"],
        "replies of a teacher or of a file have none",
    ),
    "a drift of guided play": (
        "frozen_lake_fixed_masked",
        ["corrections=[{name='off_policy_mask'}]"],
        "would take the difference for one of the policy",
    ),
    "a penalty on guided play": (
        "frozen_lake_fixed_masked",
        ["annotate=[{name='reference_logprob'}]", "shaping=[{name='kl_penalty'}]"],
        "would take the difference for one of the policy",
    ),
    "opponents from guided play": (
        "frozen_lake_fixed_nash_md",
        ["sampler.name='policy_rollout'"],
        "would take the difference for one of the policy",
    ),
    "a ratio of episodes after salt": (
        "frozen_lake_fixed_gspo",
        ["loss.span='episode'", "modulation=[{name='salt'}]"],
        "takes back what 'salt' did",
    ),
    "a modulation that nothing reads": (
        "frozen_lake_fixed_nft",
        ["modulation=[{name='stcr'}]", "selection={name='all_episodes'}"],
        "nothing reads an advantage here",
    ),
    "an advantage where there are pairs": (
        "frozen_lake_fixed_dpo",
        ["regularisers=[{name='llds',coefficient=0.1}]"],
        "a stage that learns from pairs has none",
    ),
    "a mask where nothing has an advantage": (
        LAKE,
        ["warm_start.corrections=[{name='off_policy_mask'}]"],
        "'off_policy_mask' needs an advantage",
    ),
    "rounds without end": (
        "frozen_lake_fixed_dynamic",
        ["sampler.max_rounds=1000000"],
        "what an iteration may play in all rounds",
    ),
    "a weight that is no number": (
        "mixture_tiny",
        ["game.games=[{name='chain',weight='x'},{name='bandit'}]"],
        "a number above 0; found 'x'",
    ),
    "a reference that nobody annotates": (
        "frozen_lake_fixed_weighted_dpo",
        ["annotate=[]"],
        "needs the column reference_logprob",
    ),
    "a loss of pairs without pairs": (LAKE, ["loss={name='dpo'}"], "There is no 'dpo' in losses"),
    "a loss of tokens with pairs": (
        "frozen_lake_fixed_dpo",
        ["loss={name='clipped_surrogate'}"],
        "There is no 'clipped_surrogate' in preferences",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(case):
    recipe, overrides, sentence = REFUSED[case]
    assert sentence in refused(recipe, *overrides)


# Fails when a rule refuses more than it says: each differs from a refused one by what the sentence advises.
@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        (LAKE, ["shaping=[{name='overlong',limit=20,cache=5}]"]),
        (SEARCH, ["shaping=[{name='router_r1'},{name='otc',limit=4}]"]),
        ("frozen_lake_fixed_submodular", ["credit={name='return_to_go',discount=1.0}"]),
        ("frozen_lake_fixed_gspo", ["loss.span='step'", "credit={name='return_to_go'}"]),
        ("frozen_lake_fixed_gspo_token", ["loss.span='episode'", "credit={name='return_to_go'}"]),
        ("frozen_lake_fixed_weighted_dpo", ["annotate=[]", "loss.reference_free=true"]),
        (LAKE, ["corrections=[{name='masked_importance'}]"]),
    ],
)
def test_what_the_sentences_advise_is_taken(recipe, overrides):
    build.plan(build.read_recipe(recipe, overrides=overrides))


@pytest.mark.parametrize(
    ("room", "name", "named"),
    [
        ("losses", "apo", ["apo_asymmetric", "a2fm_adaptive"]),
        ("losses", "dapo", ["frozen_lake_fixed_dapo", "direct_advantage"]),
        ("losses", "mpo", ["split_by_gap"]),
        ("preferences", "rpo", ["rpo_dpo_sft", "dr_rpo"]),
        ("losses", "p3o", ["p3o_pairwise"]),
    ],
)
def test_a_name_that_several_papers_share_is_refused_with_the_list(room, name, named):
    with pytest.raises(UserError, match="is the name of several methods") as error:
        resolve(room, name)
    assert all(other in str(error.value) for other in named)
    with pytest.raises(UserError, match="is the name of several methods"):
        build.read_recipe(name)


# Fails when what an extended recipe says of advantages is kept beside the pairs.
def test_pairs_stand_in_place_of_advantages():
    plan = build.plan(build.read_recipe("frozen_lake_fixed_dpo"))[-1]
    assert plan.credit is None
    assert plan.modulation == plan.corrections == []
    assert plan.selection.name == "all_episodes"
    table = plan.to_dict()
    assert table["pairs"]["name"] == "by_return"
    assert "credit" not in table
    again = build.plan(build.as_recipe({"name": "again", "seed": 0, "stage": [table]}, "again"))[-1]
    assert json.dumps(again.to_dict()) == json.dumps(table)


def test_a_file_of_pairs_needs_pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    collector = f"collector={{name='preference_pairs',path='{path}'}}"
    assert "add pairs.name = 'by_return'" in refused(LAKE, collector)
    assert "there is no file" in refused(
        "frozen_lake_fixed_dpo", "collector={name='preference_pairs',path='none.jsonl'}"
    )
    build.plan(build.read_recipe("frozen_lake_fixed_dpo", overrides=[collector]))
