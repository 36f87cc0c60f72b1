"""Give a run's model away: an ordinary Hugging Face folder or a PEFT adapter, with its card; on the hub if asked."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lapwing import build
from lapwing.api.loading import last_model
from lapwing.core.errors import UserError
from lapwing.core.paths import checked_path
from lapwing.core.storage import write_text
from lapwing.training.run_folder import RunFolder


def export(
    run: str | Path,
    folder: str | Path,
    *,
    adapter: bool = False,
    push: str | None = None,
    public: bool = False,
    allow_code: Sequence[str] = (),
    trust_remote_code: bool = False,
) -> Path:
    """Write the newest weights of a run as a folder that other tools load, with a model card and the recipe.

    Args:
      run: its folder.
      folder: where to; new or empty.
      adapter: of a run with LoRA the PEFT adapter alone; otherwise the adapter is merged into its base.
      push: "owner/name" of a model on the Hugging Face hub to upload the folder to; nothing is sent unless it is set.
      public: a repository that `push` makes is visible to everybody; by default it is private.
      allow_code: packages outside Lapwing whose code the run's recipe may name.
      trust_remote_code: run code that comes with the base model.

    Returns:
      The folder.

    Raises:
      UserError: there is no such run, it is not finished, the folder is taken, or the hub refuses.
    """
    from lapwing.models import lora
    from lapwing.models.pretrained import quiet
    from lapwing.report.model_card import model_card

    opened, target = RunFolder.open(Path(run)), checked_path(folder, "the folder of the export")
    if os.path.lexists(target) and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is not empty; name a new folder for the export.")
    if push is not None and push.count("/") != 1:
        raise UserError(f"--push takes OWNER/NAME of a model on the hub, not '{push}'.")
    weights = last_model(opened.path)
    is_adapter = lora.is_adapter_folder(weights)
    if adapter and not is_adapter:
        raise UserError(f"{run} was trained without LoRA, so that it has no adapter; leave --adapter out.")
    card = model_card(opened.path, name=push or target.name, adapter=adapter)
    if is_adapter and not adapter:
        plan = build.plan(build.read_recipe(str(opened.recipe)), allow_code=tuple(allow_code))[-1]
        shop = build.make_workshop(plan, 0, weights=weights, trust_remote_code=trust_remote_code)
        with quiet():
            lora.save_merged(shop.model, shop.tokenizer, target)
    else:
        shutil.copytree(weights, target, dirs_exist_ok=True)
    write_text(target / "README.md", card)
    write_text(target / "recipe.toml", opened.recipe.read_text("utf-8"))
    if push is not None:
        _push(target, push, public=public)
    return target


def _push(folder: Path, repository: str, *, public: bool) -> None:
    from huggingface_hub import HfApi

    hub: Any = HfApi()
    try:
        hub.create_repo(repository, private=not public, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Exported by Lapwing")
    except Exception as error:  # the hub's own errors, and those of the HTTP library that it uses at the time
        first = str(error).strip().partition("\n")[0]
        raise UserError(
            f"The hub did not take {repository} ({first}); the folder {folder} is written: log in with "
            "`hf auth login`, and upload it again."
        ) from error
