"""What a recipe would take, foretold without the network and without loading anything."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapwing import build

# The newest two, and the one that the main stage begins with.
_KEPT_CHECKPOINTS = 3


def requirements(plans: Sequence[build.StagePlan], seed: int) -> dict[str, Any]:
    """The memory, disk and work of a recipe's main stage.

    Args:
      plans: of its stages.
      seed: of the run.

    Returns:
      `model` (its name), `known` (False where its sizes cannot be had offline, and then only the work is there),
      `parameters`, `trainable`, `dtype`; in bytes `weights`, `masters`, `moments`, `gradients`, `activations`,
      `cache`, `reference`, `peak`, `checkpoint`, `disk`; and at most per iteration `episodes`, `steps`, `reply_tokens`.
    """
    main = plans[-1]
    found = {"model": main.model.name, "known": False, **_work(main)}
    model = _configuration(main, seed)
    if model is None:
        return found
    config, dtype = model
    from lapwing.models.footprint import footprint

    settings, generation = main.model.settings, main.generation.settings
    lora = settings.get("lora")
    foretold = footprint(
        config,
        dtype=dtype,
        row_tokens=generation["row_tokens"],
        batch_tokens=generation["batch_tokens"],
        logit_bytes=_LOGIT_BYTES,
        cache_tokens=generation["batch_tokens"]
        if generation.get("cache", False) and generation["max_tokens"] > 1
        else 0,
        checkpointing=settings.get("gradient_checkpointing", False),
        lora=lora,
        moment_bytes=1 if main.optimizer.settings.get("state") == "8bit" else 4,
    )
    reference = 0 if lora or not any(part.name == "reference_logprob" for part in main.annotate) else foretold.weights
    return found | {
        "known": True,
        "dtype": dtype,
        "parameters": foretold.parameters,
        "trainable": foretold.trainable,
        "weights": foretold.weights,
        "masters": foretold.masters,
        "moments": foretold.moments,
        "gradients": foretold.gradients,
        "activations": foretold.activations,
        "cache": foretold.cache,
        "reference": reference,
        "peak": foretold.peak + reference,
        "checkpoint": foretold.checkpoint,
        "disk": _KEPT_CHECKPOINTS * foretold.checkpoint,
    }


_LOGIT_BYTES = 256 * 2**20


def _work(main: build.StagePlan) -> dict[str, int]:
    sampler = main.sampler.settings
    episodes = sampler.get("groups", 1) * sampler.get("group_size", 1)
    steps = episodes * sampler["max_steps"]
    return {"episodes": episodes, "steps": steps, "reply_tokens": steps * main.generation.settings["max_tokens"]}


def _configuration(main: build.StagePlan, seed: int) -> tuple[Any, Any] | None:
    import torch

    from lapwing.models.footprint import configuration
    from lapwing.models.tiny import tiny_model

    if main.model.make is tiny_model:
        return build.make_workshop(main, seed).model.config, "float32"
    config = configuration(main.model.name, revision=main.model.settings.get("revision"))
    wanted = main.model.settings.get("dtype", "auto")
    automatic = "bfloat16" if torch.cuda.is_available() else "float32"
    return None if config is None else (config, automatic if wanted == "auto" else wanted)


def describe(found: Mapping[str, Any]) -> str:
    """The requirements as lines for a person.

    Args:
      found: what `requirements` returned.
    """
    lines = [
        ("an iteration", f"at most {found['episodes']:,} episodes, {found['steps']:,} steps, "
         f"{found['reply_tokens']:,} reply tokens"),
    ]  # fmt: skip
    if not found["known"]:
        where = "the folder" if Path(found["model"]).is_dir() else "the hub (not in the local cache)"
        lines.append(("memory", f"unknown: the sizes of {found['model']} are in {where}"))
        return _aligned(lines)
    trained = "all trained" if found["trainable"] == found["parameters"] else f"{found['trainable']:,} trained"
    parts = {
        "weights": "weights",
        "masters": "float32 masters",
        "moments": "optimiser",
        "gradients": "gradients",
        "activations": "activations",
        "cache": "key-value cache",
        "reference": "reference",
    }
    lines += [
        ("model", f"{found['model']}, {found['parameters']:,} parameters, {trained}, {found['dtype']}"),
        *((text, size_text(found[key])) for key, text in parts.items() if found[key]),
        ("peak memory", f"{size_text(found['peak'])} on one device"),
        ("disk", f"{size_text(found['disk'])}: {_KEPT_CHECKPOINTS} checkpoints of {size_text(found['checkpoint'])}"),
    ]
    return _aligned(lines)


def _aligned(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def size_text(number: float) -> str:
    """Bytes for a person, as "5.7 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"
