"""`lapwing check-game` finds each of the planted faults, names the promise, and says how to see it again."""

import contextlib
import gc
import importlib
import io
import itertools
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from lapwing import cli
from lapwing.games._traces import bytes_left
from lapwing.games.contract import PROMISES

HERE = Path(__file__).parent

# The fault, and the promises that it breaks: the first one is what was planted, the others follow from it.
FAULTS = {
    "GlobalChance": ("chance", "same seed", "no leak", "step"),
    "ChangesTheState": ("step",),
    "PaysTooMuch": ("rewards",),
    "TwoActionsOneText": ("action texts",),
    "TextInTwoCases": ("action texts",),
    "RemembersMatches": ("no leak",),
    "KeepsEverything": ("memory",),
    "OrderOfASet": ("same seed",),
    "SlowOnTheSecondRung": ("deadline",),
    "PaysForTalk": ("null agents",),
    "WrongProbabilities": ("outcomes",),
    "ViewThatChanges": ("views", "same seed", "no leak"),
    "ViewWithTheState": ("views",),
    "SilentEnd": ("success",),
    "ViewWithAList": ("plain data",),
    "RefusesToRest": ("plays",),
    "NotFrozen": ("settings",),
    "BrokenTwice": ("rewards", "views"),
}
ALL = set(PROMISES)
# Those that take a second look: at the clock, the order of arguments, late steps, what others share.
SUBTLE = {
    "SeedsTheOthers": ("chance",),
    "GoesHome": ("plays",),
    "SleepsOnWednesdays": ("same seed",),
    "WrongStarts": ("outcomes",),
    "WrongOnTheLastStep": ("outcomes",),
    "EarlyPraise": ("success",),
    "FirstCome": ("step",),
}
# Those that only some matches show.
RARE = ("PaysTooMuch", "SlowOnTheSecondRung")


@pytest.fixture
def check(monkeypatch):
    """Run the command in this process, in the folder of the planted games."""
    monkeypatch.chdir(HERE)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["lapwing", "check-game", *words])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main()
        return code, out.getvalue(), err.getvalue()

    return run


def broken(text):
    return {row["promise"]: row for row in json.loads(text)["promises"] if row["kept"] is False}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_by_its_name_and_can_be_seen_again(name, check):
    further = ("--deadline-seconds", "0.02") if name == "SlowOnTheSecondRung" else ()
    code, out, err = check(f"planted:{name}", "--json", "--matches", "8", *further)
    found = broken(out)
    assert code == 2
    assert err.startswith(f"lapwing: planted:{name} breaks ")
    assert set(FAULTS[name]) >= set(found)
    first, seed = FAULTS[name][0], found[FAULTS[name][0]]["seed"]
    # The command that is printed shows it again, and at the same seed.
    words = shlex.split(found[first]["again"])
    assert words[:3] == ["lapwing", "check-game", f"planted:{name}"]
    code, out, _ = check(*words[2:], "--json")
    assert code == 2
    assert broken(out)[first]["seed"] == seed
    if name in RARE:
        # No smaller seed does.
        assert seed > 0
        _, out, _ = check(f"planted:{name}", "--json", "--matches", str(seed), *further)
        assert first not in broken(out)


@pytest.mark.parametrize("name", SUBTLE)
def test_a_subtle_fault_is_found(name, check):
    code, out, err = check(f"planted:{name}", "--json", "--matches", "12")
    assert code == 2
    assert err.startswith(f"lapwing: planted:{name} breaks a promise")
    assert tuple(broken(out)) == SUBTLE[name]


def test_all_that_is_broken_is_named(check):
    _, out, _ = check("planted:BrokenTwice", "--json")
    assert set(broken(out)) == {"rewards", "views"}


def test_the_sound_game_keeps_everything(check):
    code, out, err = check("planted:Ladder", "--json", "--matches", "8")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert [row["kept"] for row in result["promises"]] == [True] * len(result["promises"])


def test_the_report_says_it_in_words(check):
    code, out, _ = check("planted:PaysTooMuch")
    assert code == 2
    assert "rewards       BROKEN  rewards are finite, one for each player, within reward_range" in out
    assert "rewards: the game rewards player 0 with 2.0, outside its reward_range (0.0, 1.0) (step 5). Smallest" in out
    assert "\n  lapwing check-game planted:PaysTooMuch --matches 1 --seed " in out
    assert "null agents: not looked at, GameError: PaysTooMuch failed in step 5" in out
    assert out.endswith("planted:PaysTooMuch: 13 of 15 promises kept, 1 broken, in 20 matches of at most 100 steps "
                        "from seed 0 on.\n")  # fmt: skip


# What hangs: the method, where, and what was looked at before.
HANGS = {
    "NeverReturns": ("step", "step 5", set()),
    "EndlessView": ("view", "step 0", set()),
    "EndlessOutcomes": ("outcomes", "step 1", set()),
    "EndlessSplit": ("for_split", "", ALL - {"deadline", "null agents"}),
}
QUICK = ("--deadline-seconds", "0.2", "--limit-seconds", "0.25", "--matches", "6")


@pytest.mark.parametrize("name", HANGS)
def test_a_call_that_never_returns_is_ended_and_told(name, check):
    method, place, seen = HANGS[name]
    code, out, err = check(f"planted:{name}", "--json", *QUICK)
    kind = getattr(sys.modules["planted"], name)
    assert code == 2
    assert err.startswith(f"lapwing: planted:{name} breaks a promise")
    found = broken(out)
    assert set(found) == {"deadline"}
    said, seed = found["deadline"]["found"], found["deadline"]["seed"]
    assert said.startswith(f"does not return from {method} within 0.25 s, though a call may take 0.2 s; nothing was")
    assert said.endswith(f"({place})" if place else "after that")
    rows = json.loads(out)["promises"]
    assert {row["promise"] for row in rows if row["kept"]} == seen
    assert {row["found"] for row in rows if row["kept"] is None} == {f"{method} does not return"}
    # The command shows it again, and no smaller seed does.
    words = shlex.split(found["deadline"]["again"])
    assert words[-4:] == list(QUICK[:4])
    _, out, _ = check(*words[2:], "--json")
    assert broken(out)["deadline"]["seed"] == seed
    if seed:
        _, out, _ = check(f"planted:{name}", "--json", *QUICK[:4], "--matches", str(seed))
        # Null agents play further seeds, and tell of none.
        assert "deadline" not in broken(out) or broken(out)["deadline"]["seed"] is None
    # Nothing is left of the watch.
    assert not hasattr(kind.step, "__wrapped__")
    assert "players" not in vars(kind)


def test_memory_is_found_whatever_was_there_before_and_nothing_stays_set_aside(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    planted = importlib.import_module("planted")
    # The tests themselves set aside what they import; a process of a user's has set aside nothing.
    gc.unfreeze()
    try:
        assert bytes_left(planted.KeepsEverything(), range(5), 20) > 64
        assert bytes_left(planted.Ladder(), range(5), 20) == 0.0
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


@pytest.mark.parametrize(("name", "leaks"), [("KeepsEverything", True), ("Ladder", False)])
def test_what_comes_and_goes_hides_no_leak_and_is_none(monkeypatch, name, leaks):
    monkeypatch.syspath_prepend(str(HERE))
    game = getattr(importlib.import_module("planted"), name)
    held, calls = [], itertools.count()

    class Borrows(game):
        def initial(self, rng):
            # Taken in one round of eight matches, given back in the next.
            number = next(calls)
            if number % 16 == 0:
                held.append(bytearray(100_000))
            elif number % 16 == 8:
                held.clear()
            return game.initial(self, rng)

    assert (bytes_left(Borrows(), [0], 20) > 0.0) is leaks


def test_what_could_not_be_looked_at_is_said(check):
    _, out, _ = check("planted:NotFrozen")
    assert "settings      BROKEN" in out
    assert "success, outcomes, views, action texts, deadline, memory, null agents: not looked at, its settings" in out


def test_the_schema_of_the_json(check):
    _, out, _ = check("planted:Ladder", "--json", "--matches", "2", "--max-steps", "3")
    result = json.loads(out)
    assert list(result) == ["game", "settings", "matches", "seed", "max_steps", "deadline_seconds",
                            "limit_seconds", "kept", "promises",
                            "null_agents", "notes"]  # fmt: skip
    assert all(
        list(row) == ["promise", "meaning", "kept", "found", "seed", "matches", "first", "again"]
        for row in result["promises"]
    )
    assert list(result["null_agents"]) == ["ceiling", "returns"]
    assert set(result["null_agents"]["returns"]) == {"random", "no_op", "echo", "spam"}
    assert all(set(row) == {"mean", "low", "high"} for row in result["null_agents"]["returns"].values())


def test_a_game_without_a_ceiling_is_told_what_to_declare(check, tmp_path, monkeypatch):
    text = (HERE / "planted.py").read_text("utf-8").replace("    null_ceiling: ClassVar[float] = 0.3\n", "")
    (tmp_path / "undeclared.py").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    code, out, _ = check("undeclared:Ladder", "--matches", "2")
    assert code == 0
    assert "null agents: not looked at, the game declares no null_ceiling." in out
    assert "null_ceiling: ClassVar[float] = 0." in out


def test_what_breaks_no_promise_is_noted(check):
    code, out, err = check("planted:UpsideDown", "--json")
    assert (code, err) == (0, "")
    notes = " ".join(json.loads(out)["notes"])
    assert "Who succeeded got 0 on average and who did not 1, over 20 matches" in notes
    assert "the first of them 'going " in notes
    # It lists no words, and its first view holds neither the rungs nor the steps of later ones.
    assert "A tiny model would not know the word '1' (seed 0, decision 1)" in notes
    code, out, _ = check("planted:UpsideDown", "--set", "never=true", "--matches", "3", "--max-steps", "8")
    assert "No match ended by the rules of the game; only the step cap ends one." in out


def test_a_shipped_game_is_checked_with_its_settings(check):
    code, out, _ = check("chain", "--set", "length=3", "--set", "slip=0.25", "--matches", "3", "--json")
    assert code == 0
    assert json.loads(out)["settings"]["length"] == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("chian",), "did you mean chain"),
        (("planted:Nothing",), "could not be imported"),
        (("nowhere:Game",), "no nowhere.py in the current folder"),
        (("chain", "--set", "lenght=3"), "lenght"),
        (("chain", "--matches", "0"), "--matches is at least 1"),
        (("chain", "--max-steps", "0"), "--max-steps is at least 1"),
        (("chain", "--deadline-seconds", "0"), "--deadline-seconds is above 0"),
        (("chain", "--limit-seconds", "1"), "--limit-seconds is more than a call may take (1)"),
        (("chain", "--limit-seconds", "nan"), "--limit-seconds is more than a call may take (1)"),
    ],
)
def test_wrong_input_is_one_sentence(words, sentence, check):
    code, out, err = check(*words)
    assert code == 2
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1


def test_the_real_command_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "lapwing", "check-game", "planted:SilentEnd", "--matches", "3", "--json"],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert set(broken(done.stdout)) == {"success"}
