"""What tests of ranks run, alone and as two ranks: `rank_worker.py FOLDER TOY`.

The ranks meet as those of torchrun do, by the same environment at a store of their launcher, but are forked from a
process that has imported everything: three interpreters less to begin.
"""

import datetime
import importlib
import itertools
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import torch
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

STRATEGIES = ("ddp", "fsdp")
# A whole iteration with play; the same with several seats; a loss that is summed over forward passes; one that needs
# all tokens at once.
CASES = (("recipe", "clipped"), ("seats", "clipped"), ("qwen2", "clipped"), ("qwen2", "neighbours"))
# Groups that two ranks cannot share evenly, several forward passes, two updates an iteration.
SMALL = (
    *("iterations=2", "optimizer.epochs=2", "optimizer.eps=1e-4", "sampler.groups=3", "sampler.group_size=6"),
    *("model.hidden=32", "model.layers=2", "model.heads=2", "model.intermediate=32", "generation.batch_tokens=512"),
)
# Three snakes: the learner in two seats, and past versions of it in the third.
SEATS = (
    *("game={name='snake', num_snakes=3}", "opponents={1={name='self'}, 2={name='past', every=1, size=2, latest=0.2}}"),
    *("evaluation.transfer=[]", "sampler.max_steps=4", "sampler.share_chance=false"),
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
    further = {"recipe": (), "seats": SEATS}.get(what)
    model, learner, rows = _qwen2(loss, team, toy) if further is None else _recipe(loss, team, further)
    kept = [{k: v for k, v in row.items() if not k.startswith("time/") and "padding" not in k} for row in rows]
    return model, learner, kept


def _recipe(loss, team, further):
    main = build.plan(build.read_recipe("frozen_lake_tiny", overrides=[*SMALL, *further]))[-1]
    shop = build.make_workshop(main, 0)
    shop.team = team
    stage = build.make_stage(main, shop)
    learner = stage.make_learner()
    if loss == "neighbours":
        learner.objective.loss, learner.objective.mergeable = neighbours, False
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
    ranks = Accelerate(2, timeout_seconds=120.0).start("train").ranks
    for (what, loss), strategy in itertools.product(CASES, STRATEGIES):
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


def _stall(folder):
    sys.stderr = (folder / f"stall {os.environ['RANK']}.txt").open("w")
    ranks = join(120.0)
    ranks.place = "iteration 6"
    ranks.largest(0, "whether to stop")
    # Only from here on: the ranks need not have begun at the same time.
    ranks.timeout_seconds = 3.0
    torch.distributed.distributed_c10d._set_pg_timeout(datetime.timedelta(seconds=3.0), torch.distributed.group.WORLD)
    ranks.place = "iteration 7"
    if ranks.rank == 1:
        time.sleep(60.0)
    ranks.sum(np.zeros(1))


def _as_ranks(function, *arguments):
    """Run a function as two ranks and return their exit codes; the first that fails ends the other."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    ranks = {}
    for rank in range(2):
        number = os.fork()
        if number == 0:
            os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
            code = 1
            try:
                function(*arguments)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        ranks[number] = rank
    codes = [0, 0]
    while ranks:
        number, status = os.wait()
        codes[ranks.pop(number)] = code = os.waitstatus_to_exitcode(status)
        if code != 0:
            for other in ranks:
                os.kill(other, signal.SIGTERM)
    return codes


# What is imported at the first use.
_LATER = (
    *("accelerate", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor", "lapwing.training.session"),
    *("transformers.models.llama.modeling_llama", "transformers.models.qwen2.modeling_qwen2"),
    *("transformers.convert_slow_tokenizer", "lapwing.generation.transformers", "lapwing.rollout.collector"),
)


def _main(folder, toy):
    for name in _LATER:
        importlib.import_module(name)
    learnt = _as_ranks(_learn_on_ranks, folder, toy)
    (folder / "codes.json").write_text(json.dumps({"learn": learnt, "stall": _as_ranks(_stall, folder)}))


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2])
