"""Warm starts are kept outside the run, under a name that says all that they depend on."""

import dataclasses
import hashlib
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lapwing import build
from lapwing.core.paths import cache_folder
from lapwing.core.storage import content_hash


def warm_start_cache(plans: Sequence[build.StagePlan], shop: build.Workshop) -> Path | None:
    """Where the weights after the warm start are kept: a name by the content of all that they depend on."""
    import torch
    import transformers

    if len(plans) == 1:
        return None
    described = [plan.to_dict() for plan in plans[:-1]]
    versions = [torch.__version__, transformers.__version__, torch.get_num_threads(), platform.machine(), _code_hash()]
    depends = [described, _files(plans), _outside(plans), _digest(shop), shop.seed, versions]
    return cache_folder() / "warm_starts" / content_hash(depends)


def _files(plans: Sequence[build.StagePlan]) -> list[str]:
    """The content of files that games and collectors name; of folders, what can be told without reading them."""
    found = []
    settings = [part.settings for plan in plans for part in (plan.game, plan.collector)]
    for value in dict.fromkeys(v for given in settings for v in given.values() if isinstance(v, str) and v):
        path = Path(value)
        if path.is_file():
            found.append(hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest())
        elif path.is_dir():
            inside = sorted(path.rglob("*"))
            found += [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in inside if file.is_file()]
    return found


def _outside(plans: Sequence[build.StagePlan]) -> list[str]:
    """The content of the code outside Lapwing that the plans name: every module of its packages that is loaded."""
    named = {part.name.partition(".")[0].partition(":")[0] for part in _parts(plans) if ":" in part.name}
    modules = [module for name, module in sorted(sys.modules.items()) if name.partition(".")[0] in named]
    files = dict.fromkeys(path for module in modules if (path := getattr(module, "__file__", None)))
    return [hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest() for file in files]


def _parts(plans: Sequence[build.StagePlan]) -> Iterator[build.Part]:
    """Everything that the stages name."""
    for plan in plans:
        for field in dataclasses.fields(plan):
            value = getattr(plan, field.name)
            yield from (
                part for part in (value if isinstance(value, list) else [value]) if isinstance(part, build.Part)
            )


def _digest(shop: build.Workshop) -> str:
    """A hash of the first weights, the vocabulary and the chat template."""
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for model in (shop.model, *(other.model for other in shop.others.values())):
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode())
            # NumPy has no bfloat16.
            digest.update(tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    digest.update(content_hash([shop.tokenizer.get_vocab(), shop.tokenizer.chat_template]).encode())
    return digest.hexdigest()


def _code_hash() -> str:
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    return content_hash([path.read_text(encoding="utf-8") for path in files])
