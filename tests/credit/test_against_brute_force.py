"""Every method in `credit/`, found by listing the folder, against an independent and far simpler implementation."""

import functools
import inspect
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

from lapwing.core.columns import COLUMNS
from lapwing.core.memory import bound
from lapwing.core.registry import names, resolve
from lapwing.testing import episodes

BATCHES = 200
REFERENCE = runpy.run_path(str(Path(__file__).with_name("brute_force.py")))

every_method = pytest.mark.parametrize("name", names("credit"))


def fraction(rng):
    return float(rng.choice([0.0, 1.0, rng.random(), rng.random()]))


def weight(rng):
    return float(rng.choice([0.0, 1.0, 3 * rng.random()]))


def one_of(*values):
    def draw(rng):
        return values[rng.integers(len(values))]

    draw.values = values
    return draw


switch = one_of(False, True)
deviation = {"ddof": one_of(0, 1, 2), "eps": one_of(0.0, 1e-9, 1e-6, 1e-4, 0.5)}
turns = {
    "coefficient": weight,
    "weight_on": one_of("outcome", "turn"),
    "horizon": one_of("suffix", "immediate"),
    **deviation,
}
SETTINGS = {
    "bilevel_gae": {"discount": fraction, "lambda_": fraction, "turn_discount": fraction},
    "dr_grpo": {},
    "dr_rpo": {"radius": one_of(0.0, 0.02, 0.1, 0.3, 0.6), "ball": one_of("kl", "tv")},
    "dual_gae": dict.fromkeys(("turn_discount", "turn_lambda", "token_discount", "token_lambda"), fraction),
    "egae": {"discount": fraction, "lambda_": fraction},
    "gae": {"discount": fraction, "lambda_": fraction},
    "gdpo": {
        "parts": one_of(("apples", "deaths"), ("deaths", "episode_return")),
        "part_weights": one_of((), (2.0, -0.5)),
        "batch_norm": switch,
        **deviation,
    },
    "gigpo": {
        "discount": fraction,
        "step_weight": weight,
        "scale_by_std": switch,
        "episode_statistics": one_of("episodes", "steps"),
        **deviation,
    },
    "graft": {"discount": fraction},
    "group_return_to_go": {"discount": fraction},
    "grpo": {"scale_by_std": switch, **deviation},
    "gtpo": {"discount": fraction, "outcome_weight": weight, **deviation},
    "hae": {
        "discount": fraction,
        "lambda_": fraction,
        "segment_lambda": fraction,
        "bootstrap_truncated": switch,
        "normalise": switch,
    },
    "hgpo": {
        "discount": fraction,
        "depth": one_of(0, 1, 2, 3, 7),
        "alpha": weight,
        "scale_by_std": switch,
        "base_group": switch,
        "level_weights": one_of("code", "paper"),
        **deviation,
    },
    "lite_ppo": {"std_of": one_of("return", "centred"), **deviation},
    "mt_grpo": turns,
    "mt_grpo_prefix": turns,
    "oracle": {},
    "rebn": {"discount": fraction, **deviation},
    "reinforce": {},
    "reinforce_pp": {
        "discount": fraction,
        "baseline": one_of("none", "group"),
        "across_steps": switch,
        **deviation,
    },
    "return_to_go": {"discount": fraction},
    "riskpo": {
        "alpha": one_of(0.0, 0.1, 0.2, 0.4),
        "beta": one_of(0.5, 0.8, 1.0),
        "omega": weight,
        "bundle": one_of(1, 2, 5),
        "rate": weight,
        "quantiles": one_of("track", "batch", "mix"),
        "center": switch,
        "scale_by_std": switch,
        "eps": deviation["eps"],
        "assign": one_of("uniform", "std", "score", "sum_mean"),
    },
    "rloo": {},
    "rtmc": {},
    "state_td": {"discount": fraction, "lambda_": fraction},
    "token_gae": {"discount": fraction, "lambda_": fraction},
    "vine": {"discount": fraction},
}


def draw_settings(name, rng):
    settings = {key: draw(rng) for key, draw in SETTINGS[name].items()}
    if settings.get("baseline") == "group":
        # The form with a group baseline has no use for these and refuses them.
        settings |= {"discount": 1.0, "across_steps": True}
    return settings


@functools.cache
def random_batch(seed):
    """One to twelve episodes of one to six steps of no to four tokens, in interleaved groups, with all columns."""
    rng = np.random.default_rng([7, seed])
    size = int(rng.integers(1, 13))
    lengths = rng.integers(1, 7, size)
    kinds = (
        lambda n: rng.integers(-1, 2, n).astype(float),
        lambda n: np.round(rng.normal(size=n), 1) * (rng.random(n) < 0.5),
        lambda n: rng.normal(size=n),
    )
    draw = kinds[rng.integers(len(kinds))]
    rewards, outcome = [draw(n) for n in lengths], draw(size) * rng.integers(0, 2)
    group = rng.choice([3, -8, 2**40, 0, 5][: rng.integers(1, 6)], size)
    if rng.random() < 0.5:
        # One group has equal returns from rewards that come at different steps.
        for e in np.flatnonzero(group == rng.choice(group)):
            rewards[e][:], outcome[e] = 0.0, 0.25
            rewards[e][rng.integers(lengths[e])] = 0.5
    most = rng.integers(1, 5, size) * (rng.random(size) < 0.9)
    batch = episodes(
        [list(r) for r in rewards],
        group=list(group),
        outcome=list(outcome),
        truncated=list(rng.random(size) < 0.3),
        tokens_per_step=[list(rng.integers(0, m + 1, n)) for m, n in zip(most, lengths, strict=True)],
    )
    return batch.with_columns(**random_columns(batch, rng))


def random_columns(batch, rng):
    sizes = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}
    columns = {name: rng.normal(size=sizes[column.axis]) for name, column in COLUMNS.items()}
    for name, values in {"view_key": 5, "action_key": 3, "next_view_key": 5}.items():
        columns[name] = rng.integers(0, rng.integers(1, values + 1), batch.num_steps).astype(np.uint64)
    if rng.random() < 0.5:
        inside = np.flatnonzero(np.diff(batch.episode_of_step) == 0)
        columns["next_view_key"][inside] = columns["view_key"][inside + 1]
    columns["final_value"][batch.terminated] = np.nan  # nothing follows, so nobody may look
    columns["context_key"] = columns["view_key"]
    columns["switch"] = rng.random(batch.num_steps) < 0.4  # a first step opens a segment whatever this says
    columns["span"] = rng.integers(0, 6, batch.num_tokens)
    columns["success"] = rng.integers(0, 2, batch.num_episodes).astype(float)
    columns["tool_calls"] = rng.integers(0, 3, batch.num_episodes)
    columns["answer_key"] = rng.integers(0, 3, batch.num_episodes).astype(np.uint64)
    columns |= {f"part:{name}": rng.integers(0, 2, batch.num_steps).astype(float) for name in REFERENCE["PARTS"]}
    columns["valid"] = rng.random(batch.num_steps) < 0.8
    return columns


@functools.cache
def plain_episodes(seed):
    return REFERENCE["read"](random_batch(seed))


@every_method
def test_every_method_has_a_reference_and_every_setting_is_drawn(name):
    # Fails for a new method, or a new setting of an old one, that nobody has implemented a second time.
    assert name in REFERENCE, f"tests/credit/brute_force.py has no {name}"
    assert name in SETTINGS, f"SETTINGS has no {name}"
    method = resolve("credit", name)
    assert set(SETTINGS[name]) == set(inspect.signature(method).parameters) - {"batch", "state"}
    for key, draw in SETTINGS[name].items():
        text = inspect.getdoc(method) or ""
        described = re.findall(rf"^  {key}: (.*?)(?=^  \w+: |\n\n)", text, re.MULTILINE | re.DOTALL)[0]
        assert set(re.findall(r'"(\w+)"', described)) <= set(getattr(draw, "values", ()))


@every_method
def test_the_method_is_what_its_specification_says(name):
    credit, reference = resolve("credit", name), REFERENCE[name]
    empty = 0
    for seed in range(BATCHES):
        settings = draw_settings(name, np.random.default_rng([11, seed]))
        expected = reference(plain_episodes(seed), **settings)
        actual = bound(credit, settings)(random_batch(seed))
        assert actual.shape == (len(expected),)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6, err_msg=f"batch {seed} with {settings}")
        empty += not np.any(np.abs(actual) > 1e-6)
    assert empty < BATCHES / 2, f"{name} gave 0 throughout in {empty} batches, which tell nothing"


def test_the_batches_hold_the_edge_cases():
    rare = ("silent episode", "silent batch")
    seen = dict.fromkeys(("alone", "no spread", "interleaved", "cut", "silent step", *rare), 0)
    for seed in range(BATCHES):
        batch = random_batch(seed)
        totals = batch.episode_return
        members = [np.flatnonzero(batch.group == g) for g in np.unique(batch.group)]
        written = np.diff(batch.token_splits)
        by_episode = np.add.reduceat(written, batch.step_splits[:-1])
        seen["alone"] += any(len(m) == 1 for m in members)
        seen["no spread"] += any(len(m) > 1 and np.ptp(totals[m]) < 1e-12 for m in members)
        seen["interleaved"] += any(np.ptp(m) + 1 > len(m) for m in members)
        seen["cut"] += bool(batch.truncated.any() and batch.terminated.any())
        seen["silent step"] += bool((written == 0).any())
        seen["silent episode"] += bool((by_episode == 0).any())
        seen["silent batch"] += batch.num_tokens == 0
    assert all(count >= (1 if case in rare else 30) for case, count in seen.items()), seen
