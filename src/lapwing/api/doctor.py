"""What a bug report needs: versions, devices, memory, folders, speed, and the environment without its secrets."""

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lapwing import __version__
from lapwing.core.paths import cache_folder

SCHEMA_VERSION = 1

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# What is shown with its value. A folder's path is; of everything else only that it is set.
_SHOWN = (
    *("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HOME", "HF_HUB_CACHE"),
    *("LAPWING_CACHE", "XDG_CACHE_HOME", "WANDB_MODE", "TRACKIO_DIR", "CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED"),
    *("RANK", "WORLD_SIZE", "CUBLAS_WORKSPACE_CONFIG", "PYTORCH_CUDA_ALLOC_CONF", "TERM"),
)
_HIDDEN = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY", "WANDB_BASE_URL", "HF_ENDPOINT"),
    *("OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy"),
)
# A shown value that is longer, or holds anything but letters, digits and these, is only said to be set.
_HARMLESS = re.compile(r"[\w./~:,;=+ -]{0,200}")
_LARGEST_CACHE = 100_000
_MATRIX = 512
_SMALLEST_SHARED_MEMORY = 2**30
_LEAST_FREE = 2 * 2**30

Problems = list[str]


def diagnose(*, seconds: float = 1.0) -> dict[str, Any]:
    """Look at this machine and installation; nothing is asked of the network, and no secret is read out.

    Args:
      seconds: how long the speed of matrix products is measured on each kind of device.

    Returns:
      The object of `lapwing doctor --json`: sizes in bytes, `problems` as sentences.
    """
    problems: Problems = []
    return {
        "schema": SCHEMA_VERSION,
        "lapwing": __version__,
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "platform": {"system": platform.platform(), "machine": platform.machine()},
        "cpu": _cpu(),
        "memory": _memory(),
        "torch": _torch(seconds, problems),
        "packages": _packages(problems),
        "extras": _extras(),
        "folders": _folders(problems),
        "threads": {name: os.environ.get(name) if _is_harmless(name) else "set" for name in _THREADS},
        "environment": _environment(),
        "problems": problems,
    }


def _cpu() -> dict[str, Any]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    return {"count": os.cpu_count(), "usable": usable, "load": load}


def _memory() -> dict[str, int | None]:
    """Total, free for use, and the limit of the container, in bytes; None where the system does not say."""
    found: dict[str, int] = {}
    for line in _read(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found[name] = int(value.split()[0]) * 1024
    total = found.get("MemTotal")
    if total is None and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _read(Path("/sys/fs/cgroup/memory.max")).strip()
    return {
        "total": total,
        "available": found.get("MemAvailable"),
        "limit": int(limit) if limit.isdecimal() else None,
    }


def _torch(seconds: float, problems: Problems) -> dict[str, Any] | None:
    try:
        import torch
    except (ImportError, OSError) as error:  # a wheel for another machine
        problems.append(f"PyTorch cannot be imported: {error}")
        return None
    devices = []
    for index in range(torch.cuda.device_count()) if torch.cuda.is_available() else ():
        properties = torch.cuda.get_device_properties(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported()
        devices.append({"name": properties.name, "memory": properties.total_memory, "bf16": bf16})
    if torch.version.cuda and not devices:
        problems.append(f"This PyTorch is built for CUDA {torch.version.cuda}, and no CUDA device can be used.")
    places = ["cpu", *(["cuda"] if devices else [])]
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "devices": devices,
        "mps": torch.backends.mps.is_available(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "matmul_gflops": {place: _matmul_rate(torch, place, seconds) for place in places},
    }


def _matmul_rate(torch: Any, place: str, seconds: float) -> float:
    """10⁹ multiplications and additions a second, of float32 matrices of 512 × 512 on a CPU, 4096 × 4096 elsewhere."""
    size = _MATRIX if place == "cpu" else 8 * _MATRIX
    left = torch.ones(size, size, device=place)
    wait: Callable[[], object] = (lambda: None) if place == "cpu" else torch.cuda.synchronize
    torch.matmul(left, left)  # the first one sets up
    wait()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or not count:
        torch.matmul(left, left)
        wait()
        count += 1
    return round(2 * size**3 * count / (time.perf_counter() - started) / 1e9, 1)


def _packages(problems: Problems) -> dict[str, str | None]:
    """The versions of what Lapwing always needs; None where it is not installed."""
    found = {name: _version(name) for name, extra in _requirements() if extra is None}
    for name, version in found.items():
        if version is None:
            problems.append(f"{name} is missing; install Lapwing again.")
    return found


def _extras() -> dict[str, dict[str, Any]]:
    """For each extra the versions of its packages, whether all are there, and how to install it."""
    found: dict[str, dict[str, Any]] = {}
    for name, extra in _requirements():
        if extra in (None, "dev"):
            continue
        entry = found.setdefault(
            extra, {"packages": {}, "installed": True, "install": f'pip install "lapwing[{extra}]"'}
        )
        entry["packages"][name] = _version(name)
        entry["installed"] &= entry["packages"][name] is not None
    return dict(sorted(found.items()))


def _requirements() -> list[tuple[str, str | None]]:
    """Each requirement of Lapwing with the extra that it belongs to, if any."""
    try:
        lines = importlib.metadata.requires("lapwing") or []
    except importlib.metadata.PackageNotFoundError:  # run from a folder that was not installed
        return []
    found = []
    for line in lines:
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", line)
        if name is not None:
            found.append((name.group(), extra[1] if extra else None))
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folders(problems: Problems) -> dict[str, dict[str, Any]]:
    found = {"current": _folder(Path.cwd()), "temporary": _folder(Path(tempfile.gettempdir()))}
    try:
        cache = cache_folder()
    except RuntimeError:  # nobody's home
        problems.append("There is no home folder for the cache; set LAPWING_CACHE to a folder.")
    else:
        found["cache"] = {**_folder(cache), **_size(cache)}
        if not found["cache"]["writable"]:
            problems.append("The cache folder cannot be written; set LAPWING_CACHE to a folder that can.")
    shared = Path("/dev/shm")
    if shared.is_dir():
        found["shared_memory"] = _folder(shared)
        if (found["shared_memory"]["total"] or 0) < _SMALLEST_SHARED_MEMORY:
            problems.append("/dev/shm has less than 1 GiB, which Ray and several ranks need; docker run --shm-size=8g.")
    free = found["current"]["free"]
    if free is not None and free < _LEAST_FREE:
        problems.append("The disk of this folder has less than 2 GiB free; checkpoints may not fit.")
    return found


def _folder(path: Path) -> dict[str, Any]:
    """A folder, which need not be there yet: its path from home, and what the disk has."""
    there = next((one for one in (path, *path.absolute().parents) if one.is_dir()), None)
    try:
        usage = None if there is None else shutil.disk_usage(there)
    except OSError:
        usage = None
    return {
        "path": _from_home(path),
        "writable": there is not None and os.access(there, os.W_OK | os.X_OK),
        "free": None if usage is None else usage.free,
        "total": None if usage is None else usage.total,
    }


def _size(folder: Path) -> dict[str, int]:
    """Bytes and files in a folder; of a huge one the first hundred thousand files."""
    total = count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(parent) / name).stat().st_size
            except OSError:  # gone by now
                continue
            count += 1
        if count >= _LARGEST_CACHE:
            break
    return {"bytes": total, "files": count}


def _from_home(path: Path) -> str:
    try:
        return f"~/{path.absolute().relative_to(Path.home())}"
    except (ValueError, RuntimeError):
        return str(path.absolute())


def _environment() -> dict[str, str]:
    """What is set of what matters; of addresses, keys and anything unexpected only that it is."""
    shown = {name: _value(name) for name in _SHOWN if name in os.environ}
    return shown | {name: "set" for name in _HIDDEN if name in os.environ}


def _value(name: str) -> str:
    return os.environ[name].replace(str(Path("~").expanduser()), "~") if _is_harmless(name) else "set"


def _is_harmless(name: str) -> bool:
    return _HARMLESS.fullmatch(os.environ.get(name, "")) is not None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
