"""Every method in `modulation/`, found by listing the folder, against an independent and far simpler implementation."""

import functools
import importlib
import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.registry import names, resolve
from lapwing.testing import episodes

BATCHES = 200
REFERENCE = runpy.run_path(str(Path(__file__).with_name("brute_force.py")))

every_method = pytest.mark.parametrize("name", names("modulation"))


def weight(rng):
    return float(rng.choice([0.0, 1.0, 3 * rng.random()]))


def one_of(*values):
    def draw(rng):
        return values[rng.integers(len(values))]

    draw.values = values
    return draw


SETTINGS = {
    "adora": {"rule": one_of("length", "length_vlm", "turns"), "w_bad": weight, "w_good": weight},
    "empg": {"k": weight, "k_next": weight, "bonus": weight},
    "salt": {"history": one_of(-1, 0, 1, 2, 9), "dedupe_per_episode": one_of(False, True)},
    "stcr": {"unit": one_of("tokens", "steps"), "base": one_of(1.00001, 1.1, 2.0)},
    "whiten": {
        "over": one_of("batch", "group"),
        "ddof": one_of(0, 1, 2),
        "eps": one_of(0.0, 1e-9, 1e-6, 1e-4, 0.5),
    },
}


@functools.cache
def random_batch(seed):
    """One to twelve episodes of one to six steps of no to four tokens, in interleaved groups, with all columns."""
    rng = np.random.default_rng([17, seed])
    size = int(rng.integers(1, 13))
    lengths = rng.integers(1, 7, size)
    batch = episodes(
        [list(rng.integers(-1, 2, n)) for n in lengths],
        group=list(rng.choice([3, -8, 2**40, 0, 5][: rng.integers(1, 6)], size)),
        outcome=list(rng.normal(size=size)),
        truncated=list(rng.random(size) < 0.3),
        tokens_per_step=[list(rng.integers(0, 5, n)) for n in lengths],
    )
    sizes = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}
    # From streams of their own: another column in the registry changes nothing of what else is drawn.
    streams = {name: np.random.default_rng([17, seed, *name.encode()]) for name in COLUMNS}
    columns = {name: streams[name].normal(size=sizes[column.axis]) for name, column in COLUMNS.items()}
    columns["entropy"] = rng.choice([rng.random(batch.num_steps), np.full(batch.num_steps, 0.7)], p=[0.9, 0.1])
    columns["success"] = (rng.random(size) < rng.choice([0.0, 0.5, 0.5, 1.0])).astype(float)
    columns |= random_keys(batch, rng)
    return batch.with_columns(**columns)


def random_keys(batch, rng):
    keys = {}
    least = rng.integers(0, 2)  # half of the time there is no 0, so that more matches
    for name, most in {"view_key": 4, "action_key": 3, "next_view_key": 4}.items():
        keys[name] = rng.integers(least, rng.integers(2, most + 1), batch.num_steps).astype(np.uint64)
    if rng.random() < 0.5:
        inside = np.flatnonzero(np.diff(batch.episode_of_step) == 0)
        keys["next_view_key"][inside] = keys["view_key"][inside + 1]
    for e in range(batch.num_episodes):
        # Many an episode begins like an earlier one of its group.
        mates = np.flatnonzero(batch.group[:e] == batch.group[e])
        if len(mates) and rng.random() < 0.7:
            mate = rng.choice(mates)
            shared = rng.integers(1, 1 + min(batch.episode_length[[mate, e]]))
            for values in keys.values():
                values[batch.step_splits[e] :][:shared] = values[batch.step_splits[mate] :][:shared]
    return keys


def random_advantage(name, seed, rng):
    """One number per step, or per token where the method takes that, sometimes one for a whole episode or group."""
    batch = random_batch(seed)
    _, group = np.unique(batch.group, return_inverse=True)
    kinds = [
        rng.normal(size=batch.num_steps),
        rng.normal(size=batch.num_episodes)[batch.episode_of_step],
        rng.integers(-1, 2, batch.num_steps).astype(float),
        rng.normal(size=len(group))[group][batch.episode_of_step],
    ]
    advantage = kinds[rng.choice(4, p=[0.3, 0.4, 0.2, 0.1])]
    by_token = importlib.import_module(f"lapwing.modulation.{name}").LEVEL == "any" and rng.random() < 0.5
    if not by_token or batch.num_tokens == batch.num_steps:
        return advantage  # as many tokens as steps are read as one number per step
    return batch.spread(advantage) + rng.integers(0, 2) * rng.normal(size=batch.num_tokens)


@functools.cache
def plain_episodes(seed):
    return REFERENCE["read"](random_batch(seed))


@every_method
def test_every_method_has_a_reference_and_every_setting_is_drawn(name):
    # Fails for a new method, or a new setting of an old one, that nobody has implemented a second time.
    assert name in REFERENCE, f"tests/modulation/brute_force.py has no {name}"
    assert name in SETTINGS, f"SETTINGS has no {name}"
    method = resolve("modulation", name)
    assert set(SETTINGS[name]) == set(inspect.signature(method).parameters) - {"batch", "advantage"}
    for key, draw in SETTINGS[name].items():
        text = inspect.getdoc(method) or ""
        described = re.findall(rf"^  {key}: (.*?)(?=^  \w+: |\n\n)", text, re.MULTILINE | re.DOTALL)[0]
        assert set(re.findall(r'"(\w+)"', described)) <= set(getattr(draw, "values", ()))


@every_method
def test_the_method_is_what_its_specification_says(name):
    modulate, reference = resolve("modulation", name), REFERENCE[name]
    unchanged = 0
    for seed in range(BATCHES):
        rng = np.random.default_rng([19, seed])
        settings = {key: draw(rng) for key, draw in SETTINGS[name].items()}
        advantage = random_advantage(name, seed, rng)
        expected = reference(plain_episodes(seed), advantage.tolist(), **settings)
        actual = modulate(random_batch(seed), advantage, **settings)
        assert actual.shape == advantage.shape == (len(expected),)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6, err_msg=f"batch {seed} with {settings}")
        unchanged += np.allclose(actual, advantage)
    # Only failures that are longer than a success of their group change under this one.
    most = 0.8 * BATCHES if name == "stcr" else BATCHES / 2
    assert unchanged < most, f"{name} left {unchanged} advantages as they were, which tells nothing"


def test_the_batches_hold_the_edge_cases():
    cases = ("alone", "interleaved", "cut", "lost by a cut", "no success", "no failure", "silent step", "equal entropy")
    seen = dict.fromkeys(cases, 0)
    for seed in range(BATCHES):
        batch, success = random_batch(seed), random_batch(seed).extra["success"]
        members = [np.flatnonzero(batch.group == g) for g in np.unique(batch.group)]
        seen["alone"] += any(len(m) == 1 for m in members)
        seen["interleaved"] += any(np.ptp(m) + 1 > len(m) for m in members)
        seen["cut"] += bool(batch.truncated.any() and batch.terminated.any())
        seen["lost by a cut"] += bool((batch.truncated & (success == 0)).any())
        seen["no success"] += any(not success[m].any() for m in members)
        seen["no failure"] += any(success[m].all() for m in members)
        seen["silent step"] += bool((np.diff(batch.token_splits) == 0).any())
        seen["equal entropy"] += np.ptp(batch.extra["entropy"]) == 0.0
    assert min(seen.values()) > 10, seen
