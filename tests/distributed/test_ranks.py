"""One rank in this process: it takes every path that several take, except the waiting."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor

from lapwing import build
from lapwing.core.errors import LapwingError, UserError
from lapwing.core.types import Match
from lapwing.distributed.accelerate_learner import Accelerate, Team
from lapwing.distributed.ranks import check_ranks, join
from lapwing.distributed.sharded_collector import ShardedCollector, Share
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.lora import LoraSettings
from lapwing.models.pretrained import pretrained_model
from lapwing.policies.agent import InvalidRule
from lapwing.policies.baselines import Random
from lapwing.policies.past_versions import PastSettings, PastVersions
from lapwing.rollout.collector import LocalCollector
from lapwing.training.checkpoint import is_whole
from lapwing.training.interruption import Interruption
from lapwing.training.learner import AdamW, Learner
from lapwing.training.run_state import load_weights

sys.path.insert(0, str(Path(__file__).parent))
from rank_worker import SMALL, random_batch

LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")


@pytest.fixture
def launched(monkeypatch):
    """Makes the environment that of a process of a launcher; with nothing given, of none."""

    def launch(**environment):
        for name in LAUNCHED:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))

    launch()
    return launch


@pytest.fixture
def alone(launched):
    """The only rank."""
    from accelerate import PartialState

    ranks = join(5.0)
    yield ranks
    ranks.leave()
    PartialState._reset_state()


def make_learner(folder, team, dtype="float32", lora=None):
    model, _ = pretrained_model(path=str(folder), dtype=dtype, device="cpu", lora=lora)
    make = Learner if team is None else team.learner
    settings = AdamW(learning_rate=1e-3, eps=1e-3, clip_norm=0.3, average=0.5, epochs=2)
    return model, make(
        model,
        loss=clipped_surrogate,
        loss_needs=("behavior_logprob", "advantage"),
        mergeable=True,
        optimizer=settings,
        seed=0,
        row_tokens=12,
        batch_tokens=24,
    )


def numbers(batch):
    random = np.random.default_rng(1)
    return random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)


def trained(model):
    return torch.cat([p.detach().float().reshape(-1) for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize(
    ("architecture", "lora", "dtype"),
    [
        *(("qwen2", lora, dtype) for lora in (None, LoraSettings(rank=3)) for dtype in ("float32", "bfloat16")),
        *(("gemma", None, "float32"), ("gemma", LoraSettings(rank=3), "bfloat16")),
    ],
    ids=lambda value: {None: "whole"}.get(value, value) if not isinstance(value, LoraSettings) else "lora",
)
def test_shards_make_the_update_of_a_plain_learner(alone, toy_folder, architecture, lora, dtype):
    # Gemma caps logits and slides windows. Fails when gradients are averaged instead of summed, or clipped by shard,
    # or when the model that plays is not refreshed.
    batch = random_batch()
    advantage, weight = numbers(batch)
    found = []
    for team in (None, Team(alone, "fsdp")):
        model, learner = make_learner(toy_folder(architecture), team, dtype, lora)
        before = trained(model)
        metrics = [learner.update(batch, advantage, weight) for _ in range(2)][-1]
        assert not torch.equal(trained(model), before)
        learner.finish()
        found.append((trained(model), metrics, learner.state()))
    (plain, expected, state), (sharded, metrics, shards) = found
    torch.testing.assert_close(sharded, plain, atol=1e-6, rtol=0)
    assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-5)
    # The state is the same tensors by the same names, so that only the way they are stored differs.
    assert {name: tensor.shape for name, tensor in shards.items()} == {name: t.shape for name, t in state.items()}
    assert all(isinstance(t, DTensor) == (t.ndim > 0) for t in shards.values())


def test_tied_embeddings_stay_tied(alone, toy_folder):
    model, learner = make_learner(toy_folder("qwen2"), Team(alone, "fsdp"))
    sharded = learner.shards.model
    assert sharded.lm_head.weight is sharded.model.embed_tokens.weight
    assert len(learner.shards.weights) == len(list(model.parameters()))


# Fails when what was sharded of the model before it took the checkpoint's weights is brought back to it.
@pytest.mark.parametrize(("dtype", "lora"), [("bfloat16", None), ("float32", None), ("bfloat16", LoraSettings(rank=3))])
def test_what_is_sharded_is_resumed_to_the_last_bit(alone, toy_folder, tmp_path, dtype, lora):
    # In bfloat16 the checkpoint must hold the float32 parts, since the model beside it is rounded.
    batch = random_batch()
    advantage, weight = numbers(batch)
    team = Team(alone, "fsdp")
    model, learner = make_learner(toy_folder("qwen2"), team, dtype, lora)
    learner.update(batch, advantage, weight)
    _, tokenizer = pretrained_model(path=str(toy_folder("qwen2")), dtype="float32", device="cpu")
    target = tmp_path / "1"
    team.coordinator().save(
        target, model=model, tokenizer=tokenizer, max_tokens=1, tensors=learner.state(), state={"iteration": 1}
    )
    learner.update(batch, advantage, weight)

    again, resumed = make_learner(toy_folder("qwen2"), team, dtype, lora)
    load_weights(again, target / "model")
    tensors, state = team.coordinator().load(target)
    resumed.restore(tensors, 2)
    resumed.update(batch, advantage, weight)
    assert torch.equal(trained(again), trained(model))
    assert all(torch.equal(a, b) for a, b in zip(resumed.shards.weights, learner.shards.weights, strict=True))
    assert state["ranks"] == 1
    assert is_whole(target)
    names = {path.suffix or path.name for path in target.rglob("*") if path.is_file()}
    assert names <= {".json", ".jinja", ".safetensors"}, "a checkpoint holds no pickle"


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(alone, toy_folder, tmp_path):
    team = Team(alone, "fsdp")
    model, learner = make_learner(toy_folder("qwen2"), team)
    learner.update(random_batch(), *numbers(random_batch()))
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="rank 0: "):
        team.coordinator().save(
            tmp_path / "run" / "1", model=model, tokenizer=None, max_tokens=1, tensors=learner.state(), state={}
        )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_replicas_that_drift_apart_are_found(alone, toy_folder):
    _, learner = make_learner(toy_folder("qwen2"), Team(alone, "ddp"))
    learner.state()
    # Another rank whose weights differ by one bit.
    learner.company.gather = lambda mine, what: [mine, (mine[0] + 1, *mine[1:])]
    with pytest.raises(LapwingError, match=r"weights of rank 1 are no longer those of rank 0"):
        learner.state()


class Recording:
    """A rank whose partners came before it, with what each of them gave."""

    def __init__(self, rank, size, given):
        self.rank, self.size, self.given, self.place = rank, size, given, ""

    def gather(self, thing, what):
        self.given[self.rank] = thing
        return [self.given.get(rank, Share([], {}, [])) for rank in range(self.size)]


def test_all_ranks_hold_the_episodes_of_one_process(alone):
    main = build.plan(build.read_recipe("frozen_lake_tiny", overrides=SMALL))[-1]
    stage = build.make_stage(main, build.make_workshop(main, 0))
    matches = stage.sampler.draw(3)
    expected = stage.collector.play(matches)
    given = {}
    for rank in (1, 0):
        # The last one knows what the other gave.
        ranks = Recording(rank, 2, given)
        episodes = ShardedCollector(stage.collector, ranks).play(matches)
    assert ranks.place == "iteration 3"
    assert [episode.match for episode in episodes] == [episode.match for episode in expected]
    for one, other in zip(episodes, expected, strict=True):
        assert [step.decision.text for step in one.steps] == [step.decision.text for step in other.steps]
        assert one.episode_return == other.episode_return
    shares = [{matches[number].group for number, _ in part.episodes} for part in given.values()]
    assert sorted(map(len, shares)) == [1, 2], "each rank plays whole groups"
    assert len(set.union(*shares)) == 3


def test_a_rank_without_a_group_plays_nothing_and_keeps_the_pool_of_all():
    match = Match(game=None, seed=0, split="train", iteration=4, group=0, member=0, max_steps=1)
    pool = PastVersions(
        Random(), PastSettings(every=2), weights=lambda: {"w": torch.ones(1)}, freeze=None, invalid=InvalidRule()
    )
    sharded = ShardedCollector(
        LocalCollector(Random(), opponents={1: pool}, invalid=InvalidRule()), Recording(1, 2, {})
    )
    assert sharded.play([match]) == []
    # Later checkpoints, and later matches of this rank, need the version that joined now.
    assert [version.iteration for version in sharded.past.versions] == [4]
    with pytest.raises(LapwingError, match="deadline"):
        sharded.collect([match])


def test_ranks_part_what_there_is():
    from lapwing.distributed.ranks import Ranks

    for size, count in [(1, 5), (2, 5), (3, 5), (7, 5), (4, 0)]:
        shares = [Ranks(None, rank, size, torch.device("cpu"), 1.0).share(count) for rank in range(size)]
        found = [number for share in shares for number in range(count)[share]]
        assert found == list(range(count))
        lengths = [len(range(count)[share]) for share in shares]
        assert max(lengths) - min(lengths) <= 1


def test_a_missing_gradient_counts_as_zeros(alone):
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(4).bfloat16())]
    parameters[1].grad = torch.full((4,), 2.0, dtype=torch.bfloat16)
    alone.sum_gradients(parameters)
    assert parameters[0].grad.tolist() == [[0.0, 0.0]] * 3
    assert parameters[1].grad.tolist() == [2.0] * 4
    assert alone.sum(np.array([1, 2])).dtype == np.float64


# F73. Fails when the number of processes is taken from the environment alone.
@pytest.mark.parametrize(
    ("environment", "asked", "resumed", "sentence"),
    [
        ({}, 2, False, r"asks for 2 ranks and no launcher .* torchrun .*--nproc-per-node 2 -m -- lapwing train x"),
        ({"RANK": 0, "WORLD_SIZE": 1}, 2, False, r"asks for 2 ranks and 1 were started"),
        ({"RANK": 0, "WORLD_SIZE": 4}, 2, False, r"asks for 2 ranks and 4 were started"),
        ({"RANK": 1, "WORLD_SIZE": 2}, None, False, r"2 processes were started.*--set learner\.ranks=2"),
        ({}, 2, True, r"asks for 2 ranks and no launcher"),
        ({"RANK": 0, "WORLD_SIZE": 1}, 2, True, None),
        ({"RANK": 0, "WORLD_SIZE": 2}, 2, False, None),
        ({"RANK": 0, "WORLD_SIZE": 1}, None, False, None),
        ({}, 1, False, None),
        ({}, None, False, None),
    ],
)
def test_ranks_are_those_that_the_recipe_asks_for(launched, environment, asked, resumed, sentence):
    # `accelerate launch --cpu` starts one process whatever it is told; the first case is what it looks like.
    launched(**environment)
    if sentence is None:
        check_ranks(asked, "train x", resumed=resumed)
    else:
        with pytest.raises(UserError, match=sentence):
            check_ranks(asked, "train x", resumed=resumed)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"ranks": 0}, "learner.ranks is at least 1, not 0"),
        ({"ranks": 2, "strategy": "zero"}, "ddp or fsdp, not 'zero'"),
        ({"ranks": 2, "timeout_seconds": float("inf")}, "timeout_seconds is a finite number above 0, not inf"),
    ],
)
def test_impossible_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Accelerate(**settings)


def test_the_recipe_holds_the_section(launched, tmp_path):
    overrides = [*SMALL, "learner.ranks=2", "learner.strategy=fsdp"]
    recipe = build.read_recipe("frozen_lake_tiny", overrides=overrides)
    plans = build.plan(recipe)
    sections = [stage["learner"] for stage in build.resolved(recipe, plans)["stage"]]
    assert sections == [{"name": "accelerate", "ranks": 2, "strategy": "fsdp", "timeout_seconds": 600.0}] * 2
    with pytest.raises(UserError, match="asks for 2 ranks"):
        build.make_team(plans[-1], "train frozen_lake_tiny")
    with pytest.raises(UserError, match=r"8 bits .* shards"):
        build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*overrides, "optimizer.state=8bit"]))
    with pytest.raises(UserError, match=r"learner.*ranks is at least 1"):
        build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*overrides, "learner.ranks=0"]))


# F75: a port at which nobody listens. Fails when the rendezvous waits without a limit.
def test_ranks_that_cannot_meet_say_where_they_looked(launched):
    launched(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=1)
    with pytest.raises(UserError, match=r"could not meet .* 127\.0\.0\.1, port 1,"):
        join(1.0)


def test_what_rank_0_refuses_all_refuse(alone):
    team = Team(alone, "ddp")
    assert team.on_first(lambda: 5, "a number") == 5

    def refuse():
        raise UserError("The folder is not empty.")

    with pytest.raises(UserError, match="not empty"):
        team.on_first(refuse, "whether a run can begin")
    assert team.coordinator().writes
    with Interruption() as interruption:
        assert team.coordinator().largest(interruption.signal_number, "whether to stop") == 0


def test_a_run_on_one_rank_is_a_run(alone, launched, small, tmp_path):
    # The whole path of `lapwing train`, with shards; the manifest says how many ranks there were.
    import lapwing

    alone.leave()
    from accelerate import PartialState

    PartialState._reset_state()
    overrides = [*small, "learner.ranks=1", "learner.strategy=fsdp", "iterations=2"]
    run = lapwing.train("frozen_lake_tiny", run=tmp_path / "run", overrides=overrides)
    manifest = json.loads((run.path / "manifest.json").read_text("utf-8"))
    assert manifest["ranks"] == [1]
    assert manifest["status"] == "finished"
    assert list((run.path / "checkpoints" / "2" / "state" / "shards").glob("*.safetensors"))
    assert (run.path / "report.html").is_file()
    assert lapwing.resume(run.path) == run
