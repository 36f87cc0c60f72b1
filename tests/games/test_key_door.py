from collections import deque

import pytest

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.games.contract import check_game
from lapwing.games.key_door import ACTIONS, SPLITS, KeyDoor, KeyDoorState, KeyDoorView, split_of
from lapwing.tabular.enumerate import enumerate_game
from lapwing.tabular.value_iteration import optimal_values

# K _ W G      cells 0 1 2 3
# _ S D _            4 5 6 7
# _ _ W _            8 9 …
# _ _ W _
ROWS = ("K_WG", "_SD_", "__W_", "__W_")
START = KeyDoorState(ROWS, 5, carrying=False, opened=False)


def walk(game, state, actions):
    found = []
    for action in actions:
        found.append(game.step(state, {0: action}, generator("unused")))
        state = found[-1].state
    return found


def random_rows(number, **settings):
    return KeyDoor(**settings).initial(generator("rooms", number)).rows


def test_the_key_opens_the_door_and_the_goal_is_behind_it():
    #      up 1, left 0 (key), down 4, right 5, right 6 (door), right 7, up 3 (goal)
    actions = ["up", "left", "down", "right", "right", "right", "up"]
    found = walk(KeyDoor(size=4), START, actions)
    assert [t.state.position for t in found] == [1, 0, 4, 5, 6, 7, 3]
    assert [t.state.carrying for t in found] == [False, True, True, True, False, False, False]
    assert [t.state.opened for t in found] == [False] * 4 + [True] * 3
    assert [t.parts for t in found] == [{}, {"key": 1.0}, {}, {}, {"door": 1.0}, {}, {}]
    assert [t.reward[0] for t in found] == [0.0] * 6 + [1.0]
    assert [t.terminated for t in found] == [False] * 6 + [True]
    assert found[-1].success == {0: True}


@pytest.mark.parametrize(
    ("position", "carrying", "opened", "action", "there"),
    [
        (5, False, False, "right", 5),  # locked
        (5, True, False, "right", 6),
        (5, False, True, "right", 6),
        (1, True, False, "right", 1),  # the wall
        (0, False, False, "up", 0),  # the border
        (0, False, False, "left", 0),
        (12, False, False, "down", 12),
        (6, False, True, "left", 5),  # back through the open door
    ],
)
def test_what_stops_a_move(position, carrying, opened, action, there):
    transition = KeyDoor(size=4).step(KeyDoorState(ROWS, position, carrying, opened), {0: action}, generator("unused"))
    assert transition.state.position == there


def test_a_key_that_was_used_is_gone_and_taken_once():
    # Fails when the empty place of the key gives a second one.
    game = KeyDoor(size=4)
    for state in (KeyDoorState(ROWS, 1, carrying=False, opened=True), KeyDoorState(ROWS, 1, True, False)):
        transition = game.step(state, {0: "left"}, generator("unused"))
        assert (transition.state.carrying, transition.parts) == (state.carrying, {})


@pytest.mark.parametrize(
    ("carrying", "opened", "rows"),
    [
        (False, False, ("K_WG", "__D_", "__W_", "__W_")),
        (True, False, ("__WG", "__D_", "__W_", "__W_")),
        (False, True, ("__WG", "__O_", "__W_", "__W_")),
    ],
)
def test_the_view_shows_the_rooms_as_they_are(carrying, opened, rows):
    view = KeyDoor(size=4).view(KeyDoorState(ROWS, 9, carrying, opened), 0)
    assert view == KeyDoorView(rows, row=2, column=1, carrying=carrying)


def test_a_step_costs_what_was_set_and_the_goal_pays_besides():
    game = KeyDoor(size=4, step_reward=-0.25)
    last = KeyDoorState(ROWS, 7, carrying=False, opened=True)
    assert game.reward_range == (-0.25, 0.75)
    assert game.step(last, {0: "up"}, generator("unused")).reward == {0: 0.75}
    assert game.step(START, {0: "up"}, generator("unused")).reward == {0: -0.25}


def shortest(state):
    """Decisions of a shortest way to the goal, by a search over all states."""
    game = KeyDoor(size=len(state.rows))
    frontier, seen = deque([(state, 0)]), {state}
    while frontier:
        here, steps = frontier.popleft()
        for action in ACTIONS:
            ((_, transition),) = game.outcomes(here, {0: action})
            if transition.terminated:
                return steps + 1
            if transition.state not in seen:
                seen.add(transition.state)
                frontier.append((transition.state, steps + 1))
    raise AssertionError("no way")


@pytest.mark.parametrize("size", [3, 4, 5, 9])
def test_the_heuristic_walks_a_shortest_way_through_every_layout(size):
    game = KeyDoor(size=size)
    for number in range(30):
        state = game.initial(generator("layout", number))
        wanted = shortest(state)
        for step in range(1, wanted + 1):
            transition = game.step(state, {0: game.heuristic(state, 0)}, generator("unused"))
            state = transition.state
            assert transition.terminated == (step == wanted)
    assert game.heuristic(state, 0) in ACTIONS  # also on the goal, where nobody asks


@pytest.mark.parametrize("split", SPLITS)
def test_every_layout_can_be_solved_and_has_few_states(split):
    game = KeyDoor(size=4, split=split)
    for number in range(10):
        state = game.initial(generator("solvable", number))
        assert sorted("".join(state.rows).replace("_", "").replace("W", "")) == ["D", "G", "K", "S"]
        assert "".join(state.rows)[state.position] == "S"
        table = enumerate_game(game, [state])
        assert table.num_states <= 3 * 16
        assert optimal_values(table, shortest(state))[-1, 0] == 1.0


def test_walls_doors_and_things_are_drawn_everywhere_they_may_be():
    layouts = [random_rows(number, size=4) for number in range(1500)]
    walls = {rows[0].find("W") if "W" in rows[0] else rows[1].find("W") for rows in layouts}
    assert walls == {1, 2}
    places = {symbol: {"".join(rows).index(symbol) % 16 for rows in layouts} for symbol in "SKDG"}
    left, right = {r * 4 + c for r in range(4) for c in (0, 1)}, {r * 4 + c for r in range(4) for c in (2, 3)}
    assert places["S"] == places["K"] == left
    assert places["D"] == {r * 4 + c for r in range(4) for c in (1, 2)}
    assert places["G"] == right
    for rows in layouts:
        wall = rows[0].find("W") if "W" in rows[0] else rows[1].find("W")
        assert all(row[wall] in "WD" for row in rows)


def test_no_layout_and_no_mirror_image_is_in_two_splits():
    found = {
        split: {KeyDoor(split=split).initial(generator(split, n)).rows for n in range(300)}
        for split in ("train", "development", "test")
    }
    mirrored = {split: {tuple(reversed(rows)) for rows in found[split]} for split in found}
    for one in found:
        for other in found:
            if one != other:
                assert not (found[one] | mirrored[one]) & (found[other] | mirrored[other])


def test_splits_have_their_shares():
    splits = [split_of(random_rows(number, size=8)) for number in range(2000)]
    for split, share in (("train", 0.7), ("development", 0.1), ("test", 0.2)):
        assert abs(splits.count(split) / 2000 - share) < 4 * (share * (1 - share) / 2000) ** 0.5


def test_the_same_seed_draws_the_same_layout_and_different_seeds_different_ones():
    game = KeyDoor()
    assert game.initial(generator("m", 1)) == KeyDoor().initial(generator("m", 1))
    assert len({game.initial(generator("m", number)).rows for number in range(50)}) > 45


def test_for_split_keeps_the_other_settings():
    assert KeyDoor(size=6, step_reward=-0.1).for_split("test") == KeyDoor(size=6, step_reward=-0.1, split="test")


def test_layouts_are_not_listed():
    with pytest.raises(GameError, match="too many"):
        KeyDoor().initial_outcomes()


def test_a_split_without_layouts_is_given_up(monkeypatch):
    monkeypatch.setattr("lapwing.games.key_door.split_of", lambda rows: "train")
    with pytest.raises(UserError, match=r"size 3 for split 'test'; raise game\.size"):
        KeyDoor(size=3, split="test").initial(generator("hopeless"))


@pytest.mark.parametrize("settings", [{"size": 3}, {"size": 9, "step_reward": -0.1}, {"split": "test"}], ids=str)
def test_other_settings_keep_the_contract(settings):
    check_game(KeyDoor(**settings), matches=10)


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"size": 2}, "not 2"), ({"size": 17}, "not 17"), ({"step_reward": float("inf")}, "inf"), ({"split": "x"}, "x")],
)
def test_impossible_settings_are_refused(settings, found):
    with pytest.raises(UserError, match=found):
        KeyDoor(**settings)
