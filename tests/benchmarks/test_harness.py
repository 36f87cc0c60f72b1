"""What the benchmark scripts share: arms are processes of their own that take turns, and results are kept whole."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load():
    spec = importlib.util.spec_from_file_location("benchmark_harness", BENCHMARKS / "harness.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


harness = load()

WORK = """
import os, time

def make(name="one", log=None, episodes=4, megabytes=0, fails_at=None):
    print("prepared", name)
    held = b"x" * (megabytes * 2**20)
    done = 0

    def work(**task):
        nonlocal done
        if done == fails_at:
            raise ValueError("no more")
        done += 1
        print("working")
        if log is not None:
            with open(log, "a") as file:
                file.write(f"{name}+ ")
                file.flush()
                time.sleep(0.02)
                file.write(f"{name}- ")
        return {"episodes": episodes, "done": done, "held": len(held), "threads": int(os.environ["OMP_NUM_THREADS"]),
                **task}

    return work
"""


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    return f"{tmp_path / 'work.py'}:make"


def test_an_arm_counts_and_what_it_prints_is_no_answer(work):
    arm = harness.Arm("first", work, {"episodes": 6}, threads=3)
    with harness.started([arm]):
        first, second = arm.step(), arm.step(extra=5)
    assert (first["done"], second["done"], second["extra"], first["threads"]) == (1, 2, 5, 3)
    assert first["episodes_per_second"] == pytest.approx(6 / first["seconds"])
    assert first["episodes_per_cpu_second"] == pytest.approx(6 / first["cpu_seconds"])
    assert arm.prepared["seconds"] > 0
    assert second["peak_bytes"] >= arm.prepared["peak_bytes"] > 0


def test_peak_memory_is_the_arms_own(work):
    arms = [harness.Arm(name, work, {"megabytes": size}) for name, size in (("large", 200), ("small", 0))]
    found = harness.interleave(arms, rounds=1, warmup=0)
    assert found["large"]["median"]["peak_bytes"] > found["small"]["median"]["peak_bytes"] + 150 * 2**20


def test_peak_memory_is_not_that_of_who_started_the_arm(work):
    held = b"x" * (200 * 2**20)
    with harness.started([arm := harness.Arm("small", work)]):
        assert arm.prepared["peak_bytes"] < len(held)


def test_arms_take_turns_and_the_order_rotates(work, tmp_path):
    log = tmp_path / "log"
    arms = [harness.Arm(name, work, {"name": name, "log": str(log)}) for name in "abc"]
    told = []
    found = harness.interleave(arms, rounds=3, warmup=1, report=lambda name, number, _: told.append((name, number)))
    # Each ends before the next begins.
    assert log.read_text().split() == [f"{name}{sign}" for name in "abcbcacababc" for sign in "+-"]
    assert told[:4] == [("a", -1), ("b", -1), ("c", -1), ("b", 0)]
    assert [row["done"] for row in found["a"]["rounds"]] == [2, 3, 4]
    assert (found["a"]["low"]["done"], found["a"]["median"]["done"], found["a"]["high"]["done"]) == (2.5, 3, 3.5)


def test_a_round_may_have_a_task_of_its_own(work):
    found = harness.interleave([harness.Arm("a", work)], rounds=2, warmup=1, task=lambda number: {"size": 10**number})
    assert [row["size"] for row in found["a"]["rounds"]] == [10, 100]


def test_an_arm_that_fails_is_named_and_the_others_end(work):
    arms = [harness.Arm("good", work), harness.Arm("bad", work, {"fails_at": 0})]
    with pytest.raises(RuntimeError, match="The arm bad ended with exit code 1"):
        harness.interleave(arms, rounds=1)
    assert all(arm._process is None for arm in arms)


def test_a_file_that_is_not_there_is_said(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="The arm none ended"):
        harness.Arm("none", f"{tmp_path}/nowhere.py:make").prepare()
    assert "There is no file" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], (3, 3, 3)), ([4.0, 2.0], (2.5, 3, 3.5)), ([1.0, 2.0, 3.0, 4.0, 100.0], (2, 3, 4))],
    ids=["one value has no spread", "between two on a straight line", "an outlier does not move them"],
)
def test_quartiles(values, expected):
    assert harness.quartiles(values) == expected


def test_ratios_are_paired_within_rounds():
    # The machine is half as fast in the second round, for both: the ratio is 10 in each, its spread none.
    found = {
        "ours": {"rounds": [{"rate": 100.0}, {"rate": 50.0}]},
        "theirs": {"rounds": [{"rate": 10.0}, {"rate": 5.0}]},
    }
    assert harness.ratios(found, "rate", "theirs") == {
        "ours": {"median": 10.0, "low": 10.0, "high": 10.0},
        "theirs": {"median": 1.0, "low": 1.0, "high": 1.0},
    }


def test_what_not_all_rounds_counted_has_no_median():
    assert harness.spread([{"a": 1.0, "b": 2.0, "name": "x"}, {"a": 3.0, "name": "y"}])["median"] == {"a": 2.0}
    assert harness.spread([]) == {"low": {}, "median": {}, "high": {}}


def test_results_are_put_beside_those_of_others(tmp_path):
    path = tmp_path / "docs" / "performance.json"
    harness.write_results("growth", {"x": 1}, path=path)
    harness.write_results("peers", {"y": 2}, part="fixed", threads=1, path=path)
    harness.write_results("peers", {"y": 3}, part="random", path=path)
    harness.write_results("peers", {"y": 4}, part="fixed", path=path)
    found = json.loads(path.read_text())
    assert found["growth"]["x"] == 1
    assert {name: part["y"] for name, part in found["peers"].items()} == {"fixed": 4, "random": 3}
    assert found["growth"]["machine"]["python"] in sys.version
    assert found["growth"]["command"].startswith("python ")
    assert [one.name for one in path.parent.iterdir()] == ["performance.json"]


def test_a_write_that_fails_leaves_the_old_results(tmp_path):
    path = tmp_path / "performance.json"
    harness.write_results("growth", {"x": 1}, path=path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        harness.write_results("growth", {"x": object()}, path=path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["performance.json"]


def test_the_matmul_rate_is_that_of_the_best_try(monkeypatch):
    # Tries of 4, 2 and 3 seconds; 2·8³ = 1024 operations in 2 s are 512 a second.
    times = iter([0.0, 4.0, 10.0, 12.0, 20.0, 23.0])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(times))
    assert harness.matmul_rate(threads=1, size=8, tries=3) == 512.0
