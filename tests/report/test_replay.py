"""The replay of a page: inert data, one allowed script, small enough to open."""

import base64
import hashlib
import json
import re

import pytest

from lapwing.core.errors import LapwingError
from lapwing.report import replay as replays
from lapwing.report.page import write_report
from lapwing.report.pictures import picture
from lapwing.report.replay import replay_section, script_safe


def step(number, text):
    return {
        "number": number, "prompt": 0, "extends": False, "picture": 0, "tokens": [text], "cut": 0, "logprob": [-0.1],
        "entropy": [0.2], "role": [], "action": text, "valid": True, "reason": "", "reward": 0.0, "domain_reward": 0.0,
        "parts": {}, "choice": None, "exact": None, "credit": [0.5],
    }  # fmt: skip


def replay(text="up", episodes=2, steps=3):
    one = {
        "match": "test/0/0/0", "group": 0, "return": 1.0, "outcome": 0.0, "success": True, "terminated": True,
        "length": steps, "end": 0,
    }  # fmt: skip
    policy = {
        "weights": "checkpoint 1", "played": episodes, "prompts": [text], "pictures": [{"text": text}], "choices": [],
        "episodes": [{**one, "steps": [step(n + 1, text) for n in range(steps)]} for _ in range(episodes)],
    }  # fmt: skip
    return {
        "schema": 1, "game": "lake", "groups": 1, "group_size": episodes, "methods": [{"name": "grpo", "own": True}],
        "left_out": {}, "no_exact_answer": "", "policies": {"trained": policy},
    }  # fmt: skip


def write(folder, found):
    (folder / "replay.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


@pytest.mark.parametrize("text", ["</script><script>", "<!--<script>", "&lt;", "a\u2028b\u2029c", '"\\', "𝔸\x00"])
def test_any_text_survives_and_cannot_end_its_element(text):
    written = script_safe({"text": text})
    assert json.loads(written) == {"text": text}
    assert not re.search("[<>&'\u2028\u2029]", written)


# Fails when the policy names another script than the page holds: a browser then runs none.
def test_the_page_allows_its_own_script_and_no_other(write_run, tmp_path):
    run = write(write_run(tmp_path / "run"), replay())
    page = write_report(run).read_text("utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert f"script-src 'sha256-{digest}'" in policy[1]
    assert policy[1].startswith("default-src 'none'")


def test_a_run_without_a_replay_allows_no_script(write_run, tmp_path):
    page = write_report(write_run(tmp_path / "run")).read_text("utf-8")
    assert "script" not in page


@pytest.mark.parametrize(("change", "message"), [({"schema": 2}, "schema 2"), ({"policies": None}, "no replay")])
def test_a_file_that_is_no_replay_is_named(change, message, tmp_path):
    found = {key: value for key, value in (replay() | change).items() if value is not None}
    with pytest.raises(LapwingError, match=f"replay.json .*{message}.*--replay"):
        replay_section(write(tmp_path, found))


def test_a_large_replay_is_cut_by_whole_episodes(tmp_path, monkeypatch):
    monkeypatch.setattr(replays, "MOST_CHARACTERS", 20_000)
    section = replay_section(write(tmp_path, replay(episodes=64, steps=10)))
    assert section is not None
    assert len(section.data) < 20_000
    kept = json.loads(section.data)["policies"]["trained"]["episodes"]
    assert 1 <= len(kept) < 64
    assert all(len(one["steps"]) == 10 for one in kept)


def test_boards_are_letters_that_the_script_knows():
    from lapwing.games.connect_four import ConnectFourView
    from lapwing.games.frozen_lake import FrozenLakeView
    from lapwing.games.snake import SnakeView
    from lapwing.games.tic_tac_toe import TicTacToeView

    lake = picture(FrozenLakeView(rows=("SF", "HG"), row=0, column=1, slippery=False))
    assert (lake["cells"], lake["at"]) == (["si", "hg"], [0, 1])
    snake = SnakeView(width=3, height=2, body=((1, 0), (0, 0)), others=(((2, 1),),), apples=((1, 1),))
    # The origin is at the bottom left.
    assert picture(snake)["cells"] == [".am", "bn."]
    assert picture(TicTacToeView("P___E____"))["cells"] == ["...", ".o.", "x.."]
    assert picture(ConnectFourView("PE_" + "E__", 3))["cells"] == ["o..", "xo."]


def test_every_letter_has_one_meaning_in_both_languages():
    import importlib.resources

    from lapwing.report.pictures import CELLS

    script = importlib.resources.files("lapwing.report").joinpath("replay.js").read_text("utf-8")
    block = re.search(r"const KINDS = \{(.*?)\};", script, flags=re.DOTALL)
    assert block is not None
    assert {a or b: kind for a, b, kind in re.findall(r'(?:"(.)"|\b(\w)): "([^"]+)"', block[1])} == CELLS


def test_an_unknown_view_is_shown_as_text():
    assert picture(("a", "view")) == {"text": "('a', 'view')"}
