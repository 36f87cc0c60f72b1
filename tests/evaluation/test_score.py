"""Methods are scored on transcripts as they are on batches, and what cannot be scored says why."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import spearmanr

from lapwing.core import registry
from lapwing.core.errors import UserError
from lapwing.credit.grpo import grpo
from lapwing.credit.reinforce_pp import reinforce_pp
from lapwing.evaluation.score import BASE, rank_correlation, relative_return, score_transcripts
from lapwing.evaluation.transcripts import Transcripts
from lapwing.modulation.salt import salt
from lapwing.testing import episodes


def transcripts(batch):
    names = [f"episode {e}" for e in range(batch.num_episodes)]
    groups = [f"group {g}" for g in range(int(batch.group.max()) + 1)]
    return Transcripts("file", "lapwing", "last", batch, names, groups, [], [])


# One group wins once in two episodes; the other is a group of one.
BATCH = episodes([[0, 1], [0], [5]], group=[0, 0, 1], view_key=[[1, 2], [1], [3]], action_key=[[1, 1], [2], [1]])


def one(score, name):
    return next(method for method in score.methods if method.name == name)


def test_figures_by_hand():
    score = score_transcripts(transcripts(BATCH), methods=["dr_grpo", "reinforce"], modulations=[])
    # dr_grpo: ½, ½ | −½ | 0. The last step has no relative return, so it counts nowhere in the signs.
    found = one(score, "dr_grpo")
    np.testing.assert_array_equal(found.advantage, [0.5, 0.5, -0.5, 0.0])
    assert (found.mean_absolute, found.zero_share, found.sign_agreement) == (0.375, 0.25, 1.0)
    # reinforce: 1, 1 | 0 | 5. Of the two steps where neither sign is 0, both agree; the zero counts as zero.
    found = one(score, "reinforce")
    np.testing.assert_array_equal(found.advantage, [1, 1, 0, 5])
    assert (found.mean_absolute, found.zero_share, found.sign_agreement) == (1.75, 0.25, 1.0)
    np.testing.assert_array_equal(score.relative_return, [0.5, -0.5, 0.0])


def test_a_method_that_contradicts_the_returns_is_seen():
    # The group's mean return is negative: reinforce gives the better episode a negative number.
    score = score_transcripts(transcripts(episodes([[-1], [-3]])), methods=["reinforce"])
    assert one(score, "reinforce").sign_agreement == 0.5


def test_signs_are_not_compared_where_there_is_nothing_to_compare():
    assert (
        one(score_transcripts(transcripts(episodes([[1], [1]])), methods=["reinforce"]), "reinforce").sign_agreement
        is None
    )


def test_every_method_whose_columns_are_there_is_scored_and_every_other_has_a_reason():
    score = score_transcripts(transcripts(BATCH))
    names = {*registry.names("credit"), *(f"{BASE}+{name}" for name in registry.names("modulation"))}
    scored = {method.name for method in score.methods}
    assert scored | set(score.not_scored) == names
    assert not scored & set(score.not_scored)
    assert {name for name in registry.names("credit") if not registry.describe("credit", name).needs} <= scored
    assert score.not_scored["gae"] == (
        "gae needs the column 'value', which the file does not have; annotate/value supplies it."
    )
    assert "samplers/branching supplies them" in score.not_scored["vine"]


def test_a_column_that_is_asked_for_later_is_a_reason_too():
    batch = episodes([[1], [0]], value=[[0], [0]], truncated=[True, False])
    score = score_transcripts(transcripts(batch), methods=["gae", "grpo"])
    assert "final_value" in score.not_scored["gae"]
    assert one(score_transcripts(transcripts(episodes([[1], [0]], value=[[0], [0]])), methods=["gae"]), "gae")


def test_a_column_with_a_gap_is_a_reason():
    batch = episodes([[1], [0]], success=[1.0, np.nan])
    assert "finite" in score_transcripts(transcripts(batch)).not_scored["grpo+adora"]


def test_a_method_by_token_gives_a_step_the_mean_over_its_reply():
    batch = episodes([[1], [0]], tokens_per_step=[[3], [2]])
    tokens = reinforce_pp(batch, discount=0.5)
    score = score_transcripts(
        transcripts(batch), methods=["reinforce_pp"], settings={("credit", "reinforce_pp"): {"discount": 0.5}}
    )
    found = one(score, "reinforce_pp")
    np.testing.assert_allclose(found.advantage, [tokens[:3].mean(), tokens[3:].mean()])
    assert (found.level, found.scope, found.settings) == ("token", "batch", {"discount": 0.5})


def test_modulations_work_on_grpo_with_its_settings():
    settings = {("credit", "grpo"): {"scale_by_std": False}, ("modulation", "salt"): {"history": 1}}
    score = score_transcripts(transcripts(BATCH), methods=["rloo"], modulations=["salt"], settings=settings)
    assert [method.name for method in score.methods] == ["rloo", "grpo+salt"]
    expected = salt(BATCH, grpo(BATCH, scale_by_std=False), history=1)
    np.testing.assert_array_equal(one(score, "grpo+salt").advantage, expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"methods": ["grop"]}, "no credit method 'grop'; did you mean"),
        ({"modulations": ["slat"]}, "no modulation method 'slat'; did you mean salt"),
        ({"methods": ["salt"]}, "no credit method 'salt'; it is in modulation; name it in --modulation."),
        ({"modulations": ["gigpo"]}, "no modulation method 'gigpo'; it is in credit; name it in --methods."),
        ({"methods": "grpo"}, "Names of credit are a list, as in ['grpo'], not 'grpo'."),
        (
            {"methods": ["hae"], "modulations": []},
            "hae needs the columns 'switch', 'v_low', 'v_high', 'v_term' and 'span', which the file does not have; "
            "policies/parsers and annotate/hierarchy_values supply them.",
        ),
        ({"methods": ["gae"], "modulations": []}, "No method can score file: gae needs the column 'value'"),
        ({"methods": [], "modulations": []}, "No method can score file: none was named"),
        ({"settings": {("credit", "gigpo"): {"discount": 2.0}}}, "gigpo: discount must be in [0, 1]"),
        ({"settings": {("credit", "grpo"): {"eps": -1.0}}, "methods": ["rloo"]}, "eps must be at least 0"),
        ({"settings": {("credit", "gigpo"): {}}, "methods": ["rloo"]}, "settings for gigpo, but it is not among"),
    ],
)
def test_wrong_names_and_settings_are_refused(arguments, sentence):
    with pytest.raises(UserError) as error:
        score_transcripts(transcripts(BATCH), **arguments)
    assert sentence in str(error.value)


def test_the_relative_return_of_equal_returns_is_exactly_zero():
    batch = episodes([[0.1, 0.2], [0.3], [0.2, 0.1]])
    np.testing.assert_array_equal(relative_return(batch), 0.0)


@given(arrays.arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(3, 30)), elements=st.integers(-3, 3)))
def test_the_rank_correlation_is_spearmans(columns):
    found = rank_correlation(list(columns))
    for i, x in enumerate(columns):
        for j, y in enumerate(columns):
            if np.ptp(x) and np.ptp(y):
                np.testing.assert_allclose(found[i, j], spearmanr(x, y)[0], atol=1e-12)
            else:
                assert np.isnan(found[i, j])


def test_rounding_is_no_rank():
    noise = 1e-16 * np.array([3, 1, 2, 5, 4])
    x = np.array([1.0, 1, 1, 2, 2])
    np.testing.assert_allclose(rank_correlation([x, x + noise])[0, 1], 1.0)


def test_the_json_has_every_number_once():
    score = score_transcripts(transcripts(BATCH))
    whole = json.loads("".join(score.json_chunks()))
    assert {key: value for key, value in whole.items() if key != "episodes"} == score.summary()
    assert [episode["id"] for episode in whole["episodes"]] == ["episode 0", "episode 1", "episode 2"]
    for method in score.methods:
        flat = [a for episode in whole["episodes"] for a in episode["advantage"][method.name]]
        np.testing.assert_array_equal(flat, method.advantage)
    assert whole["methods"]["grpo"]["rank_correlation"]["grpo"] == 1.0
    assert whole["episodes"][0]["reward"] == [0, 1]
