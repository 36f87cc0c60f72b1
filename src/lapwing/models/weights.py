"""Weight files: safetensors only, and nothing read before its header is known to be sane."""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lapwing.core.errors import UserError
from lapwing.core.json_lines import shown
from lapwing.models.settings_files import read_settings

# A shard of the largest mixtures of experts has about 20,000 tensors, 2 MB of header.
_MAX_HEADER_BYTES = 4 * 2**20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6},
}


class _Entry(NamedTuple):
    begin: int
    end: int
    name: str
    shape: tuple[int, ...]


def check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are pickles, or whose safetensors files cannot be what they say.

    Args:
      folder: of a model.

    Raises:
      UserError: there are no safetensors, one is damaged, or the index names a file that is not beside it.
    """
    for file in weight_files(folder):
        check_safetensors(file)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors that `from_pretrained` reads of a folder: the one file, or the shards that its index names.

    Args:
      folder: of a model.

    Raises:
      UserError: there are none, or the index names a file that is not beside it.
    """
    if (folder / _SINGLE).is_file():
        return [folder / _SINGLE]
    if (folder / _INDEX).is_file():
        return _shards(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(_none_there(folder))
    return files


def _none_there(folder: Path) -> str:
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if not pickles:
        return f"{folder} holds no weights: it has no *.safetensors file."
    return (
        f"The weights in {folder} are pickles ({pickles[0]}), which can run code when they are read; where you trust "
        "them, convert them: AutoModelForCausalLM.from_pretrained(FOLDER, use_safetensors=False).save_pretrained(NEW) "
        "in Python writes safetensors."
    )


def _shards(folder: Path) -> list[Path]:
    index = read_settings(folder / _INDEX)
    names = index.get("weight_map")
    if not isinstance(names, dict) or not names or not isinstance(index.get("metadata"), dict):
        raise UserError(f"{folder / _INDEX} is damaged: it has no weight_map and metadata; fetch it again.")
    # Each name once: a hundred shards hold thousands of tensors.
    files = sorted(set(map(_shard_name, names.values())))
    for name in files:
        if name != Path(name).name or not name.endswith(".safetensors"):
            raise UserError(
                f"{folder / _INDEX} names {shown(name)} as weights; it may name only *.safetensors files beside it."
            )
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not whole: its index names {shown(name)}, which is missing; fetch it again.")
    return [folder / name for name in files]


def _shard_name(value: Any) -> str:
    return value if isinstance(value, str) else shown(value)


def check_safetensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Refuse a safetensors file that cannot be what it says, in bounded time and memory.

    At most 4 MiB of header are read. Every tensor has a known number format, a place of its own that its shape fills,
    and a name of its own; together they fill the file. What the numbers are is not looked at: only a hash can tell.

    Args:
      file: the file.

    Returns:
      The shape of each tensor, by name.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(8)
            length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
            if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
                raise UserError(
                    f"{file} is damaged or no safetensors file: it says that its header has {length} bytes, of {size} "
                    f"in all; at most {_MAX_HEADER_BYTES} are read. Fetch it again."
                )
            header = opened.read(length)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); the folder is not whole.") from error
    try:
        entries = sorted(_entries(header))
        _check_places(entries, size - 8 - length)
    except ValueError as error:
        raise UserError(f"{file} is damaged or no safetensors file: {error}. Fetch it again.") from None
    return {entry.name: entry.shape for entry in entries}


def _entries(header: bytes) -> Iterator[_Entry]:
    try:
        found = json.loads(header.decode("utf-8"), object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("its header is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"its header is no JSON at byte {error.pos}") from None
    if not isinstance(found, dict):
        raise ValueError("its header is no JSON object")
    for name, said in found.items():
        if name != "__metadata__":
            yield _entry(name, said)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        raise ValueError(f"it names {shown(next(n for n, _ in pairs if n in seen or seen.add(n)))} twice")
    return found


def _entry(name: str, said: Any) -> _Entry:
    if not isinstance(said, dict):
        raise ValueError(f"of {shown(name)} it says {shown(said)}")
    dtype, shape, place = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise ValueError(f"{shown(name)} has the number format {shown(dtype)}")
    sizes, ends = _counts(shape), _counts(place)
    if sizes is None or ends is None or len(ends) != 2:
        raise ValueError(f"{shown(name)} has the shape {shown(shape)} and the place {shown(place)}")
    begin, end = ends
    # Few dimensions, so that the product is a number that can be computed.
    if len(sizes) > 64 or math.prod(sizes) * _BITS[dtype] != (end - begin) * 8:
        raise ValueError(f"{shown(name)} of shape {shown(shape)} in {dtype} does not fill {end - begin} bytes")
    return _Entry(begin, end, name, sizes)


def _counts(value: Any) -> tuple[int, ...] | None:
    are_counts = isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)
    return tuple(value) if are_counts else None


def _check_places(entries: list[_Entry], size: int) -> None:
    at = 0
    for entry in entries:
        if entry.begin != at:
            raise ValueError(f"{shown(entry.name)} begins at byte {entry.begin} and not at {at}, where the last ended")
        at = entry.end
    if at != size:
        raise ValueError(f"its tensors take {at} bytes, and it holds {size}")
