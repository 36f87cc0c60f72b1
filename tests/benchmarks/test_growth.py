"""What `benchmarks/growth.py` counts and how it judges."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lapwing.models.tiny import tiny_model
from lapwing.testing import episodes

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def growth(monkeypatch):
    # `harness` is the name of a module of other tests, too: it is this one for as long as a test takes.
    for name in ("harness", "growth"):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
    return sys.modules["growth"]


def batch_of(contexts, *, extends=None):
    """One episode with a step for each of some contexts, given by what is stored of them; replies are the token 0."""
    extends = [False] * len(contexts) if extends is None else extends
    whole = []
    for context, extended in zip(contexts, extends, strict=True):
        whole.append((*whole[-1], 0, *context) if extended else tuple(context))
    numbers = {context: number for number, context in enumerate(dict.fromkeys(whole), 1)}
    return dataclasses.replace(
        episodes([[0.0] * len(contexts)], context_key=[[numbers[context] for context in whole]]),
        context_splits=np.cumsum([0, *map(len, contexts)]),
        context_token=np.concatenate([np.array(context, dtype=np.int32) for context in contexts]),
        extends_previous=np.array(extends),
    )


def test_a_shared_beginning_and_a_repeated_context_count_once(growth):
    model = tiny_model(10, seed=0, hidden=8, layers=2, heads=2, intermediate=4)
    found = growth.needed(batch_of([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3]]), model)
    # 1 2 3 has three prefixes and 1 2 4 5 two more; they attend to 1 + 2 + 3 and to 3 + 4 tokens.
    assert found["needed_tokens"] == 5
    head = 10 * 8
    body = sum(p.numel() for p in model.parameters()) - head
    assert found["play_flop"] == 2 * body * 5 + 4 * 2 * 8 * (6 + 7) + 2 * head * 2
    assert found["update_flop"] == 3 * found["play_flop"]


def test_a_transcript_counts_as_its_last_context(growth):
    model = tiny_model(10, seed=0, hidden=8, layers=1, heads=2, intermediate=4)
    transcript = growth.needed(batch_of([[1, 2], [3], [4]], extends=[False, True, True]), model)
    # 1 2 0 3 0 4; the next token is predicted at three places of it.
    assert transcript["needed_tokens"] == 6
    alone = growth.needed(batch_of([[1, 2, 0, 3, 0, 4]]), model)
    assert transcript["play_flop"] - alone["play_flop"] == 2 * (10 * 8) * 2


@pytest.mark.parametrize(
    ("costs", "expected"),
    [([4.0, 2.0, 1.0], 1.0), ([2.0, 1.0, 3.0], 3.0), ([1.0, 1.2, 1.1], 1.2)],
    ids=["what falls does not rise", "from the least before", "not only to the last"],
)
def test_rise(growth, costs, expected):
    assert growth.rise(costs) == pytest.approx(expected)


def test_an_axis_is_judged_by_its_unit_relative_to_the_first_point(growth):
    def point(value, seconds, memory):
        row = {"before_bytes": 0, "peak_bytes": memory, "episodes": 10 * value, "steps": 20 * value, "credit": 0.0}
        row |= {"play": seconds, "update": 0.0, "seconds": seconds, "play_tokens": 1, "update_tokens": 1}
        return row | {"play_flop": 1, "update_flop": 3, "needed_tokens": 1}

    first, second = point(1, 1.0, 100), point(4, 2.0, 1000)
    # Beside the second point the first one took twice as long as before: the machine was busy.
    slow = first | {"play": 2.0}
    points = [growth.figures("group_size", 1, [first], []), growth.figures("group_size", 4, [second], [slow, slow])]
    found = growth.judged(growth.AXES["group_size"], points)
    assert [p["relative_seconds"] for p in points] == pytest.approx([1.0, (2.0 / 40) / (2.0 / 10)])
    assert [p["relative_bytes"] for p in points] == pytest.approx([1.0, 25 / 10])
    assert found["flat"] == {"seconds": True, "bytes": False}


def test_every_point_of_every_axis_is_a_recipe(growth):
    from lapwing import build

    for axis in growth.AXES.values():
        assert axis.short[0] == axis.points[0]
        assert max(axis.short) <= max(axis.points)
        for value in (axis.points[0], axis.points[-1]):
            overrides = [*growth.COMMON, *axis.settings(value)]
            assert build.plan(build.read_recipe("frozen_lake_tiny", overrides=overrides))[-1].name == "main"


def test_one_update_counts_its_work(growth):
    with torch.random.fork_rng():
        step = growth.work(["sampler.groups=1", "sampler.group_size=2", "sampler.max_steps=3"], 64)
    first, second = step(), step()
    same = ("episodes", "steps", "play_tokens", "update_tokens", "needed_tokens", "play_flop")
    assert [first[name] for name in same] == [second[name] for name in same]
    assert first["episodes"] == 2
    assert first["needed_tokens"] <= first["update_tokens"]
