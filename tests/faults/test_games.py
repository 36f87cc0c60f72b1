"""Games that raise, hang, crash, leak and lie: their matches fail, and nothing else does."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fault_games import (
    ByTheClock,
    ByTheHash,
    Crawls,
    Doom,
    Forever,
    Handle,
    Leaks,
    Pays,
    SetsGlobalChance,
    Shows,
    ShowsItsProcess,
    Walk,
)

from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import GameError, LapwingError, UserError
from lapwing.core.types import Match
from lapwing.games.contract import check_game
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Heuristic, LegalRandom
from lapwing.rollout.arena import Here, initial_state
from lapwing.rollout.collector import LocalCollector
from lapwing.rollout.isolated import IsolatedCollector
from lapwing.rollout.play import play

SOAK = bool(os.environ.get("LAPWING_SOAK"))


def matches_of(game, groups=6, members=2, max_steps=12):
    return [
        Match(game=game, seed=4, split="train", iteration=0, group=group, member=member, max_steps=max_steps)
        for group in range(groups)
        for member in range(members)
    ]


def who(group):
    """The walker of a group."""
    return initial_state(matches_of(Walk(), groups=group + 1)[-1]).who


def told(episode):
    """All that an episode says, but not which game it was of."""
    steps = [
        (s.view, s.action, s.reward, s.domain_reward, s.view_key, s.action_key, s.next_view_key, s.steps_left)
        for s in episode.steps
    ]
    return (episode.match.identifier, steps, episode.final_view, episode.success, episode.terminated)


def told_of_all(episodes, without=()):
    return [told(episode) for episode in episodes if episode.match.group not in without]


def local(**settings):
    return LocalCollector(LegalRandom(), invalid=InvalidRule(), **settings)


@contextlib.contextmanager
def isolated(policy=None, **settings):
    given = {"workers": 2, "step_seconds": 20.0, **settings}
    with IsolatedCollector(LocalCollector(policy or LegalRandom(), invalid=InvalidRule()), **given) as collector:
        yield collector
    assert session_count() == 0


def session_count():
    """How many processes of workers there are."""
    found = 0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text("ascii").rpartition(")")[2].split()[1])
            found += parent == os.getpid() and b"game_worker" in (process / "cmdline").read_bytes()
    return found


def balanced(ledger):
    ledger.audit()
    return ledger.issued == ledger.finished + ledger.failed + ledger.dropped


def alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text("ascii").split()[2] != "Z"
    except OSError:
        return False


def dies(process, seconds):
    end = time.monotonic() + seconds
    while alive(process) and time.monotonic() < end:
        time.sleep(0.01)
    return not alive(process)


CALM = told_of_all(local().play(matches_of(Walk())))


# ---- F28: a game raises ------------------------------------------------------------------------------------------

RAISING = ["fail@initial", "fail@players", "fail@view", "fail@legal", "fail", "end_the_program", "fail_without_words"]
RAISING += ["return_rubbish"]


# Fails when an exception of a game leaves `play`, or when the others go another way without the match that failed.
@pytest.mark.parametrize("kind", RAISING)
def test_f28_a_game_that_raises_costs_its_match_and_nothing_else(kind):
    step = 0 if kind in ("fail@initial", "fail@players", "fail@view", "fail@legal") else 1
    collector = local()
    episodes = collector.play(matches_of(Walk(dooms=(Doom(who(3), step, kind),))))
    assert told_of_all(episodes) == [one for one in CALM if not one[0].startswith("train/0/3/")]
    ledger = collector.ledger
    assert balanced(ledger)
    assert (ledger.issued, ledger.finished, ledger.failed, ledger.reissued) == (12, 10, 2, 2)
    faults = collector.take_faults()
    assert collector.take_faults() == []
    assert [fault["match"] for fault in faults] == ["train/0/3/0", "train/0/3/1"]
    assert {fault["kind"] for fault in faults} == {"game"}
    assert all((fault["step"] is None) == (step == 0) for fault in faults)
    assert all(fault["text"].startswith("Walk failed") and "\x1b" not in fault["text"] for fault in faults)
    assert all("suffer" in fault["traceback"] or kind == "return_rubbish" for fault in faults)
    json.dumps(faults)
    # The ledger goes on to be right.
    collector.play(matches_of(Walk()))
    assert (ledger.issued, ledger.finished, ledger.failed) == (24, 22, 2)
    assert ledger.take() == {"rollout/failed": 2, "rollout/dropped": 0, "rollout/reissued": 2}
    assert ledger.take() == {"rollout/failed": 0, "rollout/dropped": 0, "rollout/reissued": 0}


# Fails when a match is given up at the first error.
@pytest.mark.parametrize("kind", RAISING)
@pytest.mark.parametrize("game", [Walk, Handle])
def test_f28_a_game_that_raises_once_is_asked_once_more(kind, game, tmp_path):
    collector = local()
    # Between the two, a game that is not restorable is played again from its start.
    doomed = game(dooms=(Doom(who(3), 0 if "@" in kind else 1, kind),), folder=str(tmp_path))
    assert told_of_all(collector.play(matches_of(doomed))) == CALM
    assert (collector.ledger.reissued, collector.ledger.failed) == (1, 0)
    assert collector.take_faults() == []


# Fails when a game that goes another way is taken up where it never was.
def test_f28_a_match_that_cannot_be_repeated_is_given_up(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Moody(Handle):
        def step(self, state, actions, rng):
            self.memory["steps"] = self.memory.get("steps", 0) + 1
            transition = Handle.step(self, state, actions, rng)
            state.inner = dataclasses.replace(state.inner, place=self.memory["steps"])
            return transition

    game = Moody(length=30, dooms=(Doom(who(0), 3, "fail"),), folder=str(tmp_path))
    collector = local()
    assert len(collector.play(matches_of(game, groups=1, members=1) + matches_of(Walk(), groups=1, members=1))) == 1
    (fault,) = collector.take_faults()
    assert "went another way when the match was played again" in fault["text"]


def test_f28_without_a_collector_the_error_is_raised():
    with pytest.raises(GameError, match="Walk failed in step 0: ValueError: the dice are gone") as caught:
        play(matches_of(Walk(dooms=(Doom(who(0), 0, "fail"),))), {0: LegalRandom()})
    assert isinstance(caught.value.__cause__, ValueError)


# Fails when what the user did wrong is counted as a fault of the game.
def test_f28_a_user_error_of_a_game_ends_the_run():
    @dataclasses.dataclass(frozen=True)
    class Unset(Walk):
        def step(self, state, actions, rng):
            raise UserError("game.path names no file.")

    with pytest.raises(UserError, match=r"^game.path names no file.$"):
        local().play(matches_of(Unset()))


# Fails when a group that failed leaves a hole, or a reward of 0, in the batch.
def test_f28_what_failed_is_in_no_batch():
    batch = local().collect(matches_of(Walk(dooms=(Doom(who(3), 1, "fail"),)))).batch
    assert batch.num_episodes == 10
    assert len(np.unique(batch.group)) == 5


# Fails when the breaker waits for ever.
def test_f28_too_many_failures_stop_with_the_first_traceback():
    with pytest.raises(LapwingError, match=r"(?s)All 12 matches failed .*Walk failed in step 0: .*in suffer"):
        local().collect(matches_of(Walk(dooms=tuple(Doom(who(group), 0, "fail") for group in range(6)))))
    collector = local()
    bad = matches_of(Walk(dooms=tuple(Doom(who(group), 0, "fail") for group in range(4))))
    for _ in range(8):
        collector.collect(bad)  # 8 of 12, but not yet 100 in all
    with pytest.raises(LapwingError, match=r"6\d of the last 100 matches failed"):
        collector.collect(bad)
    assert balanced(collector.ledger)


# ---- F29, F30, F32, F38: a process that hangs, dies, has children, answers late ----------------------------------


# Fails when a killed worker's other matches are lost, or go another way than they would have gone.
@pytest.mark.parametrize("game", [Walk, Handle])
def test_f29_f30_every_way_to_lose_a_process_costs_nothing_when_it_happens_once(game, tmp_path):
    kinds = ["segfault", "kill", "leave", "hang", "fail", "print_a_lot", "come_back_twice"]
    dooms = tuple(Doom(who(n), n % 3, kind) for n, kind in enumerate(kinds))
    calm = told_of_all(local().play(matches_of(game(), groups=8)))
    with isolated(step_seconds=1.0) as collector:
        episodes = collector.play(matches_of(game(dooms=dooms, folder=str(tmp_path)), groups=8))
        assert told_of_all(episodes) == calm
        assert collector.metrics["collector/deaths"] == 4
        assert collector.take_faults() == []
    assert collector.ledger.finished == 16
    assert collector.ledger.reissued >= 5
    assert balanced(collector.ledger)


# Fails when the match that a process died over is given out for ever, or when exit code 0 is no death.
def test_f30_a_match_that_kills_every_process_is_given_up():
    dooms = (Doom(who(1), 1, "segfault"), Doom(who(4), 0, "leave"))
    with isolated() as collector:
        episodes = collector.play(matches_of(Walk(dooms=dooms)))
        assert told_of_all(episodes) == [one for one in CALM if one[0][:9] not in ("train/0/1", "train/0/4")]
        faults = collector.take_faults()
        assert collector.metrics["collector/deaths"] == 8
    assert sorted(fault["match"] for fault in faults) == ["train/0/1/0", "train/0/1/1", "train/0/4/0", "train/0/4/1"]
    texts = {fault["match"]: fault for fault in faults}
    assert "its worker process died (SIGSEGV)" in texts["train/0/1/0"]["text"]
    assert "in segfault" in texts["train/0/1/0"]["traceback"]
    assert "(exit code 0)" in texts["train/0/4/1"]["text"]
    assert (collector.ledger.failed, collector.ledger.finished) == (4, 8)
    assert balanced(collector.ledger)


# Fails when the deadline needs the game's cooperation, or when the hanging process lives on.
@pytest.mark.parametrize("kind", ["hang", "hang_in_c"])
def test_f29_a_game_that_hangs_is_killed_at_its_deadline(kind):
    with isolated(step_seconds=0.5) as collector:
        collector.play(matches_of(Walk(), groups=2))  # the workers are there
        started = time.monotonic()
        episodes = collector.play(matches_of(Walk(dooms=(Doom(who(0), 1, kind),)), members=1))
        seconds = time.monotonic() - started
        (fault,) = collector.take_faults()
    assert told_of_all(episodes) == [one for one in CALM if one[0].endswith("/0") and one[0] != "train/0/0/0"]
    assert session_count() == 0
    # Twice 0.5 s, and the start of two processes.
    assert seconds < 2 * (0.5 + 2.0)
    assert "gave no answer within step_seconds = 0.5 and was killed" in fault["text"]
    assert f"in {kind}" in fault["traceback"]
    assert collector.ledger.reissued >= 1


# Fails when only the worker is killed and not its process group.
@pytest.mark.parametrize("ending", ["killed", "closed"])
def test_f32_the_children_of_a_game_die_with_it(ending, tmp_path):
    game = Walk(dooms=(Doom(who(0), 0, "hang_with_children"),), folder=str(tmp_path))
    with isolated(step_seconds=1.0 if ending == "killed" else 30.0) as collector:
        if ending == "killed":
            assert len(collector.play(matches_of(game))) == 12
        else:

            def stop():
                if (tmp_path / "child").is_file() and (tmp_path / "child").read_text("ascii"):
                    raise KeyboardInterrupt

            collector.safe_point = stop
            with pytest.raises(KeyboardInterrupt):
                collector.play(matches_of(game))
        assert dies(int((tmp_path / "child").read_text("ascii")), seconds=2)
    assert balanced(collector.ledger)


# Fails when the guard of a worker does not end the session: see also F5.
def test_f32_the_workers_and_their_children_die_with_the_trainer(tmp_path):
    program = f"""
import sys, threading
sys.path[:0] = [{str(Path(__file__).parent)!r}]
from fault_games import Doom, Walk
from test_games import isolated, matches_of, who
with isolated(step_seconds=100.0) as collector:
    collector.play(matches_of(Walk(dooms=(Doom(who(0), 0, "hang_with_children"),), folder={str(tmp_path)!r})))
"""
    with subprocess.Popen([sys.executable, "-c", program]) as trainer:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (tmp_path / "child").is_file() and trainer.poll() is None:
            time.sleep(0.02)
        time.sleep(0.2)
        child = int((tmp_path / "child").read_text("ascii"))
        assert alive(child)
        trainer.kill()
    assert dies(child, seconds=5)


# Fails when answers are taken by their order and not by the number of the task.
def test_f38_late_and_repeated_answers_are_dropped_and_counted():
    dooms = tuple(Doom(who(n), 1, "answer_twice") for n in range(3))
    with isolated() as collector:
        assert told_of_all(collector.play(matches_of(Walk(dooms=dooms)))) == CALM
        assert collector.metrics["collector/duplicates"] >= 2 * 3 * 2
        assert collector.metrics["collector/deaths"] == 0
    assert (collector.ledger.finished, collector.ledger.reissued) == (12, 0)


# Fails when a worker that is 50 times slower than the other is waited for in every round.
def test_f39_a_worker_that_lags_behind_is_replaced(tmp_path):
    seconds = []
    calm = told_of_all(local().play(matches_of(Walk())))
    with isolated() as collector:
        for _ in range(3):
            started = time.monotonic()
            assert told_of_all(collector.play(matches_of(Crawls(folder=str(tmp_path))))) == calm
            seconds.append(time.monotonic() - started)
        assert collector.metrics["collector/slow"] == 1
        assert collector.metrics["collector/deaths"] == 0
    assert balanced(collector.ledger)
    # 3 rounds of 6 matches at 20 ms each are slow, and none after that.
    assert min(seconds[1:]) < 0.3


# ---- F31, F40 and the limits -------------------------------------------------------------------------------------


# Fails when memory is never looked at.
def test_f31_a_game_that_leaks_has_its_worker_replaced():
    game = Leaks(length=4, mebibytes=8)
    with isolated(workers=1, memory_mb=90.0) as collector:
        assert len(collector.play(matches_of(game, groups=2))) == 4
        assert collector.metrics["collector/recycled"] >= 3
        assert collector.metrics["collector/deaths"] == 0
    assert (collector.ledger.finished, collector.ledger.failed) == (4, 0)


def test_f31_a_step_that_takes_all_memory_fails_alone():
    game = Walk(dooms=(Doom(who(1), 0, "take_all_memory"),))
    with isolated(workers=1, memory_mb=200.0) as collector:
        assert told_of_all(collector.play(matches_of(game))) == [o for o in CALM if not o[0].startswith("train/0/1/")]
        assert all("MemoryError" in fault["text"] for fault in collector.take_faults())
    assert collector.ledger.failed == 2


def test_f31_a_limit_below_what_a_worker_needs_is_refused():
    with isolated(memory_mb=5.0) as collector, pytest.raises(UserError, match=r"holds \d+ MiB .*memory_mb = 5; raise"):
        collector.play(matches_of(Walk()))


# Fails when workers are started again and again.
@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "raise ImportError('no libdice.so')",
            r"(?s)No worker process can load Dice: ImportError: no libdice\.so.*line",
        ),
        (
            "import os; print('bad dice'); os._exit(3)",
            r"(?s)3 worker processes of Dice ended before .*bad dice.*code 3",
        ),
    ],
    ids=["raises", "exits"],
)
def test_f40_workers_that_all_die_at_their_start_stop_the_run(what, message, tmp_path, monkeypatch):
    module = tmp_path / "broken_dice.py"
    module.write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    {what}\n"
        "from fault_games import Walk\nclass Dice(Walk):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import broken_dice  # pyright: ignore[reportMissingImports]

    started = time.monotonic()
    try:
        with isolated() as collector, pytest.raises(LapwingError, match=message):
            collector.play(matches_of(broken_dice.Dice()))
    finally:
        del sys.modules["broken_dice"]
    assert time.monotonic() - started < 30
    assert balanced(collector.ledger)


def test_f40_too_many_deaths_stop_the_run():
    dooms = tuple(Doom(who(n), 0, "segfault") for n in range(6))
    with isolated(max_deaths=2) as collector:
        with pytest.raises(
            LapwingError, match=r"(?s)3 worker processes of Walk were lost .*first one: .*SIGSEGV.*segfault"
        ):
            collector.play(matches_of(Walk(dooms=dooms)))
        assert balanced(collector.ledger)
        # It can be used again.
        assert told_of_all(collector.play(matches_of(Walk()))) == CALM


# ---- F33, F34, F35: rewards, views, ends -------------------------------------------------------------------------

REWARDS = {
    "nan": float("nan"),
    "inf": float("inf"),
    "minus inf": float("-inf"),
    "1e300": 1e300,
    "none": None,
    "text": "1.0",
    "array": "array",
    "bool": True,
    "above its range": 1.5,
}


# Fails when any of them gets into a batch.
@pytest.mark.parametrize("reward", REWARDS.values(), ids=REWARDS.keys())
def test_f33_a_reward_that_is_none_fails_its_match(reward):
    collector = local()
    good, bad = matches_of(Walk(), groups=2), matches_of(Pays(payload=reward), groups=2)
    batch = collector.collect([*good, *[dataclasses.replace(match, iteration=1) for match in bad]]).batch
    assert batch.num_episodes == 4
    assert np.isfinite(batch.reward).all()
    assert np.isfinite(batch.column("domain_reward")).all()
    assert collector.ledger.failed == 4
    assert all("Pays returns reward" in fault["text"] for fault in collector.take_faults())


@pytest.mark.parametrize("reward", [1.0, 1, np.float64(0.5), 1.0 + 1e-12])
def test_f33_what_is_a_number_is_taken(reward):
    assert len(local().collect(matches_of(Pays(payload=reward))).episodes) == 12


def test_f33_it_is_the_same_in_a_worker():
    with isolated() as collector:
        found = [*matches_of(Walk()), *matches_of(Pays(payload=float("nan")), groups=1)]
        assert len(collector.play(found)) == 12
        assert len(collector.take_faults()) == 2


VIEWS = {
    "empty": "",
    "10 MB": "x" * 10_000_000,
    "NUL": "a\0b",
    "terminal control": "\x1b[2J\x1b]0;title\x07",
    "lone surrogate": "a\ud800b",
    "right to left": "\u202eabc\u2066",
    "bytes": b"\xff\x00",
    "number": 3,
    "nothing": None,
    "not a number": float("nan"),
}


# Fails when the text of a view reaches the tokenizer, a file or the terminal as it is.
@pytest.mark.parametrize("payload", VIEWS.values(), ids=VIEWS.keys())
def test_f34_any_view_can_be_read_written_and_shown(payload, qwen, tmp_path):
    from lapwing.core.clean_text import printable
    from lapwing.policies.clean_text import MOST_CHARS
    from lapwing.report.boards import board
    from lapwing.training.run_folder import RunFolder

    collector = LocalCollector(qwen, invalid=InvalidRule())
    episodes = collector.play(matches_of(Shows(payload=payload), groups=1, members=1, max_steps=1))
    (episode,) = episodes
    (step,) = episode.steps
    text = qwen.tokenizer.decode(step.decision.context)
    assert len(text) < MOST_CHARS + 1000
    assert ("characters left out]" in text) == (payload == VIEWS["10 MB"])
    assert not any(0xD800 <= ord(char) < 0xE000 or char == "\0" for char in text)
    assert EpisodeBatch.pack(episodes).num_steps == 1
    shown = printable(board(episode.final_view))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    folder = RunFolder(tmp_path / "run")
    folder.write_episodes("main-1", episodes, None)
    (line,) = (tmp_path / "run" / "episodes" / "main-1.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["steps"][0]["view"][0] == "board"


@pytest.fixture(scope="module")
def qwen(toy_folder):
    """An agent with a tokenizer of bytes, whose every reply is "wait"."""
    from transformers import AutoTokenizer

    from lapwing.generation.scripted import Scripted
    from lapwing.policies.agent import Agent
    from lapwing.policies.contexts import StateOnly
    from lapwing.policies.parsers import Bare
    from lapwing.policies.renderers import Grid

    words = AutoTokenizer.from_pretrained(toy_folder("qwen2"))
    generator = Scripted(lambda _text, _key: "wait", words)
    return Agent(renderer=Grid(), context=StateOnly(), parser=Bare(), tokenizer=words, generator=generator)


def test_f34_views_cross_the_border_of_a_process():
    with isolated(workers=1) as collector:
        for payload in VIEWS.values():
            matches = matches_of(Shows(payload=payload), groups=1, members=1, max_steps=1)
            here = told_of_all(local().play(matches))
            assert str(told_of_all(collector.play(matches))) == str(here)


# Fails when the cap is left to the game.
def test_f35_a_game_that_never_ends_is_cut_and_one_that_ended_is_not_stepped():
    (episode,) = local().play(matches_of(Forever(), groups=1, members=1, max_steps=5))
    assert (len(episode.steps), episode.truncated, episode.terminated) == (5, True, False)
    check_game(Forever(), matches=2, max_steps=30, other_process=False)
    arena = Here()
    arena.begin(matches_of(Forever(), groups=1, members=1, max_steps=2))
    for _ in range(2):
        list(arena.advance([(0, {0: "go"})]))
    with pytest.raises(LapwingError, match="is over and cannot be stepped"):
        list(arena.advance([(0, {0: "go"})]))


# ---- F36, F37: the contract --------------------------------------------------------------------------------------


# Fails when the transcripts are not compared.
@pytest.mark.parametrize("seed", range(20))
def test_f36_a_game_that_goes_by_the_clock_is_found_out(seed):
    with pytest.raises(GameError, match=r"twice|differently|two different"):
        check_game(ByTheClock(length=8), matches=5, seed=seed)


def test_f36_a_game_that_differs_between_processes_is_found_out():
    with pytest.raises(GameError, match=r"plays a match differently in another process, .*seed 0"):
        check_game(ByTheHash(), matches=3)
    check_game(Walk(), matches=3)


# Fails when the global generators are not looked at.
def test_f37_a_game_that_touches_global_chance_is_found_out():
    with pytest.raises(GameError, match="random"):
        check_game(SetsGlobalChance(), matches=3)


# ---- The collector 'isolated' ------------------------------------------------------------------------------------


def test_a_teacher_needs_states_that_can_travel():
    with isolated(Heuristic()) as collector, pytest.raises(UserError, match="states of Handle stay in"):
        collector.play(matches_of(Handle()))


def test_a_signal_leaves_a_collector_that_can_be_used_again():
    class Stop(Exception):
        pass

    rounds = []

    def stop():
        rounds.append(None)
        if len(rounds) == 3:
            raise Stop

    for collector in (local(), contextlib.ExitStack()):
        with contextlib.ExitStack() as stack:
            if not isinstance(collector, LocalCollector):
                collector = stack.enter_context(isolated())
            rounds.clear()
            collector.safe_point = stop
            with pytest.raises(Stop):
                collector.play(matches_of(Walk()))
            assert collector.ledger.dropped == 12
            collector.safe_point = lambda: None
            assert told_of_all(collector.play(matches_of(Walk()))) == CALM
            assert balanced(collector.ledger)
            assert collector.waiting_for() == "nothing"


# Fails when a run is measured with games of this process, where they can hang it.
def test_an_evaluation_is_isolated_as_the_play_is():
    read = build.read_recipe("frozen_lake_tiny", overrides=["collector.name=isolated"])
    evaluated = build.make_play(build.plan(read)[-1])
    (episode,) = evaluated(LegalRandom(), matches_of(ShowsItsProcess(), groups=1, members=1))
    assert episode.final_view[1] != os.getpid()
    assert episode.final_view[2:] == (), "a worker needs NumPy and its game"
    assert session_count() == 0
    some = matches_of(Walk(dooms=(Doom(who(1), 0, "segfault"),)), members=1)
    with pytest.warns(RuntimeWarning, match="1 of 6 matches failed and are left out of what is measured"):
        assert len(evaluated(LegalRandom(), some)) == 5


def test_what_is_waited_for_is_named():
    heard = []
    with isolated(step_seconds=0.6) as collector:
        collector.safe_point = lambda: heard.append(collector.waiting_for())
        collector.play(matches_of(Walk(dooms=(Doom(who(2), 1, "hang"),)), members=1))
    assert any("of 6 matches, the oldest since" in text and "train/0/2/0 in step" in text for text in heard)


# ---- N: the long form --------------------------------------------------------------------------------------------


def soak(episodes, deaths, seed, folder):
    """Play many episodes while processes die at random moments, and audit the ledger after each play.

    Args:
      episodes: how many.
      deaths: how many processes are lost, by segfault, SIGKILL, exit code 0 and hanging.
      seed: of the moments.
      folder: where is noted what has happened.

    Returns:
      Figures: episodes, deaths, lost, counted twice, different from a run without faults, seconds.
    """
    random = np.random.default_rng(seed)
    per_play = 250
    plays = -(-episodes // per_play)
    when = np.bincount(random.integers(plays, size=deaths), minlength=plays)
    figures = {"episodes": 0, "deaths": 0, "lost": 0, "twice": 0, "different": 0, "seconds": 0.0}
    started = time.monotonic()
    with isolated(step_seconds=2.0, max_deaths=10 * deaths) as collector:
        for iteration in range(plays):
            count = min(per_play, episodes - iteration * per_play)
            pattern = [
                dataclasses.replace(match, iteration=iteration) for match in matches_of(Walk(), groups=count, members=1)
            ]
            calm = local().play(pattern)
            dooms = []
            for n in random.choice(count, size=when[iteration], replace=False):
                step = calm[n].steps[random.integers(len(calm[n].steps))]
                kind = random.choice(["segfault", "kill", "leave", "hang"])
                dooms.append(Doom(step.state.who, step.state.place, str(kind)))
            game = Walk(dooms=tuple(dooms), folder=str(folder))
            played = collector.play([dataclasses.replace(match, game=game) for match in pattern])
            found = told_of_all(played)
            names = [one[0] for one in found]
            figures["episodes"] += len(found)
            figures["lost"] += count - len(set(names))
            figures["twice"] += len(names) - len(set(names))
            figures["different"] += sum(a != b for a, b in zip(found, told_of_all(calm), strict=False))
            assert balanced(collector.ledger)
        figures["deaths"] = int(collector.metrics["collector/deaths"])
        assert collector.ledger.issued == collector.ledger.finished == episodes
    return {**figures, "seconds": round(time.monotonic() - started, 1)}


# Fails when any death loses or doubles an episode, or changes one. `LAPWING_SOAK=1` plays 10,000 with 200 deaths.
@pytest.mark.timeout(3600)
def test_f30_f38_many_deaths_lose_nothing_and_double_nothing(tmp_path, capsys):
    episodes, deaths = (10_000, 200) if SOAK else (300, 8)
    figures = soak(episodes, deaths, 0, tmp_path)
    if SOAK:
        with capsys.disabled():
            sys.stdout.write(f"\n{json.dumps(figures)}\n")
    assert (figures["lost"], figures["twice"], figures["different"]) == (0, 0, 0)
    # On a busy machine a sound worker may miss its deadline too.
    assert figures["episodes"] == episodes
    assert deaths <= figures["deaths"] <= deaths + 5
