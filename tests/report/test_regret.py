"""The chart of regret: its lines can be told apart, and none lies under another."""

import pytest

from lapwing.report import charts
from lapwing.report.regret import regret_figures
from lapwing.report.verdict import ORACLES


def policy(end):
    curve = [{"step": step, "mean": end * step, "low": end * step - 0.1, "high": end * step + 0.1} for step in (1, 2)]
    return {"regret_curve": curve}


def drawn(monkeypatch, **policies):
    """The lines that are given to the chart."""
    lines = []
    whole = charts.line_chart
    monkeypatch.setattr(
        charts,
        "line_chart",
        lambda name, title, series, **more: lines.extend(series) or whole(name, title, series, **more),
    )
    assert len(regret_figures({"policies": policies})) == 1
    return lines


def test_no_two_lines_look_alike(monkeypatch):
    names = ["trained", "trained_greedy", "untrained", "random", "heuristic", *ORACLES]
    lines = drawn(monkeypatch, **{name: policy(1 + number) for number, name in enumerate(names)})
    assert len(lines) == len(names) == 10
    assert len({(line.colour, line.marker) for line in lines}) == 10


@pytest.mark.parametrize(("lin_ucb", "shown"), [(2, ["trained", "LinUCB"]), (4, ["trained", "heuristic", "LinUCB"])])
def test_a_heuristic_that_is_a_named_player_is_drawn_once(monkeypatch, lin_ucb, shown):
    lines = drawn(monkeypatch, trained=policy(1), heuristic=policy(2), lin_ucb=policy(lin_ucb))
    assert [line.label for line in lines] == shown
