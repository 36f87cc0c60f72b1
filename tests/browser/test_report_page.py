"""The report in a real browser: every section, the replay by mouse and keyboard, and texts that want to be code."""

import json
import math

import pytest

from lapwing.core.storage import read_json, write_json
from lapwing.report.page import write_report

pytestmark = pytest.mark.slow

SECTIONS = ["verdict", "comparison", "curves", "faults", "replay", "episodes", "repeat"]
RIGHT, LEFT, DOWN, HOME = "\ue014", "\ue012", "\ue015", "\ue011"


def signed(value):
    """As the page writes an advantage."""
    return ("+" if value > 0 else "−" if value < 0 else "") + f"{float(f'{abs(value):.3g}'):g}"


@pytest.fixture
def page(browser, default_run):
    browser.open(default_run / "report.html")
    return browser


@pytest.fixture(scope="module")
def replay(default_run):
    return read_json(default_run / "replay.json")


def shown_episode(page, replay):
    """The episode that is chosen, from the file."""
    number = int(page.run("return document.getElementById('replay-episode').value"))
    return replay["policies"]["trained"]["episodes"][number]


def test_the_page_of_the_default_run_is_complete_quiet_and_alone(page, default_run):
    found = page.run("return [...document.querySelectorAll('section[id]')].map((section) => section.id)")
    assert [name for name in SECTIONS if name in found] == SECTIONS
    assert page.run("return [...document.querySelectorAll('section svg')].every((one) => one.getBBox().width > 0)")
    assert page.errors() == []
    addresses = page.addresses()
    assert addresses
    assert all(one == (default_run / "report.html").resolve().as_uri() for one in addresses)
    assert (default_run / "report.html").stat().st_size < 5_000_000


# Fails when a key is not heard, a step is left out, or the end cannot be reached.
def test_arrow_keys_step_an_episode_to_its_end(page, replay):
    page.run("document.getElementById('replay-next').focus()")
    steps = shown_episode(page, replay)["steps"]
    prompts = replay["policies"]["trained"]["prompts"]
    for step in steps:
        assert page.text("replay-at") == f"{step['number']} of {len(steps)}"
        assert page.text("replay-prompt") == prompts[step["prompt"]]
        assert page.text("replay-reply") == "".join(step["tokens"])
        page.press(RIGHT)
    assert page.text("replay-at") == f"end of {len(steps)} steps"
    assert f"return {shown_episode(page, replay)['return']:g}" in page.text("replay-outcome")
    page.press(RIGHT)
    assert page.text("replay-at") == f"end of {len(steps)} steps"
    page.press(LEFT)
    assert page.text("replay-at") == f"{len(steps)} of {len(steps)}"
    page.press(HOME)
    assert page.text("replay-at") == f"1 of {len(steps)}"
    page.press(DOWN)
    assert shown_episode(page, replay)["match"] in page.text("replay-facts")
    assert page.errors() == []


def test_the_mouse_steps_too(page, replay):
    steps = shown_episode(page, replay)["steps"]
    page.run("document.querySelectorAll('#replay-strip button')[arguments[0]].click()", len(steps) - 1)
    assert page.text("replay-at") == f"{len(steps)} of {len(steps)}"
    page.run("document.getElementById('replay-next').click()")
    assert page.text("replay-at") == f"end of {len(steps)} steps"


# Fails when the numbers of one method are shown under the name of another.
def test_switching_the_credit_method_shows_its_numbers(page, replay):
    step = shown_episode(page, replay)["steps"][0]
    title = "return document.querySelector('#replay-reply .token').title"
    for number, method in enumerate(replay["methods"]):
        page.choose("replay-method", str(number))
        assert method["name"] in page.text("replay-reply-heading")
        credit = step["credit"][number]
        credit = credit[0] if isinstance(credit, list) else credit
        assert f"advantage {signed(credit)} " in page.run(title)
    page.choose("replay-method", str(len(replay["methods"])))
    assert f"advantage {signed(step['exact'])} " in page.run(title)
    page.choose("replay-minus", "0")
    assert "minus grpo" in page.text("replay-reply-heading")
    assert f"advantage {signed(step['exact'] - step['credit'][0])} " in page.run(title)
    assert f"log-probability {step['logprob'][0]:.4g}" in page.run(title)
    assert page.errors() == []


def test_the_table_of_methods_and_the_policy_are_those_of_the_step(page, replay):
    episode = shown_episode(page, replay)
    step = episode["steps"][0]
    rows = page.run(
        "return [...document.querySelectorAll('#replay-methods tr')].slice(1).map((row) => [row.cells[0].textContent, "
        "row.cells[2].textContent])"
    )
    assert rows[0] == ["exact advantage", signed(step["exact"])]
    assert len(rows) == 1 + len(replay["methods"])
    choice = replay["policies"]["trained"]["choices"][step["choice"]]
    bars = page.run(
        "return [...document.querySelectorAll('#replay-choice tr')].slice(1).map((row) => [row.cells[0].textContent, "
        "row.querySelector('i').getBoundingClientRect().width])"
    )
    widths = {name.removesuffix(" ◂"): width for name, width in bars}
    assert set(widths) == {*choice["actions"], "not valid"}
    (full,) = page.run("return [document.querySelector('#replay-choice .share').getBoundingClientRect().width]")
    for action, share in zip(choice["actions"], choice["probability"], strict=False):
        assert math.isclose(widths[action], share * full, abs_tol=1.0)


@pytest.mark.parametrize("how", ["best", "worst", "failed", "longest", "random"])
def test_episodes_can_be_picked(page, replay, how):
    page.choose("replay-policy", "untrained")
    page.choose("replay-pick", how)
    episodes = replay["policies"]["untrained"]["episodes"]
    found = episodes[int(page.run("return document.getElementById('replay-episode').value"))]
    returns, lengths = [one["return"] for one in episodes], [one["length"] for one in episodes]
    assert how != "best" or found["return"] == max(returns)
    assert how != "worst" or found["return"] == min(returns)
    assert how != "failed" or found["success"] is False
    assert how != "longest" or found["length"] == max(lengths)
    assert page.text("replay-at") == f"1 of {found['length']}"


@pytest.mark.parametrize("width", [500, 768])
def test_nothing_is_wider_than_a_narrow_window(browser, default_run, width):
    browser.open(default_run / "report.html", width=width)
    assert browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1


def test_what_cannot_be_seen_has_a_name(page):
    unnamed = page.run(
        "return [...document.querySelectorAll('#replay-app button, #replay-app select, #replay-app input')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim() || (one.labels || []).length))"
        ".map((one) => one.outerHTML)"
    )
    assert unnamed == []


PAYLOADS = [
    "<script>window.canary = 1</script>",
    "</script><script>window.canary = 1</script>",
    "<!--<script>",
    "--><img src=x onerror='window.canary = 1'>",
    "javascript:window.canary=1",
    "'\"><svg onload=window.canary=1>",
    "line\u2028separator\u2029 end",
    "</textarea></style></title><iframe src='javascript:parent.canary=1'>",
    "{{7*7}} ${window.canary=1} `",
]


def hostile(value, payload):
    """The same object with the payload in every text of it, keys of tables apart."""
    if isinstance(value, str):
        return payload
    if isinstance(value, list):
        return [hostile(one, payload) for one in value]
    return {key: hostile(one, payload) for key, one in value.items()} if isinstance(value, dict) else value


def copied(run, folder):
    """The files of a run that its page is made from."""
    (folder / "episodes").mkdir(parents=True)
    for name in ("recipe.toml", "manifest.json", "metrics.jsonl", "evaluation.json", "replay.json"):
        (folder / name).write_bytes((run / name).read_bytes())
    newest = max((run / "episodes").glob("main-*.jsonl"))
    (folder / "episodes" / newest.name).write_bytes(newest.read_bytes())
    return folder


def poisoned(run, folder, payload):
    """A copy of a run in which everything that a model, a game or a user wrote is the payload."""
    copied(run, folder)
    found = read_json(folder / "replay.json")
    for policy in found["policies"].values():
        policy["episodes"] = policy["episodes"][:2]
    policies = {name: hostile(policy, payload) for name, policy in found["policies"].items()}
    methods = [{**method, "name": f"{payload} {at}"} for at, method in enumerate(found["methods"])]
    changed = {"game": payload, "methods": methods, "left_out": {payload: payload}, "no_exact_answer": payload}
    write_json(folder / "replay.json", found | {"policies": {**policies, payload: policies["trained"]}} | changed)
    for path in (folder / "episodes").glob("*.jsonl"):
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(json.dumps(hostile(line, payload)) + "\n" for line in lines), encoding="utf-8")
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", {**manifest, "recipe": payload, "versions": {payload: payload}})
    fault = {"stage": "main", "iteration": 1, "kind": payload, "text": payload}
    (folder / "faults.jsonl").write_text(json.dumps(fault) + "\n", encoding="utf-8")
    write_report(folder)
    return folder


# F63. Fails when one text of the replay goes into the page as markup, or the data can end their element.
@pytest.mark.parametrize("payload", PAYLOADS)
def test_f63_hostile_texts_are_shown_and_never_run(browser, default_run, tmp_path, payload):
    folder = poisoned(default_run, tmp_path / "run", payload)
    browser.open(folder / "report.html")
    found = browser.run("return [...document.querySelectorAll('section[id]')].map((section) => section.id)")
    assert [name for name in SECTIONS if name in found] == SECTIONS
    assert browser.text("replay-prompt") == payload
    assert browser.text("replay-reply").startswith(payload)
    browser.choose("replay-policy", payload)
    browser.run("document.getElementById('replay-last').click()")
    assert browser.run("return window.canary === undefined")
    assert browser.run("return document.querySelectorAll('img, iframe, script:not([type]), svg[onload]').length") == 1
    assert browser.errors() == []
    assert browser.addresses() == [(folder / "report.html").resolve().as_uri()]


# F63. A text of 5 MB in every place neither breaks the page nor makes it large.
def test_f63_five_megabytes_of_text_leave_a_page(browser, default_run, tmp_path):
    folder = copied(default_run, tmp_path / "run")
    found = read_json(folder / "replay.json")
    found["policies"]["trained"]["prompts"][0] = "x" * 5_000_000
    write_json(folder / "replay.json", found)
    write_report(folder)
    browser.open(folder / "report.html")
    found = browser.run("return [...document.querySelectorAll('section[id]')].map((section) => section.id)")
    assert [name for name in SECTIONS if name in found] == SECTIONS
    assert browser.errors() == []
    assert (folder / "report.html").stat().st_size < 5_000_000


# Fails when the policy of the page lets a script run that is not its own.
def test_a_script_that_gets_into_the_page_is_refused(browser, default_run, tmp_path):
    text = (default_run / "report.html").read_text("utf-8")
    path = tmp_path / "page.html"
    path.write_text(text.replace("</main>", "<script>window.canary = 1</script></main>"), encoding="utf-8")
    browser.open(path)
    assert browser.run("return window.canary === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in browser.errors())
