"""Weight files: safetensors only, and nothing read before its header is known to be sane."""

import struct
from pathlib import Path

from lapwing.core.errors import UserError

# A shard of the largest mixtures of experts has about 20,000 tensors, 2 MB of header.
_MAX_HEADER_BYTES = 4 * 2**20
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def check_weights(folder: Path) -> None:
    """Refuse a folder whose weights are pickles, or whose safetensors files cannot be what they say.

    Args:
      folder: of a model.

    Raises:
      UserError: there are no safetensors, or one has a header that is too large for its file or for any model.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        if pickles:
            raise UserError(
                f"The weights in {folder} are pickles ({pickles[0]}), which can run code when they are read; convert "
                "them to safetensors where you trust them."
            )
        raise UserError(f"{folder} holds no weights: it has no *.safetensors file.")
    for file in files:
        check_header(file)


def check_header(file: Path) -> None:
    """Refuse a safetensors file with an impossible header, in bounded time and memory.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(8)
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); the folder is not whole.") from error
    length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
    if not 2 <= length <= min(size - 8, _MAX_HEADER_BYTES):
        raise UserError(
            f"{file} is damaged or no safetensors file: it says that its header has {length} bytes, of {size} in all; "
            f"at most {_MAX_HEADER_BYTES} are read. Fetch it again."
        )
