"""TRL's `GRPOTrainer` in its multi-turn mode: an environment whose methods are the tools that the model calls."""

import functools
import os
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

import lake

from lapwing.games.frozen_lake import FrozenLakeState

# How the trainer reads a reply. It knows no template but those of published models, so that this is set by hand.
RESPONSE_TEMPLATE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<|im_start|> assistant",
    "fields": {
        "tool_calls": {
            "open_pattern": r"\s*<tool> (?P<name>left|down|right|up)",
            "close_pattern": r"\s*</tool>\s*",
            "repeats": True,
            "content": "text",
            "transform": {"type": "function", "function": {"name": "{name}", "arguments": {}}},
        },
        "content": {"close_pattern": r"<\|im_end\|>\s*", "content": "text"},
    },
}
# The trainer generates until a reply calls no tool, whatever the game says. A result that does not fit into the
# completion ends an episode at once and is dropped, so that no token is spent on a match that is over.
MOST_TOKENS = 1024
OVER = "edge " * (MOST_TOKENS + 1)


class Counts:
    """What the environments did since they were asked last."""

    def __init__(self) -> None:
        self.take()

    def take(self) -> tuple[int, int]:
        """Steps and successes so far; both begin anew."""
        found = getattr(self, "steps", 0), getattr(self, "successes", 0)
        self.steps = self.successes = 0
        return found


class Lake:
    """One match; each of the four tools is a move, and answers with the board."""

    def __init__(self, task: lake.Task, counts: Counts) -> None:
        """Wait for `reset`.

        Args:
          task: the game and its words.
          counts: is told of every step.
        """
        self._task, self._counts = task, counts

    def reset(self, rows: str = "", **_: Any) -> str:
        """Begin a match on the map of these rows; the board."""
        self._state = FrozenLakeState(tuple(rows.split("/")), 0)
        self._steps, self._reward, self._is_over = 0, 0.0, False
        return self._task.board(self._state)

    def get_reward(self) -> float:
        """The return of the episode."""
        return self._reward

    def left(self) -> str:
        """Move left."""
        return self._move("left")

    def down(self) -> str:
        """Move down."""
        return self._move("down")

    def right(self) -> str:
        """Move right."""
        return self._move("right")

    def up(self) -> str:
        """Move up."""
        return self._move("up")

    def _move(self, action: str) -> str:
        if self._is_over:  # a reply with several calls
            return OVER
        moved = self._task.step(self._state, action)
        self._state, self._steps = moved.state, self._steps + 1
        self._reward += moved.reward[0]
        self._counts.steps += 1
        self._counts.successes += bool(moved.success and moved.success[0])
        self._is_over = moved.terminated or self._steps >= lake.MAX_STEPS
        return OVER if self._is_over else self._task.board(self._state)


def make(
    maps: str = "fixed",
    learning_rate: float = lake.FROZEN,
    seed: int = 0,
    learnt: bool = False,
    batch: int = 16,
    **settings: Any,
) -> Callable[..., dict[str, float]]:
    """A function that lets the trainer do one optimiser step, or evaluates the weights.

    Args:
      maps: "fixed" or "random".
      learning_rate: of AdamW, constant.
      seed: of the matches and of sampling.
      learnt: begin with the weights of a policy that has become narrow.
      batch: episodes of one backward pass; 16 was the fastest of 8, 16 and 64.
      settings: further ones of `GRPOConfig`.
    """
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    warnings.filterwarnings("ignore")
    task = lake.Task(maps, seed=seed)
    model, tokenizer = lake.load(lake.start(maps, "transcript", learnt=learnt))
    tokenizer.response_template = RESPONSE_TEMPLATE
    counts = Counts()
    trainer = _trainer(task, model, tokenizer, counts, _config(learning_rate, seed, batch, settings))
    played = _timed(trainer)
    step = _stepped(trainer)

    def work(evaluate: int = 0) -> dict[str, float]:
        if evaluate:
            return {"success": lake.success(task.plan("transcript"), model, tokenizer, evaluate, seed)}
        step()
        steps, successes = counts.take()
        replied = trainer._metrics["train"]["completions/mean_length"][-1] * lake.EPISODES
        return {
            "updates": 1,
            "episodes": lake.EPISODES,
            "steps": steps,
            "tokens": round(replied),
            "trained_tokens": round(replied),
            "success": successes / lake.EPISODES,
            "play_seconds": played.pop(),
        }

    return work


def _config(learning_rate: float, seed: int, batch: int, settings: dict[str, Any]) -> Any:
    from trl import GRPOConfig

    return GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=lake.EPISODES // batch,
        num_generations=lake.GROUP_SIZE,
        max_completion_length=MOST_TOKENS,
        generation_kwargs={"max_new_tokens": lake.REPLY_TOKENS},
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        adam_beta1=lake.BETAS[0],
        adam_beta2=lake.BETAS[1],
        max_grad_norm=lake.CLIP_NORM,
        beta=0.0,
        epsilon=0.2,
        scale_rewards="group",
        loss_type="dapo",
        max_steps=10**6,
        shuffle_dataset=False,
        seed=seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **settings,
    )


def _trainer(task: Any, model: Any, tokenizer: Any, counts: Counts, config: Any) -> Any:
    import pyarrow
    from datasets import Dataset
    from trl import GRPOTrainer

    rows = [
        {"prompt": [{"role": "user", "content": ""}], "rows": "/".join(state.rows)}
        for iteration in range(1 if task.maps == "fixed" else 1024)
        for state in task.starts(iteration)
    ]
    return GRPOTrainer(
        model=model,
        args=config,
        # A fingerprint of its own: hashing a table fails with some versions of pyarrow.
        train_dataset=Dataset(pyarrow.Table.from_pylist(rows), fingerprint=f"peers-{task.maps}"),
        processing_class=tokenizer,
        environment_factory=functools.partial(Lake, task, counts),
    )


def _timed(trainer: Any) -> list[float]:
    """Where the seconds of each of the trainer's rollouts are put."""
    generate, seconds = trainer._generate, []

    def timed(*given: Any) -> Any:
        began = time.perf_counter()
        found = generate(*given)
        seconds.append(time.perf_counter() - began)
        return found

    trainer._generate = timed
    return seconds


def _stepped(trainer: Any) -> Callable[[], None]:
    """Run the trainer in a thread that waits before every optimiser step."""
    from transformers import TrainerCallback

    go, done = threading.Semaphore(0), threading.Semaphore(0)
    failed: list[BaseException] = []

    class Gate(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            go.acquire()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            done.release()

    def train() -> None:
        try:
            trainer.train()
        except BaseException as error:  # the arm raises it
            failed.append(error)
            done.release()

    trainer.add_callback(Gate())
    threading.Thread(target=train, daemon=True).start()

    def step() -> None:
        go.release()
        done.acquire()
        if failed:
            raise RuntimeError("TRL's trainer failed.") from failed[0]

    return step
