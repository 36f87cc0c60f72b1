"""What tests of ranks run, alone and several times at once: torchrun starts `rank_worker.py learn|stall FOLDER TOY`."""

import itertools
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from lapwing import build
from lapwing.core.batch import EpisodeBatch
from lapwing.core.types import Decision, Episode, Match, Step
from lapwing.distributed.accelerate_learner import Accelerate, Team
from lapwing.distributed.ranks import join
from lapwing.losses.clipped_surrogate import clipped_surrogate
from lapwing.models.pretrained import pretrained_model
from lapwing.training.learner import AdamW, Learner
from lapwing.training.loop import iterate

STRATEGIES, LOSSES, WHAT = ("ddp", "fsdp"), ("clipped", "neighbours"), ("recipe", "qwen2")
# Groups that two ranks cannot share evenly, several forward passes, two updates an iteration.
SMALL = (
    *("iterations=2", "optimizer.epochs=2", "optimizer.eps=1e-4", "sampler.groups=3", "sampler.group_size=6"),
    *("model.hidden=32", "model.layers=2", "model.heads=2", "model.intermediate=32", "generation.batch_tokens=512"),
)


def neighbours(*, logprob, behavior_logprob, advantage):
    """A loss in which each token depends on all others."""
    return -(logprob - behavior_logprob).exp() * advantage + (logprob - logprob.mean()) ** 2


def random_batch(episodes=3):
    """Episodes of random tokens below 300."""
    random = np.random.default_rng(0)
    played = []
    for number in range(episodes):
        steps = []
        for n in range(2 + number):
            context, token = (random.integers(4, 300, size=size).astype(np.int32) for size in (5 + n, 1 + n % 3))
            decision = Decision("up", True, "", context, token, np.zeros(len(token)))
            steps.append(Step(decision, "up", None, 1, 2, 3, float(random.normal()), 0.0, {}))
        match = Match(game=None, seed=0, split="train", iteration=0, group=0, member=number, max_steps=9)
        played.append(Episode(match, 0, steps, True, False))
    return EpisodeBatch.pack(played)


def learn(what, loss, team, toy):
    """Train a little; the model, its learner, and the metrics without those that a layout changes."""
    model, learner, rows = _recipe(loss, team) if what == "recipe" else _qwen2(loss, team, toy)
    kept = [{k: v for k, v in row.items() if not k.startswith("time/") and "padding" not in k} for row in rows]
    return model, learner, kept


def _recipe(loss, team):
    main = build.plan(build.read_recipe("frozen_lake_tiny", overrides=SMALL))[-1]
    shop = build.make_workshop(main, 0)
    shop.team = team
    stage = build.make_stage(main, shop)
    learner = stage.make_learner()
    if loss == "neighbours":
        learner.loss, learner.mergeable = neighbours, False
    stage.load(0)
    return shop.model, learner, list(iterate(stage, learner, 0, lambda _: None))


def _qwen2(loss, team, toy):
    model, _ = pretrained_model(path=toy, dtype="float32", device="cpu")
    make = Learner if team is None else team.learner
    learner = make(
        model,
        loss=neighbours if loss == "neighbours" else clipped_surrogate,
        loss_needs=("behavior_logprob", "advantage"),
        mergeable=loss == "clipped",
        optimizer=AdamW(eps=1e-3, average=0.5, clip_norm=0.3),
        seed=0,
        row_tokens=12,
        batch_tokens=24,
    )
    batch, random = random_batch(), np.random.default_rng(1)
    advantage, weight = random.normal(size=batch.num_tokens), random.uniform(0.01, 0.2, size=batch.num_tokens)
    rows = [learner.update(batch, advantage, weight) for _ in range(2)]
    learner.finish()
    return model, learner, rows


def weights(model):
    """The weights by name, tied ones once."""
    return {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}


def _learn_on_ranks(folder, toy):
    ranks = Accelerate(2, timeout_seconds=30.0).start("train").ranks
    for what, loss, strategy in itertools.product(WHAT, LOSSES, STRATEGIES):
        team = Team(ranks, strategy)
        model, learner, rows = learn(what, loss, team, toy)
        save_file(weights(model), folder / f"{what} {loss} {strategy} {ranks.rank}.safetensors")
        if (what, loss) == ("qwen2", "clipped"):
            tensors, state = learner.state(), {"rows": rows}
            _, tokenizer = pretrained_model(path=toy, dtype="float32", device="cpu")
            team.coordinator().save(
                folder / strategy, model=model, tokenizer=tokenizer, max_tokens=1, tensors=tensors, state=state
            )
    team.leave()


def _stall():
    ranks = join(3.0)
    ranks.place = "iteration 6"
    ranks.largest(0, "whether to stop")
    ranks.place = "iteration 7"
    if ranks.rank == 1:
        time.sleep(30.0)
    ranks.sum(np.zeros(1))


if __name__ == "__main__":
    if sys.argv[1] == "stall":
        _stall()
    else:
        _learn_on_ranks(Path(sys.argv[2]), sys.argv[3])
