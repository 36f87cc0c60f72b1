"""A copy for Weights & Biases: online where there is a network and a key, otherwise in the run's folder, to be synced.

`wandb sync RUN/mirrors/wandb/offline-run-*` uploads what was written offline.
"""

import contextlib
import netrc
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from lapwing.report.mirrors._texts import About, as_config, escaped, numbers

_PROJECT = "lapwing"
_SERVICE = "https://api.wandb.ai"
_SECONDS_TO_CONNECT = 3.0
_SECONDS_TO_BEGIN = 60.0


class WeightsAndBiases:
    """One W&B run; names begin with the stage, as `main/rollout/return_mean`, over `main/iteration`."""

    def __init__(self, about: About) -> None:
        """Begin.

        Args:
          about: the run.
        """
        import wandb  # pyright: ignore[reportMissingImports]

        reason = why_offline()
        self.notes = [] if not reason else [f"{reason}, so it is written offline to {about.path / 'mirrors' / 'wandb'}"]
        folder = about.path / "mirrors"
        folder.mkdir(exist_ok=True)
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_code=True,
            disable_git=True,
            save_code=False,
            # Host, command line and folders are nobody's business.
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_disable_stats=True,
            init_timeout=_SECONDS_TO_BEGIN,
        )
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _PROJECT,
            name=os.environ.get("WANDB_NAME") or escaped(about.name),
            id=about.identifier,
            resume="allow",
            dir=str(folder),
            config=as_config(about.recipe),
            # None respects WANDB_MODE.
            mode="offline" if reason else None,
            reinit="create_new",
            settings=settings,
        )
        self._stages: set[str] = set()

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Copy rows."""
        for row in rows:
            stage = escaped(str(row["stage"]))
            if stage not in self._stages:
                self._stages.add(stage)
                self._run.define_metric(f"{stage}/iteration", hidden=True)
                self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/iteration")
            found = {f"{stage}/{name}": value for name, value in numbers(row).items()}
            self._run.log({**found, f"{stage}/iteration": int(row["iteration"])})

    def final(self, found: Mapping[str, float], steps: int) -> None:
        """Copy the last evaluation into the summary."""
        self._run.summary.update(dict(found))

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def why_offline() -> str:
    """Why nothing can be uploaded now; empty if it can, and where WANDB_MODE has decided it."""
    if os.environ.get("WANDB_MODE"):
        return ""
    address = os.environ.get("WANDB_BASE_URL") or _SERVICE
    host = urllib.parse.urlsplit(address).hostname or ""
    if not os.environ.get("WANDB_API_KEY") and not os.environ.get("WANDB_IDENTITY_TOKEN_FILE") and not _has_login(host):
        return "there is no key for W&B (wandb login)"
    proxy = urllib.request.getproxies().get(urllib.parse.urlsplit(address).scheme)
    target = urllib.parse.urlsplit(proxy if proxy and not urllib.request.proxy_bypass(host) else address)
    port = target.port or (80 if target.scheme == "http" else 443)
    try:
        socket.create_connection((target.hostname or host, port), _SECONDS_TO_CONNECT).close()
    except OSError:
        return f"{host} cannot be reached"
    return ""


def _has_login(host: str) -> bool:
    """Whether `wandb login` left a key for this host."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    return False


def open_mirror(about: About) -> WeightsAndBiases:
    """Begin to mirror a run."""
    return WeightsAndBiases(about)
