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
    return {
        name: Packed(str(parameter.dtype), tuple(parameter.shape), _bytes_of(parameter))
        for name, parameter in _trainable(model)
    }


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
            # What comes out of an object store cannot be written to, which torch does not like.
            data = torch.from_numpy(np.array(packed.data))
            own[name].copy_(data.view(own[name].dtype).reshape(packed.shape))


def fingerprint(model: torch.nn.Module) -> str:
    """A hash of a fixed sample of every parameter, frozen ones included; the learner's alone, its reference, is not.

        blake2b(name, dtype, shape, p[⌊0⌋], p[s], p[2s], …)   with s = max(1, ⌊size / 64⌋), at most 64 elements each

    Two models agree if they are the same to the bit; a tensor that was left out of a transfer, or cut off within its
    sample, is found.
    """
    digest = hashlib.blake2b(digest_size=16)
    reference = {name for name, _ in adapter_parameters(model, REFERENCE)}
    for name, parameter in sorted(model.named_parameters()):
        if name in reference:
            continue
        stride = max(1, parameter.numel() // _SAMPLED)
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(_bytes_of(parameter.reshape(-1)[::stride][:_SAMPLED]).tobytes())
    return digest.hexdigest()


def _trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _bytes_of(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
