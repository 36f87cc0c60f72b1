import gymnasium
import numpy as np
import pytest

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.games.frozen_lake import ACTIONS, MAPS, SPLITS, FrozenLake, FrozenLakeState, FrozenLakeView, split_of
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values


def random_rows(number, size=4, frozen_probability=0.7):
    game = FrozenLake(size=size, frozen_probability=frozen_probability)
    return game.initial(generator("map", number)).rows


def gymnasium_lake(rows, *, slippery):
    return gymnasium.make("FrozenLake-v1", desc=list(rows), is_slippery=slippery, max_episode_steps=10_000)


def summed(triples):
    """Probability of each (cell, reward, terminated)."""
    total = {}
    for probability, *rest in triples:
        total[tuple(rest)] = total.get(tuple(rest), 0.0) + probability
    return total


MAPS_TO_COMPARE = [*MAPS.values(), *(random_rows(number) for number in range(5)), random_rows(0, size=7)]


@pytest.mark.parametrize("slippery", [False, True], ids=["dry", "slippery"])
@pytest.mark.parametrize("rows", MAPS_TO_COMPARE, ids="/".join)
def test_every_outcome_is_gymnasiums(rows, slippery):
    game = FrozenLake(slippery=slippery)
    table = gymnasium_lake(rows, slippery=slippery).unwrapped.P  # pyright: ignore[reportAttributeAccessIssue]
    for position, cell in enumerate("".join(rows)):
        if cell in "GH":
            continue
        for number, action in enumerate(ACTIONS):
            ours = [
                (p, transition.state.position, transition.reward[0], transition.terminated)
                for p, transition in game.outcomes(FrozenLakeState(rows, position), {0: action})
            ]
            theirs = [(p, int(there), float(reward), done) for p, there, reward, done in table[position][number]]
            assert summed(ours) == pytest.approx(summed(theirs))


@pytest.mark.parametrize("rows", MAPS_TO_COMPARE, ids="/".join)
def test_dry_episodes_are_gymnasiums_step_for_step(rows):
    game, env = FrozenLake(), gymnasium_lake(rows, slippery=False)
    for number in range(20):
        position, _ = env.reset(seed=number)
        state = FrozenLakeState(rows, 0)
        rng = generator("moves", number)
        for _ in range(60):
            assert state.position == position
            chosen = int(rng.integers(4))
            transition = game.step(state, {0: ACTIONS[chosen]}, rng)
            position, reward, terminated, _, _ = env.step(chosen)
            assert (transition.reward, transition.terminated) == ({0: float(reward)}, terminated)
            state = transition.state
            if terminated:
                break
        assert state.position == position


def test_slippery_steps_are_drawn_from_the_outcomes():
    # From the start of the 4x4 map "right" slips to down (4), right (1) or up (stays at 0), 1/3 each.
    game, start, draws = FrozenLake(slippery=True), FrozenLakeState(MAPS["4x4"], 0), 3000
    rng = generator("slip")
    found = [game.step(start, {0: "right"}, rng).state.position for _ in range(draws)]
    for position in (0, 1, 4):
        assert abs(found.count(position) / draws - 1 / 3) < 4 * np.sqrt(2 / 9 / draws)
    assert set(found) == {0, 1, 4}


@pytest.mark.parametrize(
    ("position", "action", "success"), [(14, "right", True), (13, "left", False), (13, "right", None)]
)
def test_success_is_the_goal_and_failure_a_hole(position, action, success):
    # S F F F
    # F H F H
    # F F F H
    # H F F G   cell 14 is left of the goal, cell 13 right of a hole
    transition = FrozenLake().step(FrozenLakeState(MAPS["4x4"], position), {0: action}, generator("unused"))
    assert transition.success == (None if success is None else {0: success})
    assert transition.terminated == (success is not None)


def test_the_view_counts_rows_and_columns_from_the_top_left():
    game = FrozenLake(slippery=True, map_name="4x4")
    view = game.view(FrozenLakeState(MAPS["4x4"], 6), 0)
    assert view == FrozenLakeView(MAPS["4x4"], row=1, column=2, slippery=True)


def test_the_same_seed_draws_the_same_map_and_different_seeds_different_ones():
    game = FrozenLake()
    assert game.initial(generator("m", 1)) == FrozenLake().initial(generator("m", 1))
    assert len({game.initial(generator("m", number)).rows for number in range(50)}) > 40


@pytest.mark.parametrize(
    ("split", "size", "frozen_probability"),
    [("all", 2, 0.5)] + [(s, n, p) for s in SPLITS for n, p in ((4, 0.8), (4, 0.4), (8, 0.8))],
)
def test_every_map_has_a_way_to_its_goal(split, size, frozen_probability):
    game = FrozenLake(size=size, frozen_probability=frozen_probability, split=split)
    for number in range(5):
        state = game.initial(generator("solvable", number))
        cells = "".join(state.rows)
        assert (cells[0], cells[-1], state.position, len(cells)) == ("S", "G", 0, size * size)
        values = optimal_values(enumerate_game(game, [state]), size * size)
        assert values[-1, 0] == 1.0


def test_no_map_and_no_mirror_image_is_in_two_splits():
    found = {
        split: {FrozenLake(split=split).initial(generator(split, n)).rows for n in range(300)}
        for split in ("train", "development", "test")
    }
    mirrored = {split: {tuple("".join(c) for c in zip(*rows, strict=True)) for rows in found[split]} for split in found}
    for one in found:
        for other in found:
            if one != other:
                assert not (found[one] | mirrored[one]) & (found[other] | mirrored[other])


def test_splits_have_their_shares():
    splits = [split_of(random_rows(number, size=8)) for number in range(2000)]
    for split, share in (("train", 0.7), ("development", 0.1), ("test", 0.2)):
        assert abs(splits.count(split) / 2000 - share) < 4 * np.sqrt(share * (1 - share) / 2000)


def test_for_split_keeps_the_other_settings():
    assert FrozenLake(size=5, slippery=True).for_split("test") == FrozenLake(size=5, slippery=True, split="test")


def test_a_fixed_map_is_the_one_start():
    game = FrozenLake(map_name="8x8", split="test")
    start = FrozenLakeState(MAPS["8x8"], 0)
    assert game.initial(generator("any")) == start
    assert game.initial_outcomes() == [(1.0, start)]


def test_random_maps_are_not_listed():
    with pytest.raises(GameError, match="too many"):
        FrozenLake().initial_outcomes()


def test_a_lake_that_is_nearly_all_holes_is_given_up():
    with pytest.raises(UserError, match="no solvable"):
        FrozenLake(frozen_probability=0.001).initial(generator("hopeless"))


@pytest.mark.parametrize(
    ("rows", "position", "action"),
    [
        (MAPS["4x4"], 0, "right"),
        (("SF", "FG"), 1, "down"),
        (("SFF", "FFH", "FHG"), 5 - 1, "left"),
        (("SFF", "FFF", "HHG"), 2, "down"),
        (("SFH", "HFH", "HHG"), 4, "up"),
        (("SHH", "HHH", "HHG"), 0, "right"),
    ],
    ids=["right", "right is the border", "right and down are holes", "down", "only up", "surrounded"],
)
def test_the_heuristic(rows, position, action):
    assert FrozenLake().heuristic(FrozenLakeState(rows, position), 0) == action


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"size": 1}, "not 1"),
        ({"frozen_probability": 0.0}, r"not 0\.0"),
        ({"map_name": "4x5"}, "4x4"),
        ({"split": "dev"}, "dev"),
    ],
)
def test_impossible_settings_are_refused(settings, found):
    with pytest.raises(UserError, match=found):
        FrozenLake(**settings)


def test_a_fixed_map_has_its_own_size():
    # Fails when a size beside a fixed map changes nothing and says nothing.
    assert FrozenLake().size == 4
    assert FrozenLake(map_name="8x8").size == 8
    assert FrozenLake(map_name="4x4", size=4) == FrozenLake(map_name="4x4")
    with pytest.raises(UserError, match="has size 4, not 5"):
        FrozenLake(map_name="4x4", size=5)
