"""The two stages of mixed preference optimisation: which weights are the reference of the second."""

import hashlib

import numpy as np
import pytest

from lapwing import build
from lapwing.training.run_folder import RunFolder
from lapwing.training.session import Session

SMALL = (
    *("warm_start.iterations=1", "warm_start.sampler.groups=2", "easy.iterations=2", "iterations=1"),
    *("model.hidden=16", "model.layers=1", "model.heads=2", "model.intermediate=32", "sampler.group_size=8"),
    # Replies that do not parse cost something, so that two iterations are sure to find pairs.
    *("easy.pairs.threshold=0.0", "evaluation.every=0"),
)


def checksum(model):
    digest = hashlib.blake2b()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture
def session(tmp_path):
    plans = build.plan(build.read_recipe("frozen_lake_fixed_mpo_mixed", overrides=SMALL))
    shop = build.make_workshop(plans[-1], 0)
    folder = RunFolder.create(tmp_path / "run", {}, {"seconds": {}, "status": "running"})
    stages = [build.make_stage(plan, shop) for plan in plans]
    return Session(folder, stages, shop.model, shop.tokenizer, 1, measure=lambda _: {}, watch=lambda _: None)


def test_the_reference_of_the_second_stage_is_what_the_first_one_left(session, monkeypatch):
    # Fails when the first stage learns nothing, or the reference is of before it or of after the second.
    at = {}
    for stage in session.stages:

        def make_learner(make=stage.make_learner, name=stage.name):
            at[f"before {name}"] = checksum(session.model)
            return make()

        monkeypatch.setattr(stage, "make_learner", make_learner)
    main = session.stages[-1]
    referred = []

    def make_annotators(weights, make=main.make_annotators):
        made = make(weights)
        (reference,) = made
        referred.append(checksum(reference._scorer.model))
        return made

    monkeypatch.setattr(main, "make_annotators", make_annotators)
    session.run()
    assert referred == [at["before main"]]
    assert len({*at.values(), checksum(session.model)}) == 4
    rows = session.folder.read_metrics()
    assert [row["stage"] for row in rows] == ["warm_start", "easy", "easy", "main"]
    assert np.isfinite([row["update/loss"] for row in rows]).all()
