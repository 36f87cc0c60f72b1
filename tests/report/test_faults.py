"""What the page says of faults, resumes and repetition."""

import json

import pytest

from lapwing.report.faults import faults_section

CPU = {"versions": {"torch": "2.13.0+cpu"}, "threads": 2, "device": "cpu", "ranks": [1]}
STAGES = [{"name": "main", "model": {"name": "tiny"}, "game": {"name": "frozen_lake"}}]


def section(faults=(), rows=(), manifest=None, stages=STAGES):
    return faults_section(faults, rows, CPU if manifest is None else manifest, stages)


def fault(iteration, kind="game", stage="main", **more):
    return {"stage": stage, "iteration": iteration, "kind": kind, "text": f"{kind} {iteration}", **more}


def rows(name, *values, stage="main"):
    return [{"stage": stage, "iteration": i, name: value} for i, value in enumerate(values)]


def test_faults_are_grouped_by_kind_with_their_first_text():
    alarms = [fault(5, "alarm", alarm="gap"), fault(9, "alarm", alarm="entropy")]
    faults = [fault(2, "update", "warm_start"), fault(3), fault(5, "update"), fault(7), *alarms]
    assert section(faults).kinds == [
        ["update left out", "2", "2 of warm_start", "5", "update 2"],
        ["match left out: its game failed twice", "2", "3", "7", "game 3"],
        ["alarm: gap", "1", "5", "5", "alarm 5"],
        ["alarm: entropy", "1", "9", "9", "alarm 9"],
    ]


def test_a_long_text_is_cut_and_a_line_that_lacks_everything_is_counted():
    found = section([{"text": "x" * 10_000}]).kinds
    assert found == [["unknown", "1", "?", "?", "x" * 300 + "…"]]


def test_what_every_iteration_counts_is_added_up():
    (found,) = section(rows=rows("rollout/dropped", 0, 2, 0, 3, 0)).counts
    assert found[1:] == ["5", "1", "3"]
    assert found[0].startswith("matches: given up at the deadline")


def test_what_is_counted_since_the_beginning_is_not_added_up_and_begins_anew_after_a_resume():
    # 1, 2 more, then a new process: 1, and 1 more.
    (found,) = section(rows=rows("collector/deaths", 0, 1, 3, 3, 1, 2)).counts
    assert found == ["processes: actors or workers that died or hung and were replaced", "5", "1", "5"]


def test_without_any_fault_there_are_no_rows():
    found = section(rows=rows("rollout/dropped", 0, 0))
    assert (found.kinds, found.counts, found.resumes) == ([], [], [])


def test_a_resume_says_what_was_skipped_cut_and_changed():
    one = {
        "stage": "main", "iteration": 40, "skipped": {"60": ["model.safetensors has another hash"]}, "cut_lines": 3,
        "cut_half_lines": 1, "leftovers": ["x"], "changes": ["main.iterations: 60 -> 80"], "warnings": [],
    }  # fmt: skip
    assert section(manifest={**CPU, "resumes": [one]}).resumes == [
        "Resumed at iteration 40 of main; 4 lines of the logs had no checkpoint and were made again; half-written "
        "folders of the process before were removed; checkpoint 60 was skipped (model.safetensors has another hash); "
        "changed: main.iterations: 60 -> 80."
    ]
    assert section(manifest={**CPU, "resumed_at": [7]}).resumes == ["Resumed at iteration 7 of main."]


def test_a_run_on_a_processor_repeats_and_says_on_which_conditions():
    found = section()
    assert found.is_exact is True
    (said,) = found.exactness
    assert "these versions, 2 threads and a processor of the same kind" in said


def test_without_a_manifest_nobody_can_tell():
    assert section(manifest={}).is_exact is None


def of_stage(**sections):
    return [{**STAGES[0], **sections}]


RESUMED = "the run began with threads 1 and goes on with 2"
WHY = {
    "ranks": ({"ranks": [2, 1]}, STAGES, [], "2, then 1 ranks"),
    "another thread count": ({"resumes": [{"iteration": 9, "warnings": [RESUMED]}]}, STAGES, [], f"9, {RESUMED}."),
    "another recipe": (
        {"resumes": [{"iteration": 9, "changes": ["x"]}]},
        STAGES,
        [],
        "was changed when it was resumed",
    ),
    "a GPU": ({"device": "cuda:0"}, STAGES, [], "trained on cuda:0"),
    "perhaps a GPU": (
        {"device": None, "versions": {"torch": "2.13.0"}},
        of_stage(model={"name": "pretrained", "device": "auto"}),
        [],
        "may have been trained on a GPU",
    ),
    "weights of another run": ({"start_from": "runs/x"}, STAGES, [], "the weights of another run, runs/x"),
    "an API": ({}, of_stage(opponents=[{"name": "agent", "generation": {"name": "openai_api"}}]), [], "behind an API"),
    "code of its own": ({}, of_stage(game={"name": "my_games.lake:Lake"}), [], "my_games.lake:Lake is code of its own"),
    "play ahead": ({}, of_stage(collector={"name": "ray", "ahead": 1}), [], "was played ahead"),
    "a deadline": ({}, of_stage(collector={"name": "isolated"}), rows("rollout/dropped", 0, 1), "Matches were cut"),
}


@pytest.mark.parametrize(("manifest", "stages", "logged", "said"), WHY.values(), ids=WHY)
def test_f36_where_repetition_is_not_promised_the_reason_is_said(manifest, stages, logged, said):
    found = section(rows=logged, manifest=CPU | manifest, stages=stages)
    assert found.is_exact is False
    (reason,) = found.exactness
    assert said in reason


def test_a_cpu_build_of_torch_has_no_gpu_and_matches_that_ran_out_of_time_here_are_no_reason():
    stages = of_stage(model={"name": "pretrained", "device": "auto"})
    assert section(manifest={**CPU, "device": None}, stages=stages).is_exact is True
    assert section(rows=rows("rollout/dropped", 1)).is_exact is True


def test_the_page_says_plainly_that_there_were_none(finished_run, read):
    _, page = read(finished_run)
    assert "No faults: no game failed" in page.text
    assert "Never resumed." in page.text
    assert "It repeats to the last bit." in page.text


def test_the_page_escapes_what_games_say(make_run, read):
    folder = make_run(iterations=None, manifest={"resumes": [{"iteration": "<i>", "warnings": ["</ul><script>"]}]})
    lines = [fault(3, text="<script>alert(1)</script>"), fault(1, "<img src=x>", text="y")]
    (folder / "faults.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, page = read(folder)
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x>" in page.text
    assert "Resumed at iteration <i> of main; </ul><script>." in page.text
    assert not {"script", "img", "i"} & set(page.tags)
    assert not page.wrong
    assert "is not promised" in page.text
