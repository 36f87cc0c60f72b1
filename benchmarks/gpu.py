"""A real model's sizes at random weights: rollout and update in tokens a second, share of the floor, peak memory.

`make bench-gpu`. Plays `frozen_lake_qwen2.5_3b` with the sizes of a published model and random weights, which end no
reply before its budget, and trains on every token that was sampled. The floor is the matrix multiplication rate that
this machine shows in the same run: 2 FLOPs a parameter and token forward, 6 with the backward pass. Where TRL is
installed its GRPOTrainer samples and trains as many replies to the same prompts, turn and turn about.
"""

import argparse
import json
import platform
import resource
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lapwing import build
from lapwing.models.footprint import configuration, footprint
from lapwing.models.scorer import LOGIT_BYTES
from lapwing.training.loop import iterate

TOYS = runpy.run_path(str(Path(__file__).parents[1] / "tests" / "toys.py"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="Qwen/Qwen2.5-0.5B-Instruct,Qwen/Qwen2.5-3B-Instruct")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--iterations", type=int, default=3, help="measured ones; one more warms up")
    parser.add_argument("--set", action="append", default=[], help="further settings of the recipe")
    parser.add_argument("--no-trl", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    found = [measure(name, arguments) for name in arguments.models.split(",")]
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=2) + "\n")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Play and learn a few iterations of one model; prints and returns the medians."""
    device = arguments.device
    dtype = "bfloat16" if device.startswith("cuda") else "float32"
    rate = matmul_rate(device, getattr(torch, dtype))
    plan = build.plan(
        build.read_recipe(
            "frozen_lake_qwen2.5_3b",
            overrides=[
                *(f"iterations={arguments.iterations + 1}", f"model.name={name}", f"model.dtype={dtype}"),
                *(
                    "loss={name='negative_log_likelihood'}",
                    "selection={name='all_episodes'}",
                    "optimizer.minibatches=1",
                ),
                *arguments.set,
            ],
        )
    )[-1]
    plan.credit = None  # every token is trained on, whatever the returns
    tokenizer = TOYS["make_tokenizer"]("qwen2")
    model = random_model(name, device, dtype, checkpointing=plan.model.settings["gradient_checkpointing"])
    reset_peak(device)
    stage = build.make_stage(plan, build.Workshop(model, tokenizer, 0))
    theirs = None if arguments.no_trl else their_trainer(name, plan, tokenizer, device, dtype)
    rows: list[dict[str, Any]] = []
    seconds: list[float] = []
    read: list[int] = []
    for row in iterate(stage, stage.make_learner(), 0, lambda credited: read.append(len(credited.batch.context_token))):
        rows.append(row | {"context_tokens": read[-1]})
        if theirs is not None:
            seconds.append(theirs())
    found = figures(name, model, plan, rows[1:], rate, device) | {"trl_seconds": median(seconds[1:])}
    print(json.dumps(found, indent=2), flush=True)
    return found


def figures(name: str, model: Any, plan: Any, rows: list[dict[str, Any]], rate: float, device: str) -> dict[str, Any]:
    """Medians over iterations."""
    parameters = sum(p.numel() for p in model.parameters())
    settings = plan.generation.settings
    play, update = median([row["time/play"] for row in rows]), median([row["time/update"] for row in rows])
    sampled = median([row["rollout/new_tokens"] for row in rows])
    read = median([row["context_tokens"] for row in rows])
    foretold = footprint(
        model.config,
        dtype="bfloat16" if device.startswith("cuda") else "float32",
        row_tokens=settings["row_tokens"],
        batch_tokens=settings["batch_tokens"],
        logit_bytes=LOGIT_BYTES,
        cache_tokens=settings["batch_tokens"],
        checkpointing=plan.model.settings["gradient_checkpointing"],
    )
    return {
        "model": name,
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else platform.processor(),
        "torch": torch.__version__,
        "matmul_tflops": rate / 1e12,
        "rollout_tokens_per_second": sampled / play,
        "update_tokens_per_second": (sampled + read) / update,
        "rollout_share_of_floor": 2 * parameters * (sampled + read) / play / rate,
        "update_share_of_floor": 6 * parameters * (sampled + read) / update / rate,
        "seconds": {"play": play, "update": update},
        "sampled_tokens": sampled,
        "context_tokens": read,
        "peak_gib": peak(device) / 2**30,
        "foretold_peak_gib": foretold.peak / 2**30,
    }


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product, the best of ten."""
    size = 8192 if device.startswith("cuda") else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronise(device)
        started = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def synchronise(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    # Linux counts in KiB, macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def random_model(name: str, device: str, dtype: str, *, checkpointing: bool) -> Any:
    """A model with the sizes of a published one."""
    from transformers import AutoModelForCausalLM

    config = configuration(name)
    if config is None:
        raise SystemExit(f"The sizes of {name} are not known; name a local folder or one of the known models.")
    torch.manual_seed(0)
    with torch.device(device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    if checkpointing:
        model.activation_checkpointing_enable()
    return model.eval()


def their_trainer(name: str, plan: Any, tokenizer: Any, device: str, dtype: str) -> Any:
    """A function that lets TRL's trainer do one step of the same work and returns its seconds; None without TRL."""
    try:
        import pyarrow
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError:
        return None
    from lapwing.core import rng

    game = build.make_game(plan.game)
    renderer = plan.renderer.make(**plan.renderer.settings)
    sampler, generation = plan.sampler.settings, plan.generation.settings
    replies = sampler["groups"] * sampler["group_size"] * sampler["max_steps"]
    prompts = [
        {"prompt": renderer.messages(game.view(game.initial(rng.generator("bench", n)), 0))} for n in range(1024)
    ]
    scratch = tempfile.mkdtemp()
    trainer = GRPOTrainer(
        model=random_model(name, device, dtype, checkpointing=False),
        reward_funcs=lambda completions, **_: [float(hash(str(c)) % 7) for c in completions],
        args=GRPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=min(replies, 16),
            gradient_accumulation_steps=max(1, replies // 16),
            num_generations=sampler["group_size"],
            max_completion_length=generation["max_tokens"],
            gradient_checkpointing=plan.model.settings["gradient_checkpointing"],
            bf16=dtype == "bfloat16",
            learning_rate=1e-6,
            beta=0.0,
            max_steps=10**6,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        # A fingerprint of its own: hashing a table fails with some versions of pyarrow.
        train_dataset=Dataset(pyarrow.Table.from_pylist(prompts), fingerprint="bench"),
        processing_class=tokenizer,
    )
    return their_steps(trainer, device)


def their_steps(trainer: Any, device: str) -> Any:
    """Runs the trainer in a thread that stops after every optimiser step."""
    import threading

    from transformers import TrainerCallback

    go, done = threading.Semaphore(0), threading.Semaphore(0)

    class Gate(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            go.acquire()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            synchronise(device)
            done.release()

    trainer.add_callback(Gate())
    threading.Thread(target=trainer.train, daemon=True).start()

    def step() -> float:
        started = time.perf_counter()
        go.release()
        done.acquire()
        return time.perf_counter() - started

    return step


if __name__ == "__main__":
    main()
