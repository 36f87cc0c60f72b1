"""Updates that are not finite: kept as batches, rolled back, and made again to the last bit."""

import shutil

import numpy as np
import pytest
import torch

import lapwing
from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.errors import LapwingError
from lapwing.core.storage import read_json_lines

# A selection that makes no use of the advantage.
SET = ("selection={name='all_episodes'}",)


@pytest.fixture
def break_updates(monkeypatch):
    """Make the loss NaN in some iterations of the main stage."""

    def install(iterations):
        make = build.make_stage

        def broken(plan, shop):
            stage = make(plan, shop)
            if stage.name == "main":
                credit, played = stage.credit, iter(range(stage.iterations))
                draw = stage.sampler.draw

                def drawn(iteration):
                    nonlocal played
                    played = iteration
                    return draw(iteration)

                stage.sampler.draw = drawn
                stage.credit = lambda batch: credit(batch) * (np.nan if played in iterations else 1.0)
            return stage

        monkeypatch.setattr(build, "make_stage", broken)

    return install


# F41. Fails when nothing is dumped, when the run goes on without a rollback, or rolls back to where a signal saved.
def test_f41_updates_that_are_not_finite_in_a_row_end_in_a_rollback(tmp_path, small, break_updates, what_counts):
    break_updates({2, 3, 4})
    run = lapwing.train(
        "frozen_lake_tiny", run=tmp_path / "run", overrides=(*small, *SET, "alarms.rollback_after=3")
    ).path
    faults = read_json_lines(run / "faults.jsonl")
    assert [(fault["iteration"], fault["kind"]) for fault in faults] == [
        *((n, "update") for n in (2, 3, 4)),
        (4, "alarm"),
        (4, "rollback"),
    ]
    assert faults[-1]["text"] == "weights and moments were put back to those of checkpoint 4"
    assert sorted(path.name for path in (run / "faults").iterdir()) == [f"main-00000{n}.npz" for n in (3, 4, 5)]
    batch = EpisodeBatch.load(run / "faults" / "main-000003.npz")
    assert batch.num_episodes == 18
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if row["stage"] == "main"]
    assert [row["update/count"] for row in rows] == [2, 2, 0, 0, 0, 2]
    # Killed after it, and continued from before it: the same run.
    again = shutil.copytree(run, tmp_path / "again")
    shutil.rmtree(again / "checkpoints" / "6")
    manifest = (again / "manifest.json").read_text().replace('"finished"', '"running"')
    (again / "manifest.json").write_text(manifest)
    lapwing.resume(again)
    assert what_counts(again) == what_counts(run)


def test_f41_a_run_whose_updates_are_never_finite_ends_with_advice(tmp_path, small, break_updates):
    # Fails when rollbacks are not counted: such a run would go on for ever, and learn nothing.
    break_updates(set(range(1, 30)))
    overrides = (*small, *SET, "iterations=30", "alarms.rollback_after=2", "evaluation.every=0")
    with pytest.raises(LapwingError, match=r"put back 3 times and still no update was finite.*lapwing resume"):
        lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=overrides)


def test_f41_weights_that_cannot_be_sampled_from_are_put_back(tmp_path, small, monkeypatch):
    # Fails when the error of the sampler ends the run, or the iteration is left out.
    make, broken = build.make_stage, []

    def stage_of(plan, shop):
        stage = make(plan, shop)
        if stage.name == "main":
            draw = stage.sampler.draw

            def drawn(iteration):
                if iteration == 3 and not broken:
                    broken.append(shop.model)
                    with torch.no_grad():
                        next(shop.model.parameters()).fill_(float("nan"))
                    stage.load(stage.policy.version)
                return draw(iteration)

            stage.sampler.draw = drawn
        return stage

    monkeypatch.setattr(build, "make_stage", stage_of)
    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=small).path
    assert broken
    faults = read_json_lines(run / "faults.jsonl")
    assert [(fault["iteration"], fault["kind"]) for fault in faults] == [(3, "sampling"), (3, "rollback")]
    rows = [row for row in read_json_lines(run / "metrics.jsonl") if row["stage"] == "main"]
    assert [row["iteration"] for row in rows] == list(range(6))
    assert all(torch.isfinite(p).all() for p in broken[0].parameters())
