"""Faults that the tests must find: each is put into a copy of the sources, and the test that is named must fail.

Part of `make soak`; `python benchmarks/mutants.py [NAME …]` tries some of them. A test that passes without the mutant
and fails with it guards what it says; one that passes with it does not.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOUND, MISSED = "found", "NOT FOUND"
_SECONDS = 600


@dataclass(frozen=True)
class Mutant:
    """One small change.

    Attributes:
      name: what is wrong then; begins with the number of the fault case.
      file: below src/lapwing.
      old, new: text that is there once, and what takes its place.
      test: what pytest is given.
    """

    name: str
    file: str
    old: str
    new: str
    test: str


KILLS = "tests/faults/test_kills.py::test_f01_a_run_that_is_killed_again_and_again_equals_one_that_was_not"
SIGNALS = "tests/faults/test_signals.py::test_f3_f4_a_signal_saves_the_run_and_leaves_nothing"
SEPARATE = "tests/faults/test_resume_separate.py::test_a_run_of_two_models_that_was_cut_equals_one_that_was_not"
MUTANTS = (
    Mutant(
        "F01 moments are not taken back",
        "training/learner.py",
        "                self.optimizer.state[weight] = found\n",
        "                pass\n",
        f"{KILLS}[tiny]",
    ),
    Mutant(
        "F01 the average of the weights is not taken back",
        "training/learner.py",
        '                self._average[index].copy_(tensors[f"average.{index}"])\n',
        "                pass\n",
        f"{KILLS}[average]",
    ),
    Mutant(
        "F01 the critic is not taken back",
        "training/run_state.py",
        "            critic.restore(own)\n",
        "            pass\n",
        f"{KILLS}[ppo]",
    ),
    Mutant(
        "F01 the moments of a second model are not taken back",
        "training/seat_learners.py",
        "            learner.restore(own, int(own[_VERSION]))\n",
        "            learner.version = int(own[_VERSION])\n",
        SEPARATE,
    ),
    Mutant(
        "F01 the version of a second model is not taken back",
        "training/seat_learners.py",
        "            learner.restore(own, int(own[_VERSION]))\n",
        "            learner.restore(own, 0)\n",
        SEPARATE,
    ),
    Mutant(
        "F01 the weights of a second model are not taken back",
        "training/run_state.py",
        '{"model": self.model, **self.others}',
        '{"model": self.model}',
        SEPARATE,
    ),
    Mutant(
        "F01 the critic of a second model is not taken back",
        "training/by_seat.py",
        "            critic.restore(own)\n",
        "            critic.restore(own_tensors(self.by_seat, tensors)[0])\n",
        SEPARATE,
    ),
    Mutant(
        "F01 the sampler's pool is not taken back",
        "training/stage_memory.py",
        "    stage.sampler.restore(memory.sampler)\n",
        "",
        f"{KILLS}[average]",
    ),
    Mutant(
        "F01 what methods remember is not taken back",
        "training/stage_memory.py",
        "        method.state = state\n",
        "        del method, state\n",
        "tests/training/test_stage_memory.py::test_a_resumed_run_remembers_what_the_whole_one_does",
    ),
    Mutant(
        "F01 the weight of the entropy bonus begins again",
        "training/learner.py",
        "        self.objective.restore(tensors)\n",
        "",
        f"{KILLS}[memory]",
    ),
    Mutant(
        "F01 the learner begins again with version 0",
        "training/run_state.py",
        'learner.restore(tensors, int(state["learner_version"]))',
        "learner.restore(tensors, 0)",
        f"{KILLS}[tiny]",
    ),
    Mutant(
        "F01 totals begin again",
        "training/run_state.py",
        'self.totals, self.rollbacks = dict(state["totals"])',
        "self.totals, self.rollbacks = {}",
        f"{KILLS}[tiny]",
    ),
    Mutant(
        "F01 an adapter is not loaded",
        "training/run_state.py",
        "        lora.load_adapter(model, folder)\n",
        "",
        f"{KILLS}[lora]",
    ),
    Mutant(
        "F23 lines of iterations that are made again stay",
        "training/resumption.py",
        'int(row["iteration"]) < first)',
        "True)",
        "tests/faults/test_resumption.py::test_f23_lines_beyond_the_checkpoint_and_half_ones_are_cut_and_counted",
    ),
    Mutant(
        "F02 one checkpoint is kept",
        "training/checkpoint.py",
        "    for path in found[:-keep]:\n",
        "    for path in found[:-1]:\n",
        "tests/faults/test_checkpoints.py::test_f02_a_kill_before_any_operation_of_a_save_leaves_a_whole_checkpoint",
    ),
    Mutant(
        "F03 half an iteration is saved as a whole one",
        "training/session.py",
        "self._state.save(stage, learner, iteration, before=before)",
        "self._state.save(stage, learner, iteration + 1, before=before)",
        "tests/faults/test_signals.py::test_f3_half_an_iteration_is_played_again",
    ),
    Mutant(
        "F03 the command to go on lacks the folder",
        "training/interruption.py",
        "Continue with: lapwing resume {shlex.quote(str(self.run))}",
        "Continue with: lapwing resume RUN",
        SIGNALS,
    ),
    Mutant(
        "F04 a second signal waits as the first does",
        "training/interruption.py",
        "    def _receive(self, number: int, frame: FrameType | None) -> None:\n        if self.signal_number:",
        "    def _receive(self, number: int, frame: FrameType | None) -> None:\n        if False:",
        "tests/faults/test_signals.py::test_f4_a_second_signal_ends_the_run_at_once",
    ),
    Mutant(
        "F06 nobody takes the lock",
        "training/run_lock.py",
        "            self._lock.acquire(timeout=0)\n",
        "            pass\n",
        "tests/faults/test_resumption.py::test_f6_a_second_writer_is_refused_with_the_name_of_the_first",
    ),
    Mutant(
        "F08 a resume begins one iteration late",
        "training/run_state.py",
        'return int(state["iteration"]), tensors, state["row"]',
        'return int(state["iteration"]) + 1, tensors, state["row"]',
        "tests/faults/test_kills.py::test_f8_what_is_left_of_a_run_is_really_run",
    ),
    Mutant(
        "F13 a duration begins with the wall clock",
        "training/clock.py",
        "        started = time.monotonic()\n",
        "        started = time.time()\n",
        "tests/faults/test_kills.py::test_f13_a_clock_that_goes_back_makes_no_negative_time",
    ),
    Mutant(
        "F15 hashes are not compared",
        "training/checkpoint.py",
        'return "" if hashlib.file_digest(file, "blake2b").hexdigest() == digest else "has changed"',
        'return ""',
        "tests/faults/test_checkpoints.py::test_f15_every_flipped_bit_is_found",
    ),
    Mutant(
        "F17 a missing file is nothing",
        "training/checkpoint.py",
        'return "is missing or cannot be read"',
        'return ""',
        "tests/faults/test_checkpoints.py::test_f17_a_missing_file_is_named",
    ),
    Mutant(
        "F19 a run without a checkpoint begins anew unasked",
        "training/resumption.py",
        "    if skipped and not anew:\n",
        "    if False:\n",
        "tests/faults/test_resumption.py::test_f19_without_a_checkpoint_that_can_be_used_nothing_is_done_unless_it_is_asked_for",
    ),
    Mutant(
        "F23 half a line counts as a line",
        "core/storage.py",
        'lines = path.read_bytes().split(b"\\n")[:-1]',
        'lines = path.read_bytes().split(b"\\n")',
        "tests/faults/test_resumption.py::test_f23_lines_beyond_the_checkpoint_and_half_ones_are_cut_and_counted",
    ),
    Mutant(
        "F63 a text of the replay may end its element",
        "report/replay.py",
        "allow_nan=False).translate(_TABLE)",
        "allow_nan=False)",
        "tests/report/test_replay.py::test_any_text_survives_and_cannot_end_its_element",
    ),
)


def judge(mutant: Mutant) -> str:
    """Try a mutant in a copy of its own.

    Args:
      mutant: what to change and which test to run.

    Returns:
      `FOUND`, `MISSED`, or why it could not be tried.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name)
        for part in ("src", "tests", "docs", "benchmarks"):
            shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / "src" / "lapwing" / mutant.file
        text = path.read_text("utf-8")
        if text.count(mutant.old) != 1:
            return f"{mutant.file} holds the text {text.count(mutant.old)} times"
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        code, output = run(copy, mutant.test)
        if code == 0:
            return MISSED
        # Pytest's 1 is a test that failed; all else is a mutant that cannot be imported, or a test that is not there.
        return FOUND if code == 1 and " failed" in output else f"pytest ended with {code}: {output[-500:]}"


def run(copy: Path, test: str) -> tuple[int, str]:
    """Run a test against the sources of a copy."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", test],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )
    return done.returncode, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants whose names begin so; all if left out")
    names = parser.parse_args().names
    bad = 0
    for mutant in MUTANTS:
        if not names or mutant.name.startswith(tuple(names)):
            outcome = judge(mutant)
            bad += outcome != FOUND
            print(f"{outcome:<10} {mutant.name}", flush=True)
    if bad:
        raise SystemExit(f"{bad} mutants were not found")


if __name__ == "__main__":
    main()
