import pytest

from lapwing.console import show_evaluation
from lapwing.report.verdict import (
    headline_metric,
    interval_text,
    margins,
    matches,
    number,
    part_table,
    reference_notes,
    signed,
    table_rows,
    verdict,
)

ONE_SEED = "this is one training seed, and only further seeds show whether training does it again."


def test_a_difference_above_0_is_an_improvement(make_evaluation):
    #   0.84 ± √(0.02² + 0.02²)
    said = verdict(make_evaluation(trained=0.9, untrained=0.06, random=0.03, heuristic=0.66, optimal=1.0))
    assert said.improved is True
    assert said.metric == "success"
    assert said.difference == pytest.approx(0.84)
    assert said.interval == pytest.approx((0.84, 0.84 - 0.0008**0.5, 0.84 + 0.0008**0.5))
    assert said.sentence == (
        "Improved: success rose from 0.060 [0.040, 0.080] to 0.900 [0.880, 0.920] (+0.840 [0.812, 0.868]; 95 % "
        "intervals) over 500 test matches of frozen_lake, beside random 0.030, heuristic 0.660 and optimal 1.000; "
        f"{ONE_SEED}"
    )


def test_a_difference_that_may_be_0_shows_no_improvement_however_large_the_mean(make_evaluation):
    #   0.028 < √(0.02² + 0.02²)
    said = verdict(make_evaluation(trained=0.538, untrained=0.51))
    assert said.improved is False
    assert said.sentence == (
        "No improvement shown: success was 0.510 [0.490, 0.530] before and 0.538 [0.518, 0.558] after (+0.028 "
        f"[0.000, 0.056]; 95 % intervals) over 500 test matches of frozen_lake; {ONE_SEED}"
    )
    # The intervals of the two still overlap here.
    assert verdict(make_evaluation(trained=0.539, untrained=0.51)).improved is True


def test_a_difference_that_touches_0_shows_no_improvement(make_evaluation):
    # Fails when "above" is read as "not below".
    evaluation = make_evaluation(trained=0.5, untrained=0.5)
    evaluation["policies"]["trained"]["success"] = {"mean": 0.75, "low": 0.5, "high": 0.8}
    evaluation["policies"]["untrained"]["success"] = {"mean": 0.5, "low": 0.4, "high": 0.5}
    assert verdict(evaluation).improved is False


def test_greedy_decoding_is_beside_the_others_and_every_one_has_its_margin(make_evaluation):
    evaluation = make_evaluation(trained=0.9, trained_greedy=0.95, untrained=0.06, random=0.03, optimal=1.0, house=0.5)
    assert "frozen_lake, with greedy decoding 0.950, beside random 0.030 and" in verdict(evaluation).sentence
    assert margins(evaluation) == [
        ("untrained", "+0.840 [0.812, 0.868]"),
        ("greedy", "-0.050 [-0.078, -0.022]"),
        ("random", "+0.870 [0.842, 0.898]"),
        ("optimal", "-0.100 [-0.128, -0.072]"),
    ]
    assert margins(make_evaluation(untrained=0.1, random=0.1)) == []


def test_a_difference_below_0_is_said_plainly(make_evaluation):
    said = verdict(make_evaluation(trained=0.1, untrained=0.5, random=0.3))
    assert said.improved is False
    assert said.heading == "Got worse"
    assert said.sentence.startswith(
        "Got worse: success fell from 0.500 [0.480, 0.520] to 0.100 [0.080, 0.120] (-0.400 [-0.428, -0.372]; 95 % "
        "intervals) over 500 test matches of frozen_lake, beside random 0.300;"
    )


def test_an_improvement_that_does_not_pass_random_play_is_not_praised(make_evaluation):
    assert (
        "is not clearly above random play" in verdict(make_evaluation(trained=0.3, untrained=0.1, random=0.3)).sentence
    )
    assert "random play" not in verdict(make_evaluation(trained=0.3, untrained=0.1, random=0.2)).sentence


def test_without_random_play_a_guess_is_the_floor(make_evaluation):
    #   0.02 < √(0.02² + 0.02²)
    said = verdict(make_evaluation(trained=0.3, untrained=0.1, guess=0.28, heuristic=1.0)).sentence
    assert "beside guess 0.280 and heuristic 1.000, and is not clearly above guessing;" in said
    assert "guessing" not in verdict(make_evaluation(trained=0.3, untrained=0.1, guess=0.2)).sentence
    # Where both were played, random play is the floor.
    both = verdict(make_evaluation(trained=0.3, untrained=0.1, random=0.1, guess=0.3)).sentence
    assert "clearly above" not in both
    assert "beside random 0.100 and guess 0.300" in both


@pytest.mark.parametrize(
    ("has", "metric"),
    [({"success": True, "score": True}, "success"), ({"success": False, "score": True}, "score"),
     ({"success": False, "score": False}, "return")],
    ids=["success first", "else the score", "else the return"],
)  # fmt: skip
def test_the_verdict_is_about_the_first_measure_that_the_game_has(make_evaluation, has, metric):
    evaluation = make_evaluation(trained=0.9, untrained=0.1, **has)
    assert headline_metric(evaluation) == metric
    assert verdict(evaluation).sentence.startswith(f"Improved: {metric} rose from ")


@pytest.mark.parametrize(
    ("means", "lacking"), [({"trained": 0.9}, "untrained"), ({"untrained": 0.9}, "trained"), ({}, "trained")]
)
def test_without_two_policies_there_is_no_verdict(make_evaluation, means, lacking):
    said = verdict(make_evaluation(**means))
    assert said.improved is None
    assert said.difference is None
    assert f"has no {lacking} policy" in said.sentence


def test_where_nobody_ever_failed_the_verdict_is_about_the_return(make_evaluation):
    evaluation = make_evaluation(trained=1.0, untrained=1.0)
    for name, mean in (("trained", 7.9), ("untrained", -63.5)):
        evaluation["policies"][name]["return"] = {"mean": mean, "low": mean - 1.0, "high": mean + 1.0}
    said = verdict(evaluation)
    assert (said.metric, said.improved) == ("return", True)
    # One failure before or after, and it is about success again.
    evaluation["policies"]["trained"]["success"]["mean"] = 0.998
    assert verdict(evaluation).metric == "success"


def test_one_match_is_one_match(make_evaluation):
    evaluation = make_evaluation(trained=0.9, untrained=0.1) | {"episodes": 1}
    assert "over 1 test match of frozen_lake" in verdict(evaluation).sentence


def test_the_table_has_the_measures_that_exist_in_one_order(make_evaluation):
    evaluation = make_evaluation(optimal=1.0, untrained=0.1, trained=0.9, house=0.5)
    rows = table_rows(evaluation)
    assert [row.policy for row in rows] == ["trained", "untrained", "optimal", "house"]
    assert [row.label for row in table_rows(make_evaluation(heuristic=1.0, guess=0.3))] == [
        "guess (no call)",
        "heuristic",
    ]
    assert [list(row.cells) for row in rows] == [["success", "return", "length", "valid", "tokens/step"]] * 4
    assert rows[0].cells["success"] == "0.900 [0.880, 0.920]"
    assert rows[0].cells["length"] == "6.00"


def test_a_measure_that_only_some_policies_have_is_a_dash_for_the_others(make_evaluation):
    evaluation = make_evaluation(trained=0.9, random=0.1)
    evaluation["policies"]["random"]["success"] = None
    del evaluation["policies"]["random"]["valid"]
    _, random = table_rows(evaluation)
    assert random.cells["success"] == "–"
    assert random.cells["valid"] == "–"


def test_references_are_rows_below_the_policies_with_a_return_only(make_evaluation):
    evaluation = make_evaluation(trained=0.9, random=0.1)
    assert reference_notes(evaluation) == []
    evaluation["references"] = {
        "null_ceiling": {"return": 0.25, "source": "no-op and others"},
        "best_known": {"return": 11.83, "source": "the heuristic"},
        "something of a later version": {},
    }
    rows = table_rows(evaluation)
    assert [row.label for row in rows] == ["trained", "random", "best known", "null ceiling"]
    assert {tuple(row.cells) for row in rows} == {tuple(rows[0].cells)}
    assert set(rows[2].cells.values()) == {"11.830", "–"}
    assert rows[3].cells["return"] == "0.250"
    assert reference_notes(evaluation) == ["best known: the heuristic", "null ceiling: no-op and others"]


def test_games_of_several_players_name_the_others(make_evaluation):
    evaluation = make_evaluation(trained=0.9, untrained=0.1)
    alone = matches(evaluation)
    assert matches(evaluation | {"opponents": {}}) == alone
    assert matches(evaluation | {"opponents": {"1": "random"}}) == f"{alone} against random"
    assert matches(evaluation | {"opponents": {"1": "random", "2": "random"}}) == f"{alone} against random"
    three = {"1": "random", "2": "heuristic", "3": "random"}
    assert matches(evaluation | {"opponents": three}) == (
        f"{alone} against random (seat 1), heuristic (seat 2) and random (seat 3)"
    )
    assert f"over {alone} against scripted; " in verdict(evaluation | {"opponents": {"1": "scripted"}}).sentence


def test_numbers_are_written_for_people():
    assert number(-0.0001) == "0.000"
    assert number(12_345.678) == "12,345.7"
    assert signed(0.25) == "+0.250"
    assert signed(-0.25) == "-0.250"
    assert interval_text({"mean": -1.5, "low": -2.0, "high": -1.0}) == "-1.500 [-2.000, -1.000]"


@pytest.fixture
def with_parts(make_evaluation):
    """The trained policy has two parts, a guess one of them, and the untrained one none."""
    evaluation = make_evaluation(guess=0.1, untrained=0.1, trained=0.9)
    evaluation["policies"]["trained"]["parts"] = {
        "tool_execution": {"mean": 0.997, "low": 0.99, "high": 1.0},
        "tags": {"mean": -2.0, "low": -2.5, "high": -1.5},
    }
    evaluation["policies"]["guess"]["parts"] = {"tool_execution": {"mean": 0.0, "low": 0.0, "high": 0.0}}
    evaluation["policies"]["untrained"]["parts"] = {}
    return evaluation


def test_the_parts_of_the_reward_are_rows_and_the_policies_columns(with_parts):
    table = part_table(with_parts)
    assert table == (
        ["reward part", "trained", "untrained", "guess (no call)"],
        [
            ["tool_execution", "0.997 [0.990, 1.000]", "–", "0.000 [0.000, 0.000]"],
            ["tags", "-2.000 [-2.500, -1.500]", "–", "–"],
        ],
    )


def test_without_parts_there_is_no_such_table(make_evaluation):
    # An evaluation of an older run has no such key at all.
    assert part_table(make_evaluation(trained=0.9)) is None
    evaluation = make_evaluation(trained=0.9)
    evaluation["policies"]["trained"]["parts"] = {}
    assert part_table(evaluation) is None


def test_the_terminal_shows_the_parts_in_a_table_of_their_own(with_parts, make_evaluation, capsys):
    show_evaluation(with_parts)
    said = capsys.readouterr().out
    lines = [line.split("  ")[0].strip() for line in said.splitlines()]
    assert lines.index("policy") < lines.index("reward part") < lines.index("tool_execution") < lines.index("tags")
    assert "0.997 [0.990, 1.000]" in said
    show_evaluation(make_evaluation(trained=0.9, untrained=0.1))
    assert "reward part" not in capsys.readouterr().out
