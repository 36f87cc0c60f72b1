"""Whole measurements on the small lake: the exact advantage, methods that are unbiased, and one that is wrong."""

import numpy as np
import pytest

from lapwing.audit.branches import branch_values
from lapwing.audit.measure import exact_answer, measure
from lapwing.audit.methods import Method, find_methods, is_in_reward_units
from lapwing.core import registry
from lapwing.core.errors import UserError
from lapwing.core.ragged import reverse_discounted_sum


@pytest.fixture(scope="module")
def exact(lake):
    return exact_answer(lake.model, lake.truth(), lake.batch)


def run(lake, exact, credit, *, sizes=(50,), name="mine", **constants):
    method = Method(name, credit, {}, constants.get("level", "step"), "group")
    batch = lake.batch.with_columns(exact_advantage=exact.advantage)
    rows, refused = measure(exact, batch, [method], sizes, seed=0)
    assert not refused
    return rows[0]


def test_the_exact_advantage_is_exact(lake, exact):
    row = run(lake, exact, lambda batch: batch.column("exact_advantage"))
    assert (row["bias"], row["mse"], row["sign_agreement"], row["in_reward_units"]) == (0.0, 0.0, 1.0, True)
    assert row["gradient_cosine"]["mean"] > 0.97
    assert row["logit_gradient_cosine"]["mean"] > 0.97


def test_the_return_to_go_is_biased_by_a_shift_that_changes_no_gradient(lake, exact):
    def to_go(batch):
        return reverse_discounted_sum(batch.reward, 1.0, batch.step_splits)

    row = run(lake, exact, to_go)
    # Given state, time and reply it is the action value: off by the value of the state, the same for every reply.
    assert row["bias_squared"] > 4 * row["bias_squared_error"]
    assert row["action_bias_squared"] < 3 * row["action_bias_squared_error"]


def test_a_wrong_method_is_seen_to_be_wrong(lake, exact):
    # Invalid replies count as good and the others as bad, whatever came of them.
    row = run(lake, exact, lambda batch: np.where(batch.valid, -0.5, 0.5))
    assert not row["in_reward_units"]
    assert row["action_bias_squared"] > 4 * row["action_bias_squared_error"]
    assert row["gradient_cosine"]["high"] < 0.0
    assert row["gradient_episodes_for_snr_1"] is None
    # And so does the exact advantage with the sign of one action turned over.
    turned = run(lake, exact, lambda batch: batch.column("exact_advantage") * np.where(exact.pair % 5 == 2, -1.0, 1.0))
    assert turned["action_bias_squared"] > 4 * turned["action_bias_squared_error"]
    assert turned["sign_agreement"] < 1.0


def test_division_by_a_deviation_is_found_out_and_scaled(lake, exact):
    row = run(lake, exact, lambda batch: batch.column("exact_advantage") / (3.0 * batch.reward.std()))
    assert not row["in_reward_units"]
    assert row["scale"] == pytest.approx(3.0 * lake.batch.reward.std())
    assert row["bias"] == pytest.approx(0.0, abs=1e-9)


def test_advantages_of_tokens_are_taken_by_step(lake, exact):
    row = run(lake, exact, lambda batch: batch.spread(batch.column("exact_advantage")), level="token")
    assert row["sign_agreement"] == 1.0


def test_every_method_that_has_its_columns_is_measured(lake, exact):
    truth = lake.truth()
    view, left, _, _ = truth.places.locate(lake.batch)
    branches = branch_values(
        lake.batch,
        truth.places.table,
        truth.solution,
        truth.places.state_of_view[view],
        left,
        np.random.default_rng(0),
        branches=4,
        invalid=truth.places.invalid,
    )
    batch = lake.batch.with_columns(exact_advantage=exact.advantage, **branches)
    found, left_out = find_methods(None, ("exact_advantage", *branches, "view_key"))
    rows, refused = measure(exact, batch, found, [50, 500], seed=0)
    assert {row["method"] for row in rows} | set(left_out) | set(refused) == set(registry.names("credit"))
    assert "gae" in left_out
    assert "annotate/value supplies it" in left_out["gae"]
    groups = {(row["group_size"], row["unit"]) for row in rows}
    assert groups == {(50, "group"), (500, "episode")}
    # Averages over groups leave out what an episode's luck adds: no method needs fewer episodes than the truth.
    needed = {row["method"]: row["gradient_episodes_for_snr_1"] for row in rows if row["group_size"] == 50}
    assert min(needed, key=lambda name: needed[name] or np.inf) == "oracle"


def test_branches_have_the_value_as_their_mean(lake):
    truth = lake.truth()
    view, left, _, _ = truth.places.locate(lake.batch)
    state = truth.places.state_of_view[view]
    found = branch_values(
        lake.batch, truth.places.table, truth.solution, state, left, np.random.default_rng(0), branches=8,
        invalid=truth.places.invalid,
    )  # fmt: skip
    surprise = found["branch_value"] - truth.solution.values[0, left, state]
    assert abs(surprise.mean()) < 4 * surprise.std() / np.sqrt(len(surprise))
    last = lake.batch.step_splits[1:] - 1
    assert not found["next_branch_value"][last].any()
    inner = np.setdiff1d(np.arange(lake.batch.num_steps), last)
    np.testing.assert_array_equal(found["next_branch_value"][inner], found["branch_value"][inner + 1])


def test_units_of_reward(lake):
    in_reward = Method("mine", lambda batch: batch.reward[:], {}, "step", "group")
    assert is_in_reward_units(in_reward, lake.batch, lake.batch.reward)
    scaled = Method("mine", lambda batch: batch.reward / batch.reward.std(), {}, "step", "group")
    assert not is_in_reward_units(scaled, lake.batch, scaled.by_step(lake.batch))


def test_a_method_that_fails_is_left_out_with_its_sentence(lake, exact):
    def refuses(batch):
        raise UserError("mine needs a full moon.")

    rows, refused = measure(exact, lake.batch, [Method("mine", refuses, {}, "step", "group")], [50], seed=0)
    assert (rows, refused) == ([], {"mine": "mine needs a full moon."})
    infinite = Method("mine", lambda batch: batch.reward / 0.0, {}, "step", "group")
    with np.errstate(all="ignore"):
        assert "not finite" in measure(exact, lake.batch, [infinite], [50], seed=0)[1]["mine"]


def test_an_unknown_method_is_refused():
    with pytest.raises(UserError, match="did you mean oracle"):
        find_methods(["orcale"], ())
