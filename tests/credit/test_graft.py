import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import UserError
from lapwing.credit.dr_grpo import dr_grpo
from lapwing.credit.graft import graft
from lapwing.credit.state_td import state_td
from lapwing.testing import episodes

keyed_steps = st.lists(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=5), min_size=1, max_size=6
)
S0, S1, S2 = 11, 12, 13


def keyed(steps, **others):
    """A batch from lists of (reward, view key), one list per episode."""
    rewards = [[reward for reward, _ in episode] for episode in steps]
    return episodes(rewards, view_key=[[key for _, key in episode] for episode in steps], **others)


def sweep(batch, discount):
    """The paper's equations: a policy, a transition table, sinks; swept until nothing changes."""
    of_step = batch.episode_of_step
    names = [(int(batch.group[of_step[n]]), int(batch.view_key[n]) or ("alone", n)) for n in range(batch.num_steps)]
    edges = []  # (node, action, next node or sink, reward on the way)
    value: dict[tuple, float] = dict.fromkeys(names, 0.0)
    for n, name in enumerate(names):
        target, reward = ("sink", n), 0.0
        if n + 1 < batch.num_steps and of_step[n + 1] == of_step[n]:
            target, reward = names[n + 1], batch.reward[n]
        else:
            value[target] = batch.reward[n] + batch.outcome[of_step[n]]
        edges.append((name, int(batch.action_key[n]), target, reward))
    change = 1.0
    while change > 1e-14:
        change = 0.0
        for name in set(names):
            out = [edge for edge in edges if edge[0] == name]
            new = 0.0
            for action in {edge[1] for edge in out}:
                taken = [edge for edge in out if edge[1] == action]
                went = sum(discount * (reward + value[target]) for _, _, target, reward in taken) / len(taken)
                new += len(taken) / len(out) * went
            change = max(change, abs(new - value[name]))
            value[name] = new
    return np.array([discount * (reward + value[target]) - value[name] for name, _, target, reward in edges])


def published(**others):
    # s0 –a→ s1 twice, s1 –b→ success, s1 –c→ failure, s0 –d→ failure
    return keyed([[(0, S0), (1, S1)], [(0, S0), (0, S1)], [(0, S0)]], **others)


def test_the_published_example():
    # Fails when the last step is not discounted, or the graph is not merged.
    #   V(s1) = 0.9·½ = 0.45,  V(s0) = ⅔·0.9·0.45 = 0.27
    #   A(s0, a) = 0.9·0.45 − 0.27 = 0.135,  A(s0, d) = −0.27,  A(s1, b) = 0.9 − 0.45,  A(s1, c) = −0.45
    np.testing.assert_allclose(graft(published(), discount=0.9), [0.135, 0.45, 0.135, -0.45, -0.27], atol=1e-12)


def test_a_loop_in_the_graph_by_hand():
    #   s0 → s0, s0 → end with 1:  V = ½·½·V + ½·½·1, so V = 1/3
    #   A = ½·1/3 − 1/3 = −1/6,  ½·1 − 1/3 = 1/6
    np.testing.assert_allclose(graft(keyed([[(0, S0), (1, S0)]]), discount=0.5), [-1 / 6, 1 / 6])


def test_pieces_of_different_episodes_are_joined():
    # The first came through s0 and failed behind s1, where others succeeded: s0 is worth what s1 is worth.
    batch = keyed([[(0, S0), (0, S1)], [(0, S0)], [(1, S1)]])
    #   γ = 1: V(s1) = ½, V(s0) = ½·½ + 0 = ¼;  a mean return to go would make V(s0) = 0
    np.testing.assert_allclose(graft(batch, discount=1.0), [0.25, -0.5, -0.25, 0.5])


def test_a_reward_on_the_way_arrives_with_the_next_state():
    #   γ = ½: V(s1) = 0, V(s0) = mean of ½·(2 + 0) and 0 = ½
    np.testing.assert_allclose(graft(keyed([[(2, S0), (0, S1)], [(0, S0), (0, S1)]]), discount=0.5), [0.5, 0, -0.5, 0])


@pytest.mark.parametrize("seed", range(200))
def test_it_agrees_with_sweeps_over_policy_and_transitions(seed, make_keyed_batch):
    batch = make_keyed_batch(seed)
    discount = np.random.default_rng(seed).choice([0.0, 0.5, 0.9, 0.99])
    np.testing.assert_allclose(graft(batch, discount=discount), sweep(batch, discount), atol=1e-10)


@given(keyed_steps)
def test_without_discount_it_is_solvable_too(steps):
    batch = keyed(steps)
    np.testing.assert_allclose(graft(batch, discount=1.0), sweep(batch, 1.0), atol=1e-8)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_on_a_tree_it_is_state_td_with_lambda_zero(choices, data):
    # Where the view is the whole past nothing merges again, and both values are mean returns.
    past = [[hash((1, *episode[:n])) % 2**63 + 1 for n in range(len(episode))] for episode in choices]
    rewards = [data.draw(st.lists(st.integers(-3, 3), min_size=len(e), max_size=len(e))) for e in choices]
    batch = episodes(rewards, view_key=past)
    expected = state_td(batch, discount=1.0, lambda_=0.0)
    np.testing.assert_allclose(graft(batch, discount=1.0), expected, atol=1e-10)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6), st.sampled_from([0.5, 0.99, 1.0]))
def test_with_one_step_from_one_state_it_is_the_discounted_centred_return(returns, discount):
    batch = keyed([[(r, S0)] for r in returns])
    np.testing.assert_allclose(graft(batch, discount=discount), discount * dr_grpo(batch), atol=1e-12)


@given(st.lists(st.lists(st.floats(-3, 3), min_size=1, max_size=5), min_size=1, max_size=5), st.floats(0, 1))
def test_without_repeated_views_every_step_gets_exactly_zero(rewards, discount):
    distinct = iter(range(1, 100))
    batch = episodes(rewards, view_key=[[next(distinct) for _ in episode] for episode in rewards])
    np.testing.assert_array_equal(graft(batch, discount=discount), np.zeros(batch.num_steps))
    np.testing.assert_array_equal(graft(episodes(rewards), discount=discount), np.zeros(batch.num_steps))


@given(keyed_steps)
def test_the_steps_of_a_state_sum_to_zero(steps):
    batch = keyed(steps)
    np.testing.assert_allclose(np.bincount(batch.view_key.astype(int), graft(batch)), 0, atol=1e-10)


@given(keyed_steps, st.sampled_from([0.5, 3.0]))
def test_it_scales_with_the_rewards(steps, scale):
    scaled = keyed([[(scale * reward, key) for reward, key in episode] for episode in steps])
    np.testing.assert_allclose(graft(scaled), scale * graft(keyed(steps)), atol=1e-10)


def test_equal_prospects_give_exactly_zero_whatever_the_rounding():
    np.testing.assert_array_equal(graft(keyed([[(0, S0), (0.1, S1)]] * 3)), np.zeros(6))


def test_the_same_view_in_another_group_is_another_node():
    batch = keyed([[(0, S0)], [(9, S0)], [(1, S0)], [(9, S0)]], group=[3, 5, 3, 5])
    np.testing.assert_allclose(graft(batch, discount=1.0), [-0.5, 0, 0.5, 0])


def test_the_end_of_a_truncated_episode_is_a_sink_too():
    cut = published(truncated=[True, False, True])
    np.testing.assert_array_equal(graft(cut), graft(published()))


def test_the_outcome_counts_as_reward_of_the_last_step_and_tokens_play_no_part():
    steps = [[(0, S0), (0, S1)], [(0, S0), (0, S1)], [(0, S0)]]
    batch = keyed(steps, outcome=[1, 0, 0], tokens_per_step=[[0, 2], [1, 1], [3]])
    np.testing.assert_array_equal(graft(batch), graft(published()))


def test_a_discount_outside_zero_to_one_is_refused():
    with pytest.raises(UserError, match="discount"):
        graft(published(), discount=-0.1)
