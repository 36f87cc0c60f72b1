"""What `lapwing doctor` found, to be read and to be pasted into an issue."""

from collections.abc import Mapping
from typing import Any

from lapwing.console.lines import say


def show_diagnosis(found: Mapping[str, Any]) -> None:
    """Everything as lines of a name and what is known of it, and the problems last."""
    rows = [
        ("lapwing", found["lapwing"]),
        ("python", f"{found['python']['version']} ({found['python']['implementation']})"),
        ("platform", f"{found['platform']['system']}, {found['platform']['machine']}"),
        ("cpu", _cpu(found)),
        ("memory", _memory(found["memory"])),
        *_torch(found["torch"]),
        ("packages", ", ".join(f"{name} {version or 'missing'}" for name, version in found["packages"].items())),
        *((f"[{name}]", _extra(extra)) for name, extra in found["extras"].items()),
        *((name.replace("_", " "), _folder(folder)) for name, folder in found["folders"].items()),
        ("threads", _settings(found["threads"])),
        ("environment", _settings(found["environment"])),
    ]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"{name:<{width}}  {text}")
    say()
    for problem in found["problems"] or ["No problem was found."]:
        say(problem)


def _cpu(found: Mapping[str, Any]) -> str:
    cpu = found["cpu"]
    load = "" if cpu["load"] is None else f", load {cpu['load']}"
    return f"{cpu['count']} cores, {cpu['usable']} for this process{load}"


def _memory(memory: Mapping[str, Any]) -> str:
    parts = [("", "total"), (" available", "available"), (" limit of the container", "limit")]
    return ", ".join(f"{_bytes(memory[key])}{label}" for label, key in parts if memory[key] is not None) or "unknown"


def _torch(torch: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if torch is None:
        return [("torch", "cannot be imported")]
    built = "CPU only" if torch["cuda"] is None else f"CUDA {torch['cuda']}"
    rows = [("torch", f"{torch['version']}, {built}, {torch['threads']} threads, {torch['cpu_capability']}")]
    devices = [
        f"{one['name']} with {_bytes(one['memory'])}, {'bf16' if one['bf16'] else 'no bf16'}"
        for one in torch["devices"]
    ]
    rows.append(("devices", "; ".join(devices) or ("MPS" if torch["mps"] else "CPU")))
    rates = [f"{rate:,} GFLOP/s on {place}" for place, rate in torch["matmul_gflops"].items()]
    return [*rows, ("matmul", f"{', '.join(rates)} (float32)")]


def _extra(extra: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version or 'absent'}" for name, version in extra["packages"].items())
    return versions if extra["installed"] else f"{versions}: {extra['install']}"


def _folder(folder: Mapping[str, Any]) -> str:
    held = f", {folder['files']:,} files, {_bytes(folder['bytes'])}" if "files" in folder else ""
    state = "writable" if folder["writable"] else "NOT writable"
    return f"{folder['path']}: {state}{held}, {_bytes(folder['free'])} free of {_bytes(folder['total'])}"


def _settings(settings: Mapping[str, str | None]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items() if value is not None) or "nothing is set"


def _bytes(number: float | None) -> str:
    from lapwing.api.dry_run import size_text

    return "unknown" if number is None else size_text(number)
