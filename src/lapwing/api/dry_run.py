"""What a recipe would take, foretold without the network and without loading anything."""

import dataclasses
import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.api.starting import Start, start
from lapwing.build.seats import learners, pool_settings, weight_sets
from lapwing.core import rng
from lapwing.core.errors import UserError
from lapwing.training.run_folder import RunFolder


def dry_run(recipe: str, *, run: str | Path | None = None, **given: Any) -> str:
    """Check all that `lapwing train` checks, and say what it would take; nothing is written.

    Args:
      recipe, run: as for `lapwing.train`.
      given: further arguments of it, as `start` takes them.

    Returns:
      The recipe with every default, as TOML, and the requirements in comments.

    Raises:
      UserError: the run would not start.
    """
    import tomli_w

    begun = start(recipe, run=run, **given)
    if run is not None:
        _refuse(Path(run))
    rehearse(begun)
    foretold = describe(requirements(begun.plans, begun.recipe.seed))
    listed = "\n".join(f"# {line}" for line in foretold.splitlines())
    return f"{tomli_w.dumps(build.resolved(begun.recipe, begun.plans))}\n{listed}"


def _refuse(path: Path) -> None:
    """As `RunFolder.reserve`, but nothing is made."""
    RunFolder.refuse(path)
    there = next(folder for folder in (path, *path.absolute().parents) if os.path.lexists(folder))
    reason = errno.EACCES if there.is_dir() else errno.ENOTDIR
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"The run folder {path} cannot be written: {os.strerror(reason)}; name another with --run.")


def rehearse(begun: Start) -> None:
    """Find what only shows when a run starts, where that costs next to nothing: with the embedded model.

    Every stage is built and decides once; of a file of demonstrations the first dialogues are read.

    Args:
      begun: what `start` returned.

    Raises:
      UserError: the run would not start.
    """
    from lapwing.models.tiny import tiny_model

    main = begun.plans[-1]
    if main.model.make is not tiny_model:
        return
    shop = build.with_seats(main, build.make_workshop(main, begun.recipe.seed, weights=begun.weights))
    for plan in map(build.played_here, begun.plans):
        stage = build.make_stage(plan, shop)
        if build.asks_server(plan):
            continue  # a server may cost money
        matches = stage.sampler.draw(0)[:1]
        stage.collector.play([dataclasses.replace(match, max_steps=1) for match in matches])


def requirements(plans: Sequence[build.StagePlan], seed: int) -> dict[str, Any]:
    """The memory, disk and work of a recipe's main stage.

    Args:
      plans: of its stages.
      seed: of the run.

    Returns:
      `model` (its name), `models` (how many of it learn beside each other), `known` (False where its sizes cannot be
      had offline, and then only the work is there), `parameters` and `trainable` of one, `dtype`; in bytes, of all,
      `weights`, `masters`, `moments`, `gradients`, `activations`, `cache`, `reference`, `past` (the pool of past
      versions), `peak`, `checkpoint`, `disk`; and at most per iteration `episodes`, `steps`, `reply_tokens`.
    """
    main = plans[-1]
    models = len(weight_sets(main))
    found = {"model": main.model.name, "models": models, "known": False, **_work(main)}
    model = _configuration(main, seed)
    if model is None:
        return found
    config, dtype = model
    from lapwing.models.footprint import footprint
    from lapwing.models.scorer import LOGIT_BYTES

    settings, generation = main.model.settings, main.generation.settings
    lora = settings.get("lora")
    longest = _context_tokens(main) + generation["max_tokens"]
    # A sequence that is longer than a pass is a pass of its own.
    alone = longest if longest > generation["batch_tokens"] else 0
    foretold = footprint(
        config,
        dtype=dtype,
        row_tokens=max(generation["row_tokens"], alone),
        batch_tokens=max(generation["batch_tokens"], alone),
        logit_bytes=LOGIT_BYTES,
        cache_tokens=_cache_tokens(main, config, dtype, found["episodes"]),
        checkpointing=settings.get("gradient_checkpointing", False),
        lora=lora,
        moment_bytes=1 if main.optimizer.settings.get("state") == "8bit" else 4,
    ).of_models(models)
    reference = 0 if lora or not any(part.name == "reference_logprob" for part in main.annotate) else foretold.weights
    # Versions that play share the tensors that the pool keeps, and a checkpoint holds them too.
    past = _most_versions(main) * foretold.version
    checkpoint = foretold.checkpoint + past
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
        "past": past,
        "peak": foretold.peak + reference + past,
        "checkpoint": checkpoint,
        # Those that stay, and number 0.
        "disk": (main.settings.checkpoints_kept + 1) * checkpoint,
    }


def _most_versions(main: build.StagePlan) -> int:
    """How many past versions are kept at once."""
    pool = pool_settings(main)
    return 0 if pool is None else min(pool.size, -(-main.settings.iterations // pool.every))


# Of keys and values on a CPU; on a GPU what is free decides, unless the recipe does.
_CACHE_BYTES = 2 * 2**30
# Small vocabularies are decoded otherwise, in batches of `batch_tokens`.
_SMALL_VOCABULARY = 4096
_SLOTS = 64
# Characters of English in a token, at the least: nobody knows the tokenizer of a model that is not here.
_CHARACTERS = 3


def _cache_tokens(main: build.StagePlan, config: Any, dtype: str, episodes: int) -> int:
    """Tokens of all replies that are generated at once, with their contexts."""
    from lapwing.models.footprint import cache_bytes_per_token

    generation = main.generation.settings
    if build.is_cloned(main) or "cache" not in generation or generation["max_tokens"] == 1:
        return 0  # nothing is sampled, or not here
    small = config.get_text_config().vocab_size <= _SMALL_VOCABULARY
    # What the generator does if it is left to it.
    wants = not small or getattr(main.context.make, "append_only", False)
    if not (wants if generation["cache"] is None else generation["cache"]):
        return 0
    slots = -(-(_context_tokens(main) + generation["max_tokens"] + 1) // _SLOTS) * _SLOTS
    if small:
        return min(episodes * slots, max(generation["batch_tokens"], slots))
    most = generation.get("cache_bytes") or (_CACHE_BYTES if dtype == "float32" else None)
    wanted = episodes * slots
    return wanted if most is None else min(wanted, max(most // cache_bytes_per_token(config, dtype=dtype), slots))


def _context_tokens(main: build.StagePlan) -> int:
    """The longest context, guessed from the first view of a match."""
    game = build.make_game(main.game)
    view = game.view(game.initial(rng.generator("dry run")), 0)
    messages = main.renderer.make(**main.renderer.settings).messages(view)
    first = sum(len(message["content"]) for message in messages) // _CHARACTERS + 8 * len(messages)
    context = main.context.make(**main.context.settings)
    if not context.keeps_memory:
        return first
    shown = main.sampler.settings["max_steps"] if context.append_only else getattr(context, "k", 0)
    # A text that is carried came from one reply.
    max_tokens = main.generation.settings["max_tokens"]
    carried = min(getattr(context, "max_characters", 0) // _CHARACTERS + 1, max_tokens)
    return first + carried + shown * (max_tokens + first // 2)


def _work(main: build.StagePlan) -> dict[str, int]:
    sampler = main.sampler.settings
    if build.is_cloned(main):
        of_file = main.collector.settings
        episodes = of_file["episodes"] if "episodes" in of_file else 2 * of_file["pairs"]
        return {"episodes": episodes, "steps": 0, "reply_tokens": 0}
    # Every seat that learns has an episode of its own in each match.
    episodes = build.most_episodes(sampler) * len(learners(main))
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
    played = f", {found['steps']:,} steps, {found['reply_tokens']:,} reply tokens" if found["steps"] else " from a file"
    lines = [("an iteration", f"at most {found['episodes']:,} episodes{played}")]
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
        "past": "past versions",
    }
    many = "" if found["models"] == 1 else f"{found['models']} that learn beside each other, each "
    kept = found["disk"] // found["checkpoint"]
    lines += [
        ("model", f"{found['model']}, {many}{found['parameters']:,} parameters, {trained}, {found['dtype']}"),
        *((text, size_text(found[key])) for key, text in parts.items() if found[key]),
        ("peak memory", f"{size_text(found['peak'])} on one device"),
        ("disk", f"{size_text(found['disk'])}: {kept} checkpoints of {size_text(found['checkpoint'])}"),
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
