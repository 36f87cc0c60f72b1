"""Episodes from Ray actors are those of this process, whoever dies, hangs or lies meanwhile.

The tests with a cluster share one; the games below are sent to the actors by value, and misbehave there once for every
file that they can still make.
"""

import functools
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lapwing import build
from lapwing.build.schema import Part
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Match, Transition
from lapwing.distributed.cluster import Cluster
from lapwing.distributed.ray_collector import RayCollector
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Random
from lapwing.policies.past_versions import NOW
from lapwing.rollout.collector import LocalCollector
from lapwing.training.loop import iterate
from lapwing.training.stage_memory import as_tensors, from_checkpoint, put_back, remembered

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Walk:
    """Five steps of left or right; `trouble` happens in the middle, once for each of `files`."""

    trouble: str = ""
    files: tuple[str, ...] = ()
    num_players: int = 1
    reward_range: tuple[float, float] = (0.0, 1.0)
    restorable: bool = True

    def initial(self, rng):
        return (int(rng.integers(1000)),)

    def players(self, state):
        return (0,)

    def view(self, state, player):
        return state

    def legal(self, state, player):
        return ("left", "right")

    def step(self, state, actions, rng):
        if len(state) == 3 and self.trouble and self.is_due():
            TROUBLES[self.trouble]()
        after = (*state, actions[0])
        return Transition(after, {0: float(rng.random())}, terminated=len(after) == 6)

    def is_due(self):
        if not self.files:
            return True
        for name in self.files:
            try:
                Path(name).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def hang():
    time.sleep(1000)


def hold_the_lock():
    """One call into C that keeps the interpreter's lock for minutes."""
    sum(range(10**12))


def fail():
    raise ValueError("the board is upside down")


def refuse():
    raise UserError("The game wants another board.")


def die_with_a_child():
    subprocess.Popen(["sleep", "4321"])
    die()


def end_well():
    os._exit(0)


TROUBLES = {
    "die": die,
    "die_with_a_child": die_with_a_child,
    "end_well": end_well,
    "hang": hang,
    "hold": hold_the_lock,
    "raise": fail,
    "refuse": refuse,
}


def two_layers(frozen=0.5):
    """A frozen layer and one that learns."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Linear(5, 2))
    for parameter, value in zip(model.parameters(), (frozen, frozen, 1.0, 1.0), strict=True):
        torch.nn.init.constant_(parameter, value)
    model[0].requires_grad_(False)
    return model


def make_light(**settings):
    """A collector without a language model, so that an actor starts soon."""
    return LocalCollector(Random(), invalid=InvalidRule()), two_layers(**settings)


def make_nothing():
    raise UserError("There is no model here.")


def make_a_corpse():
    os._exit(3)


def matches_of(game, *, groups=4, size=3, iteration=0):
    return [
        Match(game, seed=0, split="train", iteration=iteration, group=group, member=member, max_steps=9)
        for group in range(groups)
        for member in range(size)
    ]


def told(episodes):
    """What an episode is, in a form that can be compared."""
    return [
        (e.match.identifier, e.policy_version, e.final_view, [(s.action, s.reward, s.state) for s in e.steps])
        for e in episodes
    ]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """A cluster that the collectors of this module find and leave as it is; the games here are sent to it by value."""
    found = Cluster()
    import ray

    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield found
    ray.cloudpickle.unregister_pickle_by_value(module)
    found.close()
    left = ray.is_initialized()
    ray.shutdown()  # whatever a test left must not reach those of other modules
    Cluster._users, Cluster._is_ours = 0, False
    assert not left, "a collector was not closed"


@pytest.fixture
def light():
    """Makes collectors of light actors, several on one CPU, and closes them."""
    made = []

    def make(make_actor=make_light, **settings):
        given = {"actors": 1, "timeout_seconds": 60.0, "cpus_per_actor": 0.25, **settings}
        made.append(RayCollector(make_actor, two_layers(), **given))
        return made[-1]

    yield make
    for collector in made:
        collector.close()


def locally(matches):
    """The episodes as one process plays them, without any trouble."""
    return told(LocalCollector(Random(), invalid=InvalidRule()).play([replace(m, game=Walk()) for m in matches]))


def balanced(ledger):
    return ledger.issued == ledger.finished + ledger.failed + ledger.dropped


# ---------------------------------------------------------------------------------------------------------------------
# The same episodes, the same weights.

SMALL = (
    *("iterations=4", "checkpoint_every=2", "model.hidden=32", "model.layers=1", "model.heads=2"),
    *("model.intermediate=32", "sampler.groups=4", "sampler.group_size=4"),
)


def two_stages(name, *overrides, **settings):
    """The main stage of a recipe twice: played here, and on actors."""
    recipe = build.read_recipe(name, overrides=[*SMALL, *overrides])
    plans = build.plan(recipe)
    actors = Part("ray", RayCollector, {"cpus_per_actor": 0.5, **settings})
    stages = []
    for plan in (plans[-1], replace(plans[-1], collector=actors)):
        shop = build.make_workshop(plan, recipe.seed)
        shop.origin = build.Origin(build.resolved(recipe, plans))
        stages.append(build.make_stage(plan, shop))
    return stages


def learnt(stage, iterations):
    """The rollouts and rows of a few iterations, and the weights after them."""
    learner = stage.make_learner()
    learner.max_lag = getattr(stage.collector, "ahead", 0)
    stage.load(0)
    rollouts = []
    rows = []
    for row in iterate(stage, learner, 0, rollouts.append):
        rows.append(row)
        if len(rows) == iterations:
            break
    return [rollout.batch for rollout in rollouts], rows, [p.detach().clone() for p in learner.model.parameters()]


# Three snakes: the learner in two seats, and past versions of it in the third.
SEATS = (
    *("game={name='snake', num_snakes=3}", "opponents={1={name='self'}, 2={name='past', every=1, size=2, latest=0.2}}"),
    *("evaluation.transfer=[]", "sampler.max_steps=8", "sampler.share_chance=false"),
)


# A table of states and one token a reply; a transcript with tools and many tokens a reply; several seats.
@pytest.mark.parametrize(
    ("name", "further"),
    [("frozen_lake_tiny", ()), ("search_qa_gigpo", ("game.entities=60",)), ("frozen_lake_tiny", SEATS)],
    ids=["table", "transcript", "seats"],
)
def test_two_iterations_of_training_are_those_of_one_process(name, further):
    here, there = two_stages(name, *further)
    try:
        batches, _, weights = learnt(here, 2)
        others, rows, other_weights = learnt(there, 2)
        if further is SEATS:
            the_pool_is_that_of_one_process(here, there)
    finally:
        there.close()
    assert not torch.equal(weights[0], build.make_workshop(*_fresh(name, further)).model.get_input_embeddings().weight)
    for batch, other in zip(batches, others, strict=True):
        for column in ("token", "context_token", "group", "match", "policy_version", "view_key", "step_splits"):
            np.testing.assert_array_equal(getattr(batch, column), getattr(other, column), err_msg=column)
        np.testing.assert_allclose(batch.reward, other.reward)
        np.testing.assert_allclose(batch.sampler_logprob, other.sampler_logprob, atol=1e-5)
    for weight, other in zip(weights, other_weights, strict=True):
        torch.testing.assert_close(weight, other, atol=1e-5, rtol=0)
    assert rows[-1]["collector/deaths"] == 0
    # The weights of two iterations, and each of two past versions once.
    count = 4 if further is SEATS else 2
    assert rows[-1]["collector/weight_bytes"] == count * 4 * sum(weight.numel() for weight in weights)


def the_pool_is_that_of_one_process(here, there):
    """After two iterations: also once it was put back from a checkpoint; and an actor with another pool is named."""
    put_back(there, from_checkpoint(there, there.sampler.state(), as_tensors(remembered(there))))
    matches = here.sampler.draw(2)
    expected, episodes = here.collector.play(matches), there.collector.play(matches)
    assert {episode.opponent_version for episode in expected} == {NOW, 1, 2}
    assert {episode.player for episode in expected} == {0, 1}
    for one, other in zip(episodes, expected, strict=True):
        assert (one.match, one.player, one.opponent_version) == (other.match, other.player, other.opponent_version)
        assert (one.final_view, one.episode_return) == (other.final_view, other.episode_return)
    store = there.collector._past_store
    store._stored = [(version, sent._replace(fingerprint="another")) for version, sent in store._stored]
    with pytest.raises(LapwingError, match=r"The past versions of actor \d .* are not the learner's: 1: .* 2: another"):
        there.collector.play(matches)


def _fresh(name, further):
    recipe = build.read_recipe(name, overrides=[*SMALL, *further])
    return build.plan(recipe)[-1], recipe.seed


# Fails when the next matches are begun after the update, or across a checkpoint.
def test_one_iteration_ahead_is_played_with_the_weights_before_but_never_across_a_checkpoint():
    _, stage = two_stages("bandit_tiny", "optimizer.epochs=2", ahead=1, chunk=4)
    model = stage.make_learner().model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        first, rows, weights = learnt(stage, 4)
        model.load_state_dict(before)
        again, _, other_weights = learnt(stage, 4)
    finally:
        stage.close()
    # Two updates an iteration, a checkpoint after two.
    assert [set(batch.policy_version) for batch in first] == [{0}, {0}, {4}, {4}]
    assert rows[-1]["rollout/stale"] == 0
    for batch, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(batch.token, other.token)
        np.testing.assert_array_equal(batch.sampler_logprob, other.sampler_logprob)
    assert all(torch.equal(weight, other) for weight, other in zip(weights, other_weights, strict=True))


def test_what_is_drawn_by_reviews_cannot_be_played_ahead():
    with pytest.raises(UserError, match="revisit above 0"):
        two_stages("bandit_tiny", "sampler.revisit=0.5", ahead=1)


def test_episodes_that_are_too_old_are_dropped_counted_and_played_again(light):
    collector = light(ahead=1)
    matches = matches_of(Walk())
    collector.begin(matches)
    collector.publish(1)
    collector.publish(2)
    episodes = collector.play(matches)
    assert {episode.policy_version for episode in episodes} == {2}
    assert collector.metrics["rollout/stale"] == len(matches)
    assert collector.ledger.dropped == len(matches)
    assert balanced(collector.ledger)
    collector.begin(matches)
    collector.publish(3)
    assert {episode.policy_version for episode in collector.play(matches)} == {2}
    collector.begin(matches)
    collector.close()
    assert collector.ledger.stale == len(matches)
    assert collector.ledger.dropped == 2 * len(matches)
    assert balanced(collector.ledger)


# ---------------------------------------------------------------------------------------------------------------------
# Deaths.


# F69. Fails when the matches of a dead actor are not issued again, or are issued to it again without its weights.
def test_actors_that_are_killed_lose_no_episode_and_none_comes_twice(light, tmp_path):
    collector = light(actors=2, max_deaths=100)
    for iteration, (trouble, times) in enumerate((("die", 2), ("end_well", 1))):
        files = tuple(str(tmp_path / f"{trouble}{number}") for number in range(times))
        matches = matches_of(Walk(trouble, files), iteration=iteration)
        episodes = collector.play(matches)
        assert told(episodes) == locally(matches)
        assert all(episode.match is match for episode, match in zip(episodes, matches, strict=True))
        assert all(Path(file).exists() for file in files)
    assert collector.metrics["collector/deaths"] == 3
    assert collector.metrics["collector/reissued"] >= 3 * 3
    assert collector.ledger.issued == collector.ledger.finished == 2 * len(matches)


def test_an_answer_that_comes_twice_counts_once(light):
    collector = light(ahead=1)
    matches = matches_of(Walk())
    collector.begin(matches)
    # As if an actor that was given up had answered after all.
    collector._crew.add(collector._begun[0][1])
    assert told(collector.play(matches)) == locally(matches)
    assert told(collector.play(matches)) == locally(matches)
    assert collector.metrics["collector/duplicates"] == len(matches)
    assert collector.ledger.finished == collector.ledger.issued == 2 * len(matches)


# "hold" keeps the interpreter's lock, so that nothing but a signal ends it; what ends it ends a "hang" as well.
@pytest.mark.parametrize("trouble", ["hold", *(["hang"] if os.environ.get("LAPWING_SOAK") else [])])
def test_an_actor_that_hangs_is_replaced(trouble, light, tmp_path):
    collector = light(timeout_seconds=5.0)
    collector.play(matches_of(Walk(), iteration=1))
    matches = matches_of(Walk(trouble, (str(tmp_path / "hung"),)))
    started = time.monotonic()
    assert told(collector.play(matches)) == locally(matches)
    assert time.monotonic() - started < 240
    assert collector.metrics["collector/deaths"] == 1


# Ray sees to that: fails with RAY_process_group_cleanup_enabled=false in the environment.
def test_what_a_game_started_ends_with_its_actor(light, tmp_path):
    matches = matches_of(Walk("die_with_a_child", (str(tmp_path / "died"),)))
    assert told(light().play(matches)) == locally(matches)
    end = time.monotonic() + 60
    while commands_like("sleep 4321") and time.monotonic() < end:
        time.sleep(0.1)
    left = commands_like("sleep 4321")
    for path in left:
        os.kill(int(path.parent.name), signal.SIGKILL)
    assert left == []


def commands_like(text):
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it ended just now
            continue
        if command == text:
            found.append(path)
    return found


# Fails when the breaker counts all places together: the healthy one must not be blamed.
@pytest.mark.parametrize("make", [make_light, make_a_corpse])
def test_actors_that_die_again_and_again_stop_the_run(make, light):
    collector = light(make, max_deaths=1)
    started = time.monotonic()
    with pytest.raises(LapwingError, match=r"(?s)lost .*max_deaths = 1.*worker") as raised:
        collector.play(matches_of(Walk("die"), groups=1))
    assert time.monotonic() - started < 240
    assert not isinstance(raised.value, UserError)
    assert collector.ledger.failed == 3
    assert balanced(collector.ledger)


# ---------------------------------------------------------------------------------------------------------------------
# Errors.


def test_errors_of_games_and_policies_come_out_and_the_collector_lives_on(light):
    collector = light()
    matches = matches_of(Walk("raise"))
    with pytest.raises(LapwingError, match=r"(?s)All .* matches failed .*the board is upside down") as raised:
        collector.collect(matches)
    assert "in fail" in str(raised.value)  # the actor's traceback
    assert collector.ledger.failed == collector.ledger.reissued == len(matches) == len(collector.take_faults())
    with pytest.raises(UserError, match=r"^The game wants another board\.$"):
        collector.play(matches_of(Walk("refuse")))
    assert told(collector.play(matches_of(Walk()))) == locally(matches_of(Walk()))
    assert balanced(collector.ledger)


def test_what_cannot_be_built_or_sent_is_said(light, monkeypatch):
    with pytest.raises(UserError, match=r"^There is no model here\.$"):
        light(make_nothing).play(matches_of(Walk()))
    with pytest.raises(UserError, match=r"a match with its game .* pickle"):
        light().play(matches_of(Walk(files=(threading.Lock(),))))
    with pytest.raises(UserError, match=r"the collector of an actor .* pickle"):
        light(functools.partial(make_light, threading.Lock())).play(matches_of(Walk()))
    monkeypatch.setattr("lapwing.distributed.crew.code_hash", lambda: "another checkout")
    with pytest.raises(UserError, match=r"The code of Lapwing where actor 0 \(.*\) runs is not that of this process"):
        light().play(matches_of(Walk()))


class Stuck(Random):
    """Says version 0 for ever."""

    version = property(lambda policy: 0, lambda policy, version: None)


def make_stuck():
    return LocalCollector(Stuck(), invalid=InvalidRule()), two_layers()


# F45. Fails when the fingerprint, or the version, is not compared.
def test_an_actor_with_other_weights_is_named(light):
    with pytest.raises(LapwingError, match=r"The weights of actor \d \(.*process \d+\) are not the learner's"):
        light(functools.partial(make_light, frozen=0.25)).play(matches_of(Walk()))
    collector = light(make_stuck)
    collector.play(matches_of(Walk()))
    collector.publish(3)
    with pytest.raises(LapwingError, match=r"actor \d .* played with version 0 of the weights .* instead of 3"):
        collector.play(matches_of(Walk()))


# F70. Fails when actors are made before the cluster is asked, which then waits for ever.
def test_asking_for_more_than_there_is_is_refused_with_the_numbers(light, cluster, monkeypatch):
    started = time.monotonic()
    sentence = r"asked for 999 actors with 2 CPUs each; the cluster has \d+ CPUs?, which is room for \d+: lower"
    with pytest.raises(UserError, match=sentence):
        light(actors=999, cpus_per_actor=2.0).start()
    with pytest.raises(UserError, match=r"1 actor with 1 CPU and 64 GPUs each; .* 0 GPUs, which is room for 0"):
        light(cpus_per_actor=1.0, gpus_per_actor=64.0).start()
    assert time.monotonic() - started < 60
    monkeypatch.setattr("lapwing.distributed.cluster._FREE_SECONDS", 1.0)
    everything = cluster._ray.cluster_resources()["CPU"]
    light(cpus_per_actor=everything).start()
    end = time.monotonic() + 60
    while cluster._ray.available_resources().get("CPU", 0.0) > 0.0 and time.monotonic() < end:
        time.sleep(0.1)
    with pytest.raises(UserError, match=r"the cluster has them, but only 0 CPUs and 0 GPUs free"):
        light(cpus_per_actor=everything).start()
