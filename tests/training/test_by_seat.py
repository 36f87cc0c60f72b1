"""Seats with weights of their own: what is divided among them, and what is put together again."""

import numpy as np
import pytest

from lapwing.core.memory import Remembering
from lapwing.core.types import Selection
from lapwing.testing import episodes
from lapwing.training.by_seat import BySeat

# Episodes of the seats 0, 1, 0, 2, with 1, 2, 1, 1 steps; the steps have 1, 2, 1, 3 and 1 tokens.
SETS = ((0,), (1, 2))


def batch():
    made = episodes(
        [[1.0], [2.0, 3.0], [4.0], [5.0]],
        group=[0, 1, 0, 2],
        tokens_per_step=[[1], [2, 1], [3], [1]],
        value=[[0.1], [0.2, 0.3], [0.4], [0.5]],
    )
    return made.with_columns(player=np.array([0, 1, 0, 2]))


def test_a_share_has_the_episodes_of_its_seats_and_knows_where_they_were():
    first, second = BySeat(SETS).shares(batch())
    np.testing.assert_array_equal(first.at["E"], [0, 2])
    np.testing.assert_array_equal(second.at["E"], [1, 3])
    np.testing.assert_array_equal(first.at["N"], [0, 3])
    np.testing.assert_array_equal(second.at["N"], [1, 2, 4])
    np.testing.assert_array_equal(second.at["K"], [1, 2, 3, 7])
    np.testing.assert_array_equal(second.batch.reward, [2.0, 3.0, 5.0])


@pytest.mark.parametrize(("axis", "length"), [("E", 4), ("N", 5), ("K", 8)])
def test_each_method_sees_its_episodes_alone(axis, length):
    seen = []

    def method(of):
        seen.append(of.num_episodes)
        size = {"E": of.num_episodes, "N": of.num_steps, "K": of.num_tokens}[axis]
        return np.full(size, float(of.player[0] > 0))

    found = BySeat(SETS).method(lambda: method, axis)(batch())
    assert seen == [2, 2]
    index = {"E": [1, 3], "N": [1, 2, 4], "K": [1, 2, 3, 7]}[axis]
    np.testing.assert_array_equal(np.flatnonzero(found), index)
    assert len(found) == length


def test_arguments_that_go_with_the_batch_are_divided_too():
    def modulation(of, advantage):
        return advantage - advantage.mean()

    # By hand: (10 + 40) / 2 = 25 and (20 + 30 + 50) / 3 = 100 / 3.
    found = BySeat(SETS).method(lambda: modulation, "N")(batch(), np.array([10.0, 20.0, 30.0, 40.0, 50.0]))
    np.testing.assert_allclose(found, [-15.0, 20 - 100 / 3, 30 - 100 / 3, 15.0, 50 - 100 / 3])
    by_token = BySeat(SETS, "K").method(lambda: modulation, "K")(batch(), np.arange(8.0))
    # Tokens 0, 4, 5, 6 are of seat 0: mean 15 / 4; 1, 2, 3, 7 of the others: mean 13 / 4.
    np.testing.assert_allclose(by_token[[0, 1]], [-15 / 4, 1 - 13 / 4])


def test_each_set_selects_and_weighs_as_if_it_were_alone():
    by_seat = BySeat(SETS)

    def selection(of, advantage, chance):
        return Selection(chance.integers(0, 5, of.num_episodes), np.full(of.num_episodes, advantage.sum()))

    chosen = by_seat.selection(lambda: selection)(batch(), np.arange(5.0), np.random.default_rng(7))
    alone = np.random.default_rng(7).integers(0, 5, 2)
    np.testing.assert_array_equal(chosen.count, [alone[0], alone[0], alone[1], alone[1]])
    np.testing.assert_array_equal(chosen.factor, [3.0, 7.0, 3.0, 7.0])

    def aggregation(of, selected):
        return np.full(of.num_tokens, selected.factor.mean() / of.num_tokens)

    weight = by_seat.method(lambda: aggregation, "K")(batch(), chosen)
    np.testing.assert_allclose(weight, np.array([3, 7, 7, 7, 3, 3, 3, 7]) / 4)


def test_a_shaping_gives_back_the_order_of_before():
    def shaping(of):
        return of.with_columns(reward=of.reward * of.num_episodes + of.player[0], **{"part:x": of.reward})

    whole = batch()
    shaped = BySeat(SETS).shaping(lambda: shaping)(whole)
    np.testing.assert_array_equal(shaped.reward, [2.0, 5.0, 7.0, 8.0, 11.0])
    for name in ("player", "group", "token_splits", "step_splits"):
        np.testing.assert_array_equal(getattr(shaped, name), getattr(whole, name))
    np.testing.assert_array_equal(shaped.column("part:x"), whole.reward)


def test_each_set_remembers_for_itself():
    def counting(of, *, state):
        return np.full(of.num_episodes, state["count"]), {"count": state["count"] + of.num_steps}

    method = BySeat(SETS).method(lambda: Remembering(counting, {}, {"count": np.array(0.0)}), "E")
    method(batch())
    np.testing.assert_array_equal(method(batch()), [2.0, 3.0, 2.0, 3.0])


def test_a_set_without_episodes_is_left_out():
    only = batch().select(np.array([0, 2]))
    np.testing.assert_array_equal(BySeat(SETS).method(lambda: lambda of: of.reward, "N")(only), [1.0, 4.0])
    nothing = batch().select(np.zeros(0, dtype=np.int64))
    assert len(BySeat(SETS).method(lambda: lambda of: of.reward, "N")(nothing)) == 0


def test_with_one_set_a_method_is_what_it_is():
    def method(of):
        return of.reward

    assert BySeat(((0, 1),)).method(lambda: method, "N") is method
    assert BySeat(((0, 1),)).annotators([["a"]]) == ["a"]


class Critic:
    def __init__(self, number):
        self.number, self.ready, self.learnt = number, number == 0, []

    def columns(self, batch):
        return {"value": np.full(batch.num_steps, float(self.number)), "final_value": np.ones(batch.num_episodes)}

    def learn(self, batch, advantage):
        self.learnt.append(advantage.tolist())
        return {"critic/value_loss": float(self.number)}

    def state(self):
        return {"counts": self.number}

    def restore(self, tensors):
        self.restored = tensors


def test_critics_learn_apart_and_keep_apart_what_they_know():
    critics = [Critic(0), Critic(1)]
    (together,) = BySeat(SETS).annotators([[critics[0]], [critics[1]]])
    np.testing.assert_array_equal(together.columns(batch())["value"], [0.0, 1.0, 1.0, 0.0, 1.0])
    assert not together.ready
    metrics = together.learn(batch(), np.arange(5.0))
    assert [critic.learnt for critic in critics] == [[[0.0, 3.0]], [[1.0, 2.0, 4.0]]]
    assert metrics == {"critic/value_loss": 0.0, "critic/value_loss:0": 0.0, "critic/value_loss:1": 1.0}
    # The first set's names are those of a run without separate weights.
    assert together.state() == {"counts": 0, "seat_1.counts": 1}
    together.restore(together.state())
    assert [critic.restored for critic in critics] == [{"counts": 0}, {"counts": 1}]
