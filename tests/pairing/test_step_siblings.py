import dataclasses

import numpy as np
import pytest
import torch

from lapwing.core.errors import MissingColumnError, UserError
from lapwing.pairing.step_siblings import step_siblings
from lapwing.preferences._adapter import over_tokens
from lapwing.preferences.dpo import dpo
from lapwing.testing import episodes


def tried(actions, returns, **others):
    """One-step episodes that saw the same and did these actions."""
    given = {"view_key": [[7]] * len(actions), "context_key": [[3]] * len(actions), **others}
    return episodes([[r] for r in returns], action_key=[[a] for a in actions], **given)


def replies(pairs):
    """The two replies of each pair, as tuples of tokens."""
    batch = pairs.batch
    texts = [tuple(batch.token[a:b].tolist()) for a, b in zip(batch.token_splits, batch.token_splits[1:], strict=False)]
    return [(texts[c], texts[r]) for c, r in zip(pairs.chosen, pairs.rejected, strict=True)]


def test_the_published_case():
    #   children with Q .9, .4, .1 and δ = .3: one pair, (.9, .1)
    batch = tried([1, 2, 3], [0.4, 0.9, 0.1], token=[[[10]], [[20]], [[30]]])
    pairs = step_siblings(batch, min_gap=0.3)
    assert replies(pairs) == [((20,), (30,))]
    assert (pairs.weight.tolist(), pairs.margin.tolist()) == ([1.0], pytest.approx([0.8]))
    assert step_siblings(batch, min_gap=0.81).num_pairs == 0


def test_q_is_the_mean_over_all_that_did_the_same():
    # Fails when the luckiest step is compared instead of the action.
    #   action 1: (1 + 0 + 0)/3 = ⅓, action 2: ½
    batch = tried([1, 1, 2, 1], [1.0, 0.0, 0.5, 0.0], token=[[[10]], [[11]], [[20]], [[12]]])
    pairs = step_siblings(batch)
    assert replies(pairs) == [((20,), (10,))]
    assert pairs.margin.tolist() == pytest.approx([0.5 - 1 / 3])


@pytest.mark.parametrize(
    "others",
    [
        {"group": [0, 1]},
        {"view_key": [[7], [8]]},
        {"view_key": [[0], [0]]},
        {"context_key": [[3], [4]]},
        {"valid": [[True], [False]]},
        {"tokens_per_step": [[1], [0]]},
    ],
    ids=["group", "view", "no view", "context", "invalid", "no reply"],
)
def test_steps_that_differ_in_more_than_the_action_are_no_siblings(others):
    assert step_siblings(tried([1, 2], [0.0, 1.0])).num_pairs == 1
    assert step_siblings(tried([1, 2], [0.0, 1.0], **others)).num_pairs == 0


def test_the_same_action_or_none_is_no_sibling():
    assert step_siblings(tried([1, 1], [0.0, 1.0])).num_pairs == 0
    assert step_siblings(tried([1, 0], [0.0, 1.0])).num_pairs == 0
    assert step_siblings(tried([0, 0], [0.0, 1.0])).num_pairs == 0


TWO_STEPS = {
    "view_key": [[7, 8], [7, 8], [7]],
    "context_key": [[1, 2], [1, 2], [1]],
    "action_key": [[1, 1], [1, 2], [2]],
    "token": [[[10, 11], [12]], [[10, 11], [22, 23]], [[20]]],
    "tokens_per_step": [[2, 1], [2, 2], [1]],
    "reference_logprob": [[[0.1, 0.2], [0.3]], [[0.1, 0.2], [0.4, 0.5]], [[0.6]]],
}


def test_returns_to_go_by_hand():
    #   at view 8: action 1 earns 1, action 2 earns 0; at view 7 with γ = ½: action 1 earns (½ + 0)/2, action 2 earns 1
    batch = episodes([[0, 1], [0, 0], [1]], **TWO_STEPS)
    pairs = step_siblings(batch, discount=0.5)
    assert sorted(replies(pairs)) == [((12,), (22, 23)), ((20,), (10, 11))]
    assert sorted(pairs.margin.tolist()) == pytest.approx([0.75, 1.0])


def test_the_outcome_counts_too():
    batch = episodes([[0, 0], [0, 0], [0]], outcome=[1, 0, 1], **TWO_STEPS)
    assert sorted(step_siblings(batch, discount=0.5).margin.tolist()) == pytest.approx([0.75, 1.0])


def test_the_exact_advantage_stands_for_q():
    batch = tried([1, 2], [0.0, 0.0], exact_advantage=[[-0.2], [0.3]], token=[[[10]], [[20]]])
    assert step_siblings(batch).num_pairs == 0
    assert replies(step_siblings(batch, value="exact_advantage")) == [((20,), (10,))]
    with pytest.raises(MissingColumnError, match="step_siblings needs the column 'exact_advantage'"):
        step_siblings(tried([1, 2], [0.0, 0.0]), value="exact_advantage")


def test_a_pair_is_of_two_steps_as_episodes_of_their_own():
    # Fails when a step brings only what it adds to the one before it.
    batch = episodes([[0, 1], [0, 0], [1]], **TWO_STEPS, success=[1.0, 0.0, 1.0])
    extends = np.array([False, True, False, True, False])
    batch = dataclasses.replace(batch, extends_previous=extends, context_token=np.arange(5, dtype=np.int32))
    pairs = step_siblings(batch, discount=0.5)
    one = pairs.batch
    assert (one.num_episodes, one.num_steps) == (4, 4)
    assert not one.extends_previous.any()
    at = {tuple(one.token[one.token_splits[n] : one.token_splits[n + 1]].tolist()): n for n in range(4)}
    #   the second step of episode 0: its context is what was added, the reply before it, what was added
    assert one.context(at[12,]).tolist() == [0, 10, 11, 1]
    assert one.context(at[22, 23]).tolist() == [2, 10, 11, 3]
    assert one.context(at[20,]).tolist() == [4]
    token = one.token_splits[at[22, 23]]
    assert one.extra["reference_logprob"][token : token + 2].tolist() == [0.4, 0.5]
    assert one.extra["success"][at[22, 23]] == 0.0
    assert one.terminated.all()


def test_the_loss_of_steps_is_dpo_on_their_tokens():
    batch = episodes([[0, 1], [0, 0], [1]], **TWO_STEPS)
    pairs = step_siblings(batch, discount=0.5)
    columns = {"logprob": np.zeros(pairs.batch.num_tokens), "reference_logprob": pairs.batch.extra["reference_logprob"]}
    indices = {"episode_of_token": pairs.batch.step_of_token, "chosen": pairs.chosen, "rejected": pairs.rejected}
    tensors = {
        name: torch.from_numpy(np.array(a)) for name, a in {**columns, **indices, "pair_weight": pairs.weight}.items()
    }
    #   log-odds to the reference: −(.3 − .9) and −(.6 − .3)
    expected = np.mean([np.log1p(np.exp(-x)) for x in (0.6, -0.3)])
    assert over_tokens(dpo, beta=1.0)(**tensors).sum().item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"min_gap": -1.0}, "min_gap must be at least 0"),
        ({"discount": 1.1}, r"discount must be in \[0, 1\]"),
        ({"value": "exact"}, "no value 'exact'; did you mean exact_advantage"),
    ],
)
def test_wrong_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        step_siblings(tried([1, 2], [0.0, 1.0]), **settings)
