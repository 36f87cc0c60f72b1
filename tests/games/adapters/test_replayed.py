"""States for environments that remember by themselves."""

import dataclasses
import pickle
import random

import numpy as np
import pytest

from lapwing.core.errors import GameError, UserError
from lapwing.core.rng import generator
from lapwing.games.adapters._replayed import Moved, Replayer, probed_mode


class Walk:
    """Goes left or right, and by chance one further; counts what it costs."""

    steps = 0
    begun = 0
    copied = 0

    def begin(self, seed):
        type(self).begun += 1
        self.place = seed % 5
        return self.place

    def advance(self, actions, chance):
        type(self).steps += 1
        self.place += {"left": -1, "right": 1}[actions[0]]
        if self.drifts():
            self.place += int(generator(chance).integers(3))
        return Moved(self.place, {0: float(self.place)}, terminated=abs(self.place) > 1000, drew=self.drifts())

    def drifts(self):
        return True

    def __deepcopy__(self, memo):
        type(self).copied += 1
        twin = type(self)()
        twin.place = self.place
        return twin


class Dry(Walk):
    def drifts(self):
        return False


class Uncopied(Walk):
    def __deepcopy__(self, memo):
        raise TypeError("a socket cannot be copied")


class Moody(Walk):
    def advance(self, actions, chance):
        # So many places that two ways do not meet by chance.
        self.place += 10 * random.randrange(10**9)
        return dataclasses.replace(super().advance(actions, chance), terminated=False)


class Shallow(Walk):
    """Its copies share what it remembers."""

    def __deepcopy__(self, memo):
        return self


def choose(scene, rng):
    return {0: ("left", "right")[int(rng.integers(2))]}


def fresh(kind):
    """The class with its counts at nothing."""
    return type(kind.__name__, (kind,), {"steps": 0, "begun": 0, "copied": 0})


def walked(replayer, state, actions, name="walk"):
    states = [state]
    for number, action in enumerate(actions):
        states.append(replayer.step(states[-1], {0: action}, generator(name, number)).state)
    return states


@pytest.mark.parametrize("mode", ["copy", "replay"])
def test_a_match_that_goes_forward_costs_one_step_of_the_environment_a_step(mode):
    kind = fresh(Walk)
    replayer = Replayer(kind, mode=mode)
    walked(replayer, replayer.initial(generator("start")), ["left", "right"] * 20)
    assert (kind.steps, kind.begun, kind.copied) == (40, 1, 0)


@pytest.mark.parametrize("mode", ["copy", "replay"])
def test_any_state_can_be_stepped_again_and_gives_the_same(mode):
    replayer = Replayer(Walk, mode=mode)
    states = walked(replayer, replayer.begun(3), ["left", "right", "right", "left"])
    for _ in range(3):  # played again, copied, copied once more
        for number in (2, 0, 3, 1):
            action = ["left", "right", "right", "left"][number]
            assert replayer.step(states[number], {0: action}, generator("walk", number)).state == states[number + 1]
    elsewhere = Replayer(Walk, mode=mode)
    again = pickle.loads(pickle.dumps(states[3]))
    assert elsewhere.step(again, {0: "left"}, generator("walk", 3)).state == states[4]


def test_what_is_asked_for_often_is_copied_and_not_played_again():
    kind = fresh(Walk)
    replayer = Replayer(kind)
    states = walked(replayer, replayer.begun(3), ["left"] * 10)
    before = kind.steps
    for number in range(5):
        replayer.step(states[10], {0: "right"}, generator("branch", number))
    # The first takes the environment itself, the second plays ten steps again, the others copy.
    assert kind.steps - before == 5 + 10
    assert kind.copied == 1 + 3


def test_what_has_a_copy_on_its_way_is_played_again_from_there():
    kind = fresh(Walk)
    replayer = Replayer(kind)
    states = walked(replayer, replayer.begun(3), ["left"] * 10)
    replayer.step(states[8], {0: "right"}, generator("branch"))  # played again: eight steps, and one
    before = kind.steps
    replayer.step(states[9], {0: "right"}, generator("branch"))
    assert kind.steps - before == 1 + 1


def test_other_chance_leads_elsewhere_and_no_chance_leads_to_equal_states():
    replayer = Replayer(Walk)
    start = replayer.begun(3)
    found = {replayer.step(start, {0: "left"}, generator("other", number)).state for number in range(20)}
    assert {state.scene for state in found} == {2, 3, 4}
    assert len(found) > 3  # the same scene by another chance is another state
    dry = Replayer(Dry)
    start = dry.begun(3)
    assert len({dry.step(start, {0: "left"}, generator("other", number)).state for number in range(20)}) == 1


def test_few_environments_are_kept():
    kind = fresh(Walk)
    replayer = Replayer(kind, keep=2)
    starts = [replayer.begun(seed) for seed in range(5)]
    for number, start in enumerate(starts):
        assert replayer.step(start, {0: "left"}, generator("few", number)).state.moves
    assert kind.begun == 5 + 5  # the last two made room for what came after the first two
    assert len(replayer._live) == 2


def test_an_environment_that_cannot_be_restored_is_stepped_once_and_each_match_has_its_own():
    replayer = Replayer(Moody, mode="never")
    one, other = replayer.begun(3), replayer.begun(3)
    assert one == other
    ahead = replayer.step(one, {0: "left"}, generator("a")).state
    replayer.step(other, {0: "left"}, generator("a"))
    replayer.step(ahead, {0: "left"}, generator("b"))
    with pytest.raises(GameError, match="cannot be restored"):
        replayer.step(one, {0: "left"}, generator("a"))
    with pytest.raises(GameError, match="cannot be restored"):
        replayer.step(pickle.loads(pickle.dumps(replayer.begun(3))), {0: "left"}, generator("a"))


def test_an_environment_that_goes_another_way_when_played_again_is_told():
    replayer = Replayer(Moody, mode="replay")
    states = walked(replayer, replayer.begun(3), ["left"] * 5)
    with pytest.raises(GameError, match="another way"):
        replayer.step(states[4], {0: "left"}, generator("walk", 4))


def test_how_states_can_be_restored_is_found_out_and_the_shared_generators_are_left_alone():
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    assert probed_mode(Walk, choose) == "copy"
    assert probed_mode(Uncopied, choose) == "replay"
    assert probed_mode(Shallow, choose) == "replay"
    assert probed_mode(Moody, choose) == "never"
    after = random.getstate(), np.random.get_state()  # noqa: NPY002
    assert repr(before) == repr(after)


def test_there_are_three_ways_to_restore():
    with pytest.raises(UserError, match="did you mean replay"):
        Replayer(Walk, mode="replayed")
