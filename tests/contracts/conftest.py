"""What the contract tests of the method rooms share: a batch that has every column, and the check of docstrings."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lapwing.core.batch import EpisodeBatch
from lapwing.core.columns import COLUMNS
from lapwing.testing import episodes

TESTS = Path(__file__).parent.parent


def _make_batch(seed: int = 0) -> EpisodeBatch:
    """Eight episodes in four interleaved groups: two with spread, one of one, one with equal returns.

    It has zero-token steps, outcomes, truncation, invalid replies and every registered column.
    """
    rng = np.random.default_rng(seed)
    lengths = [3, 1, 2, 4, 2, 2, 3, 2]
    group = [9, 4, 9, 4, 7, 2, 9, 2]
    rewards = [list(np.round(rng.normal(size=length), 3)) for length in lengths]
    outcome = np.round(rng.normal(size=len(lengths)), 3)
    for equal in (5, 7):
        rewards[equal], outcome[equal] = [0.0, 1.0], 0.0
    tokens = [[int(rng.integers(0, 4)) for _ in range(length)] for length in lengths]
    for written in tokens:
        written[-1] = max(written[-1], 1)
    tokens[0][0] = 0
    batch = episodes(
        rewards,
        group=group,
        outcome=list(outcome),
        truncated=[False, True, False, False, True, False, False, False],
        tokens_per_step=tokens,
    )
    size = {"E": batch.num_episodes, "N": batch.num_steps, "K": batch.num_tokens}
    # What is drawn last changes none of the other draws, by which the batch was chosen.
    last = {"opponent_version"}
    columns = {name: rng.uniform(0.1, 0.9, size[COLUMNS[name].axis]) for name in COLUMNS if name not in last}
    columns |= {
        "span": rng.integers(0, 6, batch.num_tokens),
        "switch": rng.random(batch.num_steps) < 0.5,
        "success": rng.integers(0, 2, batch.num_episodes).astype(np.float64),
        "tool_calls": rng.integers(0, 3, batch.num_episodes),
        "answer_key": rng.integers(0, 3, batch.num_episodes).astype(np.uint64),
        "mode": rng.integers(0, 3, batch.num_episodes),
        "forced": rng.random(batch.num_episodes) < 0.7,
        "view_key": rng.integers(0, 4, batch.num_steps).astype(np.uint64),
        "action_key": rng.integers(0, 3, batch.num_steps).astype(np.uint64),
        "next_view_key": rng.integers(0, 4, batch.num_steps).astype(np.uint64),
        "valid": rng.random(batch.num_steps) < 0.8,
        "sampler_logprob": -rng.random(batch.num_tokens),
        "behavior_logprob": -rng.random(batch.num_tokens),
        "opponent_version": rng.integers(-1, 3, batch.num_episodes),
    }
    columns["switch"][batch.step_splits[:-1]] = True
    return batch.with_columns(**columns)


def _assert_documented(function: Callable) -> None:
    text = inspect.getdoc(function) or ""
    sentence = text.partition("\n")[0]
    assert sentence.endswith("."), f"the docstring must open with one sentence on one line, not {sentence!r}"
    parts = ["Reference:", "Args:", "Returns:"] + (["Raises:"] if "\nRaises:" in text else [])
    places = [text.find(f"\n{part}") for part in parts]
    assert -1 not in places, f"the docstring lacks one of {parts}"
    assert places == sorted(places), f"the parts must come in the order {parts}"
    before, reference = text[: places[0]], text[places[0] : places[1]]
    assert re.search(r"^    .*=", before, re.MULTILINE), "the docstring needs an equation, indented"
    assert re.search(r"https?://", reference), "the reference needs an address"
    arguments, returns = text[places[1] : places[2]], text[places[2] :]
    for parameter in inspect.signature(function).parameters:
        assert re.search(rf"^  {parameter}: ", arguments, re.MULTILINE), f"Args lacks {parameter}"
    assert re.search(r"\[[ENKP]\]", returns), "Returns must name the shape"
    if "raise " in inspect.getsource(inspect.getmodule(function) or function):
        assert "Raises:" in parts, "the file raises, but the docstring does not say so"


def _assert_tested(folder: str, name: str) -> None:
    assert (TESTS / folder / f"test_{name}.py").is_file(), f"tests/{folder}/test_{name}.py is missing"


@pytest.fixture
def make_batch() -> Callable[..., EpisodeBatch]:
    return _make_batch


@pytest.fixture
def assert_documented() -> Callable[[Callable], None]:
    return _assert_documented


@pytest.fixture
def assert_tested() -> Callable[[str, str], None]:
    return _assert_tested
