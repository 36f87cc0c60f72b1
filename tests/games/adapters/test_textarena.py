"""TextArena's games; against the real package."""

import subprocess
import sys

import pytest

from lapwing.core.errors import UserError
from lapwing.core.rng import generator
from lapwing.games.adapters.textarena import Textarena
from lapwing.games.contract import check_game


def talked(game, *replies, seed=0):
    """The transitions of a match in which these replies are given one after the other."""
    state, found = game.initial(generator(seed)), []
    for reply in replies:
        found.append(game.step(state, {game.players(state)[0]: reply}, generator(1)))
        state = found[-1].state
    return found


@pytest.mark.parametrize(
    "game",
    [Textarena(), Textarena("TicTacToe-v0", 2), Textarena("KuhnPoker-v0", 2), Textarena("ThreePlayerTicTacToe-v0", 3)],
    ids=lambda game: game.env,
)
def test_a_game_keeps_the_contract(game):
    check_game(game, matches=4, max_steps=12, other_process=game.env.startswith("Kuhn"))


def test_who_has_three_in_a_row_wins():
    found = talked(Textarena("TicTacToe-v0", 2), "I take [0]", "[3]", "[1]", "[4]", "and now [2]")
    assert [transition.terminated for transition in found] == [False] * 4 + [True]
    assert found[-1].reward == {0: 1.0, 1: -1.0}
    assert found[-1].success == {0: True, 1: False}
    assert all(transition.reward == {0: 0.0, 1: 0.0} for transition in found[:-1])


def test_a_seat_reads_what_it_was_told_and_its_own_replies():
    game = Textarena("TicTacToe-v0", 2)
    state = game.initial(generator(0))
    assert game.players(state) == (0,)
    assert "You are Player 0 in Tic Tac Toe." in game.view(state, 0).text
    assert "You are Player 1 in Tic Tac Toe." in game.view(state, 1).text
    after = talked(game, "the corner: [0]")[0].state
    assert game.players(after) == (1,)
    assert "the corner: [0]" in game.view(after, 1).text
    assert "Available Moves: '[1]', '[2]'" in game.view(after, 0).text
    new = Textarena("TicTacToe-v0", 2, show="new")
    assert "You are Player 0" not in new.view(after, 0).text
    assert "the corner: [0]" in new.view(after, 0).text
    assert "You are Player 1" in new.view(after, 1).text


def test_a_second_unreadable_reply_loses():
    found = talked(Textarena("TicTacToe-v0", 2), "", "nothing")
    assert found[-1].terminated
    assert found[-1].reward[0] == -1.0
    assert found[-1].success == {0: False, 1: True}


def test_one_player_succeeds_with_a_reward_of_one():
    found = talked(Textarena(), *(f"[{number}]" for number in range(1, 21)))
    ended = next(transition for transition in found if transition.terminated)
    assert ended.success == {0: True}
    assert ended.reward == {0: 1.0}
    numbers = set()
    for seed in range(12):
        for guess in range(1, 21):
            [transition] = talked(Textarena(), f"[{guess}]", seed=seed)
            if transition.terminated:
                numbers.add(guess)
    assert len(numbers) > 4  # the number is drawn by the start's seed


def test_a_reply_that_breaks_the_environment_ends_the_match_unpaid():
    # Whose author did not think of an empty reply.
    [transition] = talked(Textarena("CharacterConclave-v0", 3), "")
    assert transition.terminated
    assert set(transition.reward.values()) == {0.0}
    assert transition.parts == {"failed": 1.0}


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"env": "TicTacToo-v0"}, "TextArena has no environment 'TicTacToo-v0'; did you mean TicTacToe-v0"),
        ({"env": "TicTacToe-v0"}, "TicTacToe-v0 is not for 1 players"),
        ({"settings": {"most": 3}}, "GuessTheNumber-v0 refuses its settings"),
        ({"players_count": 0}, r"game\.players_count is a number of seats of at least 1, not 0"),
        ({"show": "some"}, r"game\.show is 'all' or 'new', not 'some'"),
    ],
)
def test_what_cannot_be_played_is_said(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Textarena(**settings).initial(generator(0))


def test_a_missing_package_gives_the_command_that_installs_it():
    code = (
        "import sys\nsys.modules['textarena'] = None\nfrom lapwing.games.adapters.textarena import Textarena\n"
        "from lapwing.core.errors import UserError\nfrom lapwing.core.rng import generator\n"
        "try:\n    Textarena().initial(generator(0))\nexcept UserError as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "lapwing[textarena]"' in found.stdout
