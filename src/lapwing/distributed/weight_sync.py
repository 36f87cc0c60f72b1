"""Weights on their way from the learner to those who play with copies of its model, and how both sides compare."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch

from lapwing.core.errors import LapwingError
from lapwing.models.lora import REFERENCE, adapter_parameters

# Elements of each tensor that a fingerprint reads, at equal distances.
_SAMPLED = 64


class Packed(NamedTuple):
    """One tensor as bytes: its dtype and shape, and its elements, uint8 [bytes]. NumPy has no bfloat16."""

    dtype: str
    shape: tuple[int, ...]
    data: np.ndarray


def pack_weights(model: torch.nn.Module) -> dict[str, Packed]:
    """The tensors that training changes, by name; of a model with LoRA its adapters alone.

    The bytes may be those of the parameters themselves: send or copy them before the next update.
    """
    return pack_tensors(dict(_trainable(model)))


def pack_tensors(tensors: Mapping[str, torch.Tensor]) -> dict[str, Packed]:
    """Tensors by name; the bytes may be their own, as those of `pack_weights`."""
    return {name: Packed(str(one.dtype), tuple(one.shape), _bytes_of(one)) for name, one in tensors.items()}


def unpack_tensors(packed: Mapping[str, Packed]) -> dict[str, torch.Tensor]:
    """Take back what `pack_tensors` returned, as copies on the CPU."""
    return {name: _tensor_of(one) for name, one in packed.items()}


def load_weights(model: torch.nn.Module, weights: Mapping[str, Packed]) -> None:
    """Copy packed weights into a model; it is left as it was if they do not fit.

    Raises:
      LapwingError: names, shapes or types are not those of the model's trainable tensors.
    """
    own = dict(_trainable(model))
    if own.keys() != weights.keys():
        other = sorted(own.keys() ^ weights.keys())
        raise LapwingError(f"The weights are those of another model: {len(other)} tensors differ, such as {other[0]}.")
    for name, packed in weights.items():
        found = (str(own[name].dtype), tuple(own[name].shape))
        if found != packed[:2]:
            raise LapwingError(f"The weights are those of another model: {name} is {found} here, {packed[:2]} there.")
    with torch.no_grad():
        for name, packed in weights.items():
            own[name].copy_(_tensor_of(packed))


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of a fixed sample of every parameter, frozen ones included; the learner's alone, its reference, is not.

        blake2b(name, dtype, shape, p[⌊0⌋], p[s], p[2s], …)   with s = max(1, ⌊size / 64⌋), at most 64 elements each

    Two models agree if they are the same to the bit; a tensor that was left out of a transfer, or cut off within its
    sample, is found.
    """
    reference = {name for name, _ in adapter_parameters(model, REFERENCE)}
    return fingerprint_of({name: one for name, one in model.named_parameters() if name not in reference})


def fingerprint_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of `fingerprint` for tensors by name."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items(), key=lambda pair: pair[0]):
        stride = max(1, tensor.numel() // _SAMPLED)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor.reshape(-1)[::stride][:_SAMPLED]).tobytes())
    return digest.hexdigest()


def _trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _tensor_of(packed: Packed) -> torch.Tensor:
    # What comes out of an object store cannot be written to, which torch does not like.
    data = torch.from_numpy(np.array(packed.data))
    dtype: torch.dtype = getattr(torch, packed.dtype.removeprefix("torch."))
    return data.view(dtype).reshape(packed.shape)


def _bytes_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
