import html
import json
import re
import shutil

import pytest

from lapwing.core.errors import LapwingError, UserError
from lapwing.report.page import write_report
from lapwing.report.verdict import verdict

SECTIONS = {"verdict", "comparison", "curves", "faults", "repeat"}
FIGURES = {
    "success-by-episodes", "success-by-seconds", "return", "entropy", "zero-spread", "valid", "gradient", "kl", "clip",
    "tokens", "length", "time-share", "time", "warm-start",
}  # fmt: skip
PAYLOADS = [
    "<script>document.title='HACKED'</script>",
    "<!--<script>",
    "</script></pre></details>",
    "</title><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a\u2028b\u2029c",
    "$\\frac{1}{2}$ & $x",
]


def test_a_finished_run_has_every_section_and_figure_once(finished_run, read):
    text, page = read(finished_run)
    assert set(page.ids) >= SECTIONS
    assert {name.removeprefix("figure-") for name in page.ids if name.startswith("figure-")} == FIGURES
    assert len(page.ids) == len(set(page.ids))
    assert not page.wrong
    assert not page.open
    assert page.tags.count("svg") == len(FIGURES) + 1
    assert "has not finished" not in page.text
    assert len(text) < 1_000_000


def test_the_verdict_is_the_one_of_the_terminal_and_comes_first(finished_run, read):
    said = verdict(json.loads((finished_run / "evaluation.json").read_text())).sentence
    _, page = read(finished_run)
    assert said in page.text
    assert min(page.ids.index(name) for name in SECTIONS) == page.ids.index("verdict")


def test_what_the_returns_are_to_be_held_against_stands_below_the_table(finished_run, read, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    evaluation = json.loads((folder / "evaluation.json").read_text())
    evaluation["references"] = {"best_known": {"return": 11.83, "source": "the <b>heuristic</b>"}}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    write_report(folder)
    _, page = read(folder)
    assert "Best known: the <b>heuristic</b>." in page.text
    assert "11.830" in page.text
    assert not page.wrong


def test_every_figure_has_a_caption_and_a_title(finished_run, read):
    text, page = read(finished_run)
    assert page.tags.count("figcaption") == page.tags.count("svg") == len(re.findall(r"<svg[^>]*>\n<title", text))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text, flags=re.DOTALL)
    assert all(caption.strip().endswith(".") and "\n" not in caption for caption in captions)


def test_the_recipe_the_versions_and_the_commands_are_there(finished_run, read):
    _, page = read(finished_run)
    for part in ("lapwing train RUN/recipe.toml", 'name = "grpo"', "torch2.13.0", "9f3e267", "570,368", "30,720"):
        assert part in page.text, part


def test_transfer_games_have_tables_of_their_own(make_run, make_evaluation, read):
    _, page = read(make_run(iterations=None, transfer={"5x5": make_evaluation(trained=0.61, untrained=0.02)}))
    # The margins beside the verdict, the two games, and what was run.
    assert page.tags.count("table") == 4
    assert "Transfer: 5x5" in page.text
    assert "0.610 [0.590, 0.630]" in page.text


@pytest.mark.parametrize(("status", "said"), [("interrupted", "It was interrupted"), ("running", "It was running")])
def test_a_run_that_has_not_finished_says_so_and_shows_what_there_is(make_run, status, said, read):
    folder = make_run(iterations=7, evaluation=None, manifest={"status": status, "seconds": {}})
    _, page = read(folder)
    assert "This run has not finished." in page.text
    assert f"{said}" in page.text
    assert "7 of 60 iterations" in page.text
    assert "No verdict yet" in page.text
    assert set(page.ids) >= SECTIONS | {"figure-entropy", "figure-success-by-episodes"}


@pytest.mark.parametrize("kept", ["recipe.toml", "manifest.json", "metrics.jsonl"])
def test_one_file_of_a_run_is_enough_for_a_page(make_run, kept, read):
    folder = make_run()
    for path in folder.iterdir():
        if path.name != kept:
            path.unlink()
    _, page = read(folder)
    assert set(page.ids) >= SECTIONS
    assert not page.wrong


def test_a_page_can_be_written_before_the_first_iteration(make_run, read):
    folder = make_run(iterations=0, evaluation=None, manifest={"status": "running", "seconds": {}})
    (folder / "metrics.jsonl").write_text("")
    _, page = read(folder)
    assert "Nothing has been logged yet." in page.text


def test_a_half_written_last_line_is_left_out(make_run, finished_run):
    folder = make_run()
    whole = (finished_run / "report.html").read_bytes()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "main", "itera')
    assert write_report(folder).read_bytes() == whole


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is no run"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_file_is_named_and_leaves_the_old_page(make_run):
    folder = make_run(iterations=None)
    before = write_report(folder).read_bytes()
    (folder / "evaluation.json").write_text("{")
    with pytest.raises(LapwingError, match=r"evaluation\.json"):
        write_report(folder)
    assert (folder / "report.html").read_bytes() == before


def test_a_recipe_that_is_no_toml_is_still_shown(make_run, read):
    folder = make_run(iterations=None)
    (folder / "recipe.toml").write_text("this is = = no TOML <b>")
    _, page = read(folder)
    assert "this is = = no TOML <b>" in page.text


def test_equal_files_give_equal_bytes(make_run, finished_run):
    folder = make_run(name="elsewhere")
    first = (finished_run / "report.html").read_bytes()
    assert write_report(folder).read_bytes() == first
    assert write_report(folder).read_bytes() == first


def test_the_page_loads_nothing(finished_run, read):
    text, page = read(finished_run)
    assert not re.search(r"https?:|//[a-z]", text)
    assert not {"script", "img", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    assert not {"src", "srcset", "action", "xlink:href"} & {name for name, _ in page.attributes}
    assert all(value and value.startswith("#") for name, value in page.attributes if name == "href")
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_a_policy_forbids_everything_but_styles(finished_run, read):
    text, _ = read(finished_run)
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', text)
    assert policy is not None
    assert policy[1] == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert text.index(policy[0]) < text.index("<style")


@pytest.fixture(scope="module")
def harmless_page(tmp_path_factory, write_run, make_evaluation, read):
    plain = make_evaluation(trained=0.9, untrained=0.1, heuristic=0.5)
    folder = tmp_path_factory.mktemp("harmless") / "plain"
    return read(write_run(folder, iterations=None, evaluation=plain | {"game": "x"}, transfer={"5x5": plain}))[1]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_from_files_is_shown_and_never_obeyed(make_run, make_evaluation, payload, read, harmless_page):
    """Every place that holds text: recipe, manifest, versions, game, policies, resolved recipe."""
    plain = make_evaluation(trained=0.9, untrained=0.1, heuristic=0.5)
    evaluation = {**plain, "game": payload, "policies": {**plain["policies"], payload: plain["policies"]["heuristic"]}}
    settings = {
        "manifest": {
            "recipe": payload,
            "seed": payload,
            "status": payload,
            "lapwing": payload,
            "versions": {payload: payload},
            "created": payload,
            "commit": payload,
        },
        "recipe": {"name": payload, "note": [payload]},
    }
    text, page = read(make_run(iterations=None, **settings, evaluation=evaluation, transfer={"5x5": evaluation}))
    harmless = harmless_page
    visible = "".join(page.texts)
    assert visible.count(payload) >= 12
    assert not page.wrong
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in harmless.attributes}
    if html.escape(payload) != payload:
        assert payload not in text


def test_a_file_name_is_escaped_too(make_run, make_evaluation, read):
    _, page = read(make_run(iterations=None, transfer={"<b onclick=x>": make_evaluation(trained=0.5)}))
    assert "Transfer: <b onclick=x>" in page.text
    assert "b" not in page.tags


def test_a_huge_text_neither_breaks_the_page_nor_fills_it(make_run, read):
    text, page = read(
        make_run(iterations=None, manifest={"recipe": "x" * 5_000_000}, recipe={"note": "<&" * 1_000_000})
    )
    assert len(text) < 1_000_000
    assert set(page.ids) >= SECTIONS
    assert not page.wrong


def test_a_long_run_gives_a_small_page(make_run, read):
    text, _ = read(make_run(iterations=5_000))
    assert len(text) < 1_000_000


def test_resumes_are_marked_and_explained(make_run, finished_run, read):
    plain, _ = read(finished_run)
    text, page = read(make_run(manifest={"resumed_at": [0, 20, 41]}))
    # Three dotted lines in each of the eleven curves of the main stage.
    assert text.count("stroke-dasharray: 1,2") == 33
    assert "stroke-dasharray: 1,2" not in plain
    assert "resumed here" in page.text
    assert "resumed at iteration0, 20, 41" in page.text


def test_a_game_with_a_score_shows_its_score(make_run, make_evaluation, read):
    folder = make_run(evaluation=make_evaluation(trained=3.0, untrained=1.0, success=False, score=True))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        row.pop("rollout/success")
        if "evaluation/success" in row:
            row["evaluation/score"] = 3 * row.pop("evaluation/success")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, page = read(folder)
    assert {"figure-score-by-episodes", "figure-score-by-seconds"} <= set(page.ids)
    assert "Score of the development matches (score)" in page.text


def test_iterations_that_learnt_nothing_do_not_drag_the_gradient_down(make_run, read):
    folder = make_run()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows[-5:]:
        row.update({"update/skipped": 1.0, "update/gradient_norm": 0.0})
        del row["policy/entropy"], row["policy/kl"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, page = read(folder)
    assert "Iterations without an update are left out. Logarithmic axis." in page.text


def logged_parts(folder, **values):
    """Add parts to the rows of a log in which development matches were played."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if "evaluation/success" in row:
            row.update({f"evaluation/part:{name}": value for name, value in values.items()})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_parts_of_the_reward_have_a_table_and_a_figure(make_run, make_evaluation, read):
    evaluation = make_evaluation(trained=0.9, guess=0.1)
    evaluation["policies"]["trained"]["parts"] = {"exact_match": {"mean": 0.81, "low": 0.78, "high": 0.84}}
    transfer = make_evaluation(trained=0.5)
    folder = make_run(evaluation=evaluation, transfer={"two hops": transfer})
    text, page = read(logged_parts(folder, exact_match=0.5, tool_execution=0.25))
    assert "0.810 [0.780, 0.840]" in page.text
    assert "guess (no call)" in page.text
    assert page.text.count("Named parts of the reward, summed") == 1
    assert "figure-parts" in page.ids
    figure = text[text.index('id="figure-parts"') : text.index('id="figure-entropy"')]
    assert ">exact_match<" in figure
    assert ">tool_execution<" in figure
    # Shares are drawn on the whole of their range.
    assert ">1.0<" in figure
    assert ">0.0<" in figure


# That no part makes no figure is said by the list of FIGURES.
@pytest.mark.parametrize(("count", "figures"), [(6, [6]), (7, [4, 3]), (13, [5, 4, 4])])
def test_a_figure_has_as_many_parts_as_there_are_colours(make_run, read, count, figures):
    text, page = read(logged_parts(make_run(iterations=10), **{f"one{n}": n * 1.5 for n in range(count)}))
    names = [f"figure-parts-{n}" for n in range(1, len(figures) + 1)] if len(figures) > 1 else ["figure-parts"]
    assert [name for name in page.ids if name.startswith("figure-parts")] == names[: len(figures)]
    drawn = [len(re.findall(r">one\d+<", part)) for part in text.split('<figure id="figure-parts')[1:]]
    assert drawn == figures


# As many on a page as a figure has colours: a page takes a second to draw.
NAMES = [*PAYLOADS, "\u8fd4\u4e8b", "_hidden", "x" * 100_000]


@pytest.mark.parametrize("names", [NAMES[:6], NAMES[6:]], ids=["markup", "the rest"])
def test_the_name_of_a_part_is_text(make_run, make_evaluation, read, names):
    evaluation = make_evaluation(trained=0.9, untrained=0.1)
    evaluation["policies"]["trained"]["parts"] = {name: {"mean": 0.8, "low": 0.7, "high": 0.9} for name in names}
    _, page = read(logged_parts(make_run(iterations=10, evaluation=evaluation), **dict.fromkeys(names, 0.5)))
    shown = "".join(page.texts)
    assert [name for name in names if name not in shown] == []
    assert "figure-parts" in page.ids
    assert not page.wrong
    assert {"script", "img"} & set(page.tags) == set()
    assert {"onmouseover", "onerror"} & {name for name, _ in page.attributes} == set()


@pytest.mark.parametrize(
    ("ranks", "said"), [([1, 1], None), ([2, 2], "ranks2"), ([2, 1], "ranks2, then 1: not repeatable to the last bit")]
)
def test_a_change_of_ranks_is_said(make_run, read, ranks, said):
    _, page = read(make_run(iterations=None, manifest={"ranks": ranks}))
    assert "ranks" not in page.text if said is None else said in page.text
