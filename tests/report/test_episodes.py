"""The episodes of a run's page."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.core.errors import LapwingError
from lapwing.report.episodes import episodes_section
from lapwing.report.page import write_report

HOSTILE = [
    "<script>document.title='HACKED'</script>",
    "</table></div></details></section>",
    '" onmouseover="alert(1)" class="x',
    "--></style><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
]


def step(advantage: object = 0.5, **fields):
    plain = {
        "view": {"row": 0},
        "reply": "down",
        "action": "down",
        "valid": True,
        "reason": "",
        "reward": 0.0,
        "domain_reward": 0.0,
        "parts": {},
        "advantage": advantage,
        "credit": advantage,
        "token_advantage": None,
        "token_credit": None,
    }
    return {**plain, **fields}


def episode(*steps, total=0.0, outcome=0.0, final_view=None, **fields):
    plain = {
        "match": "train/59/3/1",
        "terminated": True,
        "truncated": False,
        "success": None,
        "outcome": outcome,
        "return": total,
        "final_view": {"row": 1} if final_view is None else final_view,
        "steps": list(steps or [step()]),
    }
    return {**plain, **fields}


def turn(status="ok", text="ka lo home zu ve", query="ka lo home"):
    return {"action": {"name": "search", "arguments": query}, "result": {"status": status, "text": text}}


def dialogue(question="home of ka lo ?", replies=("search", "answer"), result=("ok", "ka lo home zu ve"), **fields):
    """A call with its result, and an answer."""
    called = turn(*result)
    views = [{"question": question, "turns": turns} for turns in ([], [called])]
    steps = [
        step(0.75, view=views[0], reply=replies[0], reward=0.5, domain_reward=0.5, parts={"tool_execution": 1.0}),
        step(-0.25, view=views[1], reply=replies[1], parts={"tool_execution": 0.0, "exact_match": 0.0}),
    ]
    final = {"question": question, "turns": [called, {"action": {"text": "zu"}, "result": None}]}
    return episode(*steps, total=0.5, final_view=final, success=False, **fields)


@pytest.fixture
def record(make_run):
    """A run with one file of episodes."""

    def write(*episodes, name="main-000060", folder="run"):
        run = make_run(folder, iterations=None)
        (run / "episodes").mkdir()
        lines = "".join(json.dumps(one) + "\n" for one in episodes)
        (run / "episodes" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        return run

    return write


def section_of(run):
    section = episodes_section(run)
    assert section is not None
    return section


def titles(run):
    return [one.title for one in section_of(run).shown]


# ---------------------------------------------------------------------------------------------------------------------
# Which are shown.


def test_the_best_the_median_and_the_worst_are_shown(record):
    # Returns 3, 1, 2, 0: the lower of the two in the middle is 1.
    run = record(*(episode(total=total, match=str(total)) for total in (3.0, 1.0, 2.0, 0.0)))
    shown = section_of(run).shown
    assert [(one.title, one.facts) for one in shown] == [
        ("Best return", "return 3 · 1 step · 3.0"),
        ("Median return", "return 1 · 1 step · 1.0"),
        ("Worst return", "return 0 · 1 step · 0.0"),
    ]


def test_the_one_whose_steps_differ_most_in_credit_is_the_fourth(record):
    divided = episode(step(1.0), step(-1.0), total=2.0)
    run = record(*(episode(total=total) for total in (3.0, 1.0, 0.0, 0.5)), divided)
    assert titles(run) == ["Best return", "Median return", "Worst return", "Widest spread of credit"]


def test_nothing_is_shown_twice(record):
    # The best is the median too, and the one of widest credit is the worst.
    run = record(episode(total=1.0), episode(total=1.0), episode(step(1.0), step(-1.0), total=0.0))
    assert titles(run) == ["Best and median return", "Worst return, widest spread of credit"]


def test_equal_returns_need_one_episode_and_the_one_with_credit_is_taken(record):
    run = record(episode(step(None)), episode(step(0.0)), episode(step(-2.0), match="this"), episode(step(1.0)))
    (shown,) = section_of(run).shown
    assert shown.title == "One of 4, all with this return"
    assert shown.facts.endswith("this")
    # The same rewards in another order have the same sum.
    assert titles(record(episode(total=0.1 + 0.2), episode(total=0.3), folder="sums")) == [
        "One of 2, all with this return"
    ]


def test_a_single_episode_is_the_only_one(record):
    assert titles(record(episode())) == ["The only episode"]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=9))
def test_of_any_returns_the_ends_and_the_middle_are_shown(tmp_path_factory, found):
    run = tmp_path_factory.mktemp("any")
    (run / "episodes").mkdir()
    lines = [
        json.dumps(episode(step(float(a)), step(float(b)), total=r, match=f"m{i}")) for i, (r, a, b) in enumerate(found)
    ]
    (run / "episodes" / "main-000001.jsonl").write_text("\n".join(lines) + "\n")
    shown = section_of(run).shown
    numbers = [int(one.facts.rpartition("m")[2]) for one in shown]
    assert len(set(numbers)) == len(numbers) <= 4
    returns = sorted(r for r, _, _ in found)
    wanted = {returns[0], returns[-1], returns[(len(returns) - 1) // 2]}
    assert wanted <= {found[i][0] for i in numbers}
    widest = max(abs(a - b) for _, a, b in found)
    assert max(abs(found[i][1] - found[i][2]) for i in numbers) == widest
    assert sum("spread" in one.title for one in shown) == (widest > 0)


def test_the_newest_file_counts(record):
    run = record(episode(match="old"), name="main-000009")
    for name in ("main-999999", "main-1000000"):
        (run / "episodes" / f"{name}.jsonl").write_text(json.dumps(episode(match=name)) + "\n")
    section = section_of(run)
    assert section.shown[0].facts.endswith("main-1000000")
    assert "1 recorded of iteration 1000000," in section.note


def test_a_run_that_recorded_none_has_no_such_section(make_run, record, read):
    _, page = read(make_run(iterations=None))
    assert "episodes" not in page.ids
    assert episodes_section(record(folder="empty")) is None


# ---------------------------------------------------------------------------------------------------------------------
# What they show.


def test_a_dialogue_is_a_transcript_with_credit_beside_each_reply(record, read):
    text, page = read(record(dialogue(replies=("<tool> search ka lo home </tool>", "<answer> zu </answer>"))))
    places = [
        "question home of ka lo ?",
        "reply 1 <tool> search ka lo home </tool>",
        "result, ok ka lo home zu ve",
        "advantage +0.75",
        "reward 0.5",
        "tool_execution 1",
        "reply 2 <answer> zu </answer>",
        "advantage -0.25",
        "exact_match 0",
        "end ended by the rules · no success · outcome 0",
    ]
    # Labels stand in elements of their own, without blanks between them.
    found = [page.text.replace(" ", "").find(place.replace(" ", "")) for place in places]
    assert -1 not in found
    assert found == sorted(found)
    # The largest fills its half; the other is a third of it, to the other side.
    assert re.findall(r'<span class="bar (\w+)"><i style="--part: ([\d.]+)">', text) == [
        ("plus", "1.0"),
        ("minus", "0.333"),
    ]
    assert text.count("said result") == 1


def test_the_result_of_a_reply_is_the_one_that_the_next_view_has_more(record):
    """Two calls with the same words; the last reply before a limit has a result too."""
    turns = [turn(text="first"), turn("error", "second")]
    views = [{"question": "q", "turns": turns[:n]} for n in range(3)]
    run = record(episode(step(view=views[0]), step(view=views[1]), final_view=views[2], truncated=True))
    (shown,) = section_of(run).shown
    assert [one.result for one in shown.steps] == [("ok", "first"), ("error", "second")]
    assert shown.ended.startswith("cut by the step limit")


def test_a_reply_that_was_not_valid_says_why(record, read):
    bad = step(view={"question": "q", "turns": []}, action="malformed: no tag", valid=False, reason="no tag")
    _, page = read(record(episode(bad, final_view={"question": "q", "turns": []})))
    assert "not valid: no tag" in page.text


def test_credit_per_token_is_drawn_token_by_token(record, read):
    tokens = step(0.5, token_advantage=[2.0, -1.0, 0.0, None], credit=0.25, token_credit=[1.0, -0.5, 0.0, 0.0])
    text, page = read(record(episode(tokens)))
    (strip,) = re.findall(r'<span class="strip".*?</span>(.*?)</span>', text)
    assert re.findall(r'class="(\w+)" style="--part: ([\d.]+)"', strip) == [
        ("plus", "1.0"), ("minus", "0.5"), ("zero", "0.0"), ("zero", "0.0"),
    ]  # fmt: skip
    # The mean over the tokens is drawn to the same scale.
    assert '<span class="bar plus"><i style="--part: 0.25">' in text
    assert "+0.25 before modulation" in page.text


def test_credit_that_nothing_modulates_is_shown_once(record, read):
    _, page = read(record(episode()))
    assert "modulation" not in page.text


def test_an_episode_that_was_left_out_says_so(record, read):
    text, page = read(record(episode(step(None), step(None))))
    assert "not learnt from" in page.text
    assert text.count('<span class="bar none">') == 2


def test_episodes_of_an_older_run_have_no_credit(record, read):
    old = {key: value for key, value in step().items() if "advantage" not in key and "credit" not in key}
    _, page = read(record(episode(old)))
    assert "not learnt from" in page.text
    assert not page.wrong


def test_other_games_are_a_table_of_what_changed(record):
    rows = ["SFFF", "FHFH"]
    steps = [step(view={"rows": rows, "row": row, "column": 0}) for row in (0, 1, 1)]
    (shown,) = section_of(record(episode(*steps, final_view={"rows": rows, "row": 1, "column": 2}))).shown
    assert shown.question is None
    assert [one.view for one in shown.steps] == ["rows SFFF / FHFH · row 0 · column 0", "row 1", ""]
    assert shown.end == "column 2"


@pytest.mark.parametrize("view", [None, 3, "a text", [1, 2], {"question": "of another kind"}, {"turns": 3}])
def test_a_view_may_be_anything(record, read, view):
    _, page = read(record(episode(step(view=view), final_view=view)))
    assert page.tags.count("details") == 2
    assert not page.wrong


def test_of_a_long_episode_the_middle_is_left_out(record, read):
    steps = [step(reply=f"reply{n}", advantage=100.0 if n == 60 else 1.0) for n in range(1, 101)]
    run = record(episode(*steps))
    (shown,) = section_of(run).shown
    assert [one.number for one in shown.steps] == [*range(1, 21), *range(81, 101)]
    assert [one.left_out for one in shown.steps if one.left_out] == [60]
    # What is not shown does not make the bars short.
    assert {one.advantage.part for one in shown.steps} == {1.0}
    _, page = read(run)
    assert "60 steps are left out" in page.text
    assert "left out" not in read(record(episode(*steps[:40]), folder="forty"))[1].text


# ---------------------------------------------------------------------------------------------------------------------
# Whatever a model or a game writes.


def everywhere(text):
    """A dialogue and an episode of another game, with this text wherever a text can stand."""
    asked = dialogue(question=text, replies=(text, text), result=(text, text), match=text)
    for one in asked["steps"]:
        one.update(valid=False, reason=text, parts={text: 1.0})
    other = step(view={text: text, "list": [text]}, reply=text, action=text, valid=False, reason=text, parts={text: 1})
    return [asked, episode(other, total=1.0, final_view={text: 3}, match=text)]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_model_or_a_game_is_shown_and_never_obeyed(record, read, text):
    page_text, page = read(record(*everywhere(text)))
    _, harmless = read(record(*everywhere("plain"), folder="plain"))
    assert "".join(page.texts).count(text) >= 15
    assert text not in page_text.replace("{{ 7 * 7 }}{% raw %}", "") or text.startswith("{{")
    assert not page.wrong
    assert not page.open
    assert page.tags == harmless.tags
    assert [name for name, _ in page.attributes] == [name for name, _ in harmless.attributes]


def test_characters_that_no_page_can_show_are_replaced(record, read):
    text, page = read(record(*everywhere("a\x00b\x1b[31m\u202ec\ud800d\x85e")))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", text)
    assert "a\ufffdb\ufffd[31m\ufffdc\ufffdd\ufffde" in page.text


def test_a_megabyte_is_cut_at_two_thousand_characters(record, read):
    text, page = read(record(*everywhere("<" * 1_000_000)))
    assert len(text) < 1_000_000
    assert "… (998,000 more characters)" in page.text
    assert max(len(run) for run in re.findall("<+", "".join(page.texts))) == 2_000
    assert not page.wrong


@pytest.mark.parametrize("letter", ['"', "\U0001f426"], ids=["five letters when escaped", "four bytes"])
def test_the_worst_episodes_still_make_a_page_of_less_than_five_megabytes(record, letter):
    long, rows = letter * 2_500, []
    for total in range(4):
        # Of a name 40 letters are shown.
        parts = {f"{n}{letter * 60}": 1.0 for n in range(40)}
        tokens = {"token_advantage": [0.123456789] * 500, "parts": parts, "valid": False, "reason": long}
        # Only what is new in a view is long, or the file itself would be.
        views = [{"question": long, "turns": [turn()] * (n - 1) + [turn(long, long)] * min(n, 1)} for n in range(61)]
        spread = 2.0 if total == 2 else 1.0
        steps = [step(spread * n, view=view, reply=long, **tokens) for n, view in enumerate(views[:60])]
        rows.append(episode(*steps, total=float(total), final_view=views[60]))
    run = record(*rows)
    assert len(titles(run)) == 4
    assert 1_000_000 < write_report(run).stat().st_size < 4_500_000


def test_equal_episodes_give_equal_bytes(record):
    pages = [write_report(record(dialogue(), episode(total=1.0), folder=name)).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_a_half_written_last_line_is_left_out(record):
    run = record(episode())
    with (run / "episodes" / "main-000060.jsonl").open("a") as file:
        file.write('{"match": "tr')
    assert titles(run) == ["The only episode"]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", "{}", '{"steps": 3, "final_view": 1}', '{"steps": [], "final_view": 1, "return": 0, "outcome": 0}',
     json.dumps(episode(step(reward="much"))), json.dumps(episode(step("much"))),
     json.dumps(episode(step(view={"question": "q", "turns": [1]}), final_view={"question": "q", "turns": [1, 2]})),
     json.dumps(episode(step(parts=[1])))],
)  # fmt: skip
def test_a_file_of_something_else_is_named(record, line):
    run = record(episode())
    path = run / "episodes" / "main-000060.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(LapwingError, match=r"main-000060\.jsonl(, line 1 is damaged| holds no episodes)"):
        write_report(run)
