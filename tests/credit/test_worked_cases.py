"""The worked cases of the methods' specification in one table, its numbers as printed there, section by section."""

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest

from lapwing.core.registry import resolve
from lapwing.testing import episodes


class Case(NamedTuple):
    """What a method, "room.name", makes of a batch; a modulation also takes the advantage that comes in."""

    title: str
    method: str
    batch: Any
    settings: dict[str, Any]
    expected: list[float]
    advantage: list[float] | None = None


# 1.10: four episodes of a search and an answer, then two of two searches and an answer --------------------------------

SEARCH, ANSWER = [1, 1, 0, 0], [1, 0, 0, 1]
STD = 0.8660254
exact = {"eps": 0.0}
e1 = episodes([[turn, 0] for turn in SEARCH], outcome=ANSWER)
e1_seen = e1.with_columns(view_key=np.tile(np.array([5, 0], dtype=np.uint64), 4))
e1_in_reward = episodes([[turn, answer] for turn, answer in zip(SEARCH, ANSWER, strict=True)])
e3 = episodes([[0, 0]] * 4, outcome=ANSWER)
e5 = episodes([[1, 0, 0], [0, 1, 0]], outcome=[1, 0])
e7 = episodes([[1, 0], [0, 1]], outcome=[1, 0])


def two_turns(first, second):
    """The advantages of four episodes, in the order of the steps."""
    return [value for pair in zip(first, second, strict=True) for value in pair]


A_OUTCOME = [STD, -STD, -STD, STD]
A_MERGED = [1.2247449, 0, -1.2247449, 0]
A_OUTCOME_EPS = [0.865875, -0.865875, -0.865875, 0.865875]
MT_GRPO = [
    Case("E1", "credit.mt_grpo", e1, exact, two_turns([1.7320508, 0, -1.7320508, 0], A_OUTCOME)),
    Case("E1 in reward", "credit.mt_grpo", e1_in_reward, exact, two_turns([2 * STD, 0, -2 * STD, 0], A_OUTCOME)),
    Case("E1 by prefix", "credit.mt_grpo_prefix", e1_seen, exact, two_turns([1.7320508, 0, -1.7320508, 0], A_OUTCOME)),
    Case(
        "E1 with eps",
        "credit.mt_grpo",
        e1,
        {"eps": 1e-4, "coefficient": 0.0, "weight_on": "turn"},
        two_turns(A_OUTCOME_EPS, A_OUTCOME_EPS),
    ),
    Case(
        "E2 paper",
        "credit.mt_grpo",
        e1,
        {"coefficient": 0.5, "weight_on": "outcome", **exact},
        two_turns([1.2990381, 0.4330127, -1.2990381, -0.4330127], A_OUTCOME),
    ),
    Case(
        "E2 code",
        "credit.mt_grpo",
        e1,
        {"coefficient": 0.5, "weight_on": "turn", **exact},
        two_turns([1.2990381, -0.4330127, -1.2990381, 0.4330127], A_OUTCOME),
    ),
    Case("E3 outcome only", "credit.grpo", e3, exact, two_turns(A_OUTCOME, A_OUTCOME)),
    Case("E3 merged", "credit.grpo", e1, exact, two_turns(A_MERGED, A_MERGED)),
    Case(
        "E5 suffix",
        "credit.mt_grpo",
        e5,
        {"horizon": "suffix", **exact},
        [0.7071068, 0, 0.7071068, -0.7071068, 0, -0.7071068],
    ),
    Case(
        "E5 immediate",
        "credit.mt_grpo",
        e5,
        {"horizon": "immediate", **exact},
        [1.4142136, 0, 0.7071068, -1.4142136, 0, -0.7071068],
    ),
    Case(
        "E7",
        "credit.gtpo",
        e7,
        {"discount": 0.9, "outcome_weight": 0.3, **exact},
        [0.9192388, -0.4949747, -0.9192388, 0.4949747],
    ),
]

# 2: whole episodes ----------------------------------------------------------------------------------------------------

four = episodes([[r] for r in (1, 0, 0, 1)])
two_and_three_tokens = episodes([[1], [0]], tokens_per_step=[[2], [3]])
two_and_three_steps = episodes([[0, 1], [0, 0, 0]])
B4 = episodes([[r] for r in (1, 0, 0, 0, 1, 1, 0, 0)], group=[0, 0, 0, 0, 1, 1, 1, 1])
BASELINES = [
    Case("GRPO", "credit.grpo", four, exact, [STD, -STD, -STD, STD]),
    Case("GRPO, population", "credit.grpo", four, {"ddof": 0, **exact}, [1, -1, -1, 1]),
    Case("Dr. GRPO", "credit.dr_grpo", four, {}, [0.5, -0.5, -0.5, 0.5]),
    Case("RLOO", "credit.rloo", four, {}, [2 / 3, -2 / 3, -2 / 3, 2 / 3]),
    Case("REINFORCE++", "credit.reinforce_pp", two_and_three_tokens, exact, [1.0954451] * 2 + [-0.7302967] * 3),
    # A discount of ½ makes the returns to go ½, 1 and 0, 0, 0.
    Case("ReBN", "credit.rebn", two_and_three_steps, {"discount": 0.5}, [0.4472136, 1.5652476] + [-0.6708204] * 3),
    Case(
        "statistics over rows",
        "credit.gigpo",
        two_and_three_steps,
        {"step_weight": 0.0, "episode_statistics": "steps"},
        [0.6] * 2 + [-0.4] * 3,
    ),
    Case(
        "Lite PPO",
        "credit.lite_ppo",
        B4,
        exact,
        [1.4491377, *[-0.4830459] * 3, 0.9660918, 0.9660918, -0.9660918, -0.9660918],
    ),
]

# 3: GiGPO, and the weights of HGPO ------------------------------------------------------------------------------------

S0, S1, S2, S3, S4, S5 = range(10, 16)
two_visits = episodes([[0, 1], [0, 0, 0]], view_key=[[S0, S1], [S0, S0, S1]])
gigpo = {"discount": 0.5, "step_weight": 1.0}
two_depths = episodes([[0, 4], [0, 0], [2 + 3]], view_key=[[S0, S1], [S0, S1], [S1]])
ANCHORS = [
    Case("GiGPO", "credit.gigpo", two_visits, gigpo, [0.8333333, 1.0, -0.6666667, -0.6666667, -1.0]),
    Case(
        "GiGPO in deviations",
        "credit.gigpo",
        two_visits,
        {"scale_by_std": True, **gigpo, **exact},
        [1.8618073, 1.4142136, -1.2844571, -1.2844571, -1.4142136],
    ),
    # The second steps: depth 1 compares 4, 0, 5 (mean 3): 1 and −3; depth 2 compares 4, 0 (mean 2): 2 and −2.
    # Weights 2/5 and 3/5. The first steps have depth 1 only: 4, 0 (mean 2). The last episode too: 5 − 3.
    Case(
        "HGPO weights",
        "credit.hgpo",
        two_depths,
        {"discount": 1.0, "depth": 1, "alpha": 1.0},
        [2, 2 / 5 * 1 + 3 / 5 * 2, -2, 2 / 5 * -3 + 3 / 5 * -2, 2],
    ),
]

# 4: SALT, and values on the graph -------------------------------------------------------------------------------------

A, B, C, D, F = range(20, 25)
merged = episodes(
    [[0, 0], [0, 0], [0, 0], [0]],
    view_key=[[S0, S1], [S0, S1], [S0, S1], [S0]],
    action_key=[[A, B], [A, C], [A, D], [F]],
    next_view_key=[[S1, S2], [S1, S3], [S1, S4], [S5]],
)
SHARED = 0.1666667
graph = episodes([[0, 1], [0, 0], [0]], view_key=[[S0, S1], [S0, S1], [S0]], action_key=[[A, B], [A, C], [D]])
GRAPHS = [
    Case(
        "SALT",
        "modulation.salt",
        merged,
        {},
        [SHARED, 0.5, SHARED, 0.5, SHARED, -0.5, -0.5],
        [0.5, 0.5, 0.5, 0.5, -0.5, -0.5, -0.5],
    ),
    Case("GRAFT", "credit.graft", graph, {"discount": 0.9}, [0.135, 0.45, 0.135, -0.45, -0.27]),
]

# 5: HiPER, a switch, a subgoal and an action token in each step -------------------------------------------------------

HIPER = {"discount": 0.9, "lambda_": 0.5, "segment_lambda": 0.5}
V_LOW = [0.2, 0.4, 0.5, 0.6]
A_LOW, A_TERM = [0.20275, 0.095, 0.22, 0.4], [0.0455, 0.095, 0.3, 0.2]
A_HIGH = [0.28725, 0, 0.35, 0]  # at the first steps of segments only
plan = episodes(
    [[0, 0, 0, 1]],
    tokens_per_step=3,
    switch=[[True, False, True, False]],
    v_low=[V_LOW],
    v_high=[[0.3, -9.0, 0.55, -9.0]],
    v_term=[[0.4, 0.4, 0.6, 0.8]],
    span=[[[2, 3, 4]] * 4],
)
HIERARCHY = [
    Case("HAE", "credit.hae", plan, HIPER, [a for step in zip(A_TERM, A_HIGH, A_LOW, strict=True) for a in step]),
]

# 6: EMPG --------------------------------------------------------------------------------------------------------------

unsure = episodes([[0, 0], [0, 0]], entropy=[[0.2, 0.6], [1.0, 0.2]])
empg = {"k": 1.0, "k_next": 1.0}
ENTROPY = [
    Case(
        "EMPG",
        "modulation.empg",
        unsure,
        {"bonus": 0.1, **empg},
        [1.2850594, 0.6952671, -0.5151243, -1.4652025],
        [1, 1, -1, -1],
    ),
    # The printed g times ±1, without the bonus, less the mean.
    Case(
        "EMPG scaling",
        "modulation.empg",
        unsure,
        {"bonus": 0.0, **empg},
        list(np.array([1.3448044, 0.8156652, -0.4947263, -1.3448044]) - 0.0802347),
        [1, 1, -1, -1],
    ),
]

# 7: RAGEN -------------------------------------------------------------------------------------------------------------

# Groups of two whose returns have the sample standard deviations 0, .5, .1 and .4.
spreads = episodes(
    [[sign * u / np.sqrt(2)] for u in (0, 0.5, 0.1, 0.4) for sign in (1, -1)], group=list(np.repeat(range(4), 2))
)
TURN_VALUES = [0.5, 0.6, 0.4, 0.2]
two_turns_of_two = episodes([[0.3, 1.0]], tokens_per_step=2, token_value=[[TURN_VALUES[:2], TURN_VALUES[2:]]])
bilevel = {"discount": 1.0, "lambda_": 1.0, "turn_discount": 0.95}
RAGEN = [
    Case("top_k", "filters.star_po_top_k", spreads, {"share": 0.25}, [0, 0, 1, 1, 0, 0, 0, 0]),
    Case("top_p", "filters.star_po_top_p", spreads, {"share": 0.9, "form": "linear"}, [0, 0, 1, 1, 0, 0, 1, 1]),
    # min_p keeps u ≥ ½ · .5.
    Case("min_p", "filters.star_po_min_p", spreads, {"share": 0.5}, [0, 0, 1, 1, 0, 0, 1, 1]),
    Case("bi-level GAE", "credit.bilevel_gae", two_turns_of_two, bilevel, [0.75, 0.65, 0.6, 0.8]),
]

# 8: the GAE family ----------------------------------------------------------------------------------------------------

two_steps = episodes([[0.3, 1.0]], value=[[0.5, 0.4]])
cut = episodes([[0, 0, 0]], truncated=[True], value=[[0.5, 0.6, 0.4]])
cut_short = episodes([[0, 0, 0]], truncated=[True], value=[[0.2, 0.3, 0.5]])
ended_short = episodes([[0, 0, 1]], value=[[0.2, 0.3, 0.5]])
dual = {"turn_discount": 0.5, "turn_lambda": 0.5, "token_discount": 1.0, "token_lambda": 1.0}
GAE = [
    Case("E6, 8.1", "credit.token_gae", two_turns_of_two, {"discount": 1.0, "lambda_": 1.0}, [0.8, 0.7, 0.6, 0.8]),
    Case("8.1, half", "credit.token_gae", two_turns_of_two, {"discount": 1.0, "lambda_": 0.5}, [0.2, 0.2, 0.2, 0.8]),
    Case("8.2", "credit.gae", two_steps, {"discount": 1.0, "lambda_": 0.5}, [0.5, 0.6]),
    Case("8.3", "credit.dual_gae", two_turns_of_two, dual, [0.15, 0.05, 0.6, 0.8]),
    Case("8.4", "credit.egae", cut, {"discount": 1.0, "lambda_": 0.5}, [0, -0.2, 0]),
    Case("8.4, discounted", "credit.egae", cut, {"discount": 0.9, "lambda_": 0.5}, [-0.0761, -0.258, -0.04]),
    Case("T-PPO, cut", "credit.egae", cut_short, {"discount": 1.0, "lambda_": 0.95}, [0.29, 0.2, 0]),
    Case("T-PPO, ended", "credit.egae", ended_short, {"discount": 1.0, "lambda_": 0.95}, [0.74125, 0.675, 0.5]),
]

TABLE = [*MT_GRPO, *BASELINES, *ANCHORS, *GRAPHS, *HIERARCHY, *ENTROPY, *RAGEN, *GAE]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.title)
def test_the_worked_case(case):
    method = resolve(*case.method.split("."))
    inputs = [] if case.advantage is None else [np.array(case.advantage, dtype=np.float64)]
    actual = method(case.batch, *inputs, **case.settings)
    np.testing.assert_allclose(actual.astype(np.float64), case.expected, rtol=0, atol=1e-6)


def test_e4_every_token_has_the_advantage_of_its_turn():
    # The tokens of the environment, 0 on the page, are not reply tokens and so not in the batch.
    batch = episodes([[turn, 0] for turn in SEARCH], outcome=ANSWER, tokens_per_step=2)
    by_token = batch.spread(resolve("credit", "mt_grpo")(batch, eps=0.0))
    np.testing.assert_allclose(by_token[:4], [1.7320508, 1.7320508, STD, STD], atol=1e-6)


def test_the_targets_of_hipers_low_level():
    on_action_tokens = resolve("credit", "hae")(plan, **HIPER)[2::3]
    np.testing.assert_allclose(on_action_tokens + V_LOW, [0.40275, 0.495, 0.72, 1.0], atol=1e-6)


def test_the_closed_form_of_dual_discounting():
    # With a reward only at the end, the turn before the last has γ (λ r + (1 − λ) V(first of last)) − V.
    batch = two_turns_of_two.with_columns(reward=np.array([0.0, 1.0]))
    advantage = resolve("credit", "dual_gae")(batch, turn_discount=0.9, turn_lambda=0.7)
    np.testing.assert_allclose(advantage[:2], 0.9 * (0.7 * 1 + 0.3 * 0.4) - np.array([0.5, 0.6]), atol=1e-6)


def test_a_group_that_is_solved_has_no_advantage_under_lite_ppo():
    #   of the objectives, B.4: the second group's returns are equal, the batch's deviation stays 0.51755
    batch = B4.with_columns(reward=np.array([1.0, 0, 0, 0, 1, 1, 1, 1]))
    advantage = resolve("credit", "lite_ppo")(batch, eps=0.0)
    np.testing.assert_allclose(advantage, [1.4491377, *[-0.4830459] * 3, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("won", "lengths", "rule", "weight"),
    [
        ([1, 0, 0], [100, 200, 300], "length", 0.1),
        ([1, 0], [300, 200], "length", 1.0),
        ([0], [50], "length", 0.1),
        ([0], [50], "length_vlm", 1.0),
    ],
)
def test_the_weights_of_adora(won, lengths, rule, weight):
    #   of the objectives, B.17
    batch = episodes([[0]] * len(won), tokens_per_step=[[n] for n in lengths], success=[float(w) for w in won])
    advantage = np.linspace(-1, 2, len(won))
    actual = resolve("modulation", "adora")(batch, advantage, rule=rule)
    np.testing.assert_allclose(actual, weight * advantage, atol=1e-6)


# Names, settings and their defaults are scripted against by others.
normalised = {"ddof": 1, "eps": 1e-6}
mt_grpo = {"coefficient": 1.0, "weight_on": "outcome", "horizon": "suffix", **normalised}
DEFAULTS = {
    "credit.bilevel_gae": {"discount": 1.0, "lambda_": 1.0, "turn_discount": 0.95},
    "credit.dr_grpo": {},
    "credit.dual_gae": {"turn_discount": 0.99, "turn_lambda": 0.95, "token_discount": 1.0, "token_lambda": 1.0},
    "credit.egae": {"discount": 1.0, "lambda_": 0.95},
    "credit.gae": {"discount": 1.0, "lambda_": 0.95},
    "credit.gigpo": {"discount": 0.95, "step_weight": 1.0, "scale_by_std": False, **normalised},
    "credit.graft": {"discount": 0.99},
    "credit.group_return_to_go": {"discount": 1.0},
    "credit.grpo": {"scale_by_std": True, **normalised},
    "credit.gtpo": {"discount": 0.9, "outcome_weight": 0.3, **normalised},
    "credit.hae": {"discount": 1.0, "lambda_": 1.0, "segment_lambda": 0.95},
    "credit.hgpo": {"discount": 0.95, "depth": 2, "alpha": 1.0, **normalised},
    "credit.lite_ppo": normalised,
    "credit.mt_grpo": mt_grpo,
    "credit.mt_grpo_prefix": mt_grpo,
    "credit.oracle": {},
    "credit.rebn": {"discount": 1.0, "ddof": 1, "eps": 1e-9},
    "credit.reinforce": {},
    "credit.reinforce_pp": {"discount": 1.0, **normalised},
    "credit.return_to_go": {"discount": 1.0},
    "credit.rloo": {},
    "credit.rtmc": {},
    "credit.state_td": {"discount": 1.0, "lambda_": 0.9},
    "credit.token_gae": {"discount": 1.0, "lambda_": 1.0},
    "credit.vine": {"discount": 1.0},
    "modulation.adora": {"rule": "length", "w_bad": 0.1},
    "modulation.empg": {"k": 1.0, "k_next": 1.0, "bonus": 0.05},
    "modulation.salt": {"history": 0},
    "modulation.whiten": {"over": "batch", **normalised},
    "filters.star_po_top_k": {"share": 0.25},
    "filters.star_po_top_p": {"share": 0.9, "tolerance": 0.01, "form": "linear"},
}


@pytest.mark.parametrize("method", DEFAULTS)
def test_the_defaults_are_the_published_ones(method):
    parameters = inspect.signature(resolve(*method.split("."))).parameters
    assert {key: parameters[key].default for key in DEFAULTS[method]} == DEFAULTS[method]
