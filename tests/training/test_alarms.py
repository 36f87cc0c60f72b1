"""Alarms (F44, F47): raised on what was scripted, silent on what learnt, and the same after a resume."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lapwing import build
from lapwing.core.errors import UserError
from lapwing.training.alarms import Alarms

# Metrics of finished runs: three significant digits of what alarms look at, None where there was no update.
FINISHED = json.loads(Path(__file__).with_name("finished_runs.json").read_text("utf-8"))


NAN = float("nan")


def rows_of(columns):
    names, values = list(columns), list(columns.values())
    return [{n: x for n, x in zip(names, row, strict=True) if x is not None} for row in zip(*values, strict=True)]


def replay(rows, alarms=None, **settings):
    """(iteration, name, whether it stops the run) of everything that is raised."""
    alarms = alarms or Alarms(**settings)
    return [(i, found["alarm"], found["stop"]) for i, row in enumerate(rows) for found in alarms.check(row)]


def scripted(iterations: Any = 60, **columns: Any):
    """A healthy run without progress, but for the columns that are given as functions of the iteration."""
    noise = np.random.default_rng(0).normal(size=(4, iterations))
    rows = []
    for i in range(iterations):
        row = {
            "rollout/return_mean": 0.3 + 0.05 * noise[0, i],
            "rollout/valid": 0.98,
            "rollout/length": 8.0 + 0.3 * noise[1, i],
            "rollout/tokens_per_step": 20.0 + noise[2, i],
            "rollout/zero_spread_groups": 0.2,
            "rollout/top_action": 0.4,
            "policy/entropy": 1.0 + 0.02 * noise[3, i],
            "policy/gap": 4e-7,
            "update/count": 1.0,
            "update/nonfinite": 0.0,
        }
        group = {"zero_spread_groups", "return_mean", "valid", "length", "tokens_per_step", "top_action"}
        for name, value in columns.items():
            row[f"{'rollout' if name in group else 'policy'}/{name}"] = value(i)
        rows.append(row)
    return rows


# F47. Fails when a sign counts although the return is better than at the start, or the noise of a trend as noise.
@pytest.mark.parametrize("name", [name for name in FINISHED if name.startswith("learnt")])
def test_f47_no_alarm_is_raised_by_a_run_that_learnt(name):
    assert replay(rows_of(FINISHED[name])) == []


# F47. Fails when the floor of the entropy is so low, or learning so easily proved, that real collapses pass.
@pytest.mark.parametrize("name", [name for name in FINISHED if name.startswith("collapsed")])
def test_f47_runs_that_collapsed_raise_the_alarm_of_the_entropy_long_before_their_end(name):
    found = replay(rows_of(FINISHED[name]))
    assert [alarm for _, alarm, _ in found][:1] == ["entropy"]
    assert found[0][0] < 0.6 * len(FINISHED[name]["policy/entropy"])


def test_a_run_without_progress_alone_is_no_reason_for_an_alarm():
    assert replay(scripted()) == []


COLLAPSES = {
    "entropy": {"entropy": lambda i: 1.2 * 0.8**i},
    "length": {"tokens_per_step": lambda i: 20.0 * 1.15 ** max(i - 20, 0)},
    "valid": {"valid": lambda i: 0.98 if i < 30 else 0.3},
    "no_signal": {"zero_spread_groups": lambda i: 0.5 if i < 30 else 1.0},
    "constant": {"top_action": lambda i: min(1.0, 0.4 + 0.03 * i)},
}


# F47. Fails when a sign is not looked at, or each row in which it lasts raises the alarm again.
@pytest.mark.parametrize("name", COLLAPSES)
def test_f47_each_scripted_collapse_raises_its_alarm_once(name):
    found = replay(scripted(**COLLAPSES[name]))
    assert [(alarm, stop) for _, alarm, stop in found] == [(name, False)]
    assert replay(scripted(**COLLAPSES[name]), off=(name,)) == []
    assert [stop for _, _, stop in replay(scripted(**COLLAPSES[name]), stop=(name,))] == [True]


# Fails when the condition on the return is dropped.
@pytest.mark.parametrize("name", ["entropy", "no_signal", "constant"])
def test_certainty_with_a_better_return_is_what_learning_looks_like(name):
    better = {"return_mean": lambda i: 0.3 + 0.01 * i}
    assert replay(scripted(**COLLAPSES[name], **better)) == []


def test_episodes_may_become_longer_where_the_return_becomes_better():
    # Fails when episodes are treated as replies are: surviving longer is what most games reward.
    longer = {"length": lambda i: 8.0 * 1.15 ** max(i - 20, 0)}
    assert [alarm for _, alarm, _ in replay(scripted(**longer))] == ["length"]
    assert replay(scripted(**longer, return_mean=lambda i: 0.3 + 0.01 * i)) == []


def test_f47_the_text_gives_the_figures_and_what_to_do():
    (found,) = [x for alarms in [Alarms()] for row in scripted(**COLLAPSES["entropy"]) for x in alarms.check(row)]
    assert set(found) == {"kind", "alarm", "text", "stop"}
    assert found["kind"] == "alarm"
    assert "entropy fell to 0.00" in found["text"]
    assert "from 0.98" in found["text"]
    assert "the return is 0.2" in found["text"]
    assert "optimizer.learning_rate" in found["text"]


# F44. Fails when the gap waits for its patience before it warns, or never ends the run.
def test_f44_a_gap_warns_at_once_and_ends_the_run_when_it_lasts():
    rows = scripted(20, gap=lambda i: 0.2 if 4 <= i < 12 else 1e-6)
    assert replay(rows) == [(4, "gap", False), (6, "gap", True)]
    assert replay(rows, gap_patience=1) == [(4, "gap", True)]
    assert replay(rows, stop=()) == [(4, "gap", False)]
    assert replay(rows, gap=0.3) == []


def test_a_row_that_says_nothing_of_a_gap_neither_clears_nor_counts():
    # Fails when an iteration whose update was skipped hides that the gap persists.
    rows = scripted(8, gap=lambda i: NAN if i % 2 else 0.2)
    assert replay(rows) == [(0, "gap", False), (4, "gap", True)]


def test_an_alarm_that_is_over_may_be_raised_again():
    # Fails when what was raised once is never cleared.
    rows = scripted(20, gap=lambda i: 0.2 if i in (3, 9) else 1e-6)
    assert replay(rows) == [(3, "gap", False), (9, "gap", False)]
    twice = scripted(120, valid=lambda i: 0.3 if 30 <= i < 50 or 80 <= i < 100 else 0.98)
    assert [alarm for _, alarm, _ in replay(twice)] == ["valid", "valid"]


def updates(*made):
    """Rows of iterations whose updates were made (1), left out (0) or not wanted (None)."""
    return [{"update/count": float(bool(m)), "update/nonfinite": float(m == 0 and m is not None)} for m in made]


# F41. Fails when iterations without any update reset the count, or one that was made does not.
def test_f41_the_run_rolls_back_after_so_many_iterations_without_a_finite_update():
    alarms = Alarms(rollback_after=3)
    wanted = []
    for row in updates(1, 0, 0, 1, 0, None, 0, 0):
        alarms.check(row)
        wanted.append(alarms.must_roll_back)
    assert wanted == [False] * 7 + [True]
    alarms.rolled_back()
    assert not alarms.must_roll_back
    assert replay(updates(0, 0, 0, 0), rollback_after=3) == [(2, "nonfinite", False)]
    never = Alarms(rollback_after=0)
    assert [never.check(row) for row in updates(0)][0][0]["alarm"] == "nonfinite"
    assert not never.must_roll_back


# Fails when anything that is remembered is left out of the state.
@pytest.mark.parametrize("cut", [1, 25, 41, 55])
@pytest.mark.parametrize("name", [*COLLAPSES, "gap", "nonfinite"])
def test_alarms_that_were_saved_go_on_as_if_nothing_had_happened(name, cut):
    columns = COLLAPSES.get(name, {"gap": lambda i: 0.2 * (i % 7 > 2)} if name == "gap" else {})
    rows = scripted(**columns)
    if name == "nonfinite":
        rows = [row | {"update/count": float(i % 9 < 5), "update/nonfinite": 1.0} for i, row in enumerate(rows)]
    whole = Alarms()
    expected = [whole.check(row) for row in rows]
    first = Alarms()
    before = [first.check(row) for row in rows[:cut]]
    second = Alarms()
    second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
    assert before + [second.check(row) for row in rows[cut:]] == expected
    assert second.state() == whole.state()
    assert second.must_roll_back == whole.must_roll_back


def test_an_empty_state_begins_anew():
    alarms = Alarms()
    for row in scripted(30):
        alarms.check(row)
    alarms.restore({})
    assert alarms.state() == Alarms().state()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"gap": 0.0}, "alarms.gap"),
        ({"gap": float("nan")}, "alarms.gap"),
        ({"growth": 1.0}, "alarms.growth is a finite number above 1, not 1"),
        ({"valid": 1.0}, "alarms.valid"),
        ({"constant": 1.5}, "alarms.constant"),
        ({"patience": 0}, "alarms.patience"),
        ({"gap_patience": 0}, "alarms.gap_patience"),
        ({"window": 0}, "alarms.window"),
        ({"rollback_after": -1}, "alarms.rollback_after"),
        ({"stop": ("entrpy",)}, "'entrpy'; did you mean entropy"),
        ({"off": ("gaps",)}, "'gaps'; did you mean gap"),
    ],
)
def test_impossible_settings_are_refused_by_name(settings, said):
    with pytest.raises(UserError, match=said):
        Alarms(**settings)


def test_recipes_have_a_section_for_alarms_and_need_none():
    # Fails when the section is not resolved into the recipe of the run, or its settings do not reach the stage.
    recipe = build.read_recipe("frozen_lake_tiny")
    plans = build.plan(recipe)
    written = build.resolved(recipe, plans)["stage"][-1]["alarms"]
    assert (written["gap"], written["stop"], written["off"]) == (0.05, ["gap"], [])
    again = build.plan(build.read_recipe("frozen_lake_tiny", overrides=["alarms.entropy=0.2", 'alarms.off=["length"]']))
    assert again[-1].alarms.settings["off"] == ("length",)
    with pytest.raises(UserError, match=r"alarms\.entorpy"):
        build.plan(build.read_recipe("frozen_lake_tiny", overrides=["alarms.entorpy=0.2"]))
    with pytest.raises(UserError, match=r"alarms\.stop: there is no alarm 'gaps'"):
        build.plan(build.read_recipe("frozen_lake_tiny", overrides=['alarms.stop=["gaps"]']))
