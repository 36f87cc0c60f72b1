"""Lines of a log with their intervals, alarms, and the charts that they are drawn in."""

import re

import numpy as np
import pytest

from lapwing.report.alarm_marks import alarm_marks, alarm_words
from lapwing.report.figures import curves
from lapwing.report.series import Log, Marks, evaluated, logged
from lapwing.stats.wilson import wilson


def rows(n=3, **columns):
    names = {name.replace("__", "/"): value for name, value in columns.items()}
    found = [{"stage": "main", "iteration": i} for i in range(n)]
    for name, values in names.items():
        for one, value in zip(found, values, strict=True):
            if value is not None:
                one[name] = value
    return found


def test_a_share_has_wilson_s_interval_over_the_episodes_of_its_own_iteration():
    # 10, 30 and 60 episodes; the second iteration logged no success.
    found = rows(rollout__episodes=[10, 40, 100], rollout__success=[0.5, None, 0.25])
    (one,) = logged(found, "rollout/episodes", "rollout/success", "training")
    np.testing.assert_array_equal(one.x, [10, 100])
    assert one.low is not None
    assert one.high is not None
    np.testing.assert_allclose(one.low, [wilson(5, 10).low, wilson(15, 60).low])
    np.testing.assert_allclose(one.high, [wilson(5, 10).high, wilson(15, 60).high])


def test_a_width_that_is_logged_is_taken():
    found = rows(2, rollout__return_mean=[1.0, 2.0], rollout__return_half_width=[0.5, 0.25])
    (one,) = logged(found, "iteration", "rollout/return_mean", "training")
    assert one.low is not None
    assert one.low.tolist() == [0.5, 1.75]
    share = rows(2, rollout__success=[0.25, 0.9], rollout__success_half_width=[0.5, 0.2])
    (of_share,) = logged(share, "iteration", "rollout/success", "training")
    assert of_share.low is not None
    assert of_share.high is not None
    assert (of_share.low.tolist(), of_share.high.tolist()) == ([0.0, pytest.approx(0.7)], [0.75, 1.0])
    found[1].pop("rollout/return_half_width")
    assert logged(found, "iteration", "rollout/return_mean", "training")[0].low is None


def test_rows_without_a_number_are_left_out_and_none_at_all_is_no_line():
    found = rows(policy__entropy=[1.0, float("nan"), None])
    (one,) = logged(found, "iteration", "policy/entropy", "entropy")
    assert (one.x.tolist(), one.y.tolist()) == ([0.0], [1.0])
    assert logged(found, "iteration", "policy/kl", "kl") == []


def test_development_matches_have_the_bounds_that_are_logged_else_wilson_s():
    bounds = {"evaluation/score_low": 1.5, "evaluation/score_high": 2.5}
    (one,) = evaluated(Log([{**rows(1)[0], "evaluation/score": 2.0, **bounds}]), "iteration", "evaluation/score", "x")
    assert one.low is not None
    assert one.low[0] == 1.5
    found = rows(1, evaluation__success=[0.5])
    (one,) = evaluated(Log(found, development_episodes=20), "iteration", "evaluation/success", "x")
    assert one.low is not None
    assert one.low[0] == wilson(10, 20).low
    assert evaluated(Log(found), "iteration", "evaluation/success", "x")[0].low is None


# ---- Alarms ----------------------------------------------------------------------------------------------------------


def test_limits_are_those_that_the_row_was_held_against():
    found = rows(5, rollout__tokens_per_step=[2.0, 4.0, 6.0, 6.0, 6.0], policy__gap=[0.0] * 5)
    limits = alarm_marks(found, {"window": 2, "growth": 3.0, "gap": 0.5}, []).limits
    # The level settles after two rows, at 3; a length forgets as 1 / 10, and as a mean before: 4, 4.5.
    x, limit = limits["rollout/tokens_per_step"]
    np.testing.assert_allclose(x, [2, 3, 4])
    np.testing.assert_allclose(limit, [9.0, 12.0, 13.5])
    np.testing.assert_allclose(limits["policy/gap"][1], [0.5] * 5)


def test_alarms_that_are_off_or_not_known_have_no_limit():
    assert "policy/gap" not in alarm_marks(rows(), {"off": ["gap"]}, []).limits
    assert alarm_marks(rows(), None, []) == Marks({}, {})
    assert alarm_marks(rows(), {"gap": -1.0}, []) == Marks({}, {})
    assert alarm_marks(rows(), {"of_another_version": 1}, []) == Marks({}, {})


def test_an_alarm_is_marked_where_it_was_raised_and_said():
    fault = {"stage": "main", "iteration": 7, "kind": "alarm", "alarm": "gap", "text": "…"}
    found = alarm_marks(rows(), {}, [fault, fault | {"stage": "warm_start"}, fault | {"alarm": "of_another_version"}])
    assert found.raised == {"policy/gap": [7.0]}
    log = Log(rows(), alarms=found)
    assert alarm_words(log, "policy/gap") == (
        " Alarm above 0.05 (dashed red, where in sight). Full red lines: an alarm was raised."
    )
    assert alarm_words(log, "rollout/top_action").endswith("unless the return is better than at the start.")
    assert alarm_words(log, "policy/kl") == ""


# ---- Charts ----------------------------------------------------------------------------------------------------------


def drawn(found, **settings):
    return {figure.name: figure for figure in curves(Log(found, **settings))}


def test_the_limit_of_an_alarm_does_not_flatten_what_is_held_against_it():
    found = rows(policy__entropy=[1.0, 1.1, 1.0])
    plain = drawn(found)["entropy"].svg
    marks = alarm_marks(found, {"window": 1}, [])
    assert marks.limits["policy/entropy"][1].tolist() == [0.05, 0.05]
    marked = drawn(found, alarms=marks)["entropy"].svg
    ticks = [re.findall(r">([\d.]+)</text>", svg) for svg in (plain, marked)]
    assert ticks[0] == ticks[1] != []
    assert "var(--worse)" in marked
    assert "var(--worse)" not in plain


def test_critics_are_drawn_together_and_named():
    names = ("critic/v_low_explained_variance", "critic/v_high_explained_variance", "critic/v_low_loss")
    found = [{**row, **dict.fromkeys(names, 0.5)} for row in rows()]
    figures = drawn(found)
    assert set(figures) >= {"critic-variance", "critic-loss"}
    assert ">v_low<" in figures["critic-variance"].svg
    assert ">v_high<" in figures["critic-variance"].svg
    assert figures["critic-loss"].caption.endswith("Head: v_low.")


def test_parts_of_training_are_lines_and_those_of_development_marks():
    name = "part:exact_match"
    found = rows(3, rollout__episodes=[1, 2, 3])
    for row in found:
        row[f"rollout/{name}"] = 0.5
    found[-1][f"evaluation/{name}"] = 0.25
    figure = drawn(found)["parts"]
    assert ">exact_match<" not in figure.svg  # two lines of one name need no legend
    assert figure.caption.endswith(
        "lines: of the training episodes, marks: on the development matches. The part: exact_match."
    )
    found = [{key: value for key, value in row.items() if "rollout/part" not in key} for row in found]
    assert "lines:" not in drawn(found)["parts"].caption


def test_time_is_shared_out_and_checkpoints_are_named():
    found = rows(2, time__play=[1.0, 3.0], time__update=[1.0, 1.0], time__checkpoint=[None, 0.5])
    figures = drawn(found, seconds={"total": 50.0})
    assert figures["time"].caption.endswith(" Checkpoints took 1.0 % of the wall time (0.5 of 50.0 s).")
    for text in ("playing", "updating", "checkpoints"):
        assert f">{text}<" in figures["time-share"].svg
    assert ">credit<" not in figures["time-share"].svg
    # A run that goes on has no total yet.
    assert "(0.5 of 6.5 s)" in drawn(found)["time"].caption


@pytest.mark.parametrize("n", [1, 2, 500])
def test_any_number_of_iterations_can_be_shared_out(n):
    assert "time-share" in drawn(rows(n, time__play=[1.0] * (n - 1) + [0.0]) if n > 1 else rows(1, time__play=[1.0]))


def test_a_band_is_said_to_be_of_one_iteration():
    columns = {"rollout__episodes": [10, 20, 30], "rollout__success": [0.1, 0.2, 0.3]}
    said = drawn(rows(**columns))["success-by-episodes"].caption
    assert "Band: 95 % interval of a single iteration, its episodes taken for independent." in said
    said = drawn(rows(**columns, rollout__success_half_width=[0.1] * 3))["success-by-episodes"].caption
    assert "Band: 95 % interval of a single iteration." in said
