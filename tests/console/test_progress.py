"""What a terminal, or a log, shows of a run that goes on."""

import io

import pytest
from rich.console import Console

from lapwing.console import progress as module
from lapwing.console.live import BLOCKS, clock, drawn, sparkline
from lapwing.console.progress import Progress
from lapwing.console.state import RunState
from lapwing.training.heartbeat import Doing


def row(iteration, **more):
    """A row of the main stage: ten episodes of two tokens and a tenth of a second of learning in each iteration."""
    done = iteration + 1
    given = {
        "stage": "main",
        "iteration": iteration,
        "rollout/return_mean": 0.25 * iteration,
        "rollout/return_half_width": 0.125,
        "rollout/episodes": 10.0 * done,
        "rollout/steps": 10.0 * done,
        "rollout/tokens": 20.0 * done,
        "time/learning": 0.1 * done,
    }
    return {**given, **more}


def shown(state):
    console = Console(file=io.StringIO(), width=120, color_system=None)
    console.print(drawn(state, BLOCKS))
    return console.file.getvalue()


@pytest.fixture
def state():
    """The main stage after three of four iterations; it plays, and waits."""
    found = RunState(title="runs/mine")
    doing = Doing("main", "play", 12.0, "3 of 16 matches")
    found.take({"event": "stage", "stage": "main", "iterations": 4, "first": 0, "doing": lambda: doing})
    found.take({"event": "checkpoint", "stage": "main", "iteration": 2})
    for iteration in range(3):
        found.take(row(iteration, **({"evaluation/success": 0.5} if iteration == 1 else {})))
    return found


# Fails when one of them is left out, or the newest evaluation is forgotten with the row that brought it.
def test_the_display_has_stage_phase_return_speed_checkpoint_and_what_is_waited_for(state):
    text = shown(state)
    assert "main" in text
    assert "iteration 3/4" in text
    assert "playing" in text
    assert "return +0.500 ± 0.125  ▁▅█" in text
    assert "development success 0.500" in text
    # Ten episodes and twenty tokens in a tenth of a second.
    assert "100 episodes/s  200 tokens/s  30 episodes" in text
    assert "checkpoint 2 written 0 s ago" in text
    assert "waiting for 3 of 16 matches" in text


def test_the_time_that_is_left_is_that_of_the_newest_iterations(state, monkeypatch):
    # Two iterations took 10 s, so that the one that is left takes 5; 2 s of it are over.
    moments = [moment._replace(when=100.0 + 5.0 * at) for at, moment in enumerate(state.moments)]
    state.moments = tuple(moments)
    monkeypatch.setattr("lapwing.console.state.time.monotonic", lambda: 112.0)
    assert state.seconds_left() == pytest.approx(3.0)
    assert "about 3 s left" in shown(state)


def test_nothing_is_foretold_of_a_first_iteration():
    state = RunState(title="runs/mine")
    assert state.phase() == ("setting up", "")
    state.take({"event": "stage", "stage": "main", "iterations": 4, "first": 2})
    assert (state.done, state.speeds(), state.seconds_left()) == (2, None, None)
    state.take(row(2))
    assert state.seconds_left() is None
    assert state.speeds() == (pytest.approx(100.0), pytest.approx(200.0))


# Fails when the display asks a collector that is being replaced, and dies of it.
def test_a_session_that_cannot_answer_does_not_end_the_display(state):
    def fails():
        raise RuntimeError("dictionary changed size during iteration")

    state.doing = fails
    assert "iteration 3/4" in shown(state)


def test_the_next_stage_and_the_end_begin_anew(state):
    state.take({"event": "evaluation", "episodes": 500})
    assert "evaluating on 500 test matches" in shown(state)
    assert "left" not in shown(state)
    state.take({"event": "stage", "stage": "second", "iterations": 9})
    assert (state.returns, state.row, state.ending) == ((), {}, "")


def test_a_warm_start_shows_its_loss():
    state = RunState(title="x")
    state.take({"event": "stage", "stage": "warm_start", "iterations": 4})
    state.take(row(0, stage="warm_start", **{"update/loss": 1.25}))
    assert "loss 1.250" in shown(state)


@pytest.mark.parametrize(
    ("values", "bars"),
    [([], ""), ([3.0], "▁"), ([2.0, 2.0], "▁▁"), ([0.0, 0.5, 1.0], "▁▅█"), ([1.0, -1.0], "█▁")],
)
def test_sparklines(values, bars):
    assert sparkline(values, BLOCKS) == bars


def test_clocks():
    assert [clock(seconds) for seconds in (0.9, 59, 61, 3661)] == ["0 s", "59 s", "1:01", "1:01:01"]


# ---------------------------------------------------------------------------------------------------------------------
# Plain lines.


@pytest.fixture
def plain(monkeypatch, capsys):
    monkeypatch.setattr(module, "is_terminal", lambda: False)
    with Progress() as progress:
        yield progress, lambda: [line.partition("] ")[2] for line in capsys.readouterr().out.splitlines()]


def test_plain_lines_come_for_the_first_row_every_evaluation_and_the_last_row(plain):
    progress, lines = plain
    progress.greet("mine")
    progress.watch({"event": "stage", "stage": "main", "iterations": 5})
    for iteration in range(5):
        progress.watch(row(iteration, **({"evaluation/success": 0.5} if iteration == 2 else {})))
    assert lines() == [
        "lapwing: mine (loading the libraries takes a few seconds)",
        "main 1/5  return +0.00  10 episodes  100 steps/s",
        "main 3/5  return +0.50  development success 0.500  30 episodes  100 steps/s",
        "main 5/5  return +1.00  50 episodes  100 steps/s",
    ]


# Fails when an event that is not known, as one of a later version, is taken for a row of metrics.
def test_events_are_lines_and_those_for_displays_are_not(plain):
    progress, lines = plain
    progress.watch({"event": "checkpoint", "stage": "main", "iteration": 2})
    progress.watch({"event": "of another time"})
    progress.watch({"event": "of another time", "text": "but it says something"})
    progress.watch({"event": "waiting", "text": "main: play for 31 s"})
    progress.watch({"event": "fault", "stage": "main", "iteration": 4, "kind": "game", "text": "it broke"})
    assert lines() == ["but it says something", "waiting: main: play for 31 s", "main 5: game: it broke"]


# Fails when a display is drawn where nothing can draw.
@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_gets_plain_lines(monkeypatch, term, expected):
    from lapwing.console import lines

    class Tty(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(lines.sys, "stdout", Tty())
    assert lines.is_terminal() is expected
